"""What a database holds, by plain SQL and sets in Python: nothing of dbsync's decides here whether it is the same."""

from __future__ import annotations

import marshal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

NOT_THE_APPS = ("dbsync_history", "schema_version", "dbsync_kept_rows", "dbsync_kept_cells")


class Content(NamedTuple):
    """Everything in a database but what dbsync keeps in it."""

    rows: dict[str, Counter[bytes]]
    """For each table, how often each row is there: every cell with its storage class."""
    objects: frozenset[tuple[str, str, str]]
    """Type, name and text of every table, index, trigger and view."""
    marks: dict[str, int]
    """AUTOINCREMENT marks, and the number by which an app knows its files."""


@contextmanager
def opened(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection on which statements commit by themselves, foreign keys hold, and bytes stay bytes."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        yield connection


def name(text: str) -> str:
    """A name as SQL wants it."""
    return '"' + text.replace('"', '""') + '"'


def tables(connection: sqlite3.Connection) -> list[str]:
    """Ordinary tables of the app's, by name."""
    found = connection.execute("PRAGMA main.table_list").fetchall()
    return sorted(row[1] for row in found if row[2] == "table" and _is_the_apps(row[1]))


def columns(connection: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    """cid, name, type, notnull, default, pk, hidden."""
    return connection.execute(f"PRAGMA table_xinfo({name(table)})").fetchall()


def content(database: Path, only: dict[str, list[str]] | None = None) -> Content:
    """Reads all of it, or some columns of some tables. Rowids of tables without INTEGER PRIMARY KEY are no content."""
    with opened(database) as connection:
        rows = {}
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        for (table,) in names:
            if _is_the_apps(table) and (only is None or table in only):
                rows[table] = _rows(connection, table, only[table] if only else None)
        objects = frozenset(
            (kind, called, sql)
            for kind, called, sql in connection.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_schema")
            if _is_the_apps(called)
        )
        # Some apps know their files by this number.
        marks = {"application_id": connection.execute("PRAGMA application_id").fetchone()[0]}
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'").fetchone():
            marks |= dict(connection.execute("SELECT name, seq FROM sqlite_sequence"))
    return Content(rows, objects, {table: mark for table, mark in marks.items() if _is_the_apps(table)})


def differing(one: Content, other: Content) -> list[str]:
    """What is not the same, in words; empty: the same."""
    found = []
    for table in sorted(one.rows.keys() | other.rows.keys()):
        first, second = one.rows.get(table), other.rows.get(table)
        if first is None or second is None:
            found.append(f"table {table} on one side only")
        elif first != second:
            found.append(f"{table}: {(first - second).total()} rows here only, {(second - first).total()} there only")
    found += [f"{kind} {called}" for kind, called, _ in sorted(one.objects ^ other.objects)]
    return found + [f"mark {table}" for table, _ in sorted(one.marks.items() ^ other.marks.items())]


def columns_by_table(database: Path) -> dict[str, list[str]]:
    """All columns of all ordinary tables."""
    with opened(database) as connection:
        return {table: [str(row[1]) for row in columns(connection, table)] for table in tables(connection)}


def _rows(connection: sqlite3.Connection, table: str, only: list[str] | None) -> Counter[bytes]:
    listed = ", ".join(map(name, only)) if only else "*"

    def read() -> Counter[bytes]:
        # Version 2 writes equal values equally; and 1 is not 1.0, nor a text the blob of the same bytes.
        return Counter(marshal.dumps(row, 2) for row in connection.execute(f"SELECT {listed} FROM {name(table)}"))

    try:
        return read()
    except sqlite3.OperationalError:
        # Texts need not be UTF-8.
        connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")
        return read()
    finally:
        connection.text_factory = str


def _is_the_apps(table: str) -> bool:
    return not table.startswith("sqlite_") and table not in NOT_THE_APPS
