"""The checks before anything is touched: space, folders that cannot be written, another program on the file."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.backups import catalog, restore
from dbsync.database.measurements import RESERVE_FACTOR, Measured
from dbsync.errors import DiskFull, DiskProblem, NetworkDrive, ReadOnly, RehearsalSkipped, TryLater
from dbsync.storage import file_calls, files, temporary_files
from dbsync.storage.connections import is_wal, keeps_temporary_files, open_writing, translated
from dbsync.storage.introspection import version_of
from dbsync.storage.platform import this_platform

LEAST_FREE_BYTES: Final = 50_000_000
"""Free space below which no migration starts, however small the database."""
BACKUP_FACTOR: Final = 1.0
JOURNAL_FACTOR: Final = 1.5
"""Journal or WAL of a rebuild (measured up to 1.1 of the database), and the growth of the database."""


TEMPORARY_FACTOR: Final = 1.0
"""SQLite sorts for an index in its temporary folder: at most the keys of one index at a time."""


class Space(NamedTuple):
    """The space that a migration needs on one file system."""

    folder: Path
    required_bytes: int
    available_bytes: int

    @property
    def enough(self) -> bool:
        """Whether the required space is available."""
        return self.available_bytes >= self.required_bytes


def size_of(database: Path) -> int:
    """Return a database's size, with the WAL that has not been merged into it yet."""
    return files.size_of(database, Path(f"{database}-wal"))


def space(
    *, database: Path, backups: Path, least_free_bytes: int = LEAST_FREE_BYTES, measured: Measured | None = None
) -> tuple[Space, ...]:
    """Return the space needed, per folder: 2.5 times the database, or as a rehearsal measured; at least the least."""
    size_bytes = size_of(database)
    backup_bytes, journal_bytes = BACKUP_FACTOR * size_bytes, JOURNAL_FACTOR * size_bytes
    if measured is not None:
        journal_bytes = max(0.0, RESERVE_FACTOR * measured.needed_bytes - backup_bytes)
    wanted = {database.parent: journal_bytes, backups: backup_bytes}
    if _device(database.parent) == _device(backups):
        wanted = {database.parent: journal_bytes + backup_bytes}
    return tuple(
        Space(folder, max(least_free_bytes, int(required_bytes)), files.free_bytes(folder))
        for folder, required_bytes in wanted.items()
    )


def check_space(
    *, database: Path, backups: Path, least_free_bytes: int = LEAST_FREE_BYTES, measured: Measured | None = None
) -> None:
    """Refuse, with numbers, a migration that would fill the disk.

    Raises:
        DiskFull: database size, required and available space are in its cause.
    """
    for needed in space(database=database, backups=backups, least_free_bytes=least_free_bytes, measured=measured):
        _check_enough(needed, size_of(database), "start the migration")


def check_temporary(
    *,
    database: Path,
    backups: Path,
    least_free_bytes: int = LEAST_FREE_BYTES,
    short_before: bool = False,
    operation: str = "start the migration",
) -> None:
    """Refuse a migration or a way back if SQLite's temporary folder is missing, full, or cannot be written.

    How much a migration takes there depends on its statements: little for most, the keys of an index for one that makes
    an index. So a little must be free; and if the last run of it ran out of space, as much as an index can need.

    Args:
        database: the file.
        backups: the folder of backups.
        least_free_bytes: the space that must be free, but never more than the database has.
        short_before: whether the last run of the same migrations ended for want of space, after its backup.
        operation: what is begun, for the error.

    Raises:
        ReadOnly: no folder can be written.
        DiskFull: database size, required and available space are in its cause.
    """
    if not keeps_temporary_files():
        return
    folder = this_platform().sqlite_temporary_folder()
    if folder is None:
        cause = "SQLite finds no folder for its temporary files that this user may write"
        hint = "Name one by the environment variable SQLITE_TMPDIR (on Windows: TMP), or make /tmp writable."
        raise ReadOnly(operation=operation, cause=cause, hint=hint)
    check_writable(folder, like=database)
    size_bytes = size_of(database)
    least_bytes = min(least_free_bytes, size_bytes)
    apart = _device(folder) not in (_device(database.parent), _device(backups))
    # On the disk of the database, the space for the journal is asked for already.
    required_bytes = max(least_bytes, int(TEMPORARY_FACTOR * size_bytes)) if short_before and apart else least_bytes
    _check_enough(Space(folder, required_bytes, files.free_bytes(folder)), size_bytes, "make temporary files")


def check_space_for_backup(*, database: Path, backups: Path, least_free_bytes: int = LEAST_FREE_BYTES) -> None:
    """Refuse a backup that would take the space that the app needs to go on.

    Raises:
        DiskFull: database size, required and available space are in its cause.
    """
    required_bytes = int(BACKUP_FACTOR * size_of(database)) + least_free_bytes
    _check_enough(Space(backups, required_bytes, files.free_bytes(backups)), size_of(database), "back up")


def check_rehearsal_space(*, database: Path, folder: Path, least_free_bytes: int = LEAST_FREE_BYTES) -> None:
    """Skip a rehearsal that could take the space that the app needs to go on: two copies and a journal.

    Raises:
        RehearsalSkipped: database size, required and available space are in its cause.
    """
    required_bytes = int((2 * BACKUP_FACTOR + JOURNAL_FACTOR) * size_of(database)) + least_free_bytes
    found = Space(folder, required_bytes, files.free_bytes(folder))
    _check_enough(found, size_of(database), "rehearse", RehearsalSkipped)


