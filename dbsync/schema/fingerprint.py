"""The structure of a database as a set of comparable sentences: columns, indexes, keys, triggers, views."""

from __future__ import annotations

from dbsync.storage.connections import Connection
from dbsync.storage.introspection import columns_of, quoted, tables_of, unusable_tables


def fingerprint(connection: Connection, schema: str = "main") -> frozenset[str]:
    """Return one sentence for each element of the app's schema, without SQLite's own objects and ours.

    Neither the order of columns nor the spelling of a table's SQL counts: a column added by ALTER TABLE and one in a
    new CREATE TABLE are the same column.
    """
    found: set[str] = set()
    for table in tables_of(connection, schema):
        found.update(_table(connection, table, schema))
    # Nothing but their SQL can be read.
    found.update(f"table {name}: {_spaced(sql)}" for name, (_, sql) in unusable_tables(connection, schema).items())
    rows = connection.execute(
        f"SELECT type, name, sql FROM {schema}.sqlite_schema WHERE type IN ('trigger', 'view') AND sql IS NOT NULL"
    )
    found.update(f"{kind} {name}: {_spaced(sql)}" for kind, name, sql in rows)
    return frozenset(found)


def _table(connection: Connection, table: str, schema: str) -> set[str]:
    found = {f"table {table}"}
    for column in columns_of(connection, table, schema):
        facts = f"{column.type.upper()} notnull={int(column.not_null)} default={column.default}"
        found.add(f"column {table}.{column.name}: {facts} key={column.key} hidden={column.kind.value}")
    for row in connection.execute(f"PRAGMA {schema}.foreign_key_list({quoted(table)})"):
        _, _, parent, child_column, parent_column, on_update, on_delete, _ = row
        found.add(f"foreign key {table}.{child_column} -> {parent}.{parent_column} {on_update} {on_delete}")
    for _, name, unique, origin, partial in connection.execute(
        f"PRAGMA {schema}.index_list({quoted(table)})"
    ).fetchall():
        columns = connection.execute(f"PRAGMA {schema}.index_xinfo({quoted(name)})").fetchall()
        parts = ", ".join(
            f"{column[2]} {column[4]} {'desc' if column[3] else 'asc'}" for column in columns if column[5]
        )
        # SQLite names the index of a constraint by a number, which depends on the other constraints.
        label = name if origin == "c" else "(constraint)"
        sql = _index_sql(connection, name, schema) if origin == "c" else ""
        found.add(f"index {table} {label} unique={unique} partial={partial} ({parts}){sql}")
    return found


def _index_sql(connection: Connection, name: str, schema: str) -> str:
    row = connection.execute(
        f"SELECT sql FROM {schema}.sqlite_schema WHERE type = 'index' AND name = ?", (name,)
    ).fetchone()
    where = _spaced(row[0] or "").upper().partition(" WHERE ")[2] if row else ""
    return f" where {where}" if where else ""


def _spaced(sql: str) -> str:
    return " ".join(sql.replace('"', "").split())
