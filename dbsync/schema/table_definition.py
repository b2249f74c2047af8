"""Definitions of tables, in parts that can be compared before and after: a rebuild drops what it does not repeat.

A new database cannot show such a loss: the same rebuild made it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import NamedTuple

from dbsync.storage.connections import Connection, open_scratch
from dbsync.storage.introspection import ColumnKind, columns_of, facts_of, quoted
from dbsync.storage.sql_tokens import words_of


class Column(NamedTuple):
    """The definition of one column."""

    kind: str
    not_null: bool
    default: str
    key: int
    collation: str
    generated: ColumnKind
    expression: tuple[str, ...] = ()
    """The words of a generated column's expression."""


class ForeignKey(NamedTuple):
    """One reference of a table; names in lower case."""

    parent: str
    actions: str
    pairs: tuple[tuple[str, str], ...]
    """Pairs of a column and a column of the parent; that is `none` if it is not named."""

    def __str__(self) -> str:
        return f"{self.parent} {self.actions}: {' '.join('>'.join(pair) for pair in self.pairs)}"


class Table(NamedTuple):
    """The definition of one table."""

    columns: dict[str, Column]
    """By name in lower case."""
    checks: frozenset[tuple[str, ...]]
    """The words of each check."""
    foreign_keys: frozenset[ForeignKey]
    uniques: frozenset[tuple[tuple[str, str], ...]]
    """The columns of each constraint with their collations, in lower case."""
    options: frozenset[str]
    """AUTOINCREMENT, WITHOUT ROWID, STRICT, deferred keys, actions on a conflict."""


def table_of(connection: Connection, name: str, schema: str) -> Table:
    """Return the definition of a plain table."""
    sql = _sql_of(connection, name, schema)
    words = words_of(sql)
    collations = _collations(sql, name, connection, schema)
    expressions = _expressions(words)
    columns = {}
    for column in columns_of(connection, name, schema):
        lower = column.name.lower()
        columns[lower] = Column(
            _normalised(column.type), column.not_null, _normalised(column.default or ""), column.key,
            collations.get(lower, ""), column.kind, expressions.get(lower, ()) if column.kind else (),
        )  # fmt: skip
    facts = facts_of(connection, name, schema)
    options = {"autoincrement"} & set(words)
    options |= {"without rowid"} if facts is not None and facts.without_rowid else set()
    options |= {"strict"} if facts is not None and facts.strict else set()
    options |= {"initially deferred"} if _pairs(words, "initially", "deferred") else set()
    options |= {f"on conflict {words[index + 2]}" for index in _pairs(words, "on", "conflict")}
    return Table(columns, _checks(words), _foreign_keys(connection, name, schema), _uniques(connection, name, schema),
                 frozenset(options))  # fmt: skip


def _normalised(sql: str) -> str:
    return " ".join(words_of(sql))


def _sql_of(connection: Connection, name: str, schema: str) -> str:
    row = connection.execute(
        f"SELECT sql FROM {schema}.sqlite_schema WHERE type = 'table' AND lower(name) = lower(?)", (name,)
    ).fetchone()
    return str(row[0] or "") if row else ""


def _collations(sql: str, name: str, connection: Connection, schema: str) -> dict[str, str]:
    """Return each column's collation: no pragma names it, but that of an index on the column does, in an empty twin."""
    columns = [column.name for column in columns_of(connection, name, schema)]
    with closing(open_scratch()) as twin:
        try:
            twin.execute(sql)
            made = twin.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            ).fetchone()[0]
            names = ", ".join(map(quoted, columns))
            twin.execute(f"CREATE INDEX every_column ON {quoted(made)} ({names})")
            rows = twin.execute("PRAGMA index_xinfo(every_column)").fetchall()
        except sqlite3.Error:
            # A collation or a function of the app's own: only the words of the definition can be compared.
            return {"": _normalised(sql)}
    return {str(row[2]).lower(): str(row[4]).lower() for row in rows if row[2] is not None}


def _checks(words: list[str]) -> frozenset[tuple[str, ...]]:
    found = set()
    for index, word in enumerate(words):
        if word == "check" and words[index + 1 : index + 2] == ["("]:
            found.add(tuple(words[index + 2 : _closing(words, index + 1)]))
    return frozenset(found)


def _expressions(words: list[str]) -> dict[str, tuple[str, ...]]:
    """Return the expressions of generated columns, by the name at the beginning of their part of the definition."""
    found: dict[str, tuple[str, ...]] = {}
    column, depth = "", 0
    for index, word in enumerate(words):
        depth += {"(": 1, ")": -1}.get(word, 0)
        if depth == 1 and word in ("(", ","):
            column = words[index + 1]
        elif depth == 1 and word == "as" and words[index + 1 : index + 2] == ["("]:
            found[column] = tuple(words[index + 2 : _closing(words, index + 1)])
    return found


def _pairs(words: list[str], first: str, second: str) -> list[int]:
    return [index for index in range(len(words) - 1) if words[index : index + 2] == [first, second]]


def _closing(words: list[str], start: int) -> int:
    depth = 0
    for index in range(start, len(words)):
        depth += {"(": 1, ")": -1}.get(words[index], 0)
        if depth == 0:
            return index
    return len(words) - 1


def _foreign_keys(connection: Connection, name: str, schema: str) -> frozenset[ForeignKey]:
    found: dict[int, ForeignKey] = {}
    for number, _, parent, column, target, on_update, on_delete, _ in connection.execute(
        f"PRAGMA {schema}.foreign_key_list({quoted(name)})"
    ):
        key = found.get(number, ForeignKey(str(parent).lower(), f"{on_update} {on_delete}".lower(), ()))
        found[number] = key._replace(pairs=(*key.pairs, (str(column).lower(), str(target).lower())))
    return frozenset(found.values())


def _uniques(connection: Connection, name: str, schema: str) -> frozenset[tuple[tuple[str, str], ...]]:
    """Return the unique constraints of the table itself; named indexes are compared as objects."""
    found = set()
    for _, index, unique, origin, _ in connection.execute(f"PRAGMA {schema}.index_list({quoted(name)})").fetchall():
        if unique and origin in ("u", "pk"):
            rows = connection.execute(f"PRAGMA {schema}.index_xinfo({quoted(index)})").fetchall()
            found.add(tuple((str(row[2]).lower(), str(row[4]).lower()) for row in rows if row[5]))
    return frozenset(found)


def virtual_of(connection: Connection, name: str, schema: str) -> tuple[str, ...]:
    """Return the words of a virtual table's definition, without its name."""
    return _words_without_name(_sql_of(connection, name, schema), name)


def objects(connection: Connection, schema: str, kind: str) -> dict[str, tuple[str, ...]]:
    """Return indexes, triggers or views: name in lower case → words of the SQL, equal if only the name differs."""
    rows = connection.execute(
        f"SELECT name, sql FROM {schema}.sqlite_schema WHERE type = ? AND sql IS NOT NULL", (kind,)
    ).fetchall()
    return {str(name).lower(): _words_without_name(str(sql), str(name)) for name, sql in rows}


def _words_without_name(sql: str, name: str) -> tuple[str, ...]:
    words = words_of(sql)
    lower = name.lower()
    if lower in words:
        words.remove(lower)
    return tuple(word for word in words if word not in ("if", "exists"))
