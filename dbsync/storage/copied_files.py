"""Copies of a database's files as files: only while no process has the database open, for example after a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dbsync.errors import DiskFull, Locked
from dbsync.storage import files
from dbsync.storage.files import disk_errors

ENDINGS: Final = ("", "-wal", "-journal")
"""Without the `-shm`: SQLite makes it anew when the database is opened."""


def copy_files(*, database: Path, folder: Path) -> Path:
    """Copy a database and the files beside it into a folder and return the path of the copy.

    Raises:
        DiskFull: there is no space for them.
        Locked: they were written while they were copied.
        DiskProblem: a file cannot be read, or the copy cannot be written.
    """
    sources = [path for path in (Path(f"{database}{ending}") for ending in ENDINGS) if files.is_there(path)]
    needed_bytes = files.size_of(*sources)
    available_bytes = files.free_bytes(folder)
    if available_bytes < needed_bytes:
        cause = f"a copy of {database} needs {needed_bytes / 1e6:.1f} MB, available {available_bytes / 1e6:.1f}"
        raise DiskFull(operation="copy to", path=folder, cause=cause, hint="Name a roomier folder by TMPDIR.")
    before = [_mark(path) for path in sources]
    for source in sources:
        files.copy_bytes(source=source, target=folder / source.name)
    if before != [_mark(path) for path in sources]:
        raise Locked(operation="copy", path=database, cause="it was written while it was copied")
    return folder / database.name


def _mark(path: Path) -> tuple[int, int]:
    with disk_errors("look at", path):
        found = path.stat()
    return found.st_size, found.st_mtime_ns
