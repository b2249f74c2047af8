"""Runs of migrations: in an open transaction, one savepoint each, with history rows; or on a throw-away database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dbsync.complement.put_back import put_back
from dbsync.errors import MigrationFailed, TillkeeperError
from dbsync.migrations import history, local_additions
from dbsync.migrations.engines import registry
from dbsync.migrations.environment import PINNED, Environment, time_zone_of
from dbsync.migrations.local_additions import Known
from dbsync.migrations.sandbox import Sandbox, unheard
from dbsync.migrations.write_log import Written, together
from dbsync.model import Migration, MigrationKind, SchemaNumber, TrialId
from dbsync.progress import Told, nobody
from dbsync.schema.fingerprint import Structure, structure_of
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
    known: Known | None = None,
    environment: Environment = PINNED,
) -> Applied:
    """Run one migration and write its rows and `user_version`, in the open transaction.

    `told` gets its progress (statements of an SQL file, rows of a batch), `issued` each statement before it runs.
    `known` are the names of the vendor's schema before and after it (`vendor_names`): additions of others are kept.
    Terminals have no `environment` but the default.

    Raises:
        MigrationFailed: a statement or the migration's code failed; the savepoint is undone.
        DiskFull: there is no space; SQLite may have ended the transaction.
    """
    began = milliseconds()
    if migration.kind is MigrationKind.COMMAND:
        from dbsync.migrations.engines import own_command

        # The connection is to a copy that no other process uses (`database.open_transaction.OnCopy`).
        own_command.run(connection, migration, log, environment)
        took = milliseconds() - began
        _record(connection, migration, environment, trial_id=trial_id, release=release, at=at, took=took)
        return Applied(took, None)
    engine = registry.named(migration.engine)
    connection.execute("SAVEPOINT migration")
    try:
        place = engine.file_label(migration)
        with Sandbox(
            connection, log, migration.path, told, issued,
            place=place, has_strings_in_double_quotes=migration.has_strings_in_double_quotes,
        ) as sandbox, time_zone_of(environment):  # fmt: skip
            if known is None:
                _run(sandbox, migration, environment)
            else:
                _with_additions(connection, sandbox, migration, known, environment)
            sandbox.check_transaction()
        took = milliseconds() - began
        _record(connection, migration, environment, trial_id=trial_id, release=release, at=at, took=took)
        connection.execute("RELEASE migration")
    except BaseException:
        # After "disk full" in WAL mode SQLite has undone everything already, and the savepoint is gone.
        if connection.in_transaction:
            connection.execute("ROLLBACK TO migration")
        raise
    return Applied(took, frozenset(sandbox.written))


def _run(sandbox: Sandbox, migration: Migration, environment: Environment) -> None:
    if migration.kind is MigrationKind.PYTHON:
        from dbsync.migrations import code_process

        code_process.run(sandbox, migration, environment)
    else:
        registry.named(migration.engine).run(sandbox, migration)


def _with_additions(
    connection: Connection, sandbox: Sandbox, migration: Migration, known: Known, environment: Environment
) -> None:
    additions = local_additions.take(connection, sandbox, migration, known)
    sandbox.local = frozenset((found.kind, found.name.lower()) for found in additions.objects)
    _run(sandbox, migration, environment)
    sandbox.local = frozenset()
    local_additions.give_back(connection, sandbox, migration, additions)


def vendor_names(migrations: tuple[Migration, ...], since: SchemaNumber) -> dict[SchemaNumber, Known]:
    """Return the names of the vendor's schema before and after each migration that is newer than `since`.

    It lacks those that cannot be run on a fresh database, and all behind them; a program of the app is one of them.

    Args:
        migrations: all migrations of a release; if the first ones are missing, nothing is known.
        since: the schema of the database.
    """
    found: dict[SchemaNumber, Known] = {}
    if not migrations or migrations[0].number != 1 or not 0 < since < migrations[-1].number:
        return found
    with closing(open_scratch()) as connection:
        before = local_additions.names_of(connection)
        for migration in migrations:
            try:
                if migration.kind is MigrationKind.COMMAND:
                    return found
                run_all(connection, (migration,))
            except (TillkeeperError, sqlite3.Error):
                # Whether that stops the run is for the run itself.
                return found
            if migration.number >= since:
                after = local_additions.names_of(connection)
                if migration.number > since:
                    found[migration.number] = before | after
                before = after
    return found


def apply_all(
    connection: Connection,
    migrations: tuple[Migration, ...],
    *,
    among: tuple[Migration, ...] = (),
    told: Told = nobody,
    issued: Callable[[Migration, str], None] = lambda _migration, _sql: None,
    puts_back: bool = False,
    environment: Environment = PINNED,
) -> Written | None:
    """Run migrations in the open transaction of a throw-away database and return their writes.

    Their history rows have no trial, no release and no time. `issued` gets each statement before it runs. Local
    additions are kept if `among` are all migrations of the release. With `puts_back`, what the database has kept for
    each schema is put back when it comes to it, as on a till.

    Returns:
        Their writes; None: they may have written anything.
    """
    written: Written | None = frozenset()
    names = vendor_names(among, version_of(connection))
    for migration in migrations:
        told(0, 0, f"v{migration.number} {migration.name}")
        try:
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
                known=names.get(migration.number),
                environment=environment,
            )
        except TillkeeperError as error:
            error.migration = f"{migration.number:04d}_{migration.name}"
            raise
        written = together(written, applied.written)
        if puts_back:
            put_back(connection, migration.number)
    return written


def run_all(
    connection: Connection,
    migrations: tuple[Migration, ...],
    *,
    among: tuple[Migration, ...] = (),
    puts_back: bool = False,
    environment: Environment = PINNED,
) -> Written | None:
    """Run migrations on a throw-away database in a transaction of their own and return their writes.

    They run as they would on a till. Local additions are kept if `among` are all migrations of the release.
    """
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute("BEGIN")
    written = apply_all(connection, migrations, among=among, puts_back=puts_back, environment=environment)
    connection.execute("COMMIT")
    return written


def migrate_up(path: Path, migrations: tuple[Migration, ...]) -> tuple[Migration, ...]:
    """Bring a throw-away file to the newest of `migrations`, with what it has kept, and return those that were pending.

    Raises:
        TillkeeperError: a migration fails on it.
    """
    with translated("migrate a copy", path, otherwise=MigrationFailed), closing(open_scratch(path)) as connection:
        pending = tuple(migration for migration in migrations if migration.number > version_of(connection))
        run_all(connection, pending, among=migrations, puts_back=True)
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


def fresh_structure(migrations: tuple[Migration, ...]) -> Structure:
    """Return the structure that all migrations give to an empty database."""
    with closing(open_scratch()) as connection:
        run_for_structure(connection, migrations)
        return structure_of(connection)


def _record(
    connection: Connection,
    migration: Migration,
    environment: Environment,
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
        environment=environment.in_words,
    )
    registry.named(migration.engine).note(connection, migration)
    connection.execute(f"PRAGMA user_version={migration.number}")
