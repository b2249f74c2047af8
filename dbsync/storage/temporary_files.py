"""Whose a file is in a folder that several databases may share, and the names of what is not finished yet.

An app may have two databases in one folder, or one for each customer. Each has a lock of its own, so what is made for
one must never be cleared, listed or taken for its own by another: unfinished files, backups' facts and lines of the
flight record name the database.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Final

PART: Final = ".part-"
_END: Final = "~"


def owner_of(database: Path) -> str:
    """A database's name, whatever link it is opened by. The name alone: folders are moved, and drives get letters."""
    return os.path.normcase(Path(os.path.realpath(database)).name)


def part_of(final: Path, owner: str) -> Path:
    """Return the name of a file until it is finished, beside its final one."""
    return final.with_name(f"{_tag(owner)}{final.name}")


def scratch_of(folder: Path, owner: str, what: str) -> Path:
    """Return the name of a file or folder that never gets another."""
    return folder / f"{_tag(owner)}{what}"


def final_of(part: Path) -> Path:
    """Return the name that a finished part gets."""
    return part.with_name(part.name.partition(_END)[2])


def is_part(path: Path) -> bool:
    """Return whether it is not finished, or of no use to anybody but who made it."""
    return path.name.startswith(PART)


def clear(folder: Path, owner: str) -> None:
    """Remove what a cut run for this database left; whoever calls holds the database's lock.

    Raises:
        OSError: it cannot be removed.
    """
    for path in folder.glob(f"{escape(_tag(owner))}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
            continue
        # On Windows nobody can remove what a program that outlived its run has open; it is in nobody's way.
        with suppress(PermissionError):
            path.unlink(missing_ok=True)


def _tag(owner: str) -> str:
    return f"{PART}{owner.replace(_END, '_')}{_END}"
