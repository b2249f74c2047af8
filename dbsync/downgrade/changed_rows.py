"""The rows of one table in which two attached databases differ, collected in a table without types.

Both sides of a row stand in one line: `b0, b1 …` before and `n0, n1 …` now. SQLite copies the cells, so they stay
exact, whatever they hold; there may be as many as the table has rows.
"""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from dbsync.complement.exact_values import Value, same
from dbsync.storage.connections import Connection, kind_of
from dbsync.storage.introspection import columns_of, key_of, quoted, rowid_of
from dbsync.verification.keyed_matching import Twins, null_keys, own_value

ADDED, CHANGED, REMOVED = "added", "changed", "removed"


class Sides(NamedTuple):
    """The names under which two databases are attached, and the table in which the rows are collected."""

    now: str
    base: str
    stage: str


class Collected(NamedTuple):
    """The rows of one table that differ."""

    table: str
    columns: tuple[str, ...]
    """Of both sides; those that only one side has last."""
    key: tuple[str, ...]
    """The primary key that both sides have; empty: rows belong together by rowid, or by content."""
    rows_count: int
    only_now: frozenset[str]
    only_base: frozenset[str]


class _Shape(NamedTuple):
    both: tuple[str, ...]
    only_now: tuple[str, ...]
    only_base: tuple[str, ...]
    key: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.both, *self.only_now, *self.only_base)


def collect(connection: Connection, table: str, sides: Sides, *, by_content: bool = False) -> Collected:
    """Collect the rows of a table of both sides; the stage must not exist.

    Args:
        connection: where both are attached.
        table: its name on both sides.
        sides: the two sides.
        by_content: whether rows without a key belong together by content instead of by rowid.

    Raises:
        sqlite3.Error: the table cannot be evaluated, or the machine failed.
    """
    shape = _shape(connection, table, sides)
    _make_stage(connection, sides.stage, shape)
    if by_content and not shape.key:
        _by_content(connection, table, sides, shape)
    else:
        try:
            _by_twins(connection, table, sides, shape)
        except sqlite3.OperationalError as error:
            if kind_of(error) is not None or not shape.key:
                raise
            # A key with a collation of the app's own: rowids need none.
            connection.execute(f"DELETE FROM {sides.stage}")
            shape = shape._replace(key=())
            _by_twins(connection, table, sides, shape)
    count = connection.execute(f"SELECT count(*) FROM {sides.stage}").fetchone()[0]
    return Collected(table, shape.columns, shape.key, int(count), frozenset(shape.only_now), frozenset(shape.only_base))


def collect_one_sided(connection: Connection, table: str, sides: Sides) -> Collected:
    """Collect all rows of a table that only the side `now` has."""
    columns = tuple(column.name for column in columns_of(connection, table, sides.now) if column.is_written)
    shape = _Shape((), columns, (), tuple(key_of(connection, table, sides.now)))
    _make_stage(connection, sides.stage, shape)
    rowid = rowid_of(connection, table, sides.now) or "NULL"
    cells = "".join(f", {quoted(column)}" for column in columns)
    names = "".join(f", n{number}" for number in range(len(columns)))
    connection.execute(
        f"INSERT INTO {sides.stage} (kind, n_place{names}) SELECT '{ADDED}', {rowid}{cells}"
        f" FROM {sides.now}.{quoted(table)}"
    )
    count = connection.execute(f"SELECT count(*) FROM {sides.stage}").fetchone()[0]
    return Collected(table, columns, shape.key, int(count), frozenset(columns), frozenset())


def _shape(connection: Connection, table: str, sides: Sides) -> _Shape:
    now, base = (
        [column.name for column in columns_of(connection, table, side) if column.is_written]
        for side in (sides.now, sides.base)
    )
    before, after = {name.lower() for name in base}, {name.lower() for name in now}
    both = tuple(name for name in now if name.lower() in before)
    key = tuple(key_of(connection, table, sides.now))
    same = [name.lower() for name in key] == [name.lower() for name in key_of(connection, table, sides.base)]
    usable = bool(key) and same and {name.lower() for name in key} <= {name.lower() for name in both}
    if usable and any(null_keys(connection, table, key, side) for side in (sides.now, sides.base)):
        usable = False
    only_now = tuple(name for name in now if name.lower() not in before)
    only_base = tuple(name for name in base if name.lower() not in after)
    return _Shape(both, only_now, only_base, key if usable else ())


