"""Runs of migrations: in an open transaction, one savepoint each, with history rows; or on a throw-away database."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dbsync.complement.put_back import put_back
from dbsync.errors import MigrationFailed, TillkeeperError
from dbsync.migrations import history
from dbsync.migrations.engines import registry
from dbsync.migrations.sandbox import Sandbox, unheard
from dbsync.migrations.write_log import Written, together
from dbsync.model import Migration, MigrationKind, TrialId
from dbsync.progress import Told, nobody
from dbsync.schema.fingerprint import fingerprint
from dbsync.storage import missing_parts
from dbsync.storage.connections import Connection, open_scratch, translated
from dbsync.storage.introspection import version_of


class Applied(NamedTuple):
    """The facts of a migration that ran."""

    milliseconds: int
    written: Written | None
    """None: it may have written anything."""


def apply(
    connection: Connection,
    migration: Migration,
    *,
    trial_id: TrialId | None,
    release: history.Release,
    at: str,
    milliseconds: Callable[[], int],
    log: Callable[[str], None],
    told: Told = nobody,
    issued: Callable[[str], None] = unheard,
) -> Applied:
    """Run one migration and write its rows and `user_version`, in the open transaction.

    `told` gets its progress (statements of an SQL file, rows of a batch), `issued` each statement before it runs.

    Raises:
        MigrationFailed: a statement or the migration's code failed; the savepoint is undone.
        DiskFull: there is no space; SQLite may have ended the transaction.
    """
    began = milliseconds()
    if migration.kind is MigrationKind.COMMAND:
        from dbsync.migrations.engines import own_command

        # The connection is to a copy that no other process uses (`database.open_transaction.OnCopy`).
        own_command.run(connection, migration, log)
        took = milliseconds() - began
        _record(connection, migration, trial_id=trial_id, release=release, at=at, took=took)
        return Applied(took, None)
    engine = registry.named(migration.engine)
    connection.execute("SAVEPOINT migration")
    try:
        place = engine.file_label(migration)
        with Sandbox(connection, log, migration.path, told, issued, place=place) as sandbox:
            engine.run(sandbox, migration)
            sandbox.check_transaction()
        took = milliseconds() - began
        _record(connection, migration, trial_id=trial_id, release=release, at=at, took=took)
        connection.execute("RELEASE migration")
    except BaseException:
        # After "disk full" in WAL mode SQLite has undone everything already, and the savepoint is gone.
        if connection.in_transaction:
            connection.execute("ROLLBACK TO migration")
        raise
    return Applied(took, frozenset(sandbox.written))


def apply_all(
    connection: Connection,
    migrations: tuple[Migration, ...],
    *,
    told: Told = nobody,
    issued: Callable[[Migration, str], None] = lambda _migration, _sql: None,
    puts_back: bool = False,
) -> Written | None:
    """Run migrations in the open transaction of a throw-away database and return their writes.

    Their history rows have no trial, no release and no time. `issued` gets each statement before it runs. With
    `puts_back`, what the database has kept for each schema is put back when it comes to it, as on a till.

    Returns:
        Their writes; None: they may have written anything.
    """
    written: Written | None = frozenset()
    for migration in migrations:
        told(0, 0, f"v{migration.number} {migration.name}")
        applied = apply(
            connection,
            migration,
            trial_id=None,
            release=(None, None),
            at="",
            milliseconds=lambda: 0,
            log=lambda _: None,
            told=told,
            issued=partial(issued, migration),
        )
        written = together(written, applied.written)
        if puts_back:
            put_back(connection, migration.number)
    return written


def run_all(connection: Connection, migrations: tuple[Migration, ...], *, puts_back: bool = False) -> Written | None:
    """Run migrations on a throw-away database in a transaction of their own and return their writes.

    They run as they would on a till.
    """
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute("BEGIN")
    written = apply_all(connection, migrations, puts_back=puts_back)
    connection.execute("COMMIT")
    return written


def migrate_up(path: Path, migrations: tuple[Migration, ...]) -> tuple[Migration, ...]:
    """Bring a throw-away file to the newest of `migrations`, with what it has kept, and return those that were pending.

    Raises:
        TillkeeperError: a migration fails on it.
    """
    with translated("migrate a copy", path, otherwise=MigrationFailed), closing(open_scratch(path)) as connection:
        pending = tuple(migration for migration in migrations if migration.number > version_of(connection))
        run_all(connection, pending, puts_back=True)
    return pending


def run_for_structure(connection: Connection, migrations: tuple[Migration, ...]) -> None:
    """Run migrations on an empty throw-away database for its structure alone.

    Functions and collations of the app that are missing here get stand-ins: the structure does not depend on their
    results, the rows may.

    Raises:
        TillkeeperError: a migration fails for another reason.
    """
    stood_in: set[missing_parts.Stub] = set()
    while True:
        try:
            run_all(connection, migrations)
        except TillkeeperError as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            stub = missing_parts.stub_of(error.__cause__) if error.__cause__ is not None else None
            if stub is None or stub in stood_in:
                raise
            missing_parts.add(connection, stub)
            stood_in.add(stub)
        else:
            return


def fresh_structure(migrations: tuple[Migration, ...]) -> frozenset[str]:
    """Return the structure that all migrations give to an empty database."""
    with closing(open_scratch()) as connection:
        run_for_structure(connection, migrations)
        return fingerprint(connection)


def _record(
    connection: Connection,
    migration: Migration,
    *,
    trial_id: TrialId | None,
    release: history.Release,
    at: str,
    took: int,
) -> None:
    history.make_tables(connection)
    history.add_migration(
        connection,
        migration,
        kind=history.HistoryKind.MIGRATION,
        trial_id=trial_id,
        release=release,
        at=at,
        duration_ms=took,
    )
    registry.named(migration.engine).note(connection, migration)
    connection.execute(f"PRAGMA user_version={migration.number}")
