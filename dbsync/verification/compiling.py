"""Compilation of every table and view for SELECT, INSERT, UPDATE and DELETE, by EXPLAIN on a copy of the schema.

Triggers, views and foreign keys are compiled only as they are used: until then SQLite accepts a name that does not
exist. Functions, collations, modules and tokenizers that only the app has are named, and what needs them counts neither
as working nor as failing; where possible a placeholder takes their place, and the rest of the statement is compiled.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final, NamedTuple

from dbsync.model import Need, NeedKind
from dbsync.storage.connections import Connection
from dbsync.storage.introspection import OUR_TABLES, ColumnFacts, TableFacts, TableKind, columns_of, quoted, tables
from dbsync.storage.sqlite_messages import About, message_of
from dbsync.verification.schema_copy import Entry, Schema, opened

_LACKS: Final = {
    About.FUNCTION: NeedKind.FUNCTION,
    About.COLLATION: NeedKind.COLLATION,
    About.MODULE: NeedKind.MODULE,
    About.TOKENIZER: NeedKind.TOKENIZER,
}
_BEFORE_A_CALL: Final = ("from", "join", ",")


class Verb(StrEnum):
    """The statements that are compiled."""

    SELECT = "SELECT"
    INSERT = "INSERT"
    REPLACE = "INSERT OR REPLACE"
    """It also runs the triggers of deleted rows."""
    DEFAULTS = "INSERT DEFAULT VALUES"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


class Action(NamedTuple):
    """A statement on one table or view."""

    verb: Verb
    column: str = ""
    """The column that an UPDATE sets, in lower case; empty for the other statements."""

    def __str__(self) -> str:
        return f"{self.verb} of {self.column}" if self.column else str(self.verb)


class Compiled(NamedTuple):
    """The result of compiling one statement. Without any text or need, it works."""

    cause: str = ""
    """SQLite's message if it fails."""
    keys_cause: str = ""
    """SQLite's message if it fails only with foreign keys on."""
    quoted_cause: str = ""
    """SQLite's message for a name in double quotes that it would take for a string, for want of such a column."""
    needs: frozenset[Need] = frozenset()
    """The parts that are not available here. If a module or tokenizer is among them, nothing more is known."""
    possible: bool = True
    """Whether SQLite allows the statement on this kind of object."""


IMPOSSIBLE: Final = Compiled(possible=False)


class Survey(NamedTuple):
    """A schema and the results for all of its tables and views."""

    schema: Schema
    results: dict[tuple[str, Action], Compiled]
    """By name in lower case and statement."""
    columns: dict[str, tuple[str, ...]]
    """The columns of each table and view that can be read, generated ones included; all names in lower case."""

    @property
    def names(self) -> dict[str, str]:
        """All tables and views: name in lower case → name as written."""
        return {entry.name.lower(): entry.name for entry in self.schema if entry.type in ("table", "view")}


def survey(schema: Schema) -> Survey:
    """Compile every statement on every table and view of a schema."""
    with opened(schema, names_only=True) as connection:
        made = _compiled(connection, schema)
    suspicious = {
        key for key, result in made.results.items() if result.cause and message_of(result.cause).about is About.COLUMN
    }
    if suspicious:
        # Existing views and triggers may have strings in double quotes, which SQLite takes if no such column exists.
        with opened(schema, names_only=False) as connection:
            tolerant = _compiled(connection, schema, {name for name, _ in suspicious})
        for key in suspicious:
            if key in tolerant.results and not tolerant.results[key].cause:
                made.results[key] = tolerant.results[key]._replace(quoted_cause=made.results[key].cause)
    return made


def result_of(schema: Schema, name: str, action: Action) -> Compiled:
    """Compile the statements on one table or view and return the result of one of them; impossible if it is gone."""
    with opened(schema, names_only=True) as connection:
        return _compiled(connection, schema, {name.lower()}).results.get((name.lower(), action), IMPOSSIBLE)


# -------------------------------------------------------------------------------------------------------- statements


def _compiled(connection: Connection, schema: Schema, only: set[str] | None = None) -> Survey:
    results, all_columns = dict[tuple[str, Action], Compiled](), dict[str, tuple[str, ...]]()
    written = {entry.table.lower() for entry in schema if entry.type == "trigger"}
    for facts in tables(connection).values():
        lower = facts.name.lower()
        unwanted = only is not None and lower not in only
        if unwanted or facts.name.startswith("sqlite_") or facts.name in OUR_TABLES or facts.kind is TableKind.SHADOW:
            continue
        columns = _columns(connection, facts.name)
        all_columns[lower] = tuple(column.name.lower() for column in columns)
        for action, sql in _statements(facts, columns):
            if facts.kind is TableKind.VIEW and action.verb is not Verb.SELECT and lower not in written:
                results[lower, action] = IMPOSSIBLE
            elif results.get((lower, action), _WORKS) == _WORKS:
                results[lower, action] = _result(connection, sql, schema)
    return Survey(schema, results, all_columns)


