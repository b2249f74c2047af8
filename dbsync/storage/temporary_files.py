"""Owners of files in a folder that several databases may share, and the names of unfinished files.

An app may have two databases in one folder, or one for each customer. Each has a lock of its own, so a run on one must
never clear, list or use files that belong to another: unfinished files, backups' facts and lines of the flight record
name the database.
"""

from __future__ import annotations

import os
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Final

from dbsync.storage import file_calls
from dbsync.storage.files import NEW

PART: Final = ".part-"
PROBE: Final = ".write-probe-"
"""Prefix of an empty file that is made and removed at once, to see whether a folder may be written."""
_END: Final = "~"


def owner_of(database: Path) -> str:
    """Return a database's file name, links resolved, without its folder: folders move, and drive letters change."""
    return os.path.normcase(Path(os.path.realpath(database)).name)


def part_of(final: Path, owner: str) -> Path:
    """Return the path of a file until it is finished, beside its final one."""
    return final.with_name(f"{_tag(owner)}{final.name}")


def scratch_of(folder: Path, owner: str, what: str) -> Path:
    """Return the path of a temporary file or folder that never gets a final name."""
    return folder / f"{_tag(owner)}{what}"


def final_of(part: Path) -> Path:
    """Return the final path of a part."""
    return part.with_name(part.name.partition(_END)[2])


def is_part(path: Path) -> bool:
    """Return whether a file or folder is unfinished or temporary."""
    return path.name.startswith(PART)


def clear(folder: Path, owner: str) -> None:
    """Remove the parts that an interrupted run on this database left; the caller must hold the database's lock.

    Raises:
        OSError: a part cannot be removed.
    """
    tag = escape(_tag(owner))
    # A part that is written as a whole has a name of its own until it is.
    for path in (*folder.glob(f"{tag}*"), *folder.glob(f"{NEW}{tag}*")):
        if path.is_dir():
            file_calls.remove_tree_if_possible(path)
            continue
        # On Windows a file cannot be removed while a program that outlived its run has it open; it does no harm.
        with suppress(PermissionError):
            file_calls.remove(path)


def _tag(owner: str) -> str:
    return f"{PART}{owner.replace(_END, '_')}{_END}"
