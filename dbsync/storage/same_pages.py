"""Whether two database files are the same, page by page: what a check found of one then holds for the other."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dbsync.storage import file_calls
from dbsync.storage.files import READ_SIZE_BYTES, disk_errors, size_of

LOCK_PAGE_AT: Final = 1 << 30
"""The page at this byte is used for locks alone, and never written (sqlite.org/fileformat2.html#the_lock_byte_page)."""
_HEADER_BYTES: Final = 100
_MODES_AT: Final = slice(18, 20)
_MODES: Final = (b"\1\1", b"\2\2")
"""The rollback mode and the WAL mode."""
_OWN: Final = (slice(24, 28), slice(40, 44), slice(92, 100))
"""The change counter, the schema cookie, and the counter and version of the last writer: each file has its own."""


def same_pages(*, copied: Path, database: Path) -> bool:
    """Return whether a database has the pages of a finished copy, but for the counters and the mode in its header.

    False as well if a part of the database is in a file beside it. This opens and closes the file of the database:
    never for one that this process has open (sqlite.org/howtocorrupt.html, 2.2).

    Raises:
        DiskProblem: one of them cannot be read.
    """
    if size_of(*(database.with_name(database.name + ending) for ending in ("-wal", "-journal"))):
        return False
    if size_of(copied) != size_of(database):
        return False
    at = 0
    with (
        disk_errors("read", copied),
        file_calls.open_to_read(copied) as one,
        disk_errors("read", database),
        file_calls.open_to_read(database) as other,
    ):
        page_bytes = 0
        while True:
            mine, theirs = one.read(READ_SIZE_BYTES), other.read(READ_SIZE_BYTES)
            if at == 0:
                page_bytes = page_bytes_of(mine)
                if not all(side[_MODES_AT] in _MODES for side in (mine, theirs)):
                    return False
                mine, theirs = _without_own(mine), _without_own(theirs)
            elif at == LOCK_PAGE_AT:
                mine, theirs = mine[page_bytes:], theirs[page_bytes:]
            if mine != theirs:
                return False
            if not mine and at != LOCK_PAGE_AT:
                return True
            at += READ_SIZE_BYTES


def page_bytes_of(header: bytes) -> int:
    """Return the size of a page: 1 stands for 65536 (sqlite.org/fileformat2.html#page_size)."""
    size_bytes = int.from_bytes(header[16:18], "big")
    return 1 << 16 if size_bytes == 1 else size_bytes


def _without_own(start: bytes) -> bytes:
    header = bytearray(start[:_HEADER_BYTES])
    for place in (_MODES_AT, *_OWN):
        header[place] = bytes(len(header[place]))
    return bytes(header) + start[_HEADER_BYTES:]
