"""The exact content of a database, read by plain SQL: every cell with its storage class and its bytes."""

from __future__ import annotations

import sqlite3
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

Cell = tuple[str, Any]
"""A storage class and a value: an integer, or the bytes of a real, a text or a blob; None for NULL."""
Row = dict[str, Cell]
"""A row by the names of its columns in lower case; `ROWID` where it has a rowid that no column shows."""
NULL: Final[Cell] = ("null", None)
ROWID: Final = "(rowid)"
OURS: Final = ("dbsync_", "schema_version", "sqlite_")
WORDS: Final = ("old", "new", "a", "b", "bad")
SHADOWS: Final = ("_data", "_idx", "_content", "_docsize", "_config", "_node", "_parent", "_rowid")


class Entry(NamedTuple):
    """An object of the schema."""

    kind: str
    name: str
    table: str
    sql: str


class Picture(NamedTuple):
    """The content of a database."""

    version: int
    entries: tuple[Entry, ...]
    tables: dict[str, list[Row]]
    """Rows of the app's ordinary tables, by the tables' names in lower case."""
    keys: dict[str, tuple[str, ...]]
    """The columns of each primary key; `ROWID` in a table without one; empty if neither identifies its rows."""
    marks: dict[str, int]
    orphans: Counter[tuple[str, str]]
    """How many rows of a table refer to no row of another one."""
    virtual: dict[str, list[Row]]
    """The rows of each virtual table, and the results of a search in it."""


def cell(value: Any, kind: str) -> Cell:
    """Return a cell of a value that was read with bytes for texts."""
    return (kind, struct.pack(">d", value)) if kind == "real" else (kind, value)


def value_of(exact: Cell) -> Any:
    """Return the value as SQLite's parameters take it; a text that is no UTF-8 as bytes."""
    kind, value = exact
    if kind == "real":
        return struct.unpack(">d", value)[0]
    return value.decode("utf-8", "surrogateescape") if kind == "text" else value


def literal(exact: Cell) -> str:
    """Return an SQL expression that has exactly this value."""
    kind, value = exact
    if kind == "null":
        return "NULL"
    if kind == "blob":
        return f"x'{value.hex()}'"
    if kind == "text":
        return f"CAST(x'{value.hex()}' AS TEXT)"
    if kind == "integer":
        return str(value) if value != -(2**63) else "(-9223372036854775807 - 1)"
    number = struct.unpack(">d", value)[0]
    if number in (float("inf"), float("-inf")):
        return "9e999" if number > 0 else "-9e999"
    return repr(number)


def quoted(name: str) -> str:
    """Return a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def opened(path: Path) -> sqlite3.Connection:
    """Return a plain connection that reads texts as bytes."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.text_factory = bytes
    return connection


def picture(path: Path) -> Picture:
    """Read a database."""
    with closing(opened(path)) as connection:
        return read(connection)


def read(connection: sqlite3.Connection) -> Picture:
    """Read an open database; its texts must be read as bytes."""
    found = connection.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master ORDER BY rowid")
    entries = tuple(Entry(*(part.decode() for part in row)) for row in found.fetchall())
    virtual = [entry.name for entry in entries if entry.sql.upper().startswith("CREATE VIRTUAL")]
    shadows = {f"{name}{end}" for name in virtual for end in SHADOWS}
    names = [
        entry.name
        for entry in entries
        if entry.kind == "table" and not entry.name.startswith(OURS) and entry.name not in {*virtual, *shadows}
    ]
    tables, keys = {}, {}
    for name in names:
        tables[name.lower()], keys[name.lower()] = _rows(connection, name)
    orphans = Counter(
        (row[0].decode().lower(), row[2].decode().lower())
        for row in connection.execute("PRAGMA foreign_key_check").fetchall()
    )
    shown = tuple(entry for entry in entries if not entry.name.startswith(OURS) and entry.name not in shadows)
    shown = tuple(entry for entry in shown if not entry.table.startswith(OURS) and entry.table not in shadows)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    read_virtual = {name.lower(): _rows_of_module(connection, name) for name in virtual}
    return Picture(version, shown, tables, keys, _marks(connection), orphans, read_virtual)


def columns(connection: sqlite3.Connection, table: str) -> list[tuple[str, int]]:
    """Return the names of all columns with their places in the primary key; generated ones follow from the others."""
    rows = connection.execute(f"PRAGMA table_xinfo({quoted(table)})").fetchall()
    return [(row[1].decode(), row[5]) for row in rows if row[6] not in (2, 3)]


def _rows(connection: sqlite3.Connection, table: str) -> tuple[list[Row], tuple[str, ...]]:
    names = columns(connection, table)
    key = tuple(name.lower() for name, place in sorted(names, key=lambda item: item[1]) if place)
    chosen = [quoted(name) for name, _ in names]
    shown = [name.lower() for name, _ in names]
    if not key:
        chosen, shown, key = ["rowid", *chosen], [ROWID, *shown], (ROWID,)
    query = ", ".join(f"{name}, typeof({name})" for name in chosen)
    found = []
    for row in connection.execute(f"SELECT {query} FROM {quoted(table)}").fetchall():
        exact = (cell(row[2 * at], row[2 * at + 1].decode()) for at in range(len(chosen)))
        found.append(dict(zip(shown, exact, strict=True)))
    return found, key


def _rows_of_module(connection: sqlite3.Connection, table: str) -> list[Row]:
    names = ["rowid", *(name for name, _ in columns(connection, table))]
    query = ", ".join(f"{quoted(name)}, typeof({quoted(name)})" for name in names)
    try:
        rows = connection.execute(f"SELECT {query} FROM {quoted(table)} ORDER BY rowid").fetchall()
    except sqlite3.DatabaseError as error:
        return [{"error": ("text", str(error).encode())}]
    shown = [
        {name: cell(row[2 * at], row[2 * at + 1].decode()) for at, name in enumerate(names) if name != table}
        for row in rows
    ]
    return shown + [{word: ("integer", number)} for word in WORDS for number in _found(connection, table, word)]


def _found(connection: sqlite3.Connection, table: str, word: str) -> list[int]:
    try:
        query = f"SELECT rowid FROM {quoted(table)} WHERE {quoted(table)} MATCH ? ORDER BY rowid"
        return [row[0] for row in connection.execute(query, (word,)).fetchall()]
    except sqlite3.DatabaseError:
        return []


def _marks(connection: sqlite3.Connection) -> dict[str, int]:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchone() is None:
        return {}
    rows = connection.execute("SELECT name, max(seq) FROM sqlite_sequence GROUP BY name").fetchall()
    return {name.decode().lower(): int(mark or 0) for name, mark in rows}


def keyed(rows: Iterable[Row], key: tuple[str, ...]) -> dict[tuple[Cell, ...], Row]:
    """Return rows by their keys."""
    return {tuple(row[name] for name in key): row for row in rows}


def bag(rows: Iterable[Row], *, without: tuple[str, ...] = ()) -> Counter[tuple[tuple[str, Cell], ...]]:
    """Return rows as a multiset."""
    return Counter(tuple(sorted((name, exact) for name, exact in row.items() if name not in without)) for row in rows)


def in_words(row: Mapping[str, Cell]) -> str:
    """Return a row for a person."""
    return "(" + ", ".join(f"{name} {literal(exact)}" for name, exact in row.items()) + ")"
