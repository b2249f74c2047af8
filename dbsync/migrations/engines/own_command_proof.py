"""Checks of the copy that a program of the app's own has left, before anything is taken over from it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dbsync.errors import MigrationFailed
from dbsync.migrations import history
from dbsync.model import Migration
from dbsync.schema.sql_text import shown
from dbsync.storage.connections import HISTORY, READABLE, Connection, check_soundness
from dbsync.storage.introspection import OUR_TABLES, has_table, version_of


class Before(NamedTuple):
    """The facts that must be the same after the program, and those that show whether it wrote anything."""

    file: tuple[int, int]
    """The identity of the file, by device and inode number: a name can be given to another file."""
    histories: tuple[list[object], list[object]]
    user_version: int
    data_version: int
    """Changes when another connection commits (sqlite.org/pragma.html#pragma_data_version)."""


def before(connection: Connection, path: Path) -> Before:
    """Return the facts of the copy before the program starts."""
    return Before(_file(path), _histories(connection), version_of(connection), _data_version(connection))


def check(
    connection: Connection, migration: Migration, path: Path, was: Before, *, proofs: list[str],
    log: Callable[[str], None],
) -> None:  # fmt: skip
    """Begin a transaction on the copy that the program left, if it is still the database that it was given.

    Args:
        connection: the connection that was open before the program started.
        migration: the migration of the program.
        path: the path of the copy.
        was: the facts before the program started.
        proofs: queries of the migration, each of which must return a true value.
        log: gets a line if the program wrote nothing.

    Raises:
        MigrationFailed: it is another database, or a proof failed.
    """
    if _file(path) != was.file:
        raise _failed(migration, "it removed or replaced the file of its copy: it must write into the one it gets")
    try:
        connection.execute("BEGIN IMMEDIATE")
        problem = check_soundness(connection)
        histories, user_version = _histories(connection), version_of(connection)
    except sqlite3.Error as error:
        locked = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
        still_running = "the program left the copy locked; one of its child processes is still running"
        cause = still_running if locked else f"it left its copy: {error}"
        raise _failed(migration, cause) from error
    if problem is not None:
        raise _failed(migration, f"it left its copy damaged: {problem}")
    if histories != was.histories:
        raise _failed(migration, f"it wrote into {' or '.join(sorted(OUR_TABLES))}, which dbsync keeps")
    if user_version not in (was.user_version, migration.number):
        cause = f"it wrote {user_version} into user_version, where dbsync keeps {migration.number}"
        raise _failed(migration, f"{cause}: the program's own number needs another place")
    _prove(connection, migration, proofs)
    if _data_version(connection) == was.data_version:
        log("   it wrote nothing")


def _prove(connection: Connection, migration: Migration, proofs: list[str]) -> None:
    connection.execute("PRAGMA query_only=ON")
    try:
        for sql in proofs:
            row = connection.execute(sql).fetchone()
            if row is None or not row[0]:
                raise _failed(migration, f"it ended well, and what it was to do is not there: {shown(sql)}")
    except sqlite3.Error as error:
        raise _failed(migration, f"what it was to do cannot be looked at: {error}") from error
    finally:
        connection.execute("PRAGMA query_only=OFF")


def _file(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino


def _histories(connection: Connection) -> tuple[list[object], list[object]]:
    ours: list[object] = [*history.rows(connection)] if has_table(connection, HISTORY) else []
    readable: list[object] = (
        connection.execute(f"SELECT * FROM {READABLE}").fetchall() if has_table(connection, READABLE) else []
    )
    return ours, readable


def _data_version(connection: Connection) -> int:
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def _failed(migration: Migration, cause: str) -> MigrationFailed:
    return MigrationFailed(operation="migrate", path=migration.path, cause=cause)
