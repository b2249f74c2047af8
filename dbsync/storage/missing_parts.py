"""Parts of a database that this SQLite cannot evaluate: text of a newer SQLite, and functions, collations and modules.

None of it is damage. A database is its pages: they can be copied and checked, whatever the schema says. Imported only
where a statement has failed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from dbsync.storage.raw_text import lines_of

LIMIT: Final = 1000
"""Missing functions and collations after which the search for more ends."""
_MALFORMED: Final = "malformed database schema ("
_OF_DAMAGE: Final = ("invalid rootpage", "orphan index", "already exists", "no such table")
"""SQLite's messages about a catalogue that contradicts itself; its text can be parsed."""
_FUNCTION: Final = ("unknown function: ", "no such function: ")
_COLLATION: Final = "no such collation sequence: "
_NEVER_USED: Final = ("is never used", "never used")


class Unparsed(NamedTuple):
    """An object whose SQL this SQLite cannot parse."""

    name: str
    why: str
    """As SQLite says it."""

    @property
    def in_words(self) -> str:
        """A sentence with the object, the version of SQLite, and its reason."""
        return f"SQLite {sqlite3.sqlite_version} cannot parse {self.name}: {self.why}"


def unparsed_of(error: BaseException) -> Unparsed | None:
    """Return the object that an error of SQLite names because it cannot parse its SQL; None for any other error.

    SQLite calls a schema "malformed" for both: text that it does not understand, and a catalogue that contradicts
    itself or is no text at all. Only the second is damage.
    """
    message = str(error)
    if not message.startswith(_MALFORMED):
        return None
    name, found, why = message.removeprefix(_MALFORMED).partition(") - ")
    damaged = any(why.endswith(words) or why.startswith(words) for words in _OF_DAMAGE)
    if not found or damaged or not why.isprintable() or "\N{REPLACEMENT CHARACTER}" in message:
        return None
    return Unparsed(name, why)


def tolerate(connection: sqlite3.Connection, error: sqlite3.DatabaseError) -> str:
    """Let a connection use the objects that SQLite can parse; return a sentence on the one that it cannot.

    For connections that do not change the schema: by `writable_schema` SQLite loads what it can, and reports the rest
    no more (sqlite.org/pragma.html#pragma_writable_schema).

    Raises:
        sqlite3.DatabaseError: the error, if it is another one.
    """
    unparsed = unparsed_of(error)
    if unparsed is None:
        raise error
    connection.execute("PRAGMA writable_schema=ON")
    sql = "SELECT type FROM sqlite_master WHERE name = ? COLLATE NOCASE"
    row = connection.execute(sql, (unparsed.name,)).fetchone()
    return unparsed._replace(name=f"{row[0]} {unparsed.name}").in_words if row is not None else unparsed.in_words


def without_unused(findings: list[str]) -> list[str]:
    """Return the findings of a check without the pages that belong to objects which could not be parsed."""
    # A name in a finding may hold any other line separator, and the words of another finding.
    lines = [line for finding in findings for line in lines_of(finding)]
    kept = [line for line in lines if not (line.startswith("Page ") and line.endswith(_NEVER_USED))]
    return [line for line in kept if line != "ok" and not line.startswith("*** in database ")]


class Stub(NamedTuple):
    """A function or collation that a statement needs and this connection lacks."""

    name: str
    is_function: bool

    @property
    def in_words(self) -> str:
        """Its kind and name."""
        return f"{'function' if self.is_function else 'collation'} {self.name}"


def stub_of(error: BaseException) -> Stub | None:
    """Return the function or collation that an error of SQLite names as missing; None for any other error."""
    message = str(error)
    for words in _FUNCTION:
        if message.startswith(words):
            return Stub(message.removeprefix(words).removesuffix("()"), is_function=True)
    if message.startswith(_COLLATION):
        return Stub(message.removeprefix(_COLLATION), is_function=False)
    return None


@contextmanager
def stand_ins(connection: sqlite3.Connection, *statements: str) -> Iterator[tuple[Stub, ...]]:
    """Give a connection stand-ins for functions and collations that these statements cannot be compiled without.

    They are gone at the end of the block. A function returns 1, so that it refuses no row; a collation compares bytes.
    Right for what does not depend on their results: the structure of a schema, and a check of pages.
    """
    made: list[Stub] = []
    try:
        for statement in statements:
            while (stub := _lacking(connection, statement)) is not None and len(made) < LIMIT and stub not in made:
                add(connection, stub)
                made.append(stub)
        yield tuple(made)
    finally:
        for stub in made:
            _remove(connection, stub)


def add(connection: sqlite3.Connection, stub: Stub) -> None:
    """Give a connection a stand-in."""
    if stub.is_function:
        connection.create_function(stub.name, -1, _one, deterministic=True)
    else:
        connection.create_collation(stub.name, _by_bytes)


def _remove(connection: sqlite3.Connection, stub: Stub) -> None:
    if stub.is_function:
        # `create_function` would keep the name, with a None that cannot be called; this one removes it.
        connection.create_window_function(stub.name, -1, None)
    else:
        connection.create_collation(stub.name, None)


def _lacking(connection: sqlite3.Connection, statement: str) -> Stub | None:
    try:
        connection.execute(f"EXPLAIN {statement}").close()
    except sqlite3.OperationalError as error:
        return stub_of(error)
    return None


def _one(*_: object) -> int:
    return 1


def _by_bytes(one: str, other: str) -> int:
    return (one > other) - (one < other)
