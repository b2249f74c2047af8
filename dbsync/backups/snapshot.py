"""Copies a whole database to a checked file under a final name, or to a scratch file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

from dbsync.backups import catalog, compression
from dbsync.errors import Damaged, TillkeeperError
from dbsync.model import Backup, Sha256
from dbsync.progress import Told
from dbsync.storage import block_clone, byte_copy, file_calls, files, side_files, temporary_files
from dbsync.storage.background import Beside
from dbsync.storage.connections import (
    Connection,
    Thoroughness,
    check_soundness,
    is_wal,
    open_copy,
    open_reading,
    open_writing,
    possible_check,
    tolerate,
    translated,
)
from dbsync.storage.files import disk_errors
from dbsync.storage.introspection import version_of
from dbsync.storage.page_copy import copy, is_of_new_target


def copy_to_part(
    facts: Backup,
    *,
    source: Path,
    final: Path,
    told: Told,
    live: Connection | None = None,
    writer: Connection | None = None,
    shares: bool = True,
    in_use: bool = False,
) -> Backup:
    """Copy a live database, as it stands, to the temporary name of `final`. The next run clears a part left by a crash.

    Raises:
        TillkeeperError: by meaning (DiskFull, Locked, Damaged …); the part is removed.
    """
    part = temporary_files.part_of(final, facts.database)
    copy_database(source=source, target=part, told=told, live=live, writer=writer, shares=shares, in_use=in_use)
    return facts._replace(path=part)


def copy_database(
    *,
    source: Path,
    target: Path,
    told: Told,
    live: Connection | None = None,
    writer: Connection | None = None,
    shares: bool = True,
    in_use: bool = False,
    opened: Callable[[Path], Connection] = open_reading,
) -> None:
    """Copy a live database, as it stands, to a file that no other process uses.

    Args:
        source: the database.
        target: the file.
        told: receives the progress of the copy.
        live: the connection that has exclusive access to the source; without one, a connection is opened.
        writer: a connection that has begun to write and has written nothing yet: the file may then be copied as such.
        shares: whether the copy may share the blocks of the source.
        in_use: without a writer, whether to share the blocks under a write lock that is held for milliseconds.
        opened: opens the source.

    Raises:
        TillkeeperError: by meaning; nothing is left of the copy. Its `path` is the file that failed: the source could
            not be read (or is locked), or the target not be written.
    """
    try:
        with disk_errors("write", target):
            file_calls.remove(target)
        with translated("back up", source), disk_errors("write", target):
            if writer is not None:
                whole = _copy_file(writer, target, told=told, shares=shares)
            else:
                whole = in_use and block_clone.copied_in_use(source=source, target=target)
        with (
            translated("write", target),
            closing(open_writing(target, create=True, like=source, tolerant=True)) as copied,
        ):
            if not whole:
                _copy_pages(source, copied, target=target, told=told, live=live, opened=opened)
            tolerate(copied)
            # A copy of a WAL database says WAL in its header and would need files beside it.
            copied.execute("PRAGMA journal_mode=DELETE").fetchall()
    except TillkeeperError:
        drop_part(target)
        raise


def _copy_file(writer: Connection, target: Path, *, told: Told, shares: bool) -> bool:
    """Copy the file of a database that stands still; return whether there is a copy, else nothing is left."""
    return (shares and block_clone.copied(writer, target)) or byte_copy.copied(writer, target, told=told)


def _copy_pages(
    source: Path,
    copied: Connection,
    *,
    target: Path,
    told: Told,
    live: Connection | None,
    opened: Callable[[Path], Connection],
) -> None:
    with (
        translated("back up", source),
        nullcontext(live) if live is not None else closing(opened(source)) as reading,
    ):
        # A copy is one of pages: what the schema says need not be understood.
        tolerate(reading)
        if live is None and is_wal(reading):
            # One snapshot while others go on writing; in the other modes it would block them.
            reading.execute("BEGIN")
            reading.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        try:
            copy(reading, copied, told=told, seconds=time.monotonic)
        except sqlite3.Error as error:
            if not is_of_new_target(error):
                raise
            with translated("write", target):
                raise


def check_part(
    part: Backup,
    thoroughness: Thoroughness = Thoroughness.QUICK,
    *,
    opened: Callable[[Connection], None] = lambda _: None,
) -> Backup:
    """Open a copy anew, check it, and return its facts with size, checksum and the check that it passed.

    Args:
        part: the copy.
        thoroughness: how well it is checked.
        opened: gets the connection before the check begins, to interrupt it.

    Raises:
        Damaged: the copy is not sound, or not of the expected version; the same holds for its source.
    """
    try:
        problem, version, seen = inspect_part("check the backup", part, thoroughness, opened=opened)
    except TillkeeperError:
        drop_part(part.path)
        raise
    if problem is not None or version != part.version:
        drop_part(part.path)
        raise Damaged(operation="check the backup", path=part.path, cause=problem or f"it holds schema {version}")
    return seen


def measure_part(part: Backup) -> Backup:
    """Make a copy durable and return its facts with size and checksum."""
    return part._replace(sha256=_durable_digest(part.path), size_bytes=part.path.stat().st_size)


def _durable_digest(path: Path) -> Sha256:
    """Make a finished copy durable while it is read: the one waits for the disk, the other needs a core."""
    with Beside(lambda: files.sync_file(path)) as synced:
        digest = files.sha256_of(path)
    synced.result()
    return digest


def inspect_part(
    operation: str,
    part: Backup,
    thoroughness: Thoroughness = Thoroughness.QUICK,
    *,
    opened: Callable[[Connection], None] = lambda _: None,
) -> tuple[str | None, int, Backup]:
    """Make a copy durable and return its damage, its schema, and its facts with size, checksum and passed check."""
    with (
        Beside(lambda: _durable_digest(part.path)) as digest,
        translated(operation, part.path),
        closing(open_copy(part.path)) as connection,
    ):
        opened(connection)
        check = possible_check(connection, thoroughness)
        problem, version = check_soundness(connection, check), version_of(connection)
    checked = "" if problem is not None else str(check)
    seen = part._replace(sha256=digest.result(), size_bytes=part.path.stat().st_size, checked=checked)
    return problem, version, seen


def keep_part(part: Backup) -> Backup:
    """Give a copy its final name, durably. A crash before the rename leaves facts alone, which are ignored."""
    final = part._replace(path=temporary_files.final_of(part.path))
    catalog.write_facts(final, like=part.path)
    files.rename_durably(source=part.path, target=final.path)
    return final


def drop_part(path: Path) -> None:
    """Remove a part and what SQLite keeps beside it while it writes."""
    for file in (path, *sidecars(path)):
        try:
            file_calls.remove(file)
        except OSError:
            # It only takes space; the next run clears it.
            continue


def drop_folder(folder: Path) -> None:
    """Remove a folder of scratch files, if it exists."""
    file_calls.remove_tree_if_possible(folder)


def sidecars(path: Path) -> list[Path]:
    """Return the paths of the files that belong to a database file and must never be separated from it."""
    return [path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal")]


def files_of(database: Path) -> list[Path]:
    """Return the database and the journals that SQLite would replay into it, as far as they exist.

    Without the `-shm`: SQLite makes it anew when the database is opened.
    """
    return [file for file in (database, *sidecars(database)) if file.exists() and not file.name.endswith("-shm")]


def move_side_files(*, database: Path, final: Path) -> list[Path]:
    """Move the side files that hold data of a missing or empty database to the name of a copy of it, durably.

    Left where they are, SQLite would remove them, or replay them over the next database of that name.
    """
    moved = []
    for path in side_files.with_data(database):
        target = final.with_name(path.name.replace(database.name, final.name, 1))
        files.sync_file(path)
        files.rename_durably(source=path, target=target)
        moved.append(target)
    return moved


def scratch_copy(*, source: Path, target: Path, told: Told, like: Path | None = None) -> None:
    """Copy a finished file, on which no process has locks, to a scratch file that may be changed.

    As bytes: a copy through SQLite takes four times as long, and only a live database needs it. Nothing is made
    durable. It gets the owner and the rights of `like`, the database; without it, those of `source`.
    """
    drop_part(target)
    with compression.plain(source) as plain:
        files.copy_bytes(source=plain, target=target, told=told, like=like or source)
