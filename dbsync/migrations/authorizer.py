"""Actions that every migration is refused, declared or not: transactions, other databases, pragmas, our tables."""

from __future__ import annotations

import sqlite3
from typing import Final

from dbsync.storage.introspection import OUR_TABLES

_READING_PRAGMAS: Final = frozenset(
    [
        "table_info",
        "table_xinfo",
        "table_list",
        "index_list",
        "index_info",
        "index_xinfo",
        "foreign_key_list",
        "foreign_key_check",
        "quick_check",
        "integrity_check",
        "collation_list",
        "function_list",
        "compile_options",
        "data_version",  # FTS5 asks for it
        "encoding",
        "page_count",
        "page_size",
        "user_version",
        "application_id",
        "freelist_count",
        "read_uncommitted",  # SQLAlchemy asks for it
    ]
)
_SETTABLE: Final = ("user_version", "application_id", "read_uncommitted")
_SCHEMA_STEPS: Final = frozenset({"legacy_alter_table", "defer_foreign_keys"})
"""Pragmas that the documented way to rebuild a table needs, and that cannot break the transaction."""
WRITES: Final = frozenset(
    {
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_DROP_TABLE,
        sqlite3.SQLITE_CREATE_TABLE,  # CREATE TABLE … AS SELECT fills it, and reports no other action for that
    }
)
_REFUSED: Final = {
    sqlite3.SQLITE_TRANSACTION: "BEGIN, COMMIT and ROLLBACK are dbsync's: all migrations are one transaction",
    sqlite3.SQLITE_SAVEPOINT: "savepoints are dbsync's: each migration has one",
    sqlite3.SQLITE_ATTACH: "another database cannot be attached: its changes would not be part of the transaction",
    sqlite3.SQLITE_DETACH: "databases are attached and detached by dbsync",
}


def why_not(action: int, first: str | None, second: str | None, schema: str | None) -> str | None:
    """Return why an action that SQLite's authorizer is asked about is refused; None if it is allowed."""
    if action == sqlite3.SQLITE_PRAGMA:
        return _why_not_pragma(first or "", second)
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() == "load_extension":
        return "an extension is code that was not signed with the release"
    if action in WRITES and first in OUR_TABLES:
        return f"{first} is written by dbsync only"
    # ALTER TABLE has its database as first argument; in the place of `schema` it has the dropped column.
    if (first if action == sqlite3.SQLITE_ALTER_TABLE else schema) not in (None, "main", "temp"):
        return "only the database that is migrated may be touched"
    return _REFUSED.get(action)


def _why_not_pragma(name: str, value: str | None) -> str | None:
    name = name.lower()
    if name in _SCHEMA_STEPS or (name in _READING_PRAGMAS and (value is None or name not in _SETTABLE)):
        return None
    return f"PRAGMA {name}: it is dbsync's, or would not be part of the transaction"