def check_way_back_space(
    *, sizes_bytes: tuple[int, int], copies_count: int, folder: Path, least_free_bytes: int = LEAST_FREE_BYTES
) -> None:
    """Skip the part of a rehearsal that goes back, if its copies could take the space that the app needs to go on.

    Args:
        sizes_bytes: the size of the database before the migration, and after it.
        copies_count: how many further copies there are at once; a migration of one of them writes a journal.
        folder: where they are made.
        least_free_bytes: what is left free.

    Raises:
        RehearsalSkipped: database size, required and available space are in its cause.
    """
    required_bytes = int((copies_count * BACKUP_FACTOR + JOURNAL_FACTOR) * max(sizes_bytes)) + least_free_bytes
    found = Space(folder, required_bytes, files.free_bytes(folder))
    _check_enough(found, sizes_bytes[0], "try the way back", RehearsalSkipped)


def check_space_to_go_back(*, database: Path, base: Path, backups: Path, carries: bool, raises: bool = False) -> None:
    """Refuse a return to an older database for which the disk has too little space, with numbers, before any copy.

    It needs a copy of the database as it is, and what SQLite writes beside the database while it is replaced; and to
    carry changes back, or to raise counters in it, the older database. What a proof needs in addition is found by
    making it.

    Raises:
        DiskFull: database size, required and available space are in its cause.
    """
    size_bytes = size_of(database)
    beside_bytes = size_bytes + restore.journal_bytes(live=database, source=catalog.find(base))
    older_bytes = files.size_of(catalog.find(base)) if carries or raises else 0
    wanted = {database.parent: beside_bytes, backups: older_bytes}
    if _device(database.parent) == _device(backups):
        wanted = {database.parent: beside_bytes + older_bytes}
    for folder, required_bytes in wanted.items():
        _check_enough(Space(folder, required_bytes, files.free_bytes(folder)), size_bytes, "go back")


def check_space_to_raise(*, database: Path, source: Path, backups: Path) -> None:
    """Refuse a copy with raised counters for which the disk has too little space, with numbers, before it is made.

    Raises:
        DiskFull: database size, required and available space are in its cause.
    """
    found = Space(backups, files.size_of(source), files.free_bytes(backups))
    _check_enough(found, size_of(database), "raise the counters")


def _check_enough(found: Space, size_bytes: int, operation: str, kind: type[TryLater] = DiskFull) -> None:
    if not found.enough:
        cause = (
            f"Database {size_bytes / 1e6:.1f} MB, required {found.required_bytes / 1e6:.1f}, "
            f"available {found.available_bytes / 1e6:.1f}"
        )
        raise kind(operation=operation, path=found.folder, cause=cause)


def check_local(database: Path) -> None:
    """Refuse a database on a network file system, where two machines could write it at once.

    If the platform cannot tell, nothing is refused.

    Raises:
        NetworkDrive: with the kind of file system.
    """
    # Here, because only a migration asks.
    from dbsync.model import DiskKind

    disk = this_platform().disk_of(database)
    if disk.kind is DiskKind.NETWORK:
        cause = f"it lies on a network file system ({disk.file_system})"
        raise NetworkDrive(operation="migrate", path=database, cause=cause)


def check_writable(folder: Path, *, like: Path) -> None:
    """Refuse a folder in which no file can be made: SQLite needs that for its journal, backups for themselves.

    Args:
        folder: made if it is missing.
        like: the database, whose owner and rights it gets then.

    Raises:
        ReadOnly: the folder cannot be made, or cannot be written.
    """
    probe = folder / f"{temporary_files.PROBE}{os.getpid()}"
    try:
        files.make_folder(folder, like=like)
        with files.disk_errors("write", folder):
            os.close(files.new_file(probe, like=like))
            # Another process may have cleared it.
            file_calls.remove(probe)
    except DiskFull:
        raise
    except DiskProblem as problem:
        raise ReadOnly(operation="write", path=problem.path, cause=problem.cause) from problem


def check_alone(database: Path) -> None:
    """Refuse a database that another program has open: that would continue to use the old schema.

    In WAL mode exclusive locking fails if another program merely has the database open. In the other modes only an open
    transaction of the other program shows, and the next transaction to begin finds it.

    Raises:
        Locked: another program has it.
        ReadOnly: the database may not be written.
    """
    with translated("open alone", database), closing(open_writing(database, tolerant=True)) as connection:
        if is_wal(connection):
            connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        # On a read-only file, this silently begins a read transaction: only a write fails.
        connection.execute(f"PRAGMA user_version={version_of(connection)}")
        connection.execute("ROLLBACK")


def check_not_in_use(database: Path) -> None:
    """Refuse a database in which another program reads or writes at this moment; having it open is no obstacle.

    Raises:
        Locked: another program has a transaction open.
        ReadOnly: the database may not be written.
        Damaged: SQLite cannot read it.
    """
    with translated("replace", database), closing(open_writing(database, tolerant=True)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        # As in `check_alone`: only a write fails on a read-only file.
        connection.execute(f"PRAGMA user_version={version_of(connection)}")
        connection.execute("ROLLBACK")


def _device(folder: Path) -> int:
    return files.nearest_folder(folder).stat().st_dev