def _columns(connection: Connection, table: str) -> list[ColumnFacts]:
    try:
        return columns_of(connection, table)
    except sqlite3.Error:
        # The columns of a view are those of its query, and the module of a virtual table knows its columns.
        return []


def _statements(facts: TableFacts, columns: list[ColumnFacts]) -> Iterator[tuple[Action, str]]:
    table = quoted(facts.name)
    set_by_hand = [column.name for column in columns if column.is_written]
    yield Action(Verb.SELECT), f"SELECT * FROM {table}"
    if facts.is_external_search and set_by_hand:
        # The module reads its content only as it returns rows: SQLite compiles a query of it without that table.
        names = ", ".join(map(quoted, set_by_hand))
        yield Action(Verb.SELECT), f"SELECT {names} FROM {quoted(facts.content_table)}"
    if set_by_hand:
        names, nulls = ", ".join(map(quoted, set_by_hand)), ", ".join(["NULL"] * len(set_by_hand))
        yield Action(Verb.INSERT), f"INSERT INTO {table} ({names}) VALUES ({nulls})"
        yield Action(Verb.REPLACE), f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({nulls})"
    yield Action(Verb.DEFAULTS), f"INSERT INTO {table} DEFAULT VALUES"
    for column in set_by_hand:
        yield Action(Verb.UPDATE, column.lower()), f"UPDATE {table} SET {quoted(column)} = NULL"
    yield Action(Verb.DELETE), f"DELETE FROM {table}"


def _result(connection: Connection, sql: str, schema: Schema) -> Compiled:
    with _placeholders(connection) as needs:
        cause = _cause(connection, sql, needs, schema)
        if not cause:
            return Compiled(needs=frozenset(needs)) if needs else _WORKS
        if message_of(cause).about in (About.VIEW, About.READ_ONLY):
            return IMPOSSIBLE
        connection.execute("PRAGMA foreign_keys=OFF")
        try:
            without_keys = _cause(connection, sql, needs, schema)
        finally:
            connection.execute("PRAGMA foreign_keys=ON")
        if without_keys:
            return Compiled(without_keys, needs=frozenset(needs))
        return Compiled(keys_cause=cause, needs=frozenset(needs))


_WORKS: Final = Compiled()


# ------------------------------------------------------------------------------------------------------------- needs


@contextmanager
def _placeholders(connection: Connection) -> Iterator[set[Need]]:
    """A set of needs; the placeholders for them are removed at the end, so each statement's needs are found."""
    needs = set[Need]()
    try:
        yield needs
    finally:
        for need in needs:
            if need.kind is NeedKind.FUNCTION:
                connection.create_function(need.name, -1, None)
            elif need.kind is NeedKind.COLLATION:
                connection.create_collation(need.name, None)


def _cause(connection: Connection, sql: str, needs: set[Need], schema: Schema) -> str:
    """Compile a statement and return why it fails, empty if it does not; add the needs that stop it."""
    while True:
        try:
            connection.execute(f"EXPLAIN {sql}").close()
        except sqlite3.Error as error:
            cause = str(error)
        else:
            return ""
        need = _need(cause, schema)
        if need is None:
            named = {need.name.lower() for need in needs}
            # A placeholder is an ordinary function: it cannot take the place of an aggregate, for example.
            return "" if any(name in cause.lower() for name in named) else cause
        if need in needs or not _is_placed(connection, need):
            needs.add(need)
            return ""
        needs.add(need)


def _is_placed(connection: Connection, need: Need) -> bool:
    """Put a placeholder for a function or collation and return whether there is one for it."""
    if need.kind is NeedKind.FUNCTION:
        connection.create_function(need.name, -1, _nothing, deterministic=True)
    elif need.kind is NeedKind.COLLATION:
        connection.create_collation(need.name, _equal)
    return need.kind in (NeedKind.FUNCTION, NeedKind.COLLATION)


def _nothing(*_: object) -> None:
    """Return NULL: no statement is run."""


def _equal(_one: str, _other: str) -> int:
    return 0


def _need(cause: str, schema: Schema) -> Need | None:
    about, name, _ = message_of(cause)
    if about in _LACKS:
        return Need(_LACKS[about], name)
    if about is About.CONSTRUCTOR:
        words = next((entry.words for entry in schema if entry.name.lower() == name.lower()), ())
        return Need(NeedKind.MODULE, words[words.index("using") + 1]) if "using" in words[:-1] else None
    bodies = [entry for entry in schema if entry.type in ("view", "trigger")]
    if about is About.TABLE and any(_is_called(entry, name) for entry in bodies):
        return Need(NeedKind.MODULE, name)
    return None


def _is_called(entry: Entry, name: str) -> bool:
    """Return whether a view or trigger uses a name as a table-valued function, which a module makes."""
    words = entry.words
    return any(
        words[index] == name.lower() and words[index + 1] == "(" and words[index - 1] in _BEFORE_A_CALL
        for index in range(1, len(words) - 1)
    )
