"""Whether the index of a virtual table still fits its content: a search that finds the wrong product is damage too."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from dbsync.schema.table_definition import pieces
from dbsync.storage.connections import Connection, open_temporary
from dbsync.storage.introspection import quoted


def does_not_fit(connection: Connection, name: str, old: str, schema: str) -> bool:
    """Whether an FTS5 or R-Tree index does not fit what it is over, and fitted it before.

    Args:
        connection: the open transaction.
        name: the virtual table.
        old: its name before.
        schema: the name of the database as it was; it is read-only.
    """
    if _fits(connection, name):
        return False
    with closing(open_temporary()) as before:
        # Only a copy can be asked: the check of FTS5 is spelt as a write. It is rarely needed, and gone when closed.
        connection.backup(before, name=schema)
        return _fits(before, old)


def shows_another(connection: Connection, name: str) -> bool:
    """Whether a search has no content of its own, but shows that of another table, which is compared itself."""
    words = _words(connection, name)
    return any(words[index : index + 2] == ["content", "="] for index in range(len(words)))


def _words(connection: Connection, name: str) -> list[str]:
    row = connection.execute("SELECT sql FROM main.sqlite_schema WHERE lower(name) = lower(?)", (name,)).fetchone()
    return [one.lower() for one in pieces(row[0])]


def _fits(connection: Connection, name: str) -> bool:
    words = _words(connection, name)
    kind = words[words.index("using") + 1] if "using" in words else ""
    try:
        if kind == "fts5":
            # With rank 1 it compares the index with the table that it is over (sqlite.org/fts5.html, 6.3).
            connection.execute(f"INSERT INTO main.{quoted(name)} ({quoted(name)}, rank) VALUES ('integrity-check', 1)")
        elif kind in ("rtree", "rtree_i32"):
            return bool(connection.execute("SELECT rtreecheck('main', ?) = 'ok'", (name,)).fetchone()[0])
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise
        return False
    return True
