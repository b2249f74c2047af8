"""Random edits and local additions, each one statement of plain SQL; SQLite may refuse any of them."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.drills.laws.cells import quoted
from tests.drills.laws.schemas import VALUES, Column, Schema, Table

KEYS: Final = ("1", "2", "3", "4", "5", "7", "'a'", "'b'", "'A'", "'c'")
WORDS: Final = ("'gone'", "'boom'", "'c d'", "'e  f'", "1.23", "0.005")


def perform(path: Path, statements: Sequence[str], *, foreign_keys: bool = True) -> None:
    """Run each statement by itself; one that SQLite refuses changes nothing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA recursive_triggers=ON")
        for statement in statements:
            try:
                connection.execute(statement).fetchall()
            except sqlite3.Error:
                continue
        if connection.in_transaction:
            connection.execute("COMMIT")


def fill(chance: random.Random, schema: Schema, count: int) -> list[str]:
    """Return INSERTs for every table."""
    found = []
    for table in schema.tables:
        found += [insert(chance, table) for _ in range(chance.randint(1, count))]
    return found


def edits(chance: random.Random, schema: Schema, count: int) -> list[str]:
    """Return what people do in a while."""
    found: list[str] = []
    for _ in range(count):
        found += _edit(chance, chance.choice(schema.tables))
    for thing in schema.things:
        if thing.kind == "virtual" and chance.random() < 0.3:
            found.append(_into_module(chance, thing.name, thing.statements[0]))
    return found


def _into_module(chance: random.Random, name: str, sql: str) -> str:
    number = chance.randint(2, 9)
    if "fts5" in sql:
        return f"INSERT INTO {quoted(name)} (rowid, w) VALUES ({number}, 'new words')"
    return f"INSERT INTO {quoted(name)} VALUES ({number}, 1.5, 2.5)"


def _edit(chance: random.Random, table: Table) -> list[str]:
    on = quoted(table.name)
    draw = chance.random()
    if draw < 0.25:
        return [insert(chance, table)]
    if draw < 0.5 and table.free:
        column = quoted(chance.choice(table.free).name)
        if chance.random() < 0.25:
            # Two rows meet in one value.
            value = f"(SELECT {column} FROM {on} WHERE {column} IS NOT NULL ORDER BY {chance.choice(('1', '1 DESC'))})"
            return [f"UPDATE {on} SET {column} = {value} WHERE {_some(chance, table)}"]
        return [f"UPDATE {on} SET {column} = {_value(chance)} WHERE {_some(chance, table)}"]
    if draw < 0.62:
        return [f"DELETE FROM {on} WHERE {_some(chance, table)}"]
    if draw < 0.72 and table.key:
        column = quoted(table.column(chance.choice(table.key)).name)
        return [f"UPDATE OR IGNORE {on} SET {column} = {chance.choice(KEYS)} WHERE {_some(chance, table)}"]
    if draw < 0.84 and table.free and table.key:
        return _swap(chance, table, chance.choice(table.free))
    if draw < 0.92 and table.kind in ("integer", "auto"):
        # The highest number is given anew where it is no AUTOINCREMENT.
        key = quoted(table.column(table.key[0]).name)
        return [f"DELETE FROM {on} WHERE {key} = (SELECT max({key}) FROM {on})", insert(chance, table, numbered=True)]
    if table.key and len(table.key) == 1:
        return _swapped_keys(chance, table)
    return [insert(chance, table)]


def _swap(chance: random.Random, table: Table, column: Column) -> list[str]:
    """Exchange the values of two rows, by way of a third one."""
    on, name = quoted(table.name), quoted(column.name)
    key = quoted(table.column(table.key[0]).name)
    one, two = f"(SELECT min({key}) FROM {on})", f"(SELECT max({key}) FROM {on})"
    done = chance.choice(("0", "1"))
    keep = f"CREATE TEMP TABLE IF NOT EXISTS swapped AS SELECT {name} AS v FROM {on} WHERE {key} = {one}"
    return [
        keep,
        f"UPDATE {on} SET {name} = 'swap' WHERE {key} = {one}",
        f"UPDATE {on} SET {name} = (SELECT {name} FROM {on} WHERE {key} = {two}) WHERE {key} = {one} AND {done}",
        f"UPDATE {on} SET {name} = (SELECT v FROM swapped) WHERE {key} = {two}",
        "DROP TABLE IF EXISTS swapped",
    ]


def _swapped_keys(chance: random.Random, table: Table) -> list[str]:
    on, key = quoted(table.name), quoted(table.column(table.key[0]).name)
    one, two = chance.sample(KEYS[:4] if table.kind in ("integer", "auto") else KEYS[6:], 2)
    aside = "-77" if table.kind in ("integer", "auto") else "'-77'"
    return [
        f"UPDATE OR IGNORE {on} SET {key} = {new} WHERE {key} = {old}"
        for old, new in ((one, aside), (two, one), (aside, two))
    ]


def insert(chance: random.Random, table: Table, *, numbered: bool = False) -> str:
    """Return an INSERT of a random row."""
    values = {}
    for column in table.written:
        if column.number in table.key:
            if table.kind in ("integer", "auto") and (numbered or chance.random() < 0.5):
                continue
            values[column.name] = chance.choice(KEYS[:6] if "INT" in column.type else (*KEYS[6:], "1", "NULL"))
        elif column.parent is not None:
            values[column.name] = chance.choice(("1", "2", "3", "NULL"))
        elif chance.random() < 0.85:
            values[column.name] = _value(chance)
    if not values:
        return f"INSERT INTO {quoted(table.name)} DEFAULT VALUES"
    names = ", ".join(map(quoted, values))
    return f"INSERT INTO {quoted(table.name)} ({names}) VALUES ({', '.join(values.values())})"


def _value(chance: random.Random) -> str:
    return chance.choice(VALUES if chance.random() < 0.85 else WORDS)


def _some(chance: random.Random, table: Table) -> str:
    """Return a condition that a few rows fulfil."""
    if table.key and chance.random() < 0.6:
        column = table.column(table.key[0])
        return f"{quoted(column.name)} = {chance.choice(KEYS)}"
    if table.kind.startswith("without"):
        return f"{quoted(table.columns[-1].name)} IS {_value(chance)}"
    return f"rowid = {chance.randint(1, 6)}"


# ------------------------------------------------------------------------------------------------------ local additions


def additions(chance: random.Random, schema: Schema, mark: str) -> list[str]:
    """Return statements by which somebody adds something of his own; `mark` is part of each name."""
    table = chance.choice(schema.tables)
    on = quoted(table.name)
    other = chance.choice(table.columns)
    match chance.choice(("column", "column", "index", "trigger", "view", "table")):
        case "column":
            column = quoted(f"{mark}_own")
            return [
                f"ALTER TABLE {on} ADD COLUMN {column}",
                f"UPDATE {on} SET {column} = {_value(chance)}",
                f"UPDATE {on} SET {column} = {_value(chance)} WHERE {_some(chance, table)}",
            ]
        case "index":
            return [f"CREATE INDEX {mark}_index ON {on} ({quoted(other.name)})"]
        case "trigger" if not table.kind.startswith("without"):
            return [f"CREATE TRIGGER {mark}_trigger AFTER DELETE ON {on} BEGIN SELECT old.{quoted(other.name)}; END"]
        case "view":
            return [f"CREATE VIEW {mark}_view AS SELECT {quoted(other.name)} AS own FROM {on}"]
    return [
        f"CREATE TABLE {mark}_table (k INTEGER PRIMARY KEY, own)",
        f"INSERT INTO {mark}_table (own) VALUES ({_value(chance)})",
    ]
