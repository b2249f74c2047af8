"""An empty database of the older schema, which is asked whether it would hold a row of the newer one."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from dbsync.model import Migration
from dbsync.schema.declarations import declared
from dbsync.storage.connections import attempted, open_copy, open_scratch, translated
from dbsync.storage.introspection import TableFacts, TableKind, columns_of, quoted, tables


class OlderSchema:
    """The tables of a backup, without rows, triggers and references, and the names that they have after migrations.

    Values are refused by what concerns one row alone: NOT NULL, CHECK, STRICT types. A context manager.
    """

    def __init__(self, backup: Path, newer: tuple[Migration, ...]) -> None:
        self._connection: Final = open_scratch()
        with translated("read the schema of", backup), closing(open_copy(backup)) as source:
            kinds = tables(source)
            rows = source.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND sql IS NOT NULL")
            for name, sql in rows.fetchall():
                if not name.startswith("sqlite_") and _is_made(kinds[name]):
                    attempted(self._connection, partial(self._connection.execute, sql))
        said = declared(newer)
        before = {after.lower(): name for name, after in said.tables.items()}
        # A table that this SQLite cannot make here is one that nothing is compared in.
        self._tables: Final = {name.lower(): name for name in tables(self._connection)}
        self._before: Final = before
        self._columns: Final = {(table, after.lower()): column for (table, column), after in said.columns.items()}
        self._known: Final[dict[str, dict[str, str]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def table_of(self, table: str) -> str | None:
        """Return the older name of a table of the newer schema; None if the older one has no such table."""
        return self._tables.get(self._before.get(table.lower(), table).lower())

    def column_of(self, table: str, column: str) -> str | None:
        """Return the older name of a column of the newer schema; None if the older one has no such column."""
        older = self.table_of(table)
        if older is None:
            return None
        name = self._columns.get((older.lower(), column.lower()), column)
        return self._columns_of(older).get(name.lower())

    def lacks(self, table: str, columns: tuple[str, ...]) -> list[str]:
        """Return the columns of an older table that no column of the newer table stands for."""
        older = self.table_of(table)
        if older is None:
            return []
        kept = {self.column_of(table, column) for column in columns}
        return [name for name in self._columns_of(older).values() if name not in kept]

    def holds(self, table: str, row: Mapping[str, Any]) -> bool:
        """Return whether the older table takes the values that a row of the newer one has in the columns of both."""
        older = self.table_of(table)
        if older is None:
            return False
        places = {column: self.column_of(table, column) for column in row}
        named = {place: row[column] for column, place in places.items() if place is not None}
        if not named:
            return True
        columns, marks = ", ".join(quoted(name) for name in named), ", ".join("?" * len(named))
        self._connection.execute("BEGIN")
        try:
            self._connection.execute(
                f"INSERT OR ABORT INTO {quoted(older)} ({columns}) VALUES ({marks})",
                tuple(named.values()),
            )
        except sqlite3.IntegrityError:
            return False
        except sqlite3.Error:
            # A function of the app: it cannot be evaluated here, so nothing is known against the row.
            return True
        finally:
            self._connection.execute("ROLLBACK")
        return True

    def _columns_of(self, older: str) -> dict[str, str]:
        if older not in self._known:
            columns = columns_of(self._connection, older)
            self._known[older] = {column.name.lower(): column.name for column in columns if column.is_written}
        return self._known[older]


def _is_made(facts: TableFacts) -> bool:
    """Return whether a table has rows of its own: not a search index over another table, nor a table of an index."""
    return facts.kind is TableKind.ORDINARY or (facts.is_virtual and facts.has_own_rows)
