"""Additions of people or of the app itself that no schema of the vendor has: columns, indexes, triggers and views.

A migration cannot know them. A rebuild of a table loses its columns, indexes and triggers, and a view or trigger that
names the table stops its RENAME. So each migration runs as the vendor tried it, without local views and triggers, and
what it lost is made again afterwards: a column with its declared text and its values by key, an index, trigger or view
with its own text, where declared renames are followed. Conservation then compares all of it with the database before.

What the migration drops itself, by name or by a declaration, is not made again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Final, NamedTuple, Protocol

from dbsync.errors import MigrationFailed, TillkeeperError
from dbsync.migrations import migration_file
from dbsync.model import Migration, MigrationKind
from dbsync.schema.create_table import column_texts, is_constraint
from dbsync.schema.declarations import KINDS, Declared, declared, written_name
from dbsync.schema.sql_text import definition_of
from dbsync.storage.connections import Connection, open_scratch
from dbsync.storage.introspection import (
    columns_of,
    facts_of,
    key_of,
    ordinary_tables,
    quoted,
    rowid_of,
    sql_of,
    tables_of,
)
from dbsync.storage.sql_tokens import TokenKind, significant, tokenize, words_of

Known = frozenset[tuple[str, str, str]]
"""Names of a schema in lower case: (column | index | trigger | view, the table of a column, name)."""

_SAVED: Final = "dbsync_local"


class Rebuilds(Protocol):
    """The operations of a migration's `db` that are needed here."""

    def existing(self, sql: str) -> None:
        """Run a statement of the database's own schema."""

    def rebuild_with(self, table: str, body: str, copy: Mapping[str, str]) -> None:
        """Give a table a definition that consists of text that it has or had."""


class LocalColumn(NamedTuple):
    """A column of a table that no schema of the vendor has."""

    name: str
    text: str
    """Its part of the CREATE TABLE statement."""
    after: str
    """The column before it; empty for the first one."""
    is_written: bool
    """False: it is generated, and has no values of its own."""


class LocalColumns(NamedTuple):
    """The local columns of one table, and where their values are kept during the migration."""

    table: str
    columns: tuple[LocalColumn, ...]
    keys: tuple[str, ...]
    """The columns that a row is known by; empty: its rowid."""
    saved: str
    """A temporary table with the keys k0, k1, … and the values v0, v1, …"""


class LocalObject(NamedTuple):
    """A table, index, trigger or view that no schema of the vendor has."""

    kind: str
    name: str
    table: str
    """As the catalogue names it."""
    sql: str


class Additions(NamedTuple):
    """The local additions that a migration must not lose."""

    columns: tuple[LocalColumns, ...]
    tables: tuple[LocalObject, ...]
    """Only those with foreign keys, which a rename or drop of another table changes."""
    objects: tuple[LocalObject, ...]


def names_of(connection: Connection) -> Known:
    """Return the names of a schema."""
    found = {
        ("column", table.lower(), column.name.lower())
        for table in tables_of(connection)
        for column in columns_of(connection, table)
    }
    rows = connection.execute("SELECT type, name FROM sqlite_master WHERE type <> 'table'").fetchall()
    return frozenset(found | {(str(kind), "", str(name).lower()) for kind, name in rows})


def take(connection: Connection, db: Rebuilds, migration: Migration, known: Known) -> Additions:
    """Return the local additions, with their values saved; local triggers and views are gone for the time being.

    Args:
        connection: the database before the migration, in the open transaction.
        db: the migration's operations.
        migration: the migration that runs next.
        known: the names of the vendor's schema before and after it.
    """
    text = _body(migration)
    words = frozenset("".join(letter if letter.isalnum() or letter == "_" else " " for letter in text).split())

    def is_named(name: str) -> bool:
        return name in words or (not name.isidentifier() and name in text)

    # SQL names every table that it changes.
    may_change = [
        table for table in tables_of(connection)
        if migration.kind is not MigrationKind.SQL or is_named(table.lower())
    ]  # fmt: skip
    columns = tuple(_columns(connection, known, may_change))
    objects = tuple(found for found in _objects(connection, known) if not is_named(found.name.lower()))
    for found in columns:
        _save(connection, db, found)
    for local in reversed(objects):
        # A trigger on a view goes with it.
        if local.kind != "index":
            db.existing(f"DROP {local.kind} IF EXISTS main.{quoted(local.name)}")
    return Additions(columns, tuple(_tables(connection, known)), objects)


def _body(migration: Migration) -> str:
    """Return the text of a migration in lower case without its declarations, which permit and do nothing."""
    text = migration_file.text_of(migration.path).lower()
    for line in migration.changes:
        text = text.replace(line.lower(), "")
    return text


