"""A stand-in for a connection of sqlite3, for SQLAlchemy. Every statement is a call of `db`.

Only dbsync commits, rolls back and closes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dbsync.migrations.engines import foreign
from dbsync.migrations.operations import Database, Rows, rows_of
from dbsync.storage.sql_tokens import words_of

_ASKING_LENGTH: Final = 2
"""The number of words in `PRAGMA foreign_keys`, which only reads the value."""


class LentConnection:
    """The part of a connection of sqlite3 that SQLAlchemy uses."""

    def __init__(self, db: Database) -> None:
        self._db: Final = db
        self.isolation_level: str | None = None
        self.in_transaction: Final = True
        self.row_factory: Any = None
        self.text_factory: Any = str

    def cursor(self) -> _Cursor:
        """Return a cursor that runs its statements by `db`."""
        return _Cursor(self._db)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> _Cursor:
        """Run a statement and return its cursor."""
        return self.cursor().execute(sql, parameters)

    def create_function(self, *arguments: Any, **values: Any) -> None:
        """Ignore a function of SQLAlchemy, such as `regexp`: the app's SQLite could not open a schema that needs it."""

    def commit(self) -> None:
        """Do nothing: the whole run commits once."""

    def rollback(self) -> None:
        """Do nothing: an error undoes the migration's savepoint."""

    def close(self) -> None:
        """Do nothing: the connection stays open."""


class _Cursor:
    arraysize = 1
    lastrowid: int | None = None

    def __init__(self, db: Database) -> None:
        self._db: Final = db
        self._found: Rows | None = None
        self._given = 0

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> _Cursor:
        if foreign.is_passed_over(sql):
            # Foreign keys are off: a query of the pragma returns that, and setting it returns no row.
            sql = "SELECT 0" if len(words_of(sql.rstrip("; \n"))) == _ASKING_LENGTH else "SELECT 0 WHERE 0"
        self._found, self._given = rows_of(self._db, sql, parameters), 0
        self.lastrowid = self._found.lastrowid
        return self

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> _Cursor:
        for row in rows:
            self.execute(sql, row)
        return self

    @property
    def description(self) -> Any:
        return self._found.description if self._found is not None else None

    @property
    def rowcount(self) -> int:
        return self._found.rowcount if self._found is not None else -1

    def fetchone(self) -> Any:
        return next(iter(self.fetchmany(1)), None)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        rows = self._found.rows if self._found is not None else []
        first, self._given = self._given, self._given + (size or self.arraysize)
        return rows[first : self._given]

    def fetchall(self) -> list[Any]:
        return self.fetchmany(len(self._found.rows) if self._found is not None else 1)

    def close(self) -> None:
        self._found = None