def _make_stage(connection: Connection, stage: str, shape: _Shape) -> None:
    cells = "".join(f", b{number}, n{number}" for number in range(len(shape.columns)))
    connection.execute(f"CREATE TABLE {stage} (seq INTEGER PRIMARY KEY, kind, b_place, n_place{cells})")


def _by_twins(connection: Connection, table: str, sides: Sides, shape: _Shape) -> None:
    twins = Twins(
        connection, table, shape.both, shape.key, now=sides.now, base=sides.base, now_only=shape.only_now
    )  # fmt: skip
    either = f"CASE WHEN {twins.is_removed} THEN '{REMOVED}' ELSE '{CHANGED}' END"
    _insert(connection, table, sides, shape, either, "bn", twins.removed_or_changed)
    (removed,) = connection.execute(f"SELECT count(*) FROM {sides.stage} WHERE kind = '{REMOVED}'").fetchone()
    _insert(connection, table, sides, shape, f"'{ADDED}'", "n", twins.added_beside(int(removed)))


def _insert(
    connection: Connection, table: str, sides: Sides, shape: _Shape, kind: str, letters: str, source: str
) -> None:
    """Collect the rows of a query; `letters` are the sides that it has. Of a removed row, the cells now are NULL."""
    names, cells = ["kind"], [kind]
    for side in letters:
        schema, lacking = (sides.base, shape.only_now) if side == "b" else (sides.now, shape.only_base)
        names.append(f"{side}_place")
        rowid = rowid_of(connection, table, schema)
        cells.append(f"{side}.{rowid}" if rowid is not None else "NULL")
        for number, column in enumerate(shape.columns):
            if column not in lacking:
                names.append(f"{side}{number}")
                cells.append(f"{side}.{quoted(column)}")
    connection.execute(f"INSERT INTO {sides.stage} ({', '.join(names)}) SELECT {', '.join(cells)} {source}")


def _by_content(connection: Connection, table: str, sides: Sides, shape: _Shape) -> None:
    """Collect the rows that only one side has, equal ones as often as they are too many; then pair them.

    Two rows belong together if they have one rowid, or are equal in half of their cells. The rowid before stays only
    where it alone tells a row from others that are equal to it.
    """
    if any(rowid_of(connection, table, side) is None for side in (sides.now, sides.base)):
        return
    own = own_value(connection, table, shape.only_now, schema=sides.now, row="r")
    if own:
        _insert_equal(connection, table, sides, shape, own)
    for kind, letter, mine, other in ((ADDED, "n", sides.now, sides.base), (REMOVED, "b", sides.base, sides.now)):
        names, cells = _cells(shape, shape.only_now if letter == "n" else shape.only_base, letter, "r")
        rowid = rowid_of(connection, table, mine)
        many, few = (_numbered(connection, table, shape, pair) for pair in ((mine, other), (other, mine)))
        connection.execute(
            f"INSERT INTO {sides.stage} (kind, {letter}_place{names}) SELECT '{kind}', r.{rowid}{cells}"
            f" FROM {mine}.{quoted(table)} r WHERE r.{rowid} IN (SELECT place FROM ({many}) JOIN"
            f" (SELECT {_grouped(shape)} FROM ({many}) EXCEPT SELECT {_grouped(shape)} FROM ({few}))"
            f" USING ({_grouped(shape)}))"
        )
    _pair(connection, sides.stage, shape)
    parts = ", ".join(_parts(shape)) or "1"
    base = _numbered(connection, table, shape, (sides.base, sides.now))
    counted = f"SELECT place, count(*) OVER (PARTITION BY {parts}) AS rows_count FROM ({base})"
    # A row that is like no other is found by its content later, at whatever rowid it may be then.
    connection.execute(
        f"UPDATE {sides.stage} SET b_place = NULL"
        f" WHERE b_place NOT IN (SELECT place FROM ({counted}) WHERE rows_count > 1)"
    )


def _insert_equal(connection: Connection, table: str, sides: Sides, shape: _Shape, own: str) -> None:
    """Collect the rows that are equal on both sides, but for columns that only one side has."""
    (after, after_cells), (before, before_cells) = (
        _cells(shape, shape.only_now, "n", "r"), _cells(shape, shape.only_base, "b", "o")
    )  # fmt: skip
    mine, theirs = (rowid_of(connection, table, side) for side in (sides.now, sides.base))
    now = _numbered(connection, table, shape, (sides.now, sides.base))
    base = _numbered(connection, table, shape, (sides.base, sides.now))
    connection.execute(
        f"INSERT INTO {sides.stage} (kind, n_place, b_place{after}{before})"
        f" SELECT '{CHANGED}', r.{mine}, o.{theirs}{after_cells}{before_cells}"
        f" FROM (SELECT n.place AS n_place, b.place AS b_place FROM ({now}) n JOIN ({base}) b"
        f" USING ({_grouped(shape)})) JOIN {sides.now}.{quoted(table)} r ON r.{mine} = n_place"
        f" JOIN {sides.base}.{quoted(table)} o ON o.{theirs} = b_place WHERE {own}"
    )


