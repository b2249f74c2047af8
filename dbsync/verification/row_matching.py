"""Matching of a table's rows before and after: by rowid, by primary key, or by content."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import repeat
from typing import Final, NamedTuple

from dbsync.schema.declarations import Cell
from dbsync.storage.connections import Connection, Row
from dbsync.storage.introspection import columns_of, key_of, quoted, rowid_of

KEYS_SHOWN: Final = 3
_TEXT: Final = ("char", "clob", "text")
_REAL: Final = ("real", "floa", "doub")
_SIGN: Final = "dbsync_sign_of_zero"


class Keyed(NamedTuple):
    """A table on both sides, and the key that identifies its rows."""

    old: str
    new: str
    key: tuple[tuple[str, str], ...]
    """Pairs of primary key columns, before and after; empty without a key."""
    virtual: bool


def keyed_by(
    connection: Connection, old: str, new: str, schema: str, renamed: Mapping[tuple[str, str], str]
) -> tuple[tuple[str, str], ...]:
    """Return the primary key, if it is the same on both sides; else an empty one."""
    before, now = key_of(connection, old, schema), key_of(connection, new)
    after = [renamed.get((old.lower(), name.lower()), name) for name in before]
    return tuple(zip(before, now, strict=True)) if [x.lower() for x in after] == [x.lower() for x in now] else ()


class Pair(NamedTuple):
    """A column on both sides, and how it may differ."""

    old: str
    new: str
    cell: Cell | None = None
    loose: bool = False
    """Whether its storage class may differ."""


class Rows:
    """The rows of one table, before and after. Results are cached."""

    def __init__(
        self,
        connection: Connection,
        schema: str,
        table: Keyed,
        pairs: tuple[Pair, ...],
        gone: tuple[str, ...],
        old_count: int | None = None,
    ) -> None:
        self.gone: Final = gone
        self.special: Final = any(pair.cell is not None for pair in pairs)
        self._connection: Final = connection
        self._old: Final = f"{schema}.{quoted(table.old)}"
        self._new: Final = f"main.{quoted(table.new)}"
        self._table: Final = table
        self._pairs: Final = pairs
        self._old_count: Final = old_count
        kinds = {}
        for side, name, where in (("o", table.old, schema), ("n", table.new, "main")):
            for column in columns_of(connection, name, where):
                kinds[side, column.name.lower()] = affinity(column.type)
        self._kinds: Final = kinds
        self._rowids: Final = self._both_rowids(schema)
        make_comparable(connection)

    # ------------------------------------------------------------------------------------------------------- answers

    @property
    def same_columns(self) -> frozenset[str]:
        """The columns, in lower case, of which every cell is the same in the same row; empty if that is not proven."""
        if not self.proven or self._table.virtual or self._table.old.lower() != self._table.new.lower():
            return frozenset()
        return frozenset(
            pair.old.lower()
            for pair in self._pairs
            if pair.cell is None and not pair.loose and pair.old.lower() == pair.new.lower()
        )

    def differing(self) -> Iterator[tuple[str, int, list[str]]]:
        """Yield the columns in which matched rows differ: name, number of rows, a few keys."""
        if self.proven or not self._on or not self._pairs:
            return
        sums = ", ".join(f"coalesce(sum(NOT {self._equal(pair)}), 0)" for pair in self._pairs)
        counts = self._one(f"SELECT {sums} FROM {self._new} n JOIN {self._old} o ON {self._on}")
        for pair, count in zip(self._pairs, counts, strict=True):
            if count:
                different = f"{self._new} n JOIN {self._old} o ON {self._on} WHERE NOT {self._equal(pair)}"
                yield pair.old, int(str(count)), self._keys(different, "o")

    def only_retyped(self, column: str) -> bool:
        """Return whether a column's values are the same and only their storage class differs."""
        pair = next(pair for pair in self._pairs if pair.old == column)
        loose = self._equal(Pair(pair.old, pair.new, loose=True))
        found = self._one(f"SELECT 1 FROM {self._new} n JOIN {self._old} o ON {self._on} WHERE NOT {loose} LIMIT 1")
        return not found

    def missing(self, where: str | None, *, declared: bool) -> tuple[int, list[str]]:
        """Return how many old rows have no new row, and a few keys; declared deletions do not count."""
        if self.proven or (declared and where is None):
            return 0, []
        if not self._on:
            return self._surplus(self._old, self._new, "o"), []
        unmatched = f"{self._old} o WHERE NOT EXISTS (SELECT 1 FROM {self._new} n WHERE {self._on})"
        return self._counted(unmatched, where, "o")

    def added(self, where: str | None, *, declared: bool) -> tuple[int, list[str]]:
        """Return how many new rows have no old row, and a few keys; declared insertions do not count."""
        if self.proven or (declared and where is None):
            return 0, []
        if not self._on:
            return self._surplus(self._new, self._old, "n"), []
        unmatched = f"{self._new} n WHERE NOT EXISTS (SELECT 1 FROM {self._old} o WHERE {self._on})"
        return self._counted(unmatched, where, "n")

    def counted_by_content(self) -> tuple[int, int]:
        """Return how many rows are new and how many are gone, whatever their keys."""
        return self._surplus(self._new, self._old, "n"), self._surplus(self._old, self._new, "o")

    def new_by_content(self) -> Iterator[Row]:
        """Yield the cells of the rows that are new, whatever their keys; each as often as it occurs."""
        cells = ", ".join(f"c{number}" for number in range(len(self._pairs)))
        for *row, left in self._connection.execute(
            f"SELECT {cells}, left FROM ({self._left_over(self._new, self._old, 'n')})"
        ):
            yield from repeat(tuple(row), left)

    # ------------------------------------------------------------------------------------------------------- matching

    @cached_property
    def proven(self) -> bool:
        """Whether the counts are equal and no row has another rowid or a different cell: quick, and mostly enough."""
        old_count = self._old_count
        if old_count is None:
            old_count = int(str(self._one(f"SELECT count(*) FROM {self._old}")[0]))
        if self._one(f"SELECT count(*) FROM {self._new}")[0] != old_count:
            return False
        if not self._rowids:
            return old_count == 0
        equal = " AND ".join(self._equal(pair) for pair in self._pairs) or "1"
        old, new = self._rowids
        found = self._one(
            f"SELECT 1 FROM {self._old} o LEFT JOIN {self._new} n ON n.{new} = o.{old}"
            f" WHERE n.{new} IS NULL OR NOT ({equal}) LIMIT 1"
        )
        return not found

    @cached_property
    def _on(self) -> str:
        """The condition that matches rows, once they are known to differ; empty: they are matched by content."""
        if self.proven:
            return ""
        key = self._table.key
        if key and not self._null_keys():
            # n on the left: its collation and its index decide, as they would in the app.
            return " AND ".join(f"n.{quoted(new)} = o.{quoted(old)}" for old, new in key)
        if self._rowids and (self.special or self._same_rowids()):
            old, new = self._rowids
            if self._table.virtual or self.special or not self._equal_as_multisets():
                return f"n.{new} = o.{old}"
        return ""

    def _null_keys(self) -> bool:
        nulls = " OR ".join(f"{quoted(old)} IS NULL" for old, _ in self._table.key)
        return bool(self._one(f"SELECT 1 FROM {self._old} WHERE {nulls} LIMIT 1"))

    def _same_rowids(self) -> bool:
        assert self._rowids
        old, new = self._rowids
        return not self._one(
            f"SELECT 1 FROM {self._old} o LEFT JOIN {self._new} n ON n.{new} = o.{old} WHERE n.{new} IS NULL LIMIT 1"
        )

    def _equal_as_multisets(self) -> bool:
        return not self._surplus(self._old, self._new, "o") and not self._surplus(self._new, self._old, "n")

    def _surplus(self, one: str, other: str, side: str) -> int:
        """Return how many rows of one side have no equal on the other; equal rows are counted, not merged."""
        if not self._pairs:
            counts = [self._one(f"SELECT count(*) FROM {each}")[0] for each in (one, other)]
            return max(0, int(str(counts[0])) - int(str(counts[1])))
        return int(str(self._one(f"SELECT coalesce(sum(left), 0) FROM ({self._left_over(one, other, side)})")[0]))

    def _left_over(self, one: str, other: str, side: str) -> str:
        """Return the query for the rows without an equal: cells, storage classes, and how many there are of each."""
        mine, theirs = [pair.old for pair in self._pairs], [pair.new for pair in self._pairs]
        mine, theirs = (mine, theirs) if side == "o" else (theirs, mine)
        classes = [_class if self._is_strict(pair) else "typeof({})".format for pair in self._pairs]

        def grouped(source: str, columns: list[str]) -> str:
            cells = ", ".join(
                f"+{quoted(column)} COLLATE BINARY AS c{number}, {classes[number](quoted(column))} AS t{number}"
                for number, column in enumerate(columns)
            )
            return f"SELECT {names}, count(*) AS many FROM (SELECT {cells} FROM {source}) GROUP BY {names}"

        names = ", ".join(f"c{number}, t{number}" for number in range(len(self._pairs)))
        return (
            f"SELECT {names}, sum(many) AS left FROM ({grouped(one, mine)} UNION ALL"
            f" SELECT {names}, -many FROM ({grouped(other, theirs)})) GROUP BY {names} HAVING left > 0"
        )

    def _both_rowids(self, schema: str) -> tuple[str, str] | None:
        old = rowid_of(self._connection, self._table.old, schema)
        new = rowid_of(self._connection, self._table.new)
        return None if old is None or new is None else (old, new)

    # --------------------------------------------------------------------------------------------------------- cells

    def _equal(self, pair: Pair) -> str:
        old, new, cell, loose = pair
        o, n = f"o.{quoted(old)}", f"n.{quoted(new)}"
        equal = same_cell(o, n, strict=self._is_strict(pair))
        if loose:
            text = f"CAST({o} AS TEXT) = CAST({n} AS TEXT) COLLATE BINARY"
            number = f"typeof({o}) IN ('integer', 'real') AND typeof({n}) IN ('integer', 'real') AND +{o} = +{n}"
            retyped = f"typeof({o}) <> typeof({n}) AND coalesce({text} OR ({number}), 0)"
            equal = f"({same_cell(o, n, strict=True)} OR ({retyped}))"
        if cell is not None and cell.value is not None:
            return f"(+{n} IS +({cell.value}))"
        if cell is not None and cell.where is not None:
            return f"({equal} OR coalesce(({cell.where}), 0))"
        return equal

    def _is_strict(self, pair: Pair) -> bool:
        kinds = self._kinds.get(("o", pair.old.lower())), self._kinds.get(("n", pair.new.lower()))
        return self._table.virtual or kinds[0] != kinds[1] or kinds[0] == "blob"

    def _counted(self, unmatched: str, where: str | None, side: str) -> tuple[int, list[str]]:
        condition = f" AND NOT coalesce(({where}), 0)" if where is not None else ""
        count = int(str(self._one(f"SELECT count(*) FROM {unmatched}{condition}")[0]))
        return count, self._keys(f"{unmatched}{condition}", side) if count else []

    def _keys(self, source: str, side: str) -> list[str]:
        index = 0 if side == "o" else 1
        columns = [f"{side}.{quoted(pair[index])}" for pair in self._table.key]
        if not columns and self._rowids:
            columns = [f"{side}.{self._rowids[index]}"]
        if not columns:
            return []
        names = ", ".join(columns)
        rows = self._connection.execute(f"SELECT {names} FROM {source} ORDER BY {names} LIMIT {KEYS_SHOWN}").fetchall()
        return ["/".join(str(part)[:40] for part in row) for row in rows]

    def _one(self, sql: str) -> tuple[object, ...]:
        return self._connection.execute(sql).fetchone() or ()


