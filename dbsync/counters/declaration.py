"""The declaration of counters in a folder of migrations, `counters.toml`, and its translation to older schemas.

It names tables and columns as they are in the newest schema of its folder. Declared renames translate it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from dbsync.errors import BadMigrations
from dbsync.facts import SchemaNumber
from dbsync.migrations import folder as migration_folder
from dbsync.migrations.engines.settings import COUNTERS
from dbsync.migrations.migration_file import bytes_of
from dbsync.model import Migration
from dbsync.schema.declarations import declared, same
from dbsync.storage.introspection import quoted
from dbsync.storage.sql_tokens import TokenKind, significant, tokenize

MARK: Final = "sqlite_sequence:"
"""Prefix of the name of a counter that nothing declares: the AUTOINCREMENT counter of a table."""
_TEXTS: Final = ("name", "description", "table", "column", "where", "query", "update", "holds", "gaps")


class Holds(StrEnum):
    """The number that a counter holds."""

    LAST = "last"
    """The last number that was given out."""
    NEXT = "next"
    """The number that will be given out next."""


class Gaps(StrEnum):
    """The treatment of numbers that are skipped because a counter was raised."""

    RECORD = "record"
    """An explanation is exported, for an auditor."""
    FREE = "free"
    """They need none."""


class Counter(NamedTuple):
    """One counter, in the names of one schema."""

    name: str
    """Its identity, whatever the schema; compared without case."""
    description: str = ""
    table: str = ""
    column: str = ""
    where: str = ""
    """The row of a table of settings that holds it; empty: it is the highest value of the column."""
    query: str = ""
    """A query of one integer, in the place of a table and column."""
    update: str = ""
    """A statement with one parameter, the number to raise it to; empty: the row of `where`, or AUTOINCREMENT."""
    holds: Holds = Holds.LAST
    gaps: Gaps = Gaps.RECORD

    @property
    def is_mark(self) -> bool:
        """Whether it is the AUTOINCREMENT counter of its table."""
        return not (self.query or self.update or self.where)

    @property
    def reads(self) -> str:
        """The query that returns its number."""
        if self.query:
            return self.query
        table = quoted(self.table)
        # Without its table, a quoted name of no column is a string to SQLite, and no error.
        column = f"{table}.{quoted(self.column)}"
        return (
            f"SELECT {column} FROM {table} WHERE {self.where}" if self.where else f"SELECT max({column}) FROM {table}"
        )

    @property
    def raises(self) -> str:
        """The statement that sets it to its one parameter."""
        return self.update or f"UPDATE {quoted(self.table)} SET {quoted(self.column)} = ? WHERE {self.where}"


def mark_of(table: str) -> Counter:
    """Return the counter of a table with AUTOINCREMENT that nothing declares."""
    words = f"ids of {table}, given out by AUTOINCREMENT"
    return Counter(f"{MARK}{table.lower()}", words, table)


def load(folder: Path) -> tuple[Counter, ...]:
    """Return the counters that a folder of migrations declares; none without the file.

    Raises:
        BadMigrations: the file is no TOML, or declares something that is not a counter.
        DiskProblem: it cannot be read now.
    """
    path = folder / COUNTERS
    if not path.is_file():
        return ()
    import tomllib

    try:
        values = tomllib.loads(bytes_of(path).decode())
    except ValueError as cause:
        raise BadMigrations(operation="read", path=path, cause=str(cause)) from cause
    rows = values.get("counter")
    if values.keys() != {"counter"} or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadMigrations(operation="read", path=path, cause="it must hold tables [[counter]] and nothing else")
    found = tuple(_counter(path, number, row) for number, row in enumerate(rows, 1))
    names = [counter.name.lower() for counter in found]
    for name in names:
        if names.count(name) > 1:
            raise BadMigrations(operation="read", path=path, cause=f"counter {name!r} is declared more than once")
    return found


def of_release(migrations: tuple[Migration, ...]) -> tuple[Counter, ...]:
    """Return the counters that are declared beside the migrations of a release."""
    return load(migration_folder.folder_of(migrations[0])) if migrations else ()


def _counter(path: Path, number: int, row: Mapping[str, Any]) -> Counter:
    called = row.get("name")
    where = f"counter {called!r}" if isinstance(called, str) and called else f"counter number {number}"
    problem = problem_of(row)
    if problem:
        raise BadMigrations(operation="read", path=path, cause=f"{where}: {problem}")
    return from_json(row)


def problem_of(row: Mapping[str, Any]) -> str:
    """Return why a table `[[counter]]` does not declare a counter: the key and the cause; empty if it does."""
    unknown = sorted(row.keys() - set(_TEXTS))
    if unknown:
        return f"{unknown[0]} is not a key; there are {', '.join(_TEXTS)}"
    for key in row:
        if not isinstance(row[key], str) or not row[key].strip():
            return f"{key} must be a string that is not empty"
    if not row.get("name"):
        return "name is missing"
    if row["name"].lower().startswith(MARK):
        return f"name must not begin with {MARK}"
    if not row.get("description"):
        return "description is missing: an auditor reads it"
    for key, kind in (("holds", Holds), ("gaps", Gaps)):
        if row.get(key) is not None and row[key] not in list(kind):
            return f"{key} must be {' or '.join(kind)}"
    return _problem_of_place(row)


def _problem_of_place(row: Mapping[str, Any]) -> str:
    query, update = row.get("query", ""), row.get("update", "")
    if query:
        others = [key for key in ("table", "column", "where") if key in row]
        if others:
            return f"{others[0]} cannot stand beside query"
        if _first_word(query) not in ("select", "with"):
            return "query must begin with SELECT or WITH"
        if not update:
            return "update is missing: a counter that is read by a query needs the statement that raises it"
    else:
        missing = [key for key in ("table", "column") if key not in row]
        if missing:
            return f"{missing[0]} is missing (or a query)"
    for key in ("query", "where"):
        if _parameters(row.get(key, "")) or _separators(row.get(key, "")):
            return f"{key} must be one expression or query, without parameters"
    if update and _first_word(update) not in ("update", "insert", "replace", "with"):
        return "update must begin with UPDATE, INSERT, REPLACE or WITH"
    if update and (_parameters(update) != ["?"] or _separators(update)):
        return "update must be one statement with exactly one parameter, written ?"
    return ""


def _first_word(sql: str) -> str:
    return next((token.plain for token in significant(sql)), "")


def _parameters(sql: str) -> list[str]:
    return [token.text for token in significant(sql) if token.kind is TokenKind.VARIABLE]


def _separators(sql: str) -> bool:
    tokens = [token.text for token in significant(sql)]
    return ";" in tokens[:-1]


def from_json(row: Mapping[str, Any]) -> Counter:
    """Return the counter of a table `[[counter]]`, or of `as_json`, which `problem_of` has nothing to say against."""
    values = {key: str(row[key]) for key in _TEXTS if row.get(key)}
    holds, gaps = Holds(values.pop("holds", Holds.LAST)), Gaps(values.pop("gaps", Gaps.RECORD))
    return Counter(**values, holds=holds, gaps=gaps)


def as_json(counter: Counter) -> dict[str, str]:
    """Return the keys of a declaration that are set."""
    return {key: str(value) for key, value in counter._asdict().items() if value}


class Rename(NamedTuple):
    """A table that a migration renamed."""

    number: SchemaNumber
    before: str
    after: str


def renames_of(migrations: Iterable[Migration]) -> tuple[Rename, ...]:
    """Return the tables that migrations rename, in the order in which they do."""
    return tuple(
        Rename(migration.number, before, after)
        for migration in migrations
        for before, after in declared((migration,)).tables.items()
    )


def at_schema(counters: Iterable[Counter], migrations: Iterable[Migration], version: int) -> tuple[Counter, ...]:
    """Return the counters in the names of an older schema: declared renames are undone, the newest first."""
    found = tuple(counters)
    for migration in sorted(migrations, key=lambda step: step.number, reverse=True):
        if migration.number <= version:
            break
        step = declared((migration,))
        # Of a table's columns first: they are declared with the older name of their table.
        for (table, before), after in step.columns.items():
            newer = step.tables.get(table, table)
            found = tuple(_column_renamed(counter, newer, after, before) for counter in found)
        for before, after in step.tables.items():
            found = tuple(_table_renamed(counter, after, before) for counter in found)
    return found


def _column_renamed(counter: Counter, table: str, name: str, older: str) -> Counter:
    texts = (counter.table, counter.query, counter.update)
    if not any(same(token.name, table) for text in texts for token in significant(text)):
        return counter
    return _renamed(counter, name, older)._replace(column=older if same(counter.column, name) else counter.column)


def _table_renamed(counter: Counter, name: str, older: str) -> Counter:
    return _renamed(counter, name, older)._replace(table=older if same(counter.table, name) else counter.table)


def _renamed(counter: Counter, name: str, older: str) -> Counter:
    def text(sql: str) -> str:
        names = (TokenKind.WORD, TokenKind.QUOTED)
        return "".join(
            quoted(older) if token.kind in names and same(token.name, name) else token.text for token in tokenize(sql)
        )

    return counter._replace(where=text(counter.where), query=text(counter.query), update=text(counter.update))