def _cells(shape: _Shape, only: tuple[str, ...], letter: str, row: str) -> tuple[str, str]:
    """Return the stage's columns of one side and the cells for them, each after a comma."""
    own = [number for number, column in enumerate(shape.columns) if column in shape.both or column in only]
    names = "".join(f", {letter}{number}" for number in own)
    return names, "".join(f", {row}.{quoted(shape.columns[number])}" for number in own)


def _parts(shape: _Shape) -> list[str]:
    return [f"c{number}, t{number}" for number in range(len(shape.both))]


def _grouped(shape: _Shape) -> str:
    return ", ".join([*_parts(shape), "nth"])


def _numbered(connection: Connection, table: str, shape: _Shape, sides: tuple[str, str]) -> str:
    """Return the query of the first side's rows, equal ones with numbers: first those that are at their rowid in both.

    Thus the row that is too many, or is missing, is the one whose rowid the other side does not have.
    """
    mine, theirs = (rowid_of(connection, table, side) for side in sides)
    cells = "".join(
        f"coalesce(+{quoted(column)}, 0) COLLATE BINARY AS c{number}, typeof({quoted(column)}) AS t{number}, "
        for number, column in enumerate(shape.both)
    )
    equal = "".join(
        f" AND typeof(o.{name}) = typeof(r.{name}) AND +o.{name} COLLATE BINARY IS +r.{name}"
        for name in map(quoted, shape.both)
    )
    stays = f"EXISTS (SELECT 1 FROM {sides[1]}.{quoted(table)} o WHERE o.{theirs} = r.{mine}{equal}) AS stays"
    parts = ", ".join(_parts(shape)) or "1"
    return (
        f"SELECT *, row_number() OVER (PARTITION BY {parts} ORDER BY stays DESC, place) AS nth"
        f" FROM (SELECT {cells}r.{mine} AS place, {stays} FROM {sides[0]}.{quoted(table)} r)"
    )


def _pair(connection: Connection, stage: str, shape: _Shape) -> None:
    """Make one line of a removed and an added row that are one changed row."""
    rows = {
        kind: connection.execute(
            f"SELECT seq, {letter}_place{''.join(f', {letter}{number}' for number in range(len(shape.columns)))}"
            f" FROM {stage} WHERE kind = '{kind}' ORDER BY seq"
        ).fetchall()
        for kind, letter in ((REMOVED, "b"), (ADDED, "n"))
    }
    by_place = {row[1]: row for row in rows[ADDED]}
    taken: set[int] = set()
    least = max(1, len(shape.both) // 2)
    for before in rows[REMOVED]:
        after = by_place.get(before[1])
        if after is None or after[0] in taken or _equal_count(before, after, shape) < least:
            candidates = (row for row in rows[ADDED] if row[0] not in taken) if len(rows[ADDED]) <= _FEW else ()
            after = max(candidates, key=lambda row: _equal_count(before, row, shape), default=None)
            if after is None or _equal_count(before, after, shape) < least:
                continue
        taken.add(after[0])
        sets = ", ".join(
            ["kind = 'changed'", f"n_place = (SELECT n_place FROM {stage} WHERE seq = {after[0]})"]
            + [f"n{number} = (SELECT n{number} FROM {stage} WHERE seq = {after[0]})"
               for number in range(len(shape.columns))]
        )  # fmt: skip
        connection.execute(f"UPDATE {stage} SET {sets} WHERE seq = {before[0]}")
        connection.execute(f"DELETE FROM {stage} WHERE seq = {after[0]}")


_FEW: Final = 200
"""Up to so many unmatched rows without a key are compared each with each."""


def _equal_count(before: tuple[Value, ...], after: tuple[Value, ...], shape: _Shape) -> int:
    pairs = zip(before[2 : 2 + len(shape.both)], after[2 : 2 + len(shape.both)], strict=True)
    return sum(same(cell, other) for cell, other in pairs)
