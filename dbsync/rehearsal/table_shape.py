"""The parts of a table's definition that decide which rows it takes, and how a row of it is found again."""

from __future__ import annotations

import sqlite3
from typing import Any, Final, NamedTuple

from dbsync.rehearsal.made_up_values import Value, literals_near
from dbsync.storage.connections import Connection, kind_of
from dbsync.storage.introspection import (
    ColumnFacts,
    TableFacts,
    app_tables,
    columns_of,
    is_rowid,
    key_of,
    quoted,
    rowid_of,
    sql_of,
)

Locator = tuple[Any, ...]
"""The values by which one row is found: its rowid, or its primary key."""
_PROBES_COUNT: Final = 4
"""Positions that are tried for each row that is wanted, because rowids have gaps."""


class Reference(NamedTuple):
    """A foreign key."""

    number: int
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    on_delete: str

    @property
    def cascades(self) -> bool:
        """Whether SQLite removes the child with its parent."""
        return self.on_delete == "CASCADE"

    @property
    def keeps_child(self) -> bool:
        """Whether the child stays when its parent is removed."""
        return self.on_delete in ("SET NULL", "SET DEFAULT")


class Shape(NamedTuple):
    """A table that trade can be made up in."""

    name: str
    columns: tuple[ColumnFacts, ...]
    """Those that can be written."""
    keys: tuple[str, ...]
    alias: str
    """The column that is the rowid: INTEGER PRIMARY KEY; empty if there is none."""
    found_by: tuple[str, ...]
    """The parts of a locator, ready for SQL."""
    uniques: tuple[tuple[str, ...], ...]
    """The columns of each key and each UNIQUE index."""
    references: tuple[Reference, ...]
    near: dict[str, list[Value]]
    """Literals of the table's SQL, by column."""
    pool: list[Locator]
    """The rows that are worked on."""
    contentless: bool
    """Whether it is a search index that keeps no content: it takes entries, and has no rows to read."""

    @property
    def quoted(self) -> str:
        """The name for SQL."""
        return f"main.{quoted(self.name)}"

    @property
    def where(self) -> str:
        """The condition that finds the row of a locator."""
        return " AND ".join(f"{name} = ?" for name in self.found_by)

    @property
    def unique(self) -> frozenset[str]:
        """All columns that take part in a key or a UNIQUE index."""
        return frozenset(name for columns in self.uniques for name in columns)

    def moved(self, locator: Locator, changed: dict[str, Any]) -> Locator:
        """Return a row's locator after some of its columns were changed."""
        names = {quoted(name): value for name, value in changed.items()}
        return tuple(names.get(part, value) for part, value in zip(self.found_by, locator, strict=True))

    def last_inserted(self, connection: Connection, row: dict[str, Any]) -> Locator | None:
        """Return the locator of the row that was just added; None if a trigger put it elsewhere."""
        if len(self.found_by) == 1 and (self.alias or self.found_by[0] not in {quoted(name) for name in self.keys}):
            wanted: Locator = (connection.execute("SELECT last_insert_rowid()").fetchone()[0],)
        else:
            wanted = tuple(row.get(name) for name in self.keys)
        sql = f"SELECT {', '.join(self.found_by)} FROM {self.quoted} WHERE {self.where}"
        found = connection.execute(sql, wanted).fetchone()
        return tuple(found) if found is not None else None

    def newest(self, connection: Connection) -> Locator | None:
        """Return the row with the highest rowid or key; None if there is none."""
        order = ", ".join(f"{name} DESC" for name in self.found_by)
        sql = f"SELECT {', '.join(self.found_by)} FROM {self.quoted} ORDER BY {order} LIMIT 1"
        found = connection.execute(sql).fetchone()
        return tuple(found) if found is not None else None

    def find(self, connection: Connection, values: dict[str, Any], limit: int) -> list[Locator]:
        """Return rows that have these values."""
        where = " AND ".join(f"{quoted(name)} = ?" for name in values)
        sql = f"SELECT {', '.join(self.found_by)} FROM {self.quoted} WHERE {where} LIMIT ?"
        return [tuple(row) for row in connection.execute(sql, (*values.values(), limit + 1)).fetchall()]


