"""Reader of a damaged table: upwards, downwards, and by bisection around the parts that cannot be read."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from dbsync.storage.connections import Connection, Row
from dbsync.storage.introspection import key_of, quoted

LEAST, MOST = -(1 << 63), (1 << 63) - 1
"""The lowest and the highest rowid."""
PROBES_COUNT: Final = 1000
"""How often parts of a table are bisected; the rest is then smaller than a thousandth of it, and reported."""
_WIDE: Final = 1 << 20

Range = tuple[int, int]


class Shelf(NamedTuple):
    """A table, and its columns that are read or written."""

    name: str
    columns: tuple[str, ...]
    """The stored columns that can be written again."""
    rowid: str | None
    """A name for its rowid; None without one."""


class Salvage:
    """A reader of one table, which passes on no row twice.

    Args:
        connection: to a copy of the damaged database.
        table: the table to read.
        take: receives each row: the rowid (None without one), and the values in the order of the columns.
    """

    def __init__(self, connection: Connection, table: Shelf, take: Callable[[int | None, Row], None]) -> None:
        self._connection: Final = connection
        self._table: Final = table
        self._take: Final = take
        self._unread: list[Range] = []
        self._probes = PROBES_COUNT
        self.read_count = 0
        self.cause = ""
        """SQLite's message for the first failed read; empty if there was none."""

    def by_rowid(self, separators: Callable[[], Iterable[int]]) -> list[Range]:
        """Read a table with rowids.

        Args:
            separators: returns rowids at which pages end; called only where something cannot be read.

        Returns:
            The ranges of rowids, ends included, that could not be read; it is not known whether they had rows.
        """
        rest = self._both_ways(LEAST, MOST)
        if rest is None:
            return []
        first, last = rest
        ends = [rowid for rowid in separators() if first <= rowid < last]
        for begin, end in zip([first, *(rowid + 1 for rowid in ends)], [*ends, last], strict=True):
            rest = self._both_ways(begin, end)
            if rest is not None:
                self._bisect(*rest)
        return joined(self._unread)

    def whole(self) -> bool:
        """Read a table without rowids forwards, after a failed read also backwards; return whether all was read."""
        key = [quoted(column) for column in key_of(self._connection, self._table.name)]
        if self._scan(", ".join(key)):
            return True
        self._scan(", ".join(f"{column} DESC" for column in key))
        return False

    def _scan(self, order: str) -> bool:
        names = ", ".join(quoted(column) for column in self._table.columns)
        try:
            for row in self._connection.execute(f"SELECT {names} FROM {quoted(self._table.name)} ORDER BY {order}"):
                self._give(None, row)
        except (sqlite3.Error, MemoryError) as error:
            self._failed(error)
            return False
        return True

    def _both_ways(self, first: int, last: int) -> Range | None:
        """Read a range from its two ends, and return the unread range between them; None where nothing is left."""
        begin = self._run(first, last, up=True)
        if begin > last:
            return None
        end = self._run(begin, last, up=False)
        return None if end < begin else (begin, end)

    def _run(self, first: int, last: int, *, up: bool) -> int:
        """Read until that fails, and return the rowid where it stopped; beyond the other end if all was read."""
        table, names = self._table, ", ".join(quoted(column) for column in self._table.columns)
        selected = f"{table.rowid}, {names}" if names else str(table.rowid)
        at = first if up else last
        try:
            for row in self._connection.execute(
                # NOT INDEXED: a damaged index must neither hide rows nor stop the reading.
                f"SELECT {selected} FROM {quoted(table.name)} NOT INDEXED WHERE {table.rowid} BETWEEN ? AND ?"
                f" ORDER BY {table.rowid} {'ASC' if up else 'DESC'}",
                (first, last),
            ):
                rowid = int(row[0])
                if not (at <= rowid <= last if up else first <= rowid <= at):
                    # Out of order: this page belongs elsewhere.
                    self.cause = self.cause or "rows out of their order"
                    return at
                self._give(rowid, row[1:])
                at = rowid + 1 if up else rowid - 1
        except (sqlite3.Error, MemoryError) as error:
            self._failed(error)
            return at
        return last + 1 if up else first - 1

    def _bisect(self, first: int, last: int) -> None:
        waiting = deque([(first, last)])
        while waiting:
            first, last = waiting.popleft()
            if first == last or self._probes <= 0:
                self._unread.append((first, last))
                continue
            self._probes -= 1
            span = last - first
            # In a wide range few rowids are used, mostly near its beginning: halve the number of digits, not the span.
            middle = first + (1 << span.bit_length() // 2 if span > _WIDE else span // 2)
            for part in ((first, middle), (middle + 1, last)):
                rest = self._both_ways(*part)
                if rest is not None:
                    waiting.append(rest)

    def _give(self, rowid: int | None, row: Row) -> None:
        self._take(rowid, row)
        self.read_count += 1

    def _failed(self, error: BaseException) -> None:
        self.cause = self.cause or str(error) or type(error).__name__


def joined(ranges: Iterable[Range]) -> list[Range]:
    """Return ranges in order, with adjacent and overlapping ones joined."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and found[-1][1] + 1 >= first:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def without(ranges: Iterable[Range], span: Range) -> list[Range]:
    """Return ranges without their parts inside a span."""
    found = []
    for first, last in ranges:
        parts = (first, min(last, span[0] - 1)), (max(first, span[1] + 1), last)
        found += [part for part in parts if part[0] <= part[1]]
    return found


def common(ranges: Iterable[Range], others: Iterable[Range]) -> list[Range]:
    """Return the ranges that both have in common."""
    others = list(others)
    parts = ((max(a, c), min(b, d)) for a, b in ranges for c, d in others)
    return joined(part for part in parts if part[0] <= part[1])
