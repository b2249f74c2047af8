"""Checks the index of a virtual table against its content: a search that finds the wrong product is damage too."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from dbsync.storage.connections import Connection, open_temporary
from dbsync.storage.introspection import TableFacts, facts_of, quoted


def does_not_fit(connection: Connection, now: TableFacts, old: str, schema: str) -> bool:
    """Return whether an FTS5 or R-Tree index does not fit its content, and did before.

    Args:
        connection: the open transaction.
        now: the virtual table.
        old: its name before.
        schema: the name of the database before; it is read-only.
    """
    if _fits(connection, now.name, now.module):
        return False
    with closing(open_temporary()) as before:
        # The check of FTS5 is an INSERT, so it needs a copy. That is rarely needed, and removed when closed.
        connection.backup(before, name=schema)
        facts = facts_of(before, old)
        return facts is not None and _fits(before, facts.name, facts.module)


def _fits(connection: Connection, name: str, module: str) -> bool:
    try:
        if module == "fts5":
            # With rank 1 FTS5 compares the index with its content table (sqlite.org/fts5.html, 6.3).
            connection.execute(f"INSERT INTO main.{quoted(name)} ({quoted(name)}, rank) VALUES ('integrity-check', 1)")
        elif module in ("rtree", "rtree_i32"):
            return bool(connection.execute("SELECT rtreecheck('main', ?) = 'ok'", (name,)).fetchone()[0])
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise
        return False
    return True
