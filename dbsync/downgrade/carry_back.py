"""Going back without losing a sale: carries the changes since the migration to the backup, and proves the result.

`base = migrate(backup)`; `base` against now: exactly the changes that people made. Each changed row is translated down
onto a copy of the backup; the result is migrated up again and compared with now, structure and content. An empty
difference proves that nothing is lost. Any other is the exact report, and is kept in the older database as its
complement (`dbsync.complement`), which going up to the same schema puts back. It needs nothing of the app, and works
after crashes. Nothing that one row, value, table or object does stops the rest.

If the migrations leave every value where it was, the backup itself is the base, as far as it has tables and columns:
that saves a copy and a run of them. If its proof finds any difference, the steps above follow for the exact report.
"""

from __future__ import annotations

import itertools
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.backups import compression, snapshot
from dbsync.complement import kept
from dbsync.complement.quiet_triggers import renew_searches, without_triggers
from dbsync.downgrade import local_objects, older_rows, remainder, row_translation
from dbsync.downgrade.local_objects import Local
from dbsync.downgrade.older_rows import BASE, NOW, WORK
from dbsync.errors import MigrationFailed
from dbsync.migrations import code_process, runner
from dbsync.model import Carried, Loss, Migration
from dbsync.progress import Told, Unit
from dbsync.schema.table_definition import virtual_of
from dbsync.storage import file_calls, files
from dbsync.storage.background import Beside
from dbsync.storage.connections import (
    Connection,
    attach_copy,
    attach_scratch,
    check_soundness,
    open_copy,
    open_scratch,
    translated,
)
from dbsync.storage.introspection import (
    app_tables,
    has_table,
    numbered_tables,
    shadows_of,
    tables,
    version_of,
)
from dbsync.storage.raw_text import every_text
from dbsync.verification import table_diff

AGAIN: Final = "again"
PARKED: Final = "parked.jsonl"


@code_process.kept()
def carry_back(
    migrations: tuple[Migration, ...], *, now: Path, backup: Path, into: Path, reports: Path, told: Told
) -> Carried:
    """Make the older database with the changes that people made since.

    Args:
        now: a finished copy of the newer database, which is not written.
        backup: the exact state before the migration.
        migrations: all migrations of the newer release.
        into: the path of the result; scratch files are made beside it and removed.
        reports: a folder for values that the older schema cannot hold (`parked.jsonl`, one row in a line) and for rows
            that the result lacks (CSV and SQL); made only if there are any.
        told: receives the progress in bytes copied and in rows replayed.

    Raises:
        TillkeeperError: the older database could not be made; nothing is left of it.
    """
    # A file of an earlier report does not belong to this one.
    file_calls.remove(reports / PARKED)
    try:
        with compression.plain(backup) as plain:
            run = _run_on(plain, migrations)
            if row_translation.conserves(run.newer) and _by_backup(now, plain, run, into, told):
                return Carried(into, (), None, None)
            return _by_base(now, plain, run, into=into, reports=reports, told=told)
    except BaseException:
        snapshot.drop_part(into)
        raise


class _Run(NamedTuple):
    """The migrations of a way back."""

    known: tuple[Migration, ...]
    """All of them."""
    newer: tuple[Migration, ...]
    """Those that the backup does not have."""


def _run_on(backup: Path, migrations: tuple[Migration, ...]) -> _Run:
    with translated("look at", backup), closing(open_copy(backup)) as connection:
        version = version_of(connection)
    return _Run(migrations, tuple(migration for migration in migrations if migration.number > version))


def _by_backup(now: Path, backup: Path, migrations: _Run, into: Path, told: Told) -> bool:
    """Carry back with the backup as the base; return False if anything would differ, or could not be done."""
    told(0, 0, "copying the backup")
    snapshot.scratch_copy(source=backup, target=into, told=told, like=now)
    try:
        # Only tables and columns of both sides are carried: every value has a place.
        _do_again(now, backup, into, (), None, told)
        return _proven(now, into, migrations, told)
    except MigrationFailed:
        return False


def _proven(now: Path, into: Path, migrations: _Run, told: Told) -> bool:
    """Return whether migrating the result up again gives the newer database, in a transaction that is rolled back.

    The file that was proven is thus the one that is restored. In WAL mode the file itself stays as it is and can be
    checked and synced meanwhile: it is a scratch file, so nobody needs the locks that this drops.
    """
    with translated("prove", into, otherwise=MigrationFailed), closing(open_scratch(into)) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        told(0, 0, "proving it")
        with Beside(lambda: files.sync_file(into)) as synced, Beside(lambda: _check(into)) as check:
            attach_copy(connection, now, NOW)
            connection.execute("PRAGMA foreign_keys=OFF")
            connection.execute("BEGIN")
            runner.apply_all(connection, migrations.newer, among=migrations.known, puts_back=True)
            same = version_of(connection) == version_of(connection, NOW)
            same = same and not table_diff.differences(connection, NOW, whole=True)
            same = same and not kept.exists(connection, NOW)
            same = same and not _lower_marks(connection, NOW, "main")
            connection.execute("ROLLBACK")
        check.result()
        synced.result()
        connection.execute("PRAGMA journal_mode=DELETE").fetchall()
    # There is hardly anything left to sync: the header says again that there is no log.
    files.sync_file(into)
    return same


