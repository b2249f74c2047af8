"""Detects writes into a database after it was set aside: they would be lost when it is replaced."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dbsync.errors import Locked, TillkeeperError
from dbsync.storage.connections import Connection, is_wal, open_writing, page_size_of, translated


class Watch:
    """A connection that is open from before a database is set aside until another one replaces it.

    `PRAGMA data_version` of a connection changes if another connection has committed in between
    (sqlite.org/pragma.html#pragma_data_version). A watch holds no lock while it waits: an app may go on selling, and
    the replacement is then put off.
    """

    def __init__(self, database: Path) -> None:
        self._database: Final = database
        self._connection: Connection | None = None
        self._seen = 0

    def begin(self) -> None:
        """Begin to watch anew. A database that cannot be read is not watched: no app can sell into it.

        Raises:
            Locked: another process has it exclusively.
        """
        self.close()
        try:
            with translated("watch", self._database):
                self._connection = open_writing(self._database, tolerant=True)
                self._seen = _changes(self._connection)
        except Locked:
            self.close()
            raise
        except TillkeeperError:
            self.close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __del__(self) -> None:
        # A return that stays owed ends with its effects: a launcher goes on for as long as the app does.
        self.close()

    @contextmanager
    def nobody_writes(self) -> Iterator[Connection | None]:
        """Hold the write lock inside the block, with nothing written; yield None if it cannot be had now."""
        connection = self._connection
        if connection is not None:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error:
                connection = None
        try:
            yield connection
        finally:
            if connection is not None and connection.in_transaction:
                connection.execute("ROLLBACK")

    def check(self) -> None:
        """Check for writes, while no other process can write; do nothing if nothing is watched.

        Raises:
            Locked: another process has written.
        """
        if self._connection is not None and _changes(self._connection) != self._seen:
            cause = "somebody wrote into it since it was put aside"
            raise Locked(operation="replace", path=self._database, cause=cause)

    def wants_it_alone(self, *, page_bytes: int, pages_count: int) -> bool:
        """Return whether `check` needs exclusive access before a database with such pages replaces the watched one.

        While a WAL database is written, others can read it, this watch too: the copy checks between its steps. In the
        other modes no other can; a single page has no step in between; and another page size ends the WAL mode.
        """
        if self._connection is None:
            return False
        return pages_count < 2 or not is_wal(self._connection) or page_size_of(self._connection) != page_bytes

    def taken(self) -> Connection:
        """Return the connection, which from now on is the only one that can write; the caller closes it.

        In exclusive locking mode it keeps its lock between two transactions, because the backup API needs a target
        without one (sqlite.org/pragma.html#pragma_locking_mode). In WAL mode no other may have the database open.

        Raises:
            Locked: another process has written, or holds a lock.
        """
        assert self._connection is not None, "only where it is watched"
        connection = self._connection
        connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        self.check()
        connection.execute("COMMIT")
        self._connection = None
        return connection


def _changes(connection: Connection) -> int:
    return int(connection.execute("PRAGMA data_version").fetchone()[0])
