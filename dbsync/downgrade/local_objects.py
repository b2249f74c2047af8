"""Parts of the schema that people or the app made since the migration: tables, columns, indexes, triggers, views.

No migration knows them. Each is made in the older database too, with the names that the older schema has; what it
refuses, or what would not work there, is left out, and the proof that follows finds and keeps it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import count
from typing import Final, NamedTuple

from dbsync.downgrade.row_translation import Translator
from dbsync.model import Migration
from dbsync.schema.create_table import is_constraint
from dbsync.schema.declarations import declared
from dbsync.schema.sql_text import definition_of
from dbsync.storage.connections import Connection, kind_of, open_scratch
from dbsync.storage.introspection import app_tables, columns_of, facts_of, quoted
from dbsync.storage.sql_tokens import TokenKind, significant, tokenize, words_of

KINDS: Final = ("index", "view", "trigger")
"""In the order in which they are made: a trigger may be on a view."""


_NUMBERS: Final = count()


class LocalColumn(NamedTuple):
    """A column that one side lacks."""

    table: str
    name: str
    definition: str
    """As it stands in the CREATE TABLE statement."""


class Local(NamedTuple):
    """The tables and columns that people or the app made since the migration."""

    tables: tuple[str, ...]
    columns: tuple[LocalColumn, ...]

    @property
    def column_names(self) -> frozenset[tuple[str, str]]:
        """Table and column, in lower case."""
        return frozenset((column.table.lower(), column.name.lower()) for column in self.columns)


class SchemaObject(NamedTuple):
    """An index, trigger or view."""

    kind: str
    name: str
    table: str
    sql: str


def tables_only_in(connection: Connection, now: str, base: str) -> list[str]:
    """Return the ordinary and virtual tables that `now` has and `base` lacks."""
    known = {name.lower() for name in app_tables(connection, base)}
    return [name for name in sorted(app_tables(connection, now)) if name.lower() not in known]


def columns_only_in(connection: Connection, now: str, base: str) -> list[LocalColumn]:
    """Return the columns that `now` has and `base` lacks, in tables of both."""
    found = []
    before = {name.lower(): name for name in app_tables(connection, base)}
    for table, facts in sorted(app_tables(connection, now).items()):
        if facts.is_virtual or table.lower() not in before:
            continue
        known = {column.name.lower() for column in columns_of(connection, before[table.lower()], base)}
        for column in columns_of(connection, table, now):
            definition = column_definition(sql_of(connection, "table", table, now), column.name)
            if column.name.lower() not in known and definition is not None:
                found.append(LocalColumn(table, column.name, definition))
    return found


def objects_only_in(connection: Connection, now: str, base: str) -> list[SchemaObject]:
    """Return the indexes, views and triggers that `now` has and `base` lacks, or has with another definition."""
    before = {
        (kind, str(name).lower()): words_of(str(sql))
        for kind, name, sql in connection.execute(
            f"SELECT type, name, sql FROM {base}.sqlite_master WHERE sql IS NOT NULL"
        ).fetchall()
    }
    rows = connection.execute(
        f"SELECT type, name, tbl_name, sql FROM {now}.sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
    ).fetchall()
    found = [
        SchemaObject(str(kind), str(name), str(table), str(sql)) for kind, name, table, sql in rows if kind in KINDS
    ]
    found = [each for each in found if before.get((each.kind, each.name.lower())) != words_of(each.sql)]
    return sorted(found, key=lambda each: KINDS.index(each.kind))


def sql_of(connection: Connection, kind: str, name: str, schema: str) -> str:
    """Return the statement that made an object; empty if there is none of that name."""
    row = connection.execute(
        f"SELECT sql FROM {schema}.sqlite_master WHERE type = ? AND lower(name) = lower(?)", (kind, name)
    ).fetchone()
    return str(row[0] or "") if row else ""


def column_definition(sql: str, column: str) -> str | None:
    """Return the text of a column's definition in a CREATE TABLE statement; None if it is not in it."""
    definition = definition_of(sql)
    for part in definition.parts if definition is not None else []:
        tokens = list(significant(part))
        if tokens and not is_constraint(tokens) and tokens[0].name.lower() == column.lower():
            return part
    return None


def made_since(connection: Connection, now: str, base: str) -> Local:
    """Return the tables and columns that `now` has and `base` lacks."""
    return Local(tuple(tables_only_in(connection, now, base)), tuple(columns_only_in(connection, now, base)))


def make_in_base(connection: Connection, schema: str, local: Local) -> None:
    """Make local tables, empty, and local columns in `main`, from their definitions in `schema`."""
    for table in local.tables:
        _tried(connection, sql_of(connection, "table", table, schema))
    for column in local.columns:
        _tried(connection, f"ALTER TABLE main.{quoted(column.table)} ADD COLUMN {column.definition}")