def _by_base(now: Path, backup: Path, migrations: _Run, *, into: Path, reports: Path, told: Told) -> Carried:
    base, again = into.with_name(f"{into.name}-base"), into.with_name(f"{into.name}-again")
    parked = reports / PARKED
    try:
        local = _make_base(now, backup, base, migrations, told)
        told(0, 0, "copying the backup")
        snapshot.scratch_copy(source=backup, target=into, told=told, like=now)
        uncounted = _do_again(now, base, into, migrations.newer, local, told)
        # No more than three copies at once: each may be as large as the database.
        snapshot.drop_part(base)
        with Beside(lambda: files.sync_file(into)) as synced, Beside(lambda: _check(into)) as check:
            told(0, 0, "copying the result")
            snapshot.scratch_copy(source=into, target=again, told=told, like=now)
            told(0, 0, "proving it")
            unproven = _migrated_again(again, migrations)
            if unproven:
                # The older database is complete, and going up from it fails: then all changes are kept.
                snapshot.drop_part(again)
                _make_base(now, backup, again, migrations, told)
            found = _proof(now, again, reports)
        check.result()
        synced.result()
        parked_count, lost = _keep(now, again, backup, into=into, parked=parked, losses=found.losses)
        files.sync_file(into)
        if parked_count or found.exported:
            files.sync_tree(reports)
    finally:
        snapshot.drop_part(base)
        snapshot.drop_part(again)
    losses = () if unproven else (*lost, *uncounted)
    path, export = parked if parked_count else None, reports if found.exported else None
    return Carried(into, losses, path, export, unproven)


def _make_base(now: Path, backup: Path, base: Path, migrations: _Run, told: Told) -> Local:
    """Make the database as the migrations left it, with the tables and columns that people made since, empty."""
    told(0, 0, "copying the backup")
    snapshot.scratch_copy(source=backup, target=base, told=told, like=now)
    told(0, 0, "migrating the backup")
    runner.migrate_up(base, migrations.known)
    _check_version(now, base)
    with translated("carry back", base, otherwise=MigrationFailed), closing(open_scratch(base)) as connection:
        attach_copy(connection, now, NOW)
        local = local_objects.made_since(connection, NOW, "main")
        local_objects.make_empty(connection, NOW, local, str)
    return local


def _migrated_again(again: Path, migrations: _Run) -> str:
    """Return why the result cannot be migrated up again; empty: it was."""
    try:
        runner.migrate_up(again, migrations.known)
    except MigrationFailed as error:
        return f"migrating the result up again fails: {error.cause}"
    return ""


def _check_version(now: Path, base: Path) -> None:
    versions = []
    for path in (now, base):
        with translated("look at", path), closing(open_copy(path)) as connection:
            versions.append(version_of(connection))
    if versions[0] != versions[1]:
        cause = f"it has schema {versions[0]}, and the migrations lead to {versions[1]}"
        raise MigrationFailed(operation="carry back", path=now, cause=cause)


def _do_again(
    now: Path, base: Path, into: Path, newer: tuple[Migration, ...], local: Local | None, told: Told
) -> tuple[Loss, ...]:
    """Bring the copy of the backup to the state that people left, as far as the older schema can hold it.

    `local` is None where the backup itself is the base: then parts of the schema cannot be told apart.

    Returns:
        Losses that a comparison of rows does not show.
    """
    work = _work_beside(into)
    translate = row_translation.Translator(newer)
    try:
        with translated("carry back", into, otherwise=MigrationFailed), closing(open_scratch(into)) as connection:
            attach_copy(connection, now, NOW)
            attach_copy(connection, base, BASE)
            attach_scratch(connection, work, WORK)
            connection.execute("PRAGMA foreign_keys=OFF")
            connection.execute("BEGIN")
            # Whatever of it is live now is compared, and kept anew if it must be; the newer database has the rest.
            kept.drop(connection)
            made = local_objects.make_empty(connection, NOW, local, translate.table_of) if local else None
            with without_triggers(connection):
                again = older_rows.OlderRows(connection, translate, made.column_names if made else frozenset())
                done = again.carry(lambda count: told(count, 0, "doing again", Unit.ROWS))
                told(done, done, unit=Unit.ROWS)
                _raise_marks(connection, translate)
                lost = [Loss(f"rowids of {table}", 0, count, 0) for table, count in again.moved_rowids()]
                lost += _renew_searches(connection, again.touched, translate)
            if local is not None:
                local_objects.make_objects(connection, NOW, BASE, newer)
            connection.execute("COMMIT")
    finally:
        snapshot.drop_part(work)
    return tuple(lost)


