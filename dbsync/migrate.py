"""Runs migrations on an open transaction: one savepoint each, in the sandbox, with their history rows."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import NamedTuple

from dbsync import history
from dbsync.errors import DbsyncError, MigrationFailed
from dbsync.migrations import hash_of, text_of
from dbsync.model import Migration
from dbsync.sandbox import Sandbox
from dbsync.sqlite import Connection
from dbsync.written import Written


class Applied(NamedTuple):
    """What is known of a migration that ran."""

    milliseconds: int
    written: Written


def apply(
    connection: Connection,
    migration: Migration,
    *,
    trial_id: str | None,
    release: history.Release,
    at: str,
    milliseconds: Callable[[], int],
    log: Callable[[str], None],
) -> Applied:
    """Runs one migration and writes its rows and `user_version`, in the open transaction.

    Raises:
        MigrationFailed: a statement or the migration's code failed; the savepoint is undone.
        DiskFull: there was no space; SQLite may have ended the transaction.
    """
    began = milliseconds()
    connection.execute("SAVEPOINT migration")
    try:
        with Sandbox(connection, log, migration.path) as sandbox:
            _run(sandbox, migration)
            sandbox.check_transaction()
        took = milliseconds() - began
        history.make_tables(connection)
        history.add_migration(
            connection, migration, kind="migration", trial_id=trial_id, release=release, at=at, duration_ms=took
        )
        connection.execute(f"PRAGMA user_version={migration.number}")
        connection.execute("RELEASE migration")
    except BaseException:
        # After "disk full" in WAL mode SQLite has undone everything already, and there is nothing to go back to.
        if connection.in_transaction:
            connection.execute("ROLLBACK TO migration")
        raise
    return Applied(took, frozenset(sandbox.written))


def namespace_of(migration: Migration) -> dict[str, object]:
    """What a Python migration defines; its text is checked against its identity first.

    Raises:
        MigrationFailed: the file changed, or its top level fails.
    """
    text = _checked_text(migration)
    namespace: dict[str, object] = {"__name__": f"migration_{migration.number:04d}", "__file__": str(migration.path)}
    try:
        exec(compile(text, str(migration.path), "exec"), namespace)  # noqa: S102 - signed code of the vendor
    except Exception as error:
        raise _failed(migration, error) from error
    return namespace


def _run(sandbox: Sandbox, migration: Migration) -> None:
    if migration.kind == "sql":
        sandbox.script(_checked_text(migration))
        return
    up = namespace_of(migration)["up"]
    assert callable(up)
    try:
        up(sandbox)
    except DbsyncError:
        raise
    except Exception as error:
        raise _failed(migration, error) from error


def _checked_text(migration: Migration) -> str:
    text = text_of(migration.path)
    if hash_of(text) != migration.sha256:
        raise MigrationFailed(operation="migrate", path=migration.path, cause="the file changed after it was checked")
    return text


def _failed(migration: Migration, error: Exception) -> MigrationFailed:
    line = traceback.extract_tb(error.__traceback__)[-1].lineno
    cause = f"{type(error).__name__}: {error} (line {line})"
    return MigrationFailed(operation="migrate", path=migration.path, cause=cause)