def give_back(connection: Connection, db: Rebuilds, migration: Migration, additions: Additions) -> None:
    """Make what the migration lost again.

    Raises:
        MigrationFailed: it cannot be made; the hint names the line that permits the migration to drop it.
    """
    allowed = declared((migration,))
    for found in additions.columns:
        _give_back_columns(connection, db, allowed, found, migration)
        db.existing(f"DROP TABLE temp.{found.saved}")
    there = {
        (str(kind), str(name).lower()) for kind, name in connection.execute("SELECT type, name FROM sqlite_master")
    }
    missing = [
        lost
        for lost in additions.objects
        if (lost.kind, lost.name.lower()) not in there | allowed.drops
        and ("table", lost.table.lower()) not in allowed.drops
    ]
    tables = [local for local in additions.tables if ("table", local.name.lower()) in there - allowed.drops]
    texts = _followed(connection, allowed, [*tables, *missing]) if allowed.tables or allowed.columns else {}
    for local in tables:
        _give_back_keys(connection, db, local, texts.get(local.name, local.sql))
    for lost in missing:
        try:
            db.existing(texts.get(lost.name, lost.sql))
        except TillkeeperError as error:
            what = f"{lost.kind} {lost.name}"
            raise _cannot(migration, what, lost.kind, written_name(lost.name), error.cause) from error


# ------------------------------------------------------------------------------------------------------------ columns


def _columns(connection: Connection, known: Known, may_change: list[str]) -> list[LocalColumns]:
    ours = _tables_in(known)
    ordinary = {name.lower() for name in ordinary_tables(connection)}
    found = list[LocalColumns]()
    for table in may_change:
        lower = table.lower()
        if lower not in ours or lower not in ordinary:
            # A table that somebody made is theirs as a whole, and no migration touches it.
            continue
        facts = columns_of(connection, table)
        if all(("column", lower, column.name.lower()) in known for column in facts):
            continue
        texts = column_texts(sql_of(connection, "table", table))
        local = [
            LocalColumn(column.name, texts[column.name.lower()], before, column.is_written)
            for column, before in zip(facts, ["", *(column.name for column in facts)], strict=False)
            if ("column", lower, column.name.lower()) not in known and column.name.lower() in texts
        ]
        found.append(LocalColumns(table, tuple(local), tuple(key_of(connection, table)), f"{_SAVED}_{len(found)}"))
    return found


def _save(connection: Connection, db: Rebuilds, found: LocalColumns) -> None:
    """Keep the values in a table without types, which takes every value as it is."""
    rowid = rowid_of(connection, found.table)
    keys = [quoted(key) for key in found.keys] or [rowid or "NULL"]
    values = [quoted(column.name) for column in found.columns if column.is_written]
    names = [*(f"k{number}" for number in range(len(keys))), *(f"v{number}" for number in range(len(values)))]
    db.existing(f"CREATE TEMP TABLE {found.saved} ({', '.join(names)})")
    selected = ", ".join([*keys, *values])
    db.existing(f"INSERT INTO temp.{found.saved} SELECT {selected} FROM main.{quoted(found.table)}")
    db.existing(f"CREATE INDEX temp.{found.saved}_keys ON {found.saved} ({', '.join(names[: len(keys)])})")


def _give_back_columns(
    connection: Connection, db: Rebuilds, allowed: Declared, found: LocalColumns, migration: Migration
) -> None:
    lower = found.table.lower()
    table = allowed.tables.get(lower, found.table)
    facts = facts_of(connection, table)
    there = {column.name.lower() for column in columns_of(connection, table)}
    lost = [
        (number, column) for number, column in enumerate(found.columns)
        if allowed.columns.get((lower, column.name.lower()), column.name).lower() not in there
        and ("column", f"{lower}.{column.name.lower()}") not in allowed.drops
    ]  # fmt: skip
    if facts is None or not there or not lost:
        return
    what = ", ".join(f"{found.table}.{column.name}" for _, column in lost)
    keys = [allowed.columns.get((lower, key.lower()), key) for key in found.keys]
    rowid = rowid_of(connection, table)
    if any(key.lower() not in there for key in keys) or (not keys and rowid is None):
        path = f"{written_name(found.table)}.{written_name(lost[0][1].name)}"
        raise _cannot(migration, f"column {what}", "column", path, "the key of the table is another one now")
    # Without the sign, the affinity of the key would keep SQLite from using the index.
    wanted = [f"+{quoted(table)}.{quoted(key)}" for key in keys] or [f"{quoted(table)}.{rowid}"]
    same = " AND ".join(f"k.k{number} IS {key}" for number, key in enumerate(wanted))
    written = [column.name for column in found.columns if column.is_written]
    copy = {
        column.name: f"(SELECT k.v{written.index(column.name)} FROM temp.{found.saved} k WHERE {same})"
        for _, column in lost
        if column.is_written
    }
    try:
        names = {column: new for (old, column), new in allowed.columns.items() if old == lower}
        moved = [column._replace(text=_renamed(column.text, names)) for _, column in lost]
        db.rebuild_with(table, _with_columns(connection, table, moved), copy)
    except TillkeeperError as error:
        path = f"{written_name(found.table)}.{written_name(lost[0][1].name)}"
        raise _cannot(migration, f"column {what}", "column", path, error.cause) from error


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """Return a column's definition with the next names of the columns that it refers to."""
    kinds = (TokenKind.WORD, TokenKind.QUOTED)
    first = next(significant(text)).begin
    return "".join(
        quoted(names[token.plain])
        if token.kind in kinds and token.plain in names and token.begin != first
        else token.text
        for token in tokenize(text)
    )


