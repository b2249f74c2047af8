"""Calls of the newest migration's `down_row` with rows that are there, which it must be able to translate."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, Final

from dbsync.migrations.code_process import RowFailed, down_of
from dbsync.model import Migration
from dbsync.rehearsal.returned_rows import Altered, shown
from dbsync.storage.connections import Connection, open_copy, translated
from dbsync.storage.introspection import app_tables, columns_of, key_of, quoted

ROWS_COUNT: Final = 50
"""Rows of each table that it is called with."""


def failing(newest: Migration, migrated: Path) -> list[Altered]:
    """Return the tables of whose existing rows `down_row` raises, with the type of the error.

    The text of an error is left out: it may hold a value, and values are personal.
    """
    down = down_of(newest)
    if down is None:
        return []
    found = []
    with translated("read", migrated), closing(open_copy(migrated)) as connection:
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        for name, facts in sorted(app_tables(connection).items()):
            errors: dict[str, list[str]] = {}
            for row in _rows(connection, name) if facts.has_own_rows else ():
                try:
                    down(name, dict(row))
                except RowFailed as error:
                    key = tuple(key_of(connection, name))
                    example = shown(key, tuple(row.get(column) for column in key))
                    errors.setdefault(str(error), []).append(example)
            found += [
                Altered(name, len(examples), (), examples[0], f"for which down_row fails with {kind}")
                for kind, examples in errors.items()
            ]
    return found


def _rows(connection: Connection, table: str) -> list[dict[str, Any]]:
    columns = [column.name for column in columns_of(connection, table) if column.is_written]
    listed = ", ".join(quoted(name) for name in columns)
    rows = connection.execute(f"SELECT {listed} FROM {quoted(table)} LIMIT ?", (ROWS_COUNT,)).fetchall()
    return [dict(zip(columns, row, strict=True)) for row in rows]