def shapes(connection: Connection, pool_count: int) -> tuple[dict[str, Shape], dict[str, str]]:
    """Return the tables that trade can be made up in, parents before children, and the others with the cause."""
    found: dict[str, Shape] = {}
    unusable: dict[str, str] = {}
    for name, facts in app_tables(connection).items():
        cause = _not_written(facts)
        if not cause:
            try:
                found[name.lower()] = _shape(connection, facts, pool_count)
            except sqlite3.Error as error:
                if kind_of(error) is not None:
                    raise
                cause = str(error)
        if cause:
            unusable[name] = cause
    return {name: found[name] for name in _parents_first(found)}, unusable


def _not_written(facts: TableFacts) -> str:
    if facts.is_external_search:
        return f"it follows from {facts.content_table}"
    return ""


def _shape(connection: Connection, facts: TableFacts, pool_count: int) -> Shape:
    name = facts.name
    columns = tuple(column for column in columns_of(connection, name) if column.is_written)
    keys = tuple(key_of(connection, name))
    alias = keys[0] if is_rowid(connection, name) else ""
    rowid = rowid_of(connection, name)
    by_key = tuple(quoted(key) for key in keys)
    found_by = by_key if alias or rowid is None else (rowid,)
    if not found_by or not columns:
        raise sqlite3.NotSupportedError("its rows cannot be told apart")
    sql = sql_of(connection, "table", name)
    near = {column.name: literals_near(sql, column.name) for column in columns}
    contentless = facts.is_contentless
    pool = (
        []
        if contentless
        else _pool(connection, quoted(name), found_by, pool_count=pool_count, spread=bool(alias) or by_key != found_by)
    )
    uniques = _uniques(connection, name, keys, frozenset(column.name for column in columns))
    return Shape(name, columns, keys, alias, found_by, uniques, _references(connection, name), near, pool, contentless)


def _uniques(
    connection: Connection, table: str, keys: tuple[str, ...], written: frozenset[str]
) -> tuple[tuple[str, ...], ...]:
    found = [keys] if keys else []
    for _, index, unique, *_ in connection.execute(f"PRAGMA main.index_list({quoted(table)})").fetchall():
        rows = connection.execute(f"PRAGMA main.index_info({quoted(index)})").fetchall()
        names = tuple(name for _, _, name in rows if name in written)
        if unique and names:
            found.append(names)
    return tuple(dict.fromkeys(found))


def _references(connection: Connection, table: str) -> tuple[Reference, ...]:
    parts: dict[int, list[tuple[Any, ...]]] = {}
    for row in connection.execute(f"PRAGMA main.foreign_key_list({quoted(table)})").fetchall():
        parts.setdefault(int(row[0]), []).append(row)
    found = []
    for number, rows in sorted(parts.items()):
        ordered = sorted(rows, key=lambda row: int(row[1]))
        parent = str(ordered[0][2])
        named = tuple(str(row[4]) for row in ordered if row[4] is not None)
        found.append(
            Reference(
                number,
                tuple(str(row[3]) for row in ordered),
                parent,
                named or tuple(key_of(connection, parent)),
                str(ordered[0][6]),
            )
        )
    return tuple(reference for reference in found if len(reference.columns) == len(reference.parent_columns))


def _pool(
    connection: Connection, table: str, found_by: tuple[str, ...], *, pool_count: int, spread: bool
) -> list[Locator]:
    """Return rows from all over a table: every second one of a few, or those at evenly spread rowids."""
    listed = ", ".join(found_by)
    first = connection.execute(f"SELECT {listed} FROM main.{table} ORDER BY {listed} LIMIT ?", (2 * pool_count,))
    rows = [tuple(row) for row in first.fetchall()]
    if len(rows) < 2 * pool_count or not spread:
        return rows[:: 2 if len(rows) > 2 else 1]
    low, high = connection.execute(f"SELECT min({listed}), max({listed}) FROM main.{table}").fetchone()
    sql = f"SELECT {listed} FROM main.{table} WHERE {listed} >= ? ORDER BY {listed} LIMIT 1"
    probes = range(_PROBES_COUNT * pool_count)
    found = (connection.execute(sql, (low + (high - low) * probe // len(probes),)).fetchone() for probe in probes)
    return [tuple(row) for row in dict.fromkeys(map(tuple, filter(None, found)))][::_PROBES_COUNT]


def _parents_first(found: dict[str, Shape]) -> list[str]:
    """Return the names, each after those that it refers to; in a circle, as it comes."""
    order: dict[str, None] = {}

    def visit(name: str, above: frozenset[str]) -> None:
        if name in order or name in above or name not in found:
            return
        for reference in found[name].references:
            visit(reference.parent.lower(), above | {name})
        order[name] = None

    for name in found:
        visit(name, frozenset())
    return list(order)
