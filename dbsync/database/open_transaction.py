"""The open transaction of a run: in the live database, or in a copy that replaces its content at the end.

A program of the app opens the database by itself and commits when it likes. It gets a copy, so the live database
is never half migrated, and needs no restore when the program fails or the power is cut (decision 12).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Protocol

from dbsync.backups import snapshot
from dbsync.progress import nobody
from dbsync.storage.connections import Connection, open_reading, open_writing
from dbsync.storage.page_copy import copy_over


class OpenTransaction(Protocol):
    """The open transaction of a run on one database."""

    @property
    def connection(self) -> Connection:
        """The connection that migrations and checks work on."""

    @property
    def live(self) -> Connection | None:
        """The only connection that can read the live database now; None: any connection can."""

    def commit(self) -> None:
        """Make the live database the new one, in one step."""

    def rollback(self) -> None:
        """Leave the live database as it was."""

    def close(self) -> None:
        """Close the connections; anything not committed is undone."""


class InPlace:
    """A transaction in the live database itself."""

    def __init__(self, database: Path, *, tolerant: bool = False) -> None:
        self.connection: Connection = open_writing(database, create=True, tolerant=tolerant)
        self.live: Connection | None = None
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        except BaseException:
            self.connection.close()
            raise

    def commit(self) -> None:
        """Commit, and let go."""
        self.connection.execute("COMMIT")
        # The last connection merges the WAL into the file as it closes.
        self.close()

    def rollback(self) -> None:
        """Roll back, if SQLite has not done so by itself."""
        # "Disk full" in WAL mode has undone the transaction by itself already.
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection; SQLite undoes what is not committed."""
        # The last connection removes a WAL that grew to its full size. No checkpoint of our own: while another program
        # writes, it can damage the database (the WAL-reset bug before SQLite 3.51.3, sqlite.org/wal.html).
        self.connection.close()


class OnCopy:
    """A transaction in a copy. The live database stays locked from before it is copied until the copy replaced it.

    In exclusive locking mode a connection keeps its lock between two transactions
    (sqlite.org/pragma.html#pragma_locking_mode), and the backup API wants a target with no transaction of its own.
    """

    def __init__(self, database: Path, scratch: Path) -> None:
        self._database: Final = database
        self._scratch: Final = scratch
        self._copy: Connection | None = None
        self.live: Connection = open_writing(database, create=True)
        try:
            self.live.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
            self.live.execute("BEGIN IMMEDIATE")
            self.live.execute("COMMIT")
        except BaseException:
            self.live.close()
            raise

    @property
    def connection(self) -> Connection:
        """The connection to the copy, made when first needed. A crash leaves a part, which the next run clears."""
        if self._copy is None:
            snapshot.copy_database(source=self._database, target=self._scratch, told=nobody, live=self.live)
            self._copy = open_writing(self._scratch)
            self._copy.execute("BEGIN IMMEDIATE")
        return self._copy

    def commit(self) -> None:
        """Commit in the copy, put it over the live database in one transaction, and let go."""
        scratch = self.connection
        scratch.execute("COMMIT")
        # Commit point: one transaction of the live file.
        copy_over(scratch, self.live, told=nobody, seconds=time.monotonic)
        self.close()

    def rollback(self) -> None:
        """Do nothing: the live database is unchanged, and `close` removes the copy."""

    def close(self) -> None:
        """Close both connections, which unlocks the live database, and remove the copy."""
        if self._copy is not None:
            self._copy.close()
            self._copy = None
        self.live.close()
        snapshot.drop_part(self._scratch)


@contextmanager
def reading(begun: OpenTransaction | None, database: Path) -> Iterator[Connection]:
    """The live database as it was before the run, open for reading."""
    if begun is not None and begun.live is not None:
        yield begun.live
        return
    with closing(open_reading(database)) as connection:
        yield connection
