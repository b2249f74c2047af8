"""Reads the counters of an open database, and raises them in the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from dbsync.counters.decisions import NUMBER_LIMIT, High
from dbsync.counters.declaration import Counter, mark_of
from dbsync.errors import Refused
from dbsync.migrations.authorizer import why_not
from dbsync.storage.connections import Connection
from dbsync.storage.introspection import has_table, is_rowid, key_of, numbered_tables

_SEQUENCE = "sqlite_sequence"
_NOT_HERE = ("no such table", "no such column")


class CounterNotRaised(Refused):
    """A counter that cannot be read as an integer, or stays below what it must be after it was raised."""

    hint_by_default = (
        "Nothing was changed. Tell the vendor: counters.toml of the release declares it."
        " `dbsync counters --forget NAME --database FILE` gives the mark up: numbers may then be given out twice."
    )


def with_marks(connection: Connection, counters: Iterable[Counter]) -> tuple[Counter, ...]:
    """Return the declared counters, and those of AUTOINCREMENT that none of them declares."""
    found = tuple(counters)
    tables = numbered_tables(connection)
    taken = {counter.table.lower() for counter in found if counter.is_mark}
    return (*found, *(mark_of(name) for lowered, name in sorted(tables.items()) if lowered not in taken))


def is_autoincrement(connection: Connection, counter: Counter) -> bool:
    """Return whether the table and column of a counter are those of an AUTOINCREMENT key."""
    tables = numbered_tables(connection)
    table = tables.get(counter.table.lower())
    if table is None:
        return False
    key = [column.lower() for column in key_of(connection, table)]
    return not counter.column or (key == [counter.column.lower()] and is_rowid(connection, table))


def numbers(connection: Connection, counters: Iterable[Counter], *, strictly: bool = True) -> dict[str, int | None]:
    """Return the number of each counter by its name; None: it has none yet. One that is not in the schema is left out.

    Args:
        connection: an open database.
        counters: in the names of its schema.
        strictly: whether a value that is not an integer is an error; otherwise it counts as no number.

    Raises:
        CounterNotRaised: a counter holds something else than an integer.
        sqlite3.Error: it cannot be read.
    """
    found: dict[str, int | None] = {}
    with _restricted(connection):
        for counter in counters:
            try:
                found[counter.name] = _number(connection, counter)
            except sqlite3.OperationalError as error:
                if not str(error).startswith(_NOT_HERE):
                    raise
            except LookupError:
                continue
            except CounterNotRaised:
                if strictly:
                    raise
                found[counter.name] = None
    return found


def _number(connection: Connection, counter: Counter) -> int | None:
    if counter.is_mark:
        if not has_table(connection, _SEQUENCE) or not is_autoincrement(connection, counter):
            raise LookupError(counter.table)
        row = connection.execute(
            f"SELECT max(seq) FROM main.{_SEQUENCE} WHERE name = ? COLLATE NOCASE", (counter.table,)
        ).fetchone()
    else:
        row = connection.execute(counter.reads).fetchone()
    value = row[0] if row is not None else None
    if value is None:
        return None
    number = _integer(value)
    if number is None:
        cause = f"it holds {type(value).__name__}, not an integer between 0 and {NUMBER_LIMIT}"
        raise CounterNotRaised(operation=f"read the counter {counter.name}", cause=cause)
    return number


def _integer(value: object) -> int | None:
    """Return an integer as SQLite may keep it in a column of any type; None if it is none, or negative."""
    try:
        number = int(value) if isinstance(value, int | str) else None
        if isinstance(value, float) and value.is_integer():
            number = int(value)
    except ValueError:
        return None
    return number if number is not None and 0 <= number <= NUMBER_LIMIT else None


def raise_counters(
    connection: Connection, counters: Iterable[Counter], wanted: Mapping[str, High]
) -> dict[str, int | None]:
    """Raise the counters of a database that are below what they must be, and return the numbers that they had.

    In the caller's transaction, or one of its own. A counter that is not in the schema is left out.

    Raises:
        CounterNotRaised: a counter is still lower afterwards.
        sqlite3.Error: its statement fails.
    """
    counters = tuple(counters)
    raised: dict[str, int | None] = {}
    for name, number in numbers(connection, counters).items():
        if name in wanted and wanted[name].number > (number or 0):
            counter = next(known for known in counters if known.name == name)
            with _restricted(connection):
                _raise(connection, counter, wanted[name].number)
            after = numbers(connection, (counter,)).get(name)
            if after is None or after < wanted[name].number:
                cause = f"it must be raised to {wanted[name].number}, and is {after} after its statement ran"
                raise CounterNotRaised(operation=f"raise the counter {name}", cause=cause)
            raised[name] = number
    return raised


def _raise(connection: Connection, counter: Counter, number: int) -> None:
    if not counter.is_mark:
        connection.execute(counter.raises, (number,))
        return
    table = numbered_tables(connection)[counter.table.lower()]
    done = connection.execute(
        f"UPDATE main.{_SEQUENCE} SET seq = max(seq, ?) WHERE name = ? COLLATE NOCASE", (number, table)
    )
    if not done.rowcount:
        connection.execute(f"INSERT INTO main.{_SEQUENCE} (name, seq) VALUES (?, ?)", (table, number))


@contextmanager
def _restricted(connection: Connection) -> Iterator[None]:
    """A block in which a declared statement can do no more than one of a migration."""

    def asked(action: int, first: str | None, second: str | None, schema: str | None, _inner: str | None) -> int:
        return sqlite3.SQLITE_OK if why_not(action, first, second, schema) is None else sqlite3.SQLITE_DENY

    connection.set_authorizer(asked)
    try:
        yield
    finally:
        connection.set_authorizer(None)