def _with_columns(connection: Connection, table: str, lost: list[LocalColumn]) -> str:
    """Return the body of a table's CREATE statement with columns in it, each behind the one that it stood behind."""
    definition = definition_of(sql_of(connection, "table", table))
    if definition is None:
        raise MigrationFailed(operation="rebuild", cause=f"the definition of {table} is not understood")
    parts = [(part, list(significant(part))) for part in definition.parts]
    columns = [part for part, tokens in parts if not is_constraint(tokens)]
    rest = [part for part, tokens in parts if is_constraint(tokens)]
    names = [tokens[0].name.lower() for _, tokens in parts if not is_constraint(tokens)]
    for column in lost:
        at = names.index(column.after.lower()) + 1 if column.after.lower() in names else len(names)
        columns.insert(at, column.text)
        names.insert(at, column.name.lower())
    # A comment may end a part.
    return "(" + "\n,".join([*columns, *rest]) + f"\n){definition.tail}"


# ------------------------------------------------------------------------------------------------------------ objects


def _objects(connection: Connection, known: Known) -> list[LocalObject]:
    rows = connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE type <> 'table' AND sql IS NOT NULL"
        " ORDER BY CASE type WHEN 'index' THEN 1 WHEN 'view' THEN 2 ELSE 3 END, rowid"
    ).fetchall()
    found = [LocalObject(str(kind), str(name), str(table), str(sql)) for kind, name, table, sql in rows]
    return [local for local in found if local.kind in KINDS and (local.kind, "", local.name.lower()) not in known]


def _tables(connection: Connection, known: Known) -> list[LocalObject]:
    ordinary = {name.lower() for name in ordinary_tables(connection)} - _tables_in(known)
    found = [
        (table, sql_of(connection, "table", table)) for table in tables_of(connection) if table.lower() in ordinary
    ]
    return [LocalObject("table", table, table, sql) for table, sql in found if "references" in words_of(sql)]


def _tables_in(known: Known) -> set[str]:
    return {table for kind, table, _ in known if kind == "column"}


def _give_back_keys(connection: Connection, db: Rebuilds, local: LocalObject, sql: str) -> None:
    """Let the foreign keys of a local table refer to the tables that they referred to, by their next names."""
    definition = definition_of(sql)
    if definition is not None and words_of(sql)[3:] != words_of(sql_of(connection, "table", local.name))[3:]:
        db.rebuild_with(local.name, f"({','.join(definition.parts)}){definition.tail}", {})


def _followed(connection: Connection, allowed: Declared, missing: list[LocalObject]) -> dict[str, str]:
    """Return the texts after the declared renames, as SQLite itself rewrites them, in a copy of the schema alone.

    There the names are set back, the objects are made with their old texts, and the names are changed again.
    """
    local = {found.name for found in missing}
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND rootpage > 0 AND sql IS NOT NULL"
    ).fetchall()
    with closing(open_scratch()) as copy:
        for name, sql in rows:
            if name not in local:
                _if_possible(copy, str(sql))
        columns = [(old, column, new) for (old, column), new in allowed.columns.items()]
        for old, column, new in reversed(columns):
            table = quoted(allowed.tables.get(old, old))
            _if_possible(copy, f"ALTER TABLE {table} RENAME COLUMN {quoted(new)} TO {quoted(column)}")
        for old, new in reversed(allowed.tables.items()):
            _if_possible(copy, f"ALTER TABLE {quoted(new)} RENAME TO {quoted(old)}")
        for found in missing:
            _if_possible(copy, found.sql)
        for old, new in allowed.tables.items():
            _if_possible(copy, f"ALTER TABLE {quoted(old)} RENAME TO {quoted(new)}")
        for old, column, new in columns:
            table = quoted(allowed.tables.get(old, old))
            _if_possible(copy, f"ALTER TABLE {table} RENAME COLUMN {quoted(column)} TO {quoted(new)}")
        made = copy.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        return {str(name): str(sql) for name, sql in made}


def _if_possible(copy: Connection, sql: str) -> None:
    """Run a statement on the copy; what it lacks shows when the object is made in the database itself."""
    try:
        copy.execute(sql)
    except sqlite3.Error:
        return


def _cannot(migration: Migration, what: str, kind: str, path: str, cause: str) -> MigrationFailed:
    return MigrationFailed(
        operation="migrate",
        path=migration.path,
        cause=f"{what} was added to this database and cannot be kept: {cause}",
        hint=f"A later release may permit its loss with `-- changes: drop {kind} {path}`.",
    )
