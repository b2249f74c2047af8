"""Sentences on the files beside a database, for a person to know before it is opened; nothing on the disk changes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from dbsync.errors import TillkeeperError
from dbsync.storage import file_calls, files, side_files, wal
from dbsync.storage.connections import open_untouched

READ_COUNT: Final = 3
"""A log that is written while it is read is read again: a frame that is half there does not check."""


def notes_on(database: Path) -> list[str]:
    """Return a sentence for a journal that will be rolled back, and for a log in which commits may be lost.

    Never for a database that this process has open (`connections.open_untouched`).
    """
    found = []
    try:
        if has_hot_journal(database):
            name = side_files.side_file(database, side_files.JOURNAL).name
            found.append(f"an unfinished transaction is in {name}; SQLite rolls it back when the database is next used")
        summary = broken_log(database, page_bytes=page_bytes_of(database))
    except TillkeeperError as error:
        return [*found, f"the files beside it cannot be read: {error.cause}"]
    if summary is not None:
        found.append(f"{side_files.side_file(database, side_files.WAL).name} is damaged: {summary.in_words}")
    return found


def has_hot_journal(database: Path) -> bool:
    """Return whether a crash left a journal that the next opening rolls back."""
    if not files.size_of(side_files.side_file(database, side_files.JOURNAL)) or not files.size_of(database):
        return False
    try:
        with closing(open_untouched(database)):
            return False
    except sqlite3.Error as error:
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY_ROLLBACK


def broken_log(database: Path, *, page_bytes: int = 0, size_limit_bytes: int | None = None) -> wal.Summary | None:
    """Return the summary of a log in which committed transactions may be lost; None if there is no such log.

    The database itself is not read, so this is safe where this process has it open.

    Raises:
        DiskProblem: it cannot be read.
    """
    log = side_files.side_file(database, side_files.WAL)
    if files.size_of(log) <= side_files.WAL_HEADER_BYTES:
        return None
    for _ in range(READ_COUNT):
        before = _mark(log)
        summary = wal.summary_of(log, page_bytes=page_bytes, size_limit_bytes=size_limit_bytes)
        if summary is None or not summary.may_lose:
            return None
        if _mark(log) == before:
            return summary
    return None


def _mark(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def page_bytes_of(database: Path) -> int:
    """Return the page size in the header of a database; 0 if it cannot be read there."""
    try:
        with file_calls.open_to_read(database) as file:
            header = file.read(18)
    except OSError:
        return 0
    size = int.from_bytes(header[16:18], "big") if header.startswith(b"SQLite format 3\0") else 0
    return 65536 if size == 1 else size
