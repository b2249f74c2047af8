"""The check of `counters.toml`: every counter is tried on a fresh database of every schema in which it can be read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from dbsync.counters import declaration, reading
from dbsync.counters.decisions import High
from dbsync.counters.declaration import Counter
from dbsync.errors import TillkeeperError
from dbsync.migrations import runner
from dbsync.migrations.engines.settings import COUNTERS
from dbsync.model import Migration, MigrationKind
from dbsync.storage.connections import Connection, open_scratch

STEP: Final = 1000
"""How far a counter is raised when it is tried."""


def problems(folder: Path, migrations: tuple[Migration, ...]) -> Iterator[tuple[str, str]]:
    """Yield a place and a sentence for each declared counter that cannot be read or raised.

    The counters of folders with a program, which cannot run here, are only parsed.
    """
    try:
        counters = declaration.load(folder)
    except TillkeeperError as error:
        yield str(error.path), error.cause
        return
    if not counters or any(migration.kind is MigrationKind.COMMAND for migration in migrations):
        return
    for counter in counters:
        for what in _tried(counter, migrations):
            yield str(folder / COUNTERS), f"counter {counter.name!r}: {what}"


def _tried(counter: Counter, migrations: tuple[Migration, ...]) -> Iterator[str]:
    was_there = 0
    try:
        with closing(open_scratch()) as connection:
            for migration in migrations:
                runner.run_all(connection, (migration,))
                (older,) = declaration.at_schema((counter,), migrations, migration.number)
                is_there = counter.name in reading.numbers(connection, (older,))
                if was_there and not is_there and migration.number < migrations[-1].number:
                    yield f"it is in schema {was_there}, and cannot be followed to schema {migration.number}"
                    return
                if is_there:
                    was_there = migration.number
                    _raise(connection, older)
            if not is_there:
                yield _not_there(connection, counter)
    except (TillkeeperError, sqlite3.Error) as error:
        yield error.cause if isinstance(error, TillkeeperError) else str(error)


def _raise(connection: Connection, counter: Counter) -> None:
    """Raise a counter in a transaction that is undone; raises what `raise_counters` does."""
    number = reading.numbers(connection, (counter,))[counter.name]
    connection.execute("BEGIN")
    try:
        reading.raise_counters(connection, (counter,), {counter.name: High((number or 0) + STEP)})
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _not_there(connection: Connection, counter: Counter) -> str:
    """Return why a counter cannot be read in the newest schema."""
    try:
        connection.execute(counter.reads)
    except sqlite3.Error as error:
        return f"it cannot be read in the newest schema: {error}"
    return (
        f"{counter.table}.{counter.column} is no AUTOINCREMENT key, so it cannot be raised by itself: name the row that"
        " holds the number (where), or the statement that raises it (update)"
    )
