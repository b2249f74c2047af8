"""Whether anybody wrote into a database since it was put aside: what came after would be lost with what is replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dbsync.errors import Locked, TillkeeperError
from dbsync.storage.connections import Connection, is_wal, open_writing, page_size_of, translated


class Watch:
    """One connection that is open from before a database is put aside until another one goes over it.

    `PRAGMA data_version` of one connection differs where another one has committed in between
    (sqlite.org/pragma.html#pragma_data_version). It holds no lock while it waits: an app may go on selling, and what is
    replaced then is put off.
    """

    def __init__(self, database: Path) -> None:
        self._database: Final = database
        self._connection: Connection | None = None
        self._seen = 0

    def begin(self) -> None:
        """Begin anew. A database that cannot be read is not watched: nobody can sell into it.

        Raises:
            Locked: somebody has it for himself alone.
        """
        self.close()
        try:
            with translated("watch", self._database):
                self._connection = open_writing(self._database)
                self._seen = _changes(self._connection)
        except Locked:
            self.close()
            raise
        except TillkeeperError:
            self.close()

    def close(self) -> None:
        """Let go of the database."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def check(self) -> None:
        """Ask while nobody else can write; nothing happens if nothing is watched.

        Raises:
            Locked: somebody has written.
        """
        if self._connection is not None and _changes(self._connection) != self._seen:
            cause = "somebody wrote into it since it was put aside"
            raise Locked(operation="replace", path=self._database, cause=cause)

    def wants_it_alone(self, *, page_bytes: int, pages_count: int) -> bool:
        """Whether it can be asked only with the database for oneself, before another one of such pages goes over it.

        While a WAL database is being written others read it, this watch too: `copy` asks in between. In the
        other modes nobody can, one page is no in between, and another page size ends the WAL mode.
        """
        if self._connection is None:
            return False
        return pages_count < 2 or not is_wal(self._connection) or page_size_of(self._connection) != page_bytes

    def taken(self) -> Connection:
        """Return the connection, from now on the only one that can write; the caller closes it.

        In the exclusive locking mode it keeps its lock between two transactions, as the backup API wants its target
        without one (sqlite.org/pragma.html#pragma_locking_mode). In WAL mode nobody else may have the database open.

        Raises:
            Locked: somebody has written, or is in the way.
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