def same_cell(one: str, other: str, *, strict: bool) -> str:
    """Return the SQL condition that two cells are equal in value and storage class.

    `+` removes the affinity and BINARY the collation: 1 and '1', 'a' and 'A', -0.0 and 0.0 are different here. Values
    in columns of one affinity can differ in class or sign alone (1 and 1.0) only if that affinity is none. Pass
    `strict` there, and for columns of two affinities; the connection must be made comparable first.
    """
    equal = f"+{one} IS +{other} COLLATE BINARY"
    return f"({equal} AND {_class(one)} = {_class(other)})" if strict else f"({equal})"


def _class(cell: str) -> str:
    """Return the SQL for a cell's storage class, with the sign of a zero that has none in a comparison.

    Only columns without an affinity keep -0.0: in all others SQLite stores a zero without a sign.
    """
    return f"CASE WHEN +{cell} = 0.0 AND typeof({cell}) = 'real' THEN {_SIGN}({cell}) ELSE typeof({cell}) END"


def make_comparable(connection: Connection) -> None:
    """Give a connection the function that `same_cell` uses; SQL itself cannot tell -0.0 from 0.0."""
    try:
        connection.execute(f"SELECT {_SIGN}(0.0)").fetchone()
    except sqlite3.OperationalError:
        connection.create_function(_SIGN, 1, _sign, deterministic=True)


def _sign(zero: float) -> str:
    return "-" if math.copysign(1, zero) < 0 else "+"


def affinity(kind: str) -> str:
    """Return the affinity of a declared type (sqlite.org/datatype3.html, 3.1)."""
    lower = kind.lower()
    if "int" in lower:
        return "integer"
    if any(part in lower for part in _TEXT):
        return "text"
    if "blob" in lower or not lower or lower == "any":
        return "blob"
    return "real" if any(part in lower for part in _REAL) else "numeric"