def make_in_older(connection: Connection, schema: str, local: Local, translate: Translator) -> None:
    """Make local tables, empty, and local columns in the older database `main`."""
    for table in local.tables:
        if facts_of(connection, table) is None:
            _tried(connection, sql_of(connection, "table", table, schema))
    for column in local.columns:
        older = translate.table_of(column.table)
        if older is not None:
            _tried(connection, f"ALTER TABLE main.{quoted(older)} ADD COLUMN {column.definition}")


def make_objects(connection: Connection, schema: str, base: str, newer: tuple[Migration, ...]) -> None:
    """Make local indexes, views and triggers in the older database, and drop those that people dropped."""
    for gone in objects_only_in(connection, base, schema):
        if sql_of(connection, gone.kind, gone.name, schema):
            continue
        kept = sql_of(connection, gone.kind, gone.name, "main")
        if kept:
            _tried(connection, f"DROP {gone.kind.upper()} main.{quoted(gone.name)}")
    local = objects_only_in(connection, schema, base)
    if not local:
        return
    older = _with_older_names(connection, schema, newer)
    for each in local:
        sql = _with_names_as_names(older.get((each.kind, each.name.lower()), each.sql))
        before = sql_of(connection, each.kind, each.name, "main")
        if words_of(before) == words_of(sql):
            continue
        _replace(connection, each, sql, before)


def _with_names_as_names(sql: str) -> str:
    """Return a statement that fails where a name in double quotes names nothing, which SQLite may take for a string."""
    return "".join(
        f"`{token.name.replace('`', '``')}`"
        if token.kind is TokenKind.QUOTED and token.text.startswith('"')
        else token.text
        for token in tokenize(sql)
    )


def _replace(connection: Connection, each: SchemaObject, sql: str, before: str) -> None:
    """Make an object in the place of an earlier one of its name; undo it unless everything still works."""
    worked = _broken(connection)
    connection.execute("SAVEPOINT one_object")
    try:
        if before:
            connection.execute(f"DROP {each.kind.upper()} main.{quoted(each.name)}")
        connection.execute(sql)
        if _broken(connection) - worked:
            raise sqlite3.OperationalError(f"{each.kind} {each.name} does not work in the older schema")
    except sqlite3.Error as error:
        if kind_of(error) is not None:
            raise
        connection.execute("ROLLBACK TO one_object")
    connection.execute("RELEASE one_object")


def _broken(connection: Connection) -> set[str]:
    """Return the statements on tables and views that cannot be compiled."""
    found = set()
    rows = connection.execute(
        "SELECT type, name FROM main.sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%'"
        " ESCAPE '\\'"
    ).fetchall()
    for kind, name in rows:
        table = f"main.{quoted(str(name))}"
        statements = [f"SELECT * FROM {table}"]
        if kind == "table":
            sets = [
                f"UPDATE {table} SET {quoted(column.name)} = NULL"
                for column in columns_of(connection, str(name))
                if column.is_written
            ]
            statements += [f"INSERT INTO {table} DEFAULT VALUES", f"DELETE FROM {table}", *sets]
        for statement in statements:
            try:
                # With a number, because Python keeps statements, and EXPLAIN does not notice a change of the schema.
                connection.execute(f"EXPLAIN /* {next(_NUMBERS)} */ {statement}").fetchall()
            except sqlite3.Error as error:
                if kind_of(error) is not None:
                    raise
                found.add(statement)
    return found


def _with_older_names(connection: Connection, schema: str, newer: tuple[Migration, ...]) -> dict[tuple[str, str], str]:
    """Return the statements of all objects with the names that the older schema has for tables and columns.

    SQLite rewrites them itself: the renames of the migrations are undone on a copy that has the schema alone.
    """
    steps = [declared((migration,)) for migration in reversed(newer)]
    if not any(step.tables or step.columns for step in steps):
        return {}
    with closing(open_scratch()) as copy:
        rows = connection.execute(
            f"SELECT sql FROM {schema}.sqlite_master WHERE sql IS NOT NULL"
            " ORDER BY CASE type WHEN 'table' THEN 0 WHEN 'index' THEN 1 WHEN 'view' THEN 2 ELSE 3 END, rowid"
        ).fetchall()
        for (sql,) in rows:
            _tried(copy, str(sql))
        for step in steps:
            for before, after in step.tables.items():
                _tried(copy, f"ALTER TABLE {quoted(after)} RENAME TO {quoted(before)}")
            for (table, name), later in step.columns.items():
                _tried(copy, f"ALTER TABLE {quoted(table)} RENAME COLUMN {quoted(later)} TO {quoted(name)}")
        found = copy.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {(str(kind), str(name).lower()): str(sql) for kind, name, sql in found}


def _tried(connection: Connection, sql: str) -> bool:
    try:
        connection.execute(sql)
    except sqlite3.Error as error:
        if kind_of(error) is not None:
            raise
        return False
    return True
