"""Values that only a newer schema can hold, and numbers that never run backwards: by plain SQL, and rules over them.

Nothing here asks the product: it reads its tables and its explanations as an auditor would.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

NEWER_COLUMNS: Final = (("products", "barcode"), ("discounts", "cents"))
"""Tables and columns that only the newer schema of the drill's shop has, each beside a key `id`."""
NEXT_RECEIPT: Final = "receipt"
"""The declared counter of the drill's shop."""
_MARK: Final = "sqlite_sequence:"
_DONE: Final = "done.txt"


class Value(NamedTuple):
    """One cell that an older schema cannot hold."""

    table: str
    column: str
    key: str
    value: str


Values = frozenset[Value]
Numbers = Mapping[str, int]
"""Of each counter by its name; AUTOINCREMENT marks have the name of their table."""


class Explained(NamedTuple):
    """One line of an explanation of skipped numbers."""

    name: str
    number: int
    """The number that the counter would have had; 0: none."""
    raised_to: int
    done: bool
    """Whether the explanation says that the database was replaced."""


def live(connection: sqlite3.Connection) -> Values:
    """Return the values that are where the app sees them."""
    found: set[Value] = set()
    for table, column in NEWER_COLUMNS:
        if column in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}:
            rows = connection.execute(f"SELECT id, {column} FROM {table} WHERE {column} IS NOT NULL")
            found |= {Value(table, column, str(key), str(value)) for key, value in rows}
    return frozenset(found)


def kept(connection: sqlite3.Connection) -> Values:
    """Return the values that wait in the complement, or that could not be put back from it."""
    if not _has(connection, "dbsync_kept_rows"):
        return frozenset()
    rows = connection.execute(
        "SELECT r.table_name, c.column_name, coalesce(k.value, k.predicted), c.value FROM dbsync_kept_rows r"
        " JOIN dbsync_kept_cells c ON c.row_id = r.id"
        " JOIN dbsync_kept_cells k ON k.row_id = r.id AND k.is_key = 1"
        " WHERE r.kind <> 'removed' AND c.is_key = 0 AND c.value IS NOT NULL"
    )
    found = {Value(table, column, str(key), str(value)) for table, column, key, value in rows}
    return frozenset(value for value in found if (value.table, value.column) in NEWER_COLUMNS)


def numbers(connection: sqlite3.Connection) -> dict[str, int]:
    """Return all counters of a database."""
    found: dict[str, int] = dict(connection.execute("SELECT name, seq FROM sqlite_sequence"))
    if _has(connection, "settings"):
        found[NEXT_RECEIPT] = int(
            connection.execute("SELECT value FROM settings WHERE key = 'next_receipt'").fetchone()[0]
        )
    return found


def _has(connection: sqlite3.Connection, table: str) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)).fetchone() is not None


def explanations(folder: Path) -> list[Explained]:
    """Return every line of the finished explanations in a folder; one that cannot be read is no explanation."""
    found = []
    for path in sorted(folder.rglob("counters-*/gaps.json")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        try:
            gaps = json.loads(path.read_bytes())["gaps"]
        except (OSError, ValueError, KeyError):
            continue
        done = (path.parent / _DONE).exists()
        found += [
            Explained(gap["counter"].removeprefix(_MARK), gap["number"] or 0, gap["raised_to"], done) for gap in gaps
        ]
    return found


# ---------------------------------------------------------------------------------------------------- the rules


def lower(seen: Numbers, now: Numbers) -> list[str]:
    """Return the counters that are lower than they were seen, in words."""
    return [
        f"{name} is {now.get(name, 0)}, and was seen at {number}"
        for name, number in seen.items()
        if now.get(name, 0) < number
    ]


def unexplained(source: Numbers, seen: Numbers, told: Iterable[Explained], *, ended: bool) -> list[str]:
    """Return the counters that were raised above those of a source without an explanation, in words.

    Args:
        source: of the backup or file that took the place of the database.
        seen: how high each counter had to be.
        told: the explanations.
        ended: whether the explanation must say that it was done.
    """
    known = {(line.name, line.number, line.raised_to) for line in told if line.done or not ended}
    ending = " with an end" if ended else ""
    return [
        f"{name} was raised from {source.get(name, 0)} to {number}, and no explanation{ending} says so"
        for name, number in seen.items()
        if number > source.get(name, 0) and (name, source.get(name, 0), number) not in known
    ]


def misplaced(before: tuple[Values, Values], now: tuple[Values, Values], *, refused: Values, can_hold: bool) -> str:
    """Return in words which values are not where they belong in a database that has reached its goal; or nothing.

    Args:
        before: the values that were live and kept.
        now: those that are.
        refused: the values whose row is not there any more: they stay kept, with a reason.
        can_hold: whether the schema can hold them.
    """
    everything = before[0] | before[1]
    wanted = (everything - refused, everything & refused) if can_hold else (frozenset[Value](), everything)
    return "; ".join(
        f"{len(have ^ want)} values are wrongly {where} or not, such as {min(have ^ want)}"
        for have, want, where in ((now[0], wanted[0], "live"), (now[1], wanted[1], "kept"))
        if have != want
    )
