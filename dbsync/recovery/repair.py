"""Recovery of a damaged database into a new file, and a comparison with a backup; the damaged file is only copied."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.backups import bundled_migrations, compression, restore, snapshot
from dbsync.errors import (
    Damaged,
    DiskFull,
    DiskProblem,
    Locked,
    Refused,
    TillkeeperError,
    TryLater,
    Unexpected,
    described,
    disk_problem,
)
from dbsync.migrations import runner
from dbsync.model import Backup, Loss, Migration, Raised, SchemaNumber
from dbsync.progress import Meter, Progress, WorkPhase, quiet
from dbsync.recovery.new_database import Rebuilt, aside_of
from dbsync.recovery.orphan_trees import read_lost
from dbsync.recovery.pages import Pages
from dbsync.recovery.schema_recovery import (
    Object,
    find_again,
    graft,
    is_database,
    open_damaged,
    put_header,
    put_version,
    read_schema,
    with_pages_that_are_there,
)
from dbsync.recovery.scratch_copy import copy_files, settle
from dbsync.recovery.table_recovery import TableRepaired, read_all, read_marks, sources
from dbsync.storage import files, temporary_files, wal
from dbsync.storage.connections import (
    Connection,
    Thoroughness,
    attach_copy,
    check_soundness,
    kind_of,
    open_copy,
    open_scratch,
    translated,
)
from dbsync.storage.locks import IN_USE, lock_of
from dbsync.storage.notes import page_bytes_of
from dbsync.storage.side_files import WAL, side_file
from dbsync.verification import checks, table_diff

SPACE_FACTOR: Final = 2.5
"""Multiple of the damaged file's size: its copy, and the new file, which has no free pages but may need a journal."""
ITSELF: Final = "itself"
MOST_SCHEMAS: Final = 100_000
"""No history is that long: a larger number is damage. One just above the known migrations is a newer schema."""


class Repaired(NamedTuple):
    """The result of a recovery."""

    into: Path
    tables: tuple[TableRepaired, ...]
    version: SchemaNumber
    aside: Path | None
    """The side file: rows that break the new file's constraints, as JSON lines; None: all fitted."""
    not_made: tuple[str, ...]
    """Indexes, triggers, views and searches that could not be made, and why."""
    schema_from: str
    """"itself", a backup's path, or "the migrations"."""
    bad_blocks_count: int
    """Blocks of 4096 bytes that could not be read from the disk; they count as empty."""
    references: tuple[str, ...]
    """Rows that refer to missing rows, in sentences."""
    compared_with: Path | None
    """The newest good backup."""
    losses: tuple[Loss, ...] = ()
    """Differences from that backup: added is only in the result, removed only in the backup."""
    not_compared: str = ""
    """Why the result could not be compared with that backup; empty where it could."""
    log: wal.Summary | None = None
    """The frames of the database's `-wal`; None if there is none."""
    gaps: Path | None = None
    """The folder that explains the numbers which are skipped because counters were raised."""

    @property
    def whole(self) -> bool:
        """Whether everything was read and fitted; False where the schema was lost, as it cannot be known then."""
        lost = self.not_made or self.bad_blocks_count or self.schema_from != ITSELF
        lost = lost or (self.log is not None and self.log.may_lose)
        return not lost and all(table.whole for table in self.tables)


Raising = Callable[[Connection], Raised | None]


def no_counters(_connection: Connection) -> Raised | None:
    """Raise nothing: the default where no marks are known."""
    return None


class Good(NamedTuple):
    """A sound backup."""

    path: Path
    plain: Path
    """A file that SQLite can open: for a compressed one a scratch file."""


class Schema(NamedTuple):
    """The objects of the database, and the source that they were taken from."""

    objects: list[Object]
    taken_from: str


def repair(
    *,
    database: Path,
    into: Path,
    backups: list[Backup],
    migrations: tuple[Migration, ...] = (),
    last_version: SchemaNumber | None = None,
    progress: Progress = quiet,
    raise_counters: Raising = no_counters,
) -> Repaired:
    """Read everything readable into a new file and return the result.

    Args:
        database: the damaged database; it and the files beside it are not written.
        into: the new file, which must not exist.
        backups: newest first.
        migrations: the source of the schema where there is no other; may be empty.
        last_version: the schema number last on record, for a database that lost its header.
        progress: receives the progress.
        raise_counters: raises the counters of the new file, which is open, to the highest number ever seen.

    Raises:
        Refused: it is no database, `into` exists, or the schema cannot be determined.
        Locked: another process works with it.
        TillkeeperError: by meaning; only the damaged file is left, as it was.
    """
    _check(database, into)
    with _alone(database):
        return _repair(database, into, backups, migrations, last_version, progress, raise_counters)


@contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Hold the lock of the database, so that no run on it clears the work; on a read-only disk there is none."""
    lock = lock_of(database)
    try:
        taken = lock.try_take()
    except DiskProblem:
        taken = lock.is_free()
    if not taken:
        raise Locked(operation="recover", path=database, cause=IN_USE)
    try:
        yield
    finally:
        lock.release()


def _repair(
    database: Path,
    into: Path,
    backups: list[Backup],
    migrations: tuple[Migration, ...],
    last_version: SchemaNumber | None,
    progress: Progress,
    raise_counters: Raising,
) -> Repaired:
    owner = temporary_files.owner_of(database)
    folder, meter = temporary_files.scratch_of(into.parent, owner, f"{into.name}.work"), Meter(progress)
    try:
        # A killed recovery into the same file left this folder.
        snapshot.drop_folder(folder)
        with files.disk_errors("make", folder):
            folder.mkdir()
        work = folder / database.name
        bad_count = copy_files(meter.phase(WorkPhase.COPY), database=database, work=work)
        # Before SQLite drops what it cannot read.
        log = wal.summary_of(side_file(work, WAL), page_bytes=page_bytes_of(work))
        settle(work)
        with _newest_good(backups) as newest:
            schema = _schema(work, folder, newest, backups, migrations, last_version)
            rebuilt = Rebuilt(into, owner, Pages(work).header, schema.objects)
            try:
                found = _rebuild(work, rebuilt, schema, newest, meter, raise_counters)
                found = found._replace(bad_blocks_count=bad_count, log=log)
                meter.phase(WorkPhase.SYNC)
                return found._replace(aside=rebuilt.publish())
            finally:
                rebuilt.drop()
    except Refused as error:
        # The error names the scratch copy, which the user does not know.
        raise type(error)(operation=error.operation, path=database, cause=error.cause, hint=error.hint) from error
    except Exception as raised:
        raise _as_ours(raised, database, into) from raised
    finally:
        snapshot.drop_folder(folder)


def _as_ours(raised: Exception, database: Path, into: Path) -> TillkeeperError:
    """Return an error of ours for whatever ended a recovery; the damaged file itself is only copied."""
    if isinstance(raised, TillkeeperError):
        return raised
    if isinstance(raised, OSError):
        return disk_problem("recover into", into, raised)
    if isinstance(raised, sqlite3.Error):
        kind = kind_of(raised) or Damaged
        return kind(operation="recover", path=database if kind is Damaged else into, cause=str(raised))
    return Unexpected(operation="recover", path=database, cause=described(raised))


def _check(database: Path, into: Path) -> None:
    if not files.is_there(database) or not database.is_file():
        raise Damaged(operation="recover", path=database, cause="there is no such file")
    if not files.is_there(into.parent):
        raise Refused(operation="recover into", path=into, cause="there is no such folder")
    for path in (into, aside_of(into), *snapshot.sidecars(into)):
        if files.is_there(path):
            hint = "Name a file that is not there yet."
            raise Refused(operation="recover into", path=path, cause="it is there already", hint=hint)
    needed = int(SPACE_FACTOR * files.size_of(database, *snapshot.sidecars(database)))
    if files.free_bytes(into.parent) < needed:
        raise DiskFull(operation="recover into", path=into, cause=f"{needed / 1e6:.0f} MB are needed")


@contextmanager
def _newest_good(backups: list[Backup], version: SchemaNumber | None = None) -> Iterator[Good | None]:
    """The newest sound backup, of a schema number if one is given; None if there is none."""
    for backup in backups:
        if not backup.verified or (version is not None and backup.version != version):
            continue
        try:
            restore.check_backup_file(backup.path)
        except TillkeeperError:
            continue
        with compression.plain(backup.path) as plain:
            yield Good(backup.path, plain)
            return
    yield None


def _schema(
    work: Path,
    folder: Path,
    newest: Good | None,
    backups: list[Backup],
    migrations: tuple[Migration, ...],
    last_version: SchemaNumber | None,
) -> Schema:
    """Return the database's own schema if it can be read, else a sound database's, with the trees found again."""
    own: list[Object] = []
    had_header = is_database(work)
    if had_header:
        with suppress(TillkeeperError), translated("read", work), closing(open_damaged(work)) as connection:
            own, whole = read_schema(connection)
            if whole:
                return Schema(own, ITSELF)
    elif newest is None:
        hint = "If it is encrypted, decrypt it first. Without a good backup nothing tells what was in it."
        raise Refused(operation="recover", path=work, cause="it is no SQLite database", hint=hint)
    version = Pages(work).header.version if had_header else last_version
    is_garbled = version is not None and not 0 < version < MOST_SCHEMAS
    if is_garbled:
        # No schema has such a number: take the one last on record, else that of the newest good backup.
        version = last_version
    migrations = migrations or _kept(backups, version)
    with _newest_good(backups, version) as alike:
        source, name = (
            (alike.plain, str(alike.path))
            if alike is not None
            else (_fresh(folder, migrations, version), "the migrations")
        )
        if source is None:
            hint = "Pass --migrations, or put a good backup of this schema into the folder of backups."
            raise Refused(operation="recover", path=work, cause="nothing tells its schema", hint=hint)
        put_header(source=source, work=work)
        if is_garbled:
            put_version(source=source, work=work)
        with_pages_that_are_there(work)
        objects = find_again(own, source=source, work=work)
    if not any(entry.root for entry in objects if entry.kind == "table"):
        raise Refused(operation="recover", path=work, cause="it is no SQLite database, or none of this app")
    graft(work, objects)
    return Schema(objects, name)


def _kept(backups: list[Backup], version: SchemaNumber | None) -> tuple[Migration, ...]:
    """Return migrations kept beside a backup that lead to a schema: the backup itself was made before them."""
    for backup in backups:
        with suppress(TillkeeperError):
            found = bundled_migrations.beside(backup.path)
            if found and version is not None and found[-1].number >= version:
                return found
    return ()


def _fresh(folder: Path, migrations: tuple[Migration, ...], version: SchemaNumber | None) -> Path | None:
    wanted = tuple(migration for migration in migrations if version is None or migration.number <= version)
    if not wanted:
        return None
    path = folder / "fresh.db"
    with translated("make", path), closing(open_scratch(path)) as connection:
        runner.run_all(connection, wanted)
    return path


def _rebuild(
    work: Path, rebuilt: Rebuilt, schema: Schema, newest: Good | None, meter: Meter, raise_counters: Raising
) -> Repaired:
    with translated("write", rebuilt.path):
        rebuilt.make_tables()
        told, found = meter.phase(WorkPhase.READ), sources(rebuilt, schema.objects)
        with closing(open_damaged(work)) as damaged:
            tables = read_all(damaged, work, rebuilt, found, told)
            marks = read_marks(damaged, rebuilt, newest.plain if newest else None)
            application_id = int(damaged.execute("PRAGMA application_id").fetchone()[0])
        version = Pages(work).header.version
        tables = read_lost(work, rebuilt, found, schema.objects, tables, told)
        meter.phase(WorkPhase.INDEXES)
        rebuilt.make_rest(version, application_id)
        raised = _raised(rebuilt, raise_counters)
        meter.phase(WorkPhase.CHECK)
        problem = check_soundness(rebuilt.connection, Thoroughness.FULL)
        if problem is not None:
            raise DiskProblem(operation="check what was recovered", path=rebuilt.path, cause=problem)
        references = tuple(checks.foreign_keys(checks.Case(rebuilt.connection, (), has_old=False)))
        rebuilt.close()
    meter.phase(WorkPhase.COMPARE)
    losses, not_compared = compared(rebuilt.path, newest)
    return Repaired(
        temporary_files.final_of(rebuilt.path), (*tables.values(), *marks), version, None,
        tuple(rebuilt.not_made), schema.taken_from, 0, references,
        newest.path if newest else None, losses, not_compared, None, raised.report if raised is not None else None,
    )  # fmt: skip


def _raised(rebuilt: Rebuilt, raise_counters: Raising) -> Raised | None:
    """Raise the counters of the new file. One that cannot be raised is named: the rest is worth having all the same."""
    rebuilt.connection.execute("BEGIN")
    try:
        raised = raise_counters(rebuilt.connection)
    except TryLater:
        raise
    except TillkeeperError as error:
        rebuilt.connection.execute("ROLLBACK")
        rebuilt.not_made.append(f"counters: {error}")
        return None
    rebuilt.connection.execute("COMMIT")
    return raised


def compared(path: Path, newest: Good | None) -> tuple[tuple[Loss, ...], str]:
    """Return the differences from a backup; or why they are unknown, for example a collation of the app's own."""
    if newest is None:
        return (), ""
    try:
        with closing(open_copy(path)) as connection:
            attach_copy(connection, newest.plain, "base")
            return table_diff.differences(connection, "base"), ""
    except sqlite3.Error as error:
        return (), str(error)
