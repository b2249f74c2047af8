"""Puts a finished copy over a database in rollback mode, in one transaction, and writes only the pages that differ.

`Connection.backup` writes every page into the journal and again into the file, whether it differs or not. This writes a
rollback journal of the same format with the old content of the pages that will change, and then these pages
(sqlite.org/fileformat2.html#the_rollback_journal). The order is that of SQLite (sqlite.org/atomiccommit.html): the
journal is durable before a page changes, the pages are durable before it is removed, and its removal is the commit. A
crash before that leaves a journal that the next connection of any SQLite plays back.

Why it may write beside SQLite, and what it leaves to SQLite: docs/decisions/0059.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from array import array
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from dbsync.errors import TillkeeperError
from dbsync.progress import Told, Unit
from dbsync.storage import file_calls, files
from dbsync.storage.connections import Connection, open_reading
from dbsync.storage.files import READ_SIZE_BYTES, disk_errors
from dbsync.storage.platform import this_platform
from dbsync.storage.same_pages import LOCK_PAGE_AT, page_bytes_of
from dbsync.storage.side_files import JOURNAL, JOURNAL_MAGIC

if TYPE_CHECKING:
    from typing import BinaryIO

MOST_PAGES_COUNT: Final = 1 << 22
"""16 GB of the usual pages: four bytes of memory each, should every one differ. SQLite copies what is larger."""
HEADER_BYTES: Final = 100
_FILE_MAGIC: Final = b"SQLite format 3\0"
_ROLLBACK_MODE: Final = b"\1\1"
_COUNTER: Final = slice(24, 28)
_PAGES_COUNT: Final = slice(28, 32)
_COOKIE: Final = slice(40, 44)
_VALID_FOR: Final = slice(92, 96)
_WRITER: Final = slice(96, 100)
_JOURNAL_HEADER: Final = struct.Struct(">8sIIIII")
"""Magic, number of records, nonce, pages before the transaction, size of the header, size of a page."""
_JOURNAL_HEADER_BYTES: Final = 4096
"""As large as a sector may be, so that a torn write of the header touches no record."""
_RECORDS_COUNT_AT: Final = 8
_CHECKSUM_STEP: Final = 200


class _Sides(NamedTuple):
    """The two files of a replacement."""

    source: Path
    after: BinaryIO
    before: BinaryIO
    after_count: int
    """Pages."""
    before_count: int
    page_bytes: int


def opened(database: Path) -> BinaryIO | None:
    """Return a database open to be read and written beside SQLite's locks; None where that cannot be.

    It must be closed after every connection of this process to it: closing it drops their locks
    (sqlite.org/howtocorrupt.html, 2.2).
    """
    if not this_platform().writes_beside_locks:
        return None
    try:
        return file_calls.open_to_write(database, "r+b", buffering=0)
    except OSError:
        # SQLite says what is in the way.
        return None


def replaced(*, source: Path, live: Connection, file: BinaryIO, told: Told) -> bool:
    """Put a finished copy over the database of `live`, which must be closed next: it has seen nothing of it.

    Args:
        source: the copy; no process writes it.
        live: a connection in exclusive locking mode, without a transaction.
        file: the same database (`opened`).
        told: receives the bytes that were compared.

    Returns:
        Whether the database is the copy now. False: nothing was changed, and SQLite must copy it: the database is in
        WAL mode, or has pages of another size or too many of them.

    Raises:
        sqlite3.OperationalError: another process reads it; nothing was changed.
        TillkeeperError: a file cannot be read or written. The database is unchanged, or a journal beside it has what
            it was: see `roll_back`.
    """
    database = Path(str(live.execute("PRAGMA database_list").fetchone()[2]))
    live.execute("BEGIN EXCLUSIVE")
    try:
        with disk_errors("read", source), file_calls.open_to_read(source) as after, disk_errors("write", database):
            sides = _sides(source, after, file, database)
            if sides is None or files.size_of(_journal_of(database)):
                return False
            _replace(sides, database, told)
    finally:
        # Through this connection nothing was written.
        live.execute("ROLLBACK")
    return True


def roll_back(database: Path) -> None:
    """Let SQLite play back what a replacement that failed has left, where it can now; else the next connection does."""
    with suppress(sqlite3.Error, TillkeeperError), closing(open_reading(database)) as reading:
        reading.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()


def _journal_of(database: Path) -> Path:
    return database.with_name(database.name + JOURNAL)


def _sides(source: Path, after: BinaryIO, before: BinaryIO, database: Path) -> _Sides | None:
    """Return both files; None if one of them is anything but a whole database in rollback mode of the same page size.

    The number of pages in each header must be that of its file: SQLite believes it once the counters beside it agree.
    """
    opened, named = os.fstat(before.fileno()), database.stat()
    if (opened.st_dev, opened.st_ino) != (named.st_dev, named.st_ino):
        return None
    counts, sizes = [], set()
    for file, size_bytes in ((after, os.fstat(after.fileno()).st_size), (before, opened.st_size)):
        header = _read(file, 0, HEADER_BYTES)
        if len(header) < HEADER_BYTES or not header.startswith(_FILE_MAGIC) or header[18:20] != _ROLLBACK_MODE:
            return None
        page_bytes = page_bytes_of(header)
        pages_count = int.from_bytes(header[_PAGES_COUNT], "big")
        if header[_COUNTER] != header[_VALID_FOR] or pages_count * page_bytes != size_bytes:
            return None
        counts.append(pages_count)
        sizes.add(page_bytes)
    if len(sizes) > 1 or max(counts) > MOST_PAGES_COUNT:
        return None
    return _Sides(source, after, before, *counts, *sizes)


def _replace(sides: _Sides, database: Path, told: Told) -> None:
    journal = _journal_of(database)
    try:
        numbers = _journalled(sides, journal, database, told)
    except BaseException:
        # No page was changed, so there is nothing to play back.
        file_calls.remove_if_possible(journal)
        raise
    # From here on a failure or a crash leaves the journal, by which the database becomes what it was.
    first = _first_page(sides)
    for run in _runs(numbers, READ_SIZE_BYTES // sides.page_bytes):
        at = (run.start - 1) * sides.page_bytes
        content = _copied(sides, at, len(run) * sides.page_bytes)
        _write(sides.before, at, first + content[len(first) :] if at == 0 else content)
    files.sync_open(sides.before)
    # Commit point.
    file_calls.remove(journal)
    files.sync_folder(journal.parent)
    if sides.before_count > sides.after_count:
        # As SQLite does: pages after those that the header counts belong to nothing, and a crash may leave them.
        with suppress(OSError):
            sides.before.truncate(sides.after_count * sides.page_bytes)


def _journalled(sides: _Sides, path: Path, database: Path, told: Told) -> array[int]:
    """Write the old content of the pages that differ into a durable journal, and return the numbers to be written.

    Until its header says how many records it has, a journal has none for SQLite.
    """
    numbers, records_count, nonce = array("I"), 0, int.from_bytes(os.urandom(4), "big")
    header = (JOURNAL_MAGIC, 0, nonce, sides.before_count, _JOURNAL_HEADER_BYTES, sides.page_bytes)
    with disk_errors("write", path), os.fdopen(files.new_file(path, like=database), "wb") as journal:
        journal.write(_JOURNAL_HEADER.pack(*header).ljust(_JOURNAL_HEADER_BYTES, b"\0"))
        for number, page in _differing(sides, told):
            numbers.append(number)
            if number <= sides.before_count:
                journal.write(number.to_bytes(4, "big") + page + _checksum(page, nonce))
                records_count += 1
        files.sync_open(journal)
        journal.seek(_RECORDS_COUNT_AT)
        journal.write(records_count.to_bytes(4, "big"))
        files.sync_open(journal)
    files.sync_folder(path.parent)
    return numbers


def _differing(sides: _Sides, told: Told) -> Iterator[tuple[int, bytes]]:
    """Yield the number of each page of the copy that the database does not have, with what the database has there."""
    size, total_bytes = sides.page_bytes, sides.after_count * sides.page_bytes
    for start in range(0, total_bytes, READ_SIZE_BYTES):
        after, before = _copied(sides, start, READ_SIZE_BYTES), _read(sides.before, start, READ_SIZE_BYTES)
        told(start + len(after), total_bytes, unit=Unit.BYTES)
        if after == before and start:
            continue
        for at in range(0, len(after), size):
            place, old = start + at, before[at : at + size]
            # The first page always gets another counter. That of the locks is never written.
            if place == 0 or (place != LOCK_PAGE_AT and after[at : at + size] != old):
                yield place // size + 1, old


def _first_page(sides: _Sides) -> bytes:
    """Return the copy's header with counters by which other connections see that the database is another one."""
    header, before = bytearray(_copied(sides, 0, HEADER_BYTES)), _read(sides.before, 0, HEADER_BYTES)
    counter = _next(before[_COUNTER])
    header[_COUNTER] = header[_VALID_FOR] = counter
    header[_COOKIE] = _next(before[_COOKIE])
    header[_WRITER] = _number(sqlite3.sqlite_version_info).to_bytes(4, "big")
    return bytes(header)


