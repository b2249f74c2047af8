"""Calls of the newest migration's `down_row` with rows that are there, which it must be able to translate."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, Final

from dbsync.migrations.python_code import namespace_of
from dbsync.model import Migration, MigrationKind
from dbsync.rehearsal.returned_rows import Altered, shown
from dbsync.storage.connections import Connection, open_copy, translated
from dbsync.storage.introspection import app_tables, columns_of, key_of, quoted

ROWS_COUNT: Final = 50
"""Rows of each table that it is called with."""


def failing(newest: Migration, migrated: Path) -> list[Altered]:
    """Return the tables of whose existing rows `down_row` raises, with the type of the error.

    The text of an error is left out: it may hold a value, and values are personal.
    """
    down = namespace_of(newest).get("down_row") if newest.kind is MigrationKind.PYTHON else None
    if not callable(down):
        return []
    found = []
    with translated("read", migrated), closing(open_copy(migrated)) as connection:
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        for name, facts in sorted(app_tables(connection).items()):
            errors: dict[str, list[str]] = {}
            for row in _rows(connection, name) if facts.has_own_rows else ():
                try:
                    down(name, dict(row))
                except (Exception, SystemExit) as error:  # noqa: BLE001 - the vendor's code may raise anything
                    key = tuple(key_of(connection, name))
                    example = shown(key, tuple(row.get(column) for column in key))
                    errors.setdefault(type(error).__name__, []).append(example)
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
