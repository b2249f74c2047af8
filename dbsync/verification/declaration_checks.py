"""Checks on declarations: names must exist, and SQLite must accept expressions on the tables of a run.

An expression compares the rows before and after one migration. A terminal that skips releases runs several at once, and
the columns of one may be gone by the end: there it proves nothing about all of them together and is weakened to "may
differ", as two declarations of one column are (`declarations.declared`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from difflib import get_close_matches
from typing import NamedTuple

from dbsync.schema.declarations import KINDS, Cell, Declared, written_name
from dbsync.schema.table_definition import objects
from dbsync.storage.connections import Connection
from dbsync.storage.introspection import NOT_THE_APPS, columns_of, quoted, tables_of
from dbsync.verification.finding import Finding

SIDES = "o.NAME is a value of the row before, n.NAME one of the row after"


class _Expression(NamedTuple):
    line: str
    text: str
    sources: tuple[str, ...]


def usable(connection: Connection, allowed: Declared, old: str) -> tuple[Declared, list[Finding]]:
    """Return the declarations without unusable expressions, and findings for these if the run is one migration.

    Args:
        connection: the database as it would be committed, with the database before attached as `old`.
        allowed: what the migrations of this run declare.
        old: the schema name of the database before.
    """
    updates, inserts, deletes = dict(allowed.updates), dict(allowed.inserts), dict(allowed.deletes)
    wrong = []
    before, now = _lower(tables_of(connection, old)), _lower(tables_of(connection))

    def fails(table: str, verb: str, text: str | None, sides: str) -> bool:
        after = allowed.tables.get(table, table).lower()
        if text is None or table not in before or after not in now:
            return False
        named = {"o": f"{old}.{quoted(before[table])} o", "n": f"main.{quoted(now[after])} n"}
        expression = _Expression(f"{verb} {text}", text, tuple(named[side] for side in sides))
        cause = _cause(connection, expression)
        if cause and allowed.migrations_count == 1:
            what = f"the declaration `{expression.line}` is invalid: {cause} ({SIDES})"
            wrong.append(Finding(what, ""))
        return bool(cause)

    for (table, column), cell in allowed.updates.items():
        path = written_name(table) if column == "*" else f"{written_name(table)}.{written_name(column)}"
        verb = f"update {path} where" if cell.value is None else f"update {path} ="
        if fails(table, verb, cell.where or cell.value, "on"):
            updates[table, column] = Cell()
    for rows, verb, side in ((inserts, "insert", "n"), (deletes, "delete", "o")):
        for table, where in rows.items():
            if fails(table, f"{verb} {written_name(table)} where", where, side):
                rows[table] = None
    return allowed._replace(updates=updates, inserts=inserts, deletes=deletes), wrong


def _cause(connection: Connection, expression: _Expression) -> str:
    try:
        connection.execute(f"SELECT ({expression.text}) FROM {', '.join(expression.sources)} LIMIT 0").fetchall()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            raise
        return str(error)
    return ""


def unknown(connection: Connection, allowed: Declared, old: str) -> Iterator[tuple[str, str]]:
    """Yield the declarations of one migration that must be mistakes: a sentence, and the nearest existing name, if any.

    A name that exists neither before nor after is mostly a typing error, which would only show on a terminal. A drop of
    such a name permits the loss of an addition that somebody made in the field, unless a name much like it is dropped
    undeclared. A table or column that is declared as dropped and exists afterwards would be taken for another one of
    that name (`Declared.gone_in_between`).
    """
    tables = {**_lower(tables_of(connection, old)), **_lower(tables_of(connection))}
    columns = _columns(connection, old) | _columns(connection, "main")
    columns |= {f"{old_name}.{column.rpartition('.')[2]}" for old_name, new in allowed.tables.items()
                for column in columns if column.startswith(f"{new.lower()}.")}  # fmt: skip
    named = {
        (str(kind), str(name).lower())
        for schema in (old, "main")
        for kind, name in connection.execute(f"SELECT type, name FROM {schema}.sqlite_schema")
    }
    left = _columns(connection, "main") | {name.lower() for name in tables_of(connection)}
    taken = {name.lower() for name in allowed.tables.values()} | _new_names(allowed)
    for kind, name in sorted(allowed.drops):
        if kind in ("table", "column") and name in left - taken:
            yield f"it declares that {kind} {name} is dropped, which is there after it", ""
    gone = _gone(connection, allowed, old)
    for kind, name in sorted(_named(allowed)):
        there = columns if kind == "column" else tables.keys() if kind == "table" else _of_kind(named, kind)
        if name not in there:
            near = get_close_matches(name, sorted(there), 1)
            if (kind, name) in allowed.drops and not gone & {(kind, near_name) for near_name in near}:
                # Somebody may have added it to a database in the field: no schema of the vendor has it.
                continue
            what = f"it declares a change to {kind} {name}, which does not exist before or after the migration"
            yield what, near[0] if near else ""


def _gone(connection: Connection, allowed: Declared, old: str) -> set[tuple[str, str]]:
    """Return what is dropped without a declaration: a declared name that is much like it is a mistake."""
    before, now = (
        {("column", name) for name in _columns(connection, schema)}
        | {("table", name.lower()) for name in tables_of(connection, schema)}
        | {(kind, name) for kind in KINDS for name in objects(connection, schema, kind)}
        for schema in (old, "main")
    )
    return before - now - allowed.drops


def _columns(connection: Connection, schema: str) -> set[str]:
    return {
        f"{table}.{column.name.lower()}"
        for table, name in _lower(tables_of(connection, schema)).items()
        for column in columns_of(connection, name, schema)
    }


def _new_names(allowed: Declared) -> set[str]:
    """Return the renamed columns under their new names."""
    return {f"{table}.{after.lower()}" for (table, _), after in allowed.columns.items()}


def _named(allowed: Declared) -> Iterator[tuple[str, str]]:
    yield from allowed.drops
    yield from allowed.redefines
    for table in (*allowed.tables, *allowed.inserts, *allowed.deletes, *allowed.resets):
        yield "table", table
    for table, column in (*allowed.columns, *allowed.updates, *allowed.retypes):
        yield ("table", table) if column == "*" else ("column", f"{table}.{column}")


def _of_kind(objects: set[tuple[str, str]], kind: str) -> set[str]:
    return {name for each, name in objects if each == kind}


def _lower(names: list[str]) -> dict[str, str]:
    return {name.lower(): name for name in names if name not in NOT_THE_APPS}
