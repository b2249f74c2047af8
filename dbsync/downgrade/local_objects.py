"""Parts of the schema that people or the app made since the migration: tables, columns, indexes, triggers, views.

No migration knows them. Each is made in the older database too, with the names that the older schema has; what it
refuses, or what would not work there, is left out, and the proof that follows finds and keeps it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Final, NamedTuple

from dbsync.model import Migration
from dbsync.schema.create_table import column_texts
from dbsync.schema.declarations import declared
from dbsync.storage.connections import Connection, attempted, kind_of, open_scratch
from dbsync.storage.introspection import app_tables, columns_of, quoted, sql_of, unusable_tables
from dbsync.storage.sql_tokens import TokenKind, tokenize, words_of
from dbsync.verification.schema_copy import schema_of
from dbsync.verification.working import judge

KINDS: Final = ("index", "view", "trigger")
"""In the order in which they are made: a trigger may be on a view."""


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


def unusable_only_in(connection: Connection, now: str, base: str) -> dict[str, str]:
    """Return the SQL of virtual tables whose module is not loaded here, by name, that `now` has and `base` lacks."""
    known = {name.lower() for name in unusable_tables(connection, base)}
    here = sorted(unusable_tables(connection, now).items())
    return {name: sql for name, (_, sql) in here if name.lower() not in known}


def columns_only_in(connection: Connection, now: str, base: str) -> list[LocalColumn]:
    """Return the columns that `now` has and `base` lacks, in tables of both."""
    found = []
    before = {name.lower(): name for name in app_tables(connection, base)}
    for table, facts in sorted(app_tables(connection, now).items()):
        if facts.is_virtual or table.lower() not in before:
            continue
        known = {column.name.lower() for column in columns_of(connection, before[table.lower()], base)}
        texts = column_texts(sql_of(connection, "table", table, now))
        for column in columns_of(connection, table, now):
            lower = column.name.lower()
            if lower not in known and lower in texts:
                found.append(LocalColumn(table, column.name, texts[lower]))
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


def made_since(connection: Connection, now: str, base: str) -> Local:
    """Return the tables and columns that `now` has and `base` lacks."""
    return Local(tuple(tables_only_in(connection, now, base)), tuple(columns_only_in(connection, now, base)))


def make_empty(connection: Connection, schema: str, local: Local, name_of: Callable[[str], str | None]) -> Local:
    """Make local tables, empty, and local columns in `main`, from their definitions in `schema`.

    `name_of` returns the name of a table in `main`; None: it is not there. What SQLite refuses is left out: the older
    schema may have a table or column of that name, with values that are not people's own.

    Returns:
        Those that were made.
    """

    def is_made(column: LocalColumn) -> bool:
        table = name_of(column.table)
        sql = f"ALTER TABLE main.{quoted(table or '')} ADD COLUMN {column.definition}"
        return table is not None and _tried(connection, sql)

    tables = [table for table in local.tables if _tried(connection, sql_of(connection, "table", table, schema))]
    return Local(tuple(tables), tuple(column for column in local.columns if is_made(column)))


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
    worked = schema_of(connection)

    def make() -> None:
        if before:
            connection.execute(f"DROP {each.kind.upper()} main.{quoted(each.name)}")
        connection.execute(sql)
        if judge(worked, schema_of(connection), declared(()), ()).failing:
            raise sqlite3.OperationalError(f"{each.kind} {each.name} does not work in the older schema")

    attempted(connection, make)


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
