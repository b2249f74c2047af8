"""The scratch copy of a damaged database, on which a recovery works: every byte that can be read from the disk."""

from __future__ import annotations

import os
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from dbsync.backups import snapshot
from dbsync.errors import Locked, TillkeeperError
from dbsync.progress import Told, Unit
from dbsync.recovery.schema_recovery import with_pages_that_are_there
from dbsync.storage import file_calls
from dbsync.storage import files as disk_files
from dbsync.storage.connections import open_reading, translated

BLOCK_BYTES: Final = 4096


def copy_files(told: Told, *, database: Path, work: Path) -> int:
    """Copy the database and its journals, and return the number of blocks that could not be read from the disk."""
    files = snapshot.files_of(database)
    before = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    bad_count = sum(
        _copy_bytes(file, work.with_name(file.name), size, told) for file, (size, _) in zip(files, before, strict=True)
    )
    if before != [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]:
        raise Locked(operation="copy", path=database, cause="it was written while it was copied")
    return bad_count


def _copy_bytes(source: Path, target: Path, size_bytes: int, told: Told) -> int:
    bad_count, at = 0, 0
    # Of the source only the opening may fail: what cannot be read of it counts as empty.
    with (
        disk_files.disk_errors("read", source),
        file_calls.open_unbuffered(source) as file,
        disk_files.disk_errors("write", target),
        os.fdopen(disk_files.new_file(target, like=source), "wb") as copied,
    ):
        while at < size_bytes:
            try:
                file.seek(at)
                chunk = file.read(min(disk_files.READ_SIZE_BYTES, size_bytes - at))
            except OSError:
                chunk, bad = _block(file.fileno(), at, min(BLOCK_BYTES, size_bytes - at))
                bad_count += bad
            if not chunk:
                break
            copied.write(chunk)
            at += len(chunk)
            told(at, size_bytes, source.name, Unit.BYTES)
    return bad_count


def _block(descriptor: int, at: int, size_bytes: int) -> tuple[bytes, bool]:
    try:
        os.lseek(descriptor, at, os.SEEK_SET)
        return os.read(descriptor, size_bytes), False
    except OSError:
        return bytes(size_bytes), True


def settle(work: Path) -> None:
    """Run SQLite's own recovery on the copy: a hot journal is rolled back, a WAL is written into the file."""
    with suppress(TillkeeperError), translated("recover", work), closing(open_reading(work)) as connection:
        connection.execute("PRAGMA query_only=OFF")
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with_pages_that_are_there(work)