def _next(counter: bytes) -> bytes:
    return (int.from_bytes(counter, "big") + 1 & 0xFFFFFFFF).to_bytes(4, "big")


def _number(version: tuple[int, int, int]) -> int:
    """Return the number of a version of SQLite (sqlite.org/c3ref/c_source_id.html)."""
    major, minor, release = version
    return major * 1_000_000 + minor * 1_000 + release


def _runs(numbers: array[int], most_count: int) -> Iterator[range]:
    """Yield numbers that follow each other as ranges of at most so many."""
    start = end = 0
    for number in numbers:
        if number != end or end - start >= most_count:
            if end > start:
                yield range(start, end)
            start = number
        end = number + 1
    if end > start:
        yield range(start, end)


def _checksum(page: bytes, nonce: int) -> bytes:
    """Return the checksum of a record: every 200th byte from the end, and the journal's own number."""
    return (nonce + sum(page[len(page) - _CHECKSUM_STEP : 0 : -_CHECKSUM_STEP]) & 0xFFFFFFFF).to_bytes(4, "big")


def _copied(sides: _Sides, at: int, size_bytes: int) -> bytes:
    with disk_errors("read", sides.source):
        return _read(sides.after, at, size_bytes)


def _read(file: BinaryIO, at: int, size_bytes: int) -> bytes:
    """Return bytes of a file, fewer only at its end."""
    file.seek(at)
    found = file.read(size_bytes)
    while 0 < len(found) < size_bytes and (more := file.read(size_bytes - len(found))):
        found += more
    return found


def _write(file: BinaryIO, at: int, data: bytes) -> None:
    file.seek(at)
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