def _keep(
    now: Path, again: Path, backup: Path, *, into: Path, parked: Path, losses: tuple[Loss, ...]
) -> tuple[int, tuple[Loss, ...]]:
    """Keep in the older database what it cannot hold.

    Returns:
        How many rows of it are in the file beside it, and the losses that the backup did not keep already.
    """
    work = _work_beside(into)
    try:
        with translated("keep", into, otherwise=MigrationFailed), closing(open_scratch(into)) as connection:
            attach_copy(connection, now, NOW)
            attach_copy(connection, again, AGAIN)
            attach_copy(connection, backup, BASE)
            attach_scratch(connection, work, WORK)
            number = version_of(connection, NOW)
            connection.execute("BEGIN")
            with every_text(connection):
                count = remainder.keep(connection, now=NOW, predicted=AGAIN, number=number)
            connection.execute("COMMIT")
            lost = remainder.not_kept_before(connection, losses, earlier=BASE, now=NOW, number=number)
            return remainder.park(connection, number, parked) if count else 0, lost
    finally:
        snapshot.drop_part(work)


def _work_beside(into: Path) -> Path:
    """Return the place of a throw-away file: one before it may lie there, if another program holds it."""
    places = (into.with_name(f"{into.name}-work-{number}") for number in itertools.count(1))
    return next(place for place in places if not files.is_there(place))


def _check(path: Path) -> None:
    with translated("carry back", path, otherwise=MigrationFailed), closing(open_copy(path)) as connection:
        problem = check_soundness(connection)
    if problem is not None:
        raise MigrationFailed(operation="carry back", path=path, cause=problem)


def _raise_marks(connection: Connection, translate: row_translation.Translator) -> None:
    """Raise the AUTOINCREMENT counters: the older version must not reuse a receipt number of the newer one.

    Also if it was the first id of its table, and its row is removed since: then the older one has no counter yet.
    """
    if not all(has_table(connection, "sqlite_sequence", schema) for schema in ("main", NOW)):
        return
    numbered = numbered_tables(connection)
    for name, mark in connection.execute(f"SELECT name, max(seq) FROM {NOW}.sqlite_sequence GROUP BY name"):
        table = numbered.get((translate.table_of(str(name)) or "").lower())
        if table is None:
            continue
        raised = connection.execute("UPDATE main.sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (mark, table))
        if not raised.rowcount:
            connection.execute("INSERT INTO main.sqlite_sequence (name, seq) VALUES (?, ?)", (table, mark))


def _renew_searches(
    connection: Connection, touched: frozenset[str], translate: row_translation.Translator
) -> list[Loss]:
    """Rebuild the search indexes over rows that were carried, and copy entries that have no rows to be made from.

    Returns:
        The indexes that cannot be rebuilt.
    """
    lost = [Loss(name, 0, 1, 0) for name in renew_searches(connection, touched)]
    kinds = tables(connection)
    for name, facts in app_tables(connection, NOW).items():
        older = kinds.get(name)
        both = facts.is_contentless and older is not None and older.is_contentless
        if both and translate.table_of(name) == name and _same_definition(connection, name):
            older_rows.copy_entries(connection, shadows_of(connection, name))
    return lost


def _same_definition(connection: Connection, search: str) -> bool:
    return virtual_of(connection, search, NOW) == virtual_of(connection, search, "main")


class _Proof(NamedTuple):
    losses: tuple[Loss, ...]
    exported: bool


def _proof(now: Path, again: Path, reports: Path) -> _Proof:
    with translated("compare", again), closing(open_copy(now)) as connection:
        attach_copy(connection, again, AGAIN)
        losses = table_diff.differences(connection, AGAIN, whole=True)
        marks = _lower_marks(connection, "main", AGAIN)
        exported = False
        if losses:
            files.make_folder(reports, like=now)
            exported = bool(table_diff.export(connection, AGAIN, losses, reports))
            if not exported and not any(reports.iterdir()):
                file_calls.remove_folder(reports)
    return _Proof((*losses, *marks), exported)


def _lower_marks(connection: Connection, now: str, again: str) -> tuple[Loss, ...]:
    if not all(has_table(connection, "sqlite_sequence", schema) for schema in (now, again)):
        return ()
    rows = connection.execute(
        f"SELECT m.name FROM {now}.sqlite_sequence m LEFT JOIN {again}.sqlite_sequence a ON a.name = m.name"
        " WHERE m.seq > coalesce(a.seq, 0)"
    )
    return tuple(Loss("sqlite_sequence", 0, 1, 0) for _ in rows.fetchall()[:1])
