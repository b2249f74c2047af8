"""Questions to the catalogue of an open database: which tables there are, their kinds, keys and columns."""

from __future__ import annotations

from typing import Final

from dbsync.storage.connections import HISTORY, READABLE, Connection, Row

OUR_TABLES: Final = frozenset({HISTORY, READABLE})
TRACKERS: Final = frozenset(
    {"__drizzle_migrations", "alembic_version", "django_migrations", "goose_db_version", "schema_migrations"}
)
"""Where other tools keep which migrations they ran: no part of an app's schema, and written beside our own history."""
NOT_THE_APPS: Final = OUR_TABLES | TRACKERS


def version_of(connection: Connection, schema: str = "main") -> int:
    """The schema number of an open database."""
    return int(connection.execute(f"PRAGMA {schema}.user_version").fetchone()[0])


def quoted(name: str) -> str:
    """A name as SQL wants it."""
    return '"' + name.replace('"', '""') + '"'


def tables_of(connection: Connection, schema: str = "main") -> list[str]:
    """The app's own tables: without SQLite's, shadow and virtual ones' inner tables, and ours."""
    rows = connection.execute(f"PRAGMA {schema}.table_list").fetchall()
    found = [row[1] for row in rows if row[0] == schema and row[2] in ("table", "virtual")]
    return sorted(one for one in found if not one.startswith("sqlite_") and one not in NOT_THE_APPS)


def key_of(connection: Connection, table: str, schema: str = "main") -> list[str]:
    """The primary key's columns in their order; empty without one."""
    rows = [row for row in columns_of(connection, table, schema) if row[5]]
    return [str(row[1]) for row in sorted(rows, key=lambda row: int(str(row[5])))]


def rowid_of(connection: Connection, table: str, schema: str = "main") -> str | None:
    """A name for a table's rowid that no column hides; None where it has no rowid, or no name for it is left."""
    rows = connection.execute(f"PRAGMA {schema}.table_list({quoted(table)})").fetchall()
    if not rows or rows[0][4]:
        return None
    taken = {str(row[1]).lower() for row in columns_of(connection, table, schema)}
    return next((one for one in ("rowid", "_rowid_", "oid") if one not in taken), None)


def is_rowid(connection: Connection, table: str, schema: str = "main") -> bool:
    """Whether a table's primary key is its rowid: INTEGER PRIMARY KEY, which needs no index of its own."""
    if len(key_of(connection, table, schema)) != 1 or rowid_of(connection, table, schema) is None:
        return False
    indexes = connection.execute(f"PRAGMA {schema}.index_list({quoted(table)})").fetchall()
    return all(row[3] != "pk" for row in indexes)


def has_table(connection: Connection, name: str, schema: str = "main") -> bool:
    """Whether there is a table of that name, one of SQLite's own included."""
    return connection.execute(f"SELECT 1 FROM {schema}.sqlite_schema WHERE name = ?", (name,)).fetchone() is not None


def columns_of(connection: Connection, table: str, schema: str = "main") -> list[Row]:
    """The columns of a table as `table_xinfo` gives them: cid, name, type, notnull, default, pk, hidden."""
    return connection.execute(f"PRAGMA {schema}.table_xinfo({quoted(table)})").fetchall()
