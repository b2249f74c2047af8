"""The schema of a database without its rows, in memory, where statements can be compiled with other settings.

In the open transaction of a migration foreign keys cannot be enabled (sqlite.org/pragma.html#pragma_foreign_keys), and
SQLite does not load the CHECKs of a database that is attached for reading only. A copy of the catalogue has neither
limit, and the same texts always give the same answers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final, NamedTuple

from dbsync.schema.sql_text import strict
from dbsync.storage.connections import Connection, open_scratch
from dbsync.storage.introspection import TableKind, tables
from dbsync.storage.sql_tokens import words_of

_PAGE_BYTES: Final = 512
_BODIES: Final = ("trigger", "view")
"""Objects whose SQL is compiled only as they are used."""


class Entry(NamedTuple):
    """One row of a catalogue."""

    type: str
    """table, index, trigger or view."""
    name: str
    table: str
    """The table or view that an index or trigger belongs to; else its own name."""
    sql: str
    """Empty for the index of a constraint."""
    kind: TableKind | None = None
    """Of a table; None for the rest."""

    @property
    def words(self) -> tuple[str, ...]:
        """The words of its SQL, names without quotes and in lower case."""
        return _words(self.sql)


@lru_cache(maxsize=4096)
def _words(sql: str) -> tuple[str, ...]:
    return tuple(words_of(sql))


Schema = tuple[Entry, ...]


def schema_of(connection: Connection, schema: str = "main") -> Schema:
    """Return the catalogue of an open database, in its order; SQLite's statistics are left out."""
    kinds = {name: facts.kind for name, facts in tables(connection, schema).items()}
    # The old name: `sqlite_schema` exists only since SQLite 3.33.
    rows = connection.execute(f"SELECT type, name, tbl_name, sql FROM {schema}.sqlite_master ORDER BY rowid").fetchall()
    return tuple(
        Entry(str(kind), str(name), str(table), str(sql or ""), kinds.get(name) if kind == "table" else None)
        for kind, name, table, sql in rows
        if not str(name).startswith("sqlite_stat")
    )


@contextmanager
def opened(schema: Schema, *, names_only: bool) -> Iterator[Connection]:
    """A connection to an empty database in memory that has this schema, with foreign keys on.

    Args:
        schema: the rows of its catalogue.
        names_only: whether "names" in views and triggers are never taken for strings (sqlite.org/quirks.html, 8).
    """
    connection = open_scratch()
    try:
        connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        connection.execute("PRAGMA foreign_keys=ON")
        kept_by_modules = {entry.name for entry in schema if entry.kind is TableKind.SHADOW}
        virtual = [entry for entry in schema if entry.kind is TableKind.VIRTUAL]
        shadows = [entry for entry in schema if entry.type in ("table", "index") and entry.table in kept_by_modules]
        rest = [entry for entry in schema if entry.kind is not TableKind.VIRTUAL and entry.table not in kept_by_modules]
        # Statements are compiled and not run, so a table needs no page that is really its own.
        connection.execute("CREATE TABLE pages (bytes)")
        connection.execute("INSERT INTO pages VALUES (zeroblob(?))", (_PAGE_BYTES * (len(schema) + 3),))
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("DELETE FROM sqlite_master")
        _add(connection, rest, first_page=3, names_only=names_only)
        unmade = [entry for entry in virtual if not _is_made(connection, entry)]
        lost = {entry.name.lower() for entry in unmade}
        left = [entry for entry in shadows if entry.table.lower().rpartition("_")[0] in lost]
        connection.execute("PRAGMA writable_schema=ON")
        _add(connection, [*unmade, *left], first_page=3 + len(rest), names_only=names_only)
        yield connection
    finally:
        connection.close()


def _add(connection: Connection, entries: Iterable[Entry], *, first_page: int, names_only: bool) -> None:
    """Add rows to the catalogue while it can be written, and read it again; each object gets a page of its own."""
    rows = []
    for page, entry in enumerate(entries, first_page):
        sql = strict(entry.sql) if names_only and entry.type in _BODIES else entry.sql
        root = 0 if entry.type in _BODIES or entry.kind is TableKind.VIRTUAL else page
        rows.append((entry.type, entry.name, entry.table, root, sql or None))
    connection.executemany("INSERT INTO sqlite_master (type, name, tbl_name, rootpage, sql) VALUES (?,?,?,?,?)", rows)
    connection.execute("PRAGMA writable_schema=RESET")


def _is_made(connection: Connection, entry: Entry) -> bool:
    """Make a virtual table with its shadow tables and return whether its module could do it."""
    try:
        connection.execute(entry.sql)
    except sqlite3.Error:
        return False
    return True
