"""Going back without losing a sale: replays the changes since the migration on the backup, and proves the result.

`base = migrate(backup)`; `change = diff(base, now)`: exactly the changes that people made. Each changed row is
translated down onto a copy of the backup; the result is migrated up again and compared with now. An empty difference
proves that nothing is lost, any other is the exact report. It needs nothing of the app, and works after crashes.

If the migrations leave every value where it was, the backup itself is the base, as far as it has tables and columns:
that saves a copy and a run of them. If its proof finds any difference, the steps above follow for the exact report.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Final

from dbsync.backups import compression, snapshot
from dbsync.downgrade import row_replay, row_translation
from dbsync.errors import MigrationFailed
from dbsync.migrations import runner
from dbsync.model import Carried, Loss, Migration
from dbsync.progress import Told, Unit
from dbsync.storage import files
from dbsync.storage.background import Beside
from dbsync.storage.connections import Connection, attach_copy, check_soundness, open_copy, open_scratch, translated
from dbsync.storage.introspection import has_table, quoted, tables, version_of
from dbsync.storage.sql_tokens import words_of
from dbsync.verification import table_diff

PARKED: Final = "parked.jsonl"


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
    (reports / PARKED).unlink(missing_ok=True)
    try:
        with compression.plain(backup) as plain:
            newer = _newer(plain, migrations)
            if row_translation.conserves(newer) and _by_backup(now, plain, newer, into, told):
                return Carried(into, (), None, None)
            return _by_base(now, plain, newer, into=into, reports=reports, told=told)
    except BaseException:
        snapshot.drop_part(into)
        raise


def _newer(backup: Path, migrations: tuple[Migration, ...]) -> tuple[Migration, ...]:
    with translated("look at", backup), closing(open_copy(backup)) as connection:
        version = version_of(connection)
    return tuple(migration for migration in migrations if migration.number > version)


def _by_backup(now: Path, backup: Path, newer: tuple[Migration, ...], into: Path, told: Told) -> bool:
    """Carry back with the backup as the base; return False if anything would differ, or could not be done."""
    told(0, 0, "copying the backup")
    snapshot.scratch_copy(source=backup, target=into, told=told, like=now)
    try:
        # Only tables and columns of both sides are replayed: every value has a place.
        _do_again(now, backup, into, (), into.with_name(PARKED), told)
        return _proven(now, into, newer, told)
    except MigrationFailed:
        return False


def _proven(now: Path, into: Path, newer: tuple[Migration, ...], told: Told) -> bool:
    """Return whether migrating the result up again gives the newer database, in a transaction that is rolled back.

    The file that was proven is thus the one that is restored. In WAL mode the file itself stays as it is and can be
    checked meanwhile.
    """
    with translated("prove", into, otherwise=MigrationFailed), closing(open_scratch(into)) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        told(0, 0, "proving it")
        with Beside(lambda: _check(into)) as check:
            attach_copy(connection, now, row_replay.NOW)
            connection.execute("PRAGMA foreign_keys=OFF")
            connection.execute("BEGIN")
            runner.apply_all(connection, newer)
            same = version_of(connection) == version_of(connection, row_replay.NOW)
            same = same and not table_diff.differences(connection, row_replay.NOW)
            same = same and not _lower_marks(connection, row_replay.NOW, "main")
            connection.execute("ROLLBACK")
        check.result()
        connection.execute("PRAGMA journal_mode=DELETE").fetchall()
    files.sync_file(into)
    return same


def _by_base(
    now: Path, backup: Path, newer: tuple[Migration, ...], *, into: Path, reports: Path, told: Told
) -> Carried:
    base, again = into.with_name(f"{into.name}-base"), into.with_name(f"{into.name}-again")
    try:
        told(0, 0, "copying the backup")
        snapshot.scratch_copy(source=backup, target=base, told=told, like=now)
        told(0, 0, "migrating the backup")
        runner.migrate_up(base, newer)
        _check_version(now, base)
        told(0, 0, "copying the backup")
        snapshot.scratch_copy(source=backup, target=into, told=told, like=now)
        parked = reports / PARKED
        _do_again(now, base, into, newer, parked, told)
        # No more than three copies at once: each may be as large as the database.
        snapshot.drop_part(base)
        with Beside(lambda: _check(into)) as check:
            told(0, 0, "copying the result")
            snapshot.scratch_copy(source=into, target=again, told=told, like=now)
            told(0, 0, "proving it")
            runner.migrate_up(again, newer)
            losses, exported = _proof(now, again, reports)
        check.result()
        # A parked value that the migrations make again by themselves is not lost.
        parked_count = row_replay.keep_parked(parked, frozenset(loss.table for loss in losses))
        files.sync_file(into)
        if parked_count or exported:
            files.sync_tree(reports)
    finally:
        snapshot.drop_part(base)
        snapshot.drop_part(again)
    return Carried(into, losses, parked if parked_count else None, reports if exported else None)


def _check_version(now: Path, base: Path) -> None:
    versions = []
    for path in (now, base):
        with translated("look at", path), closing(open_copy(path)) as connection:
            versions.append(version_of(connection))
    if versions[0] != versions[1]:
        cause = f"it has schema {versions[0]}, and the migrations lead to {versions[1]}"
        raise MigrationFailed(operation="carry back", path=now, cause=cause)


def _do_again(now: Path, base: Path, into: Path, newer: tuple[Migration, ...], parked: Path, told: Told) -> None:
    with translated("carry back", into, otherwise=MigrationFailed), closing(open_scratch(into)) as connection:
        attach_copy(connection, now, row_replay.NOW)
        attach_copy(connection, base, row_replay.BASE)
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("BEGIN")
        with _Quiet(connection):
            translate = row_translation.Translator(newer)
            again = row_replay.Replay(connection, translate, parked)
            done = 0
            told(done, 0, "doing again", Unit.ROWS)
            for done, change in enumerate(row_replay.changes(connection), 1):
                again.do(change)
                told(done, 0, "doing again", Unit.ROWS)
            told(done, done, unit=Unit.ROWS)
            _raise_marks(connection, translate)
            _rebuild_searches(connection)
        connection.execute("COMMIT")


def _check(path: Path) -> None:
    with translated("carry back", path, otherwise=MigrationFailed), closing(open_copy(path)) as connection:
        problem = check_soundness(connection)
    if problem is not None:
        raise MigrationFailed(operation="carry back", path=path, cause=problem)


class _Quiet:
    """A context without triggers while rows are replayed: the effects of the triggers are among the rows already."""

    def __init__(self, connection: Connection) -> None:
        self._connection: Final = connection
        self._triggers: list[tuple[str, str]] = []

    def __enter__(self) -> None:
        rows = self._connection.execute("SELECT name, sql FROM main.sqlite_schema WHERE type = 'trigger'").fetchall()
        self._triggers = [(str(name), str(sql)) for name, sql in rows]
        for name, _ in self._triggers:
            self._connection.execute(f"DROP TRIGGER main.{quoted(name)}")

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            for _name, sql in self._triggers:
                self._connection.execute(sql)


def _raise_marks(connection: Connection, translate: row_translation.Translator) -> None:
    """Raise the AUTOINCREMENT counters: the older version must not reuse a receipt number of the newer one.

    Also if it was the first id of its table, and its row is removed since: then the older one has no counter yet.
    """
    if not all(has_table(connection, "sqlite_sequence", schema) for schema in ("main", row_replay.NOW)):
        return
    numbered = {
        str(name).lower(): str(name)
        for name, sql in connection.execute("SELECT name, sql FROM main.sqlite_schema WHERE type = 'table'").fetchall()
        if "autoincrement" in words_of(str(sql or ""))
    }
    for name, mark in connection.execute(f"SELECT name, max(seq) FROM {row_replay.NOW}.sqlite_sequence GROUP BY name"):
        table = numbered.get((translate.table_of(str(name)) or "").lower())
        if table is None:
            continue
        raised = connection.execute("UPDATE main.sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (mark, table))
        if not raised.rowcount:
            connection.execute("INSERT INTO main.sqlite_sequence (name, seq) VALUES (?, ?)", (table, mark))


def _rebuild_searches(connection: Connection) -> None:
    for name, facts in tables(connection).items():
        if facts.is_external_search:
            connection.execute(f"INSERT INTO main.{quoted(name)} ({quoted(name)}) VALUES ('rebuild')")


def _proof(now: Path, again: Path, reports: Path) -> tuple[tuple[Loss, ...], bool]:
    with translated("compare", again), closing(open_copy(now)) as connection:
        attach_copy(connection, again, "again")
        losses = table_diff.differences(connection, "again")
        marks = _lower_marks(connection, "main", "again")
        if losses:
            files.make_folder(reports, like=now)
            table_diff.export(connection, "again", losses, reports)
    return (*losses, *marks), bool(losses)


def _lower_marks(connection: Connection, now: str, again: str) -> tuple[Loss, ...]:
    if not all(has_table(connection, "sqlite_sequence", schema) for schema in (now, again)):
        return ()
    rows = connection.execute(
        f"SELECT m.name FROM {now}.sqlite_sequence m LEFT JOIN {again}.sqlite_sequence a ON a.name = m.name"
        " WHERE m.seq > coalesce(a.seq, 0)"
    )
    return tuple(Loss("sqlite_sequence", 0, 1, 0) for _ in rows.fetchall()[:1])
