"""A second place for backups, on another disk or a share that may be away: copies that go on where they were cut.

A folder that is only the place where a disk would be mounted must not be filled in its stead, so the second place has a
file with a name made by chance, which the first place knows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dbsync.backups import catalog
from dbsync.errors import DiskProblem, TillkeeperError, TryLater, UnreadableFile
from dbsync.model import Backup
from dbsync.storage import file_calls, files, temporary_files
from dbsync.storage.files import disk_errors

MARK: Final = "dbsync-second-place.json"
CHUNK_BYTES: Final = 1 << 20


class Away(TryLater):
    """The second place is not there now."""

    hint_by_default = (
        "Nothing is lost: what is missing there is copied when it is back. If it is another disk now, remove the file"
        f" {MARK} in the folder of backups."
    )


def check_there(*, backups: Path, second: Path, owner: str) -> None:
    """Make sure that a folder is the second place; the first time it becomes it.

    Raises:
        Away: it is missing, cannot be written, or lacks the file by which it is known.
    """
    own = backups / MARK
    try:
        known = files.read_json(own)
    except (FileNotFoundError, UnreadableFile):
        known = {}
    mark = second / MARK
    if not second.is_dir():
        raise Away(operation="copy backups to", path=second, cause="there is no such folder")
    name = known.get(owner) if isinstance(known, dict) else None
    try:
        there = files.read_json(mark)
    except (FileNotFoundError, UnreadableFile):
        there = None
    except TillkeeperError as error:
        raise Away(operation="copy backups to", path=second, cause=error.cause) from error
    if isinstance(name, str) and (not isinstance(there, dict) or there.get("name") != name):
        raise Away(operation="copy backups to", path=second, cause=f"it lacks its file {MARK}: is its disk there?")
    if isinstance(name, str):
        return
    if not isinstance(there, dict) or not isinstance(there.get("name"), str):
        there = {"format": 1, "name": files.random_name()}
        try:
            files.write_json(mark, there, like=backups)
        except DiskProblem as error:
            raise Away(operation="copy backups to", path=second, cause=error.cause) from error
    # A crash before this leaves a mark that the next run takes over.
    files.write_json(own, {**(known if isinstance(known, dict) else {}), owner: there["name"]}, like=backups)


def missing(here: Sequence[Backup], second: Path) -> list[Backup]:
    """Return the verified backups that the second place lacks, newest first, or has with another content."""
    found = []
    for backup in here:
        path = second / backup.path.name
        if backup.verified and not (files.is_there(path) and catalog.read(path).sha256 == backup.sha256):
            found.append(backup)
    return sorted(found, key=lambda backup: backup.sequence, reverse=True)


def copy(backup: Backup, second: Path) -> Path:
    """Copy a backup, going on where an earlier copy was cut; it gets its name when its hash is that of the facts.

    Raises:
        TillkeeperError: the disk is full or away; the part stays for the next time.
    """
    final = second / backup.path.name
    part = temporary_files.part_of(final, backup.database)
    for _ in range(2):
        _append(source=backup.path, part=part)
        if files.sha256_of(part) == backup.sha256:
            break
        # The part was another file's, or was damaged: again from its beginning.
        with disk_errors("remove", part):
            file_calls.remove(part, missing_ok=False)
    else:
        raise DiskProblem(operation="copy", path=final, cause="what was written is not what is read back")
    files.sync_file(part)
    catalog.write_facts(backup._replace(path=final), like=backup.path)
    files.rename_durably(source=part, target=final)
    return final


def take_back(*, path: Path, second: Path, owner: str) -> bool:
    """Replace a backup that rotted by its copy in the second place; return whether there was a good one."""
    kept = second / path.name
    part = temporary_files.part_of(path, owner)
    try:
        facts = catalog.check_file(kept)
        if not facts.verified or not facts.sha256:
            return False
        files.copy_bytes(source=kept, target=part, like=path)
        if files.sha256_of(part) != facts.sha256:
            return False
        files.sync_file(part)
        catalog.write_facts(facts._replace(path=path), like=path)
        files.rename_durably(source=part, target=path)
    except TillkeeperError:
        # It is away, or rotten too. The next run clears the part.
        return False
    return True


def _append(*, source: Path, part: Path) -> None:
    with disk_errors("read", source), file_calls.open_to_read(source) as kept:
        if not files.is_there(part):
            files.make_empty(part, like=source)
        with disk_errors("write", part), file_calls.open_to_write(part, "r+b") as file:
            begun_bytes = min(os.fstat(file.fileno()).st_size, os.fstat(kept.fileno()).st_size)
            file.truncate(begun_bytes)
            file.seek(begun_bytes)
            kept.seek(begun_bytes)
            while chunk := kept.read(CHUNK_BYTES):
                file.write(chunk)
            files.sync_open(file)
