"""A day of trade on any database: valid edits by what the schema itself says, each counted when SQLite takes it."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.drills.laws.cells import quoted

OURS: Final = ("dbsync_", "sqlite_", "schema_version")
WORDS: Final = (
    "Bread",
    "Milk",
    "Salt and pepper",
    "Käse",
    "O'Neil",
    "naïve\u2028line",
    "",
    "7",
    "tea ☕",
    "Ann Lee",
    "Bo",
)
ATTEMPTS_FACTOR: Final = 30
CHOICES: Final = {
    "paid_with": ("cash", "card", "voucher", "app"),
    "reason": ("sale", "gift", "expired", "birthday"),
    "state": ("open", "sent", "done", "recalled"),
    "station": ("cold", "hot", "bar", "grill"),
    "place": ("shop", "store", "van"),
    "allergens": ('["nuts"]', "[]", '{"milk": true}', "not json"),
}
"""Values for columns that take few; older schemas refuse some of them."""


class Shape(NamedTuple):
    """One table."""

    name: str
    columns: tuple[tuple[str, str], ...]
    """Names and types of the columns that are written."""
    key: tuple[str, ...]
    parents: dict[str, tuple[str, str]]
    """For a column: the table and column that it refers to."""
    numbered: bool


def shapes(connection: sqlite3.Connection) -> list[Shape]:
    """Return the tables that people write."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY rowid").fetchall()
    virtual = [name for name, sql in rows if sql.upper().startswith("CREATE VIRTUAL")]
    found = []
    for name, _ in rows:
        if name.startswith(OURS) or any(name == one or name.startswith(f"{one}_") for one in virtual):
            continue
        columns = connection.execute(f"PRAGMA table_xinfo({quoted(name)})").fetchall()
        parents = {}
        for row in connection.execute(f"PRAGMA foreign_key_list({quoted(name)})").fetchall():
            parents[row[3]] = (row[2], row[4] or _key_of(connection, row[2])[0])
        key = _key_of(connection, name)
        numbered = len(key) == 1 and [row[2] for row in columns if row[5]] == ["INTEGER"]
        written = tuple((row[1], row[2]) for row in columns if row[6] == 0)
        found.append(Shape(name, written, key, parents, numbered))
    return found


def _key_of(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    rows = connection.execute(f"PRAGMA table_info({quoted(table)})").fetchall()
    return tuple(row[1] for row in sorted(rows, key=lambda row: row[5]) if row[5])


def work(path: Path, *, seed: int, count: int) -> int:
    """Perform that many edits and return how many SQLite took: fewer only if it refuses nearly all."""
    chance = random.Random(seed)
    done = 0
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA recursive_triggers=ON")
        connection.execute("BEGIN")
        known = shapes(connection)
        for _ in range(count * ATTEMPTS_FACTOR):
            if done == count:
                break
            try:
                done += _edit(connection, chance, chance.choice(known)) > 0
            except sqlite3.IntegrityError:
                continue
        connection.execute("COMMIT")
    return done


def _edit(connection: sqlite3.Connection, chance: random.Random, shape: Shape) -> int:
    draw = chance.random()
    if draw < 0.55:
        return _insert(connection, chance, shape)
    where, values = _row(connection, chance, shape)
    if not where:
        return 0
    on = quoted(shape.name)
    if draw < 0.9:
        column, kind = chance.choice(shape.columns)
        value = _value(connection, chance, shape, column, kind)
        changed = connection.execute(f"UPDATE {on} SET {quoted(column)} = ? WHERE {where}", (value, *values)).rowcount
    else:
        changed = connection.execute(f"DELETE FROM {on} WHERE {where}", values).rowcount
    return max(0, changed)


def _insert(connection: sqlite3.Connection, chance: random.Random, shape: Shape) -> int:
    values = {
        column: _value(connection, chance, shape, column, kind)
        for column, kind in shape.columns
        if not (shape.numbered and column in shape.key)
    }
    names, marks = ", ".join(map(quoted, values)), ", ".join("?" * len(values))
    into = f"INSERT INTO {quoted(shape.name)} ({names}) VALUES ({marks})"
    return connection.execute(into, tuple(values.values())).rowcount


def _row(connection: sqlite3.Connection, chance: random.Random, shape: Shape) -> tuple[str, tuple[Any, ...]]:
    names = ", ".join(quoted(name) for name in shape.key) if shape.key else "rowid"
    on = quoted(shape.name)
    count = connection.execute(f"SELECT count(*) FROM {on}").fetchone()[0]
    if not count:
        return "", ()
    row = connection.execute(f"SELECT {names} FROM {on} LIMIT 1 OFFSET ?", (chance.randrange(count),)).fetchone()
    return " AND ".join(f"{name} IS ?" for name in names.split(", ")), row


def _value(connection: sqlite3.Connection, chance: random.Random, shape: Shape, column: str, kind: str) -> Any:
    if column in shape.parents:
        table, target = shape.parents[column]
        count = connection.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()[0]
        query = f"SELECT {quoted(target)} FROM {quoted(table)} LIMIT 1 OFFSET ?"
        found = connection.execute(query, (chance.randrange(count + 1),)).fetchone()
        return found[0] if found else None
    if column in CHOICES:
        return chance.choice(CHOICES[column])
    if column in ("id", "sku", "receipt", "number", "code", "key", "barcode", "phone", "email", "host"):
        return f"{column[0]}{chance.randrange(400)}" if "INT" not in kind else chance.randrange(400)
    if "INT" in kind:
        return chance.choice((chance.randrange(-3, 30), chance.randrange(5000), None))
    if kind in ("REAL", "NUMERIC"):
        return chance.choice((chance.randrange(100), chance.randrange(10_000) / 100, 0.1 + 0.2))
    return chance.choice((*WORDS, None, f"{chance.choice(WORDS)} {chance.randrange(99)}"))
