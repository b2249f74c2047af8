"""The place of every row and cell after a way down and up again, by plain SQL: nothing of dbsync's decides it."""

from __future__ import annotations

import marshal
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from tests.drills.content import columns, name, tables

KEPT = ("dbsync_kept_rows", "dbsync_kept_cells")
RECORDS = ("schema_migrations",)
"""The tables in which an app's files record that they were run, and when."""

Row = dict[str, bytes]
"""The cells of a row by column in lower case, each exact: 1 is not 1.0, nor a text the blob of the same bytes."""
Key = tuple[bytes, ...]


class Table(NamedTuple):
    """The rows of one table, found by primary key; without one by their content and how often it was there before."""

    columns: tuple[str, ...]
    keys: tuple[str, ...]
    rows: dict[Key, Row]


class Kept(NamedTuple):
    """A row that is kept beside the older schema."""

    id: int
    kind: str
    table: str
    state: str
    values: Row
    """The cells as people had them, where the migrations do not make them so."""
    keys: Row


class Names(NamedTuple):
    """The renames of the migrations, in lower case, from older to newer."""

    tables: Mapping[str, str]
    columns: Mapping[tuple[str, str], str]
    """By older table and column."""

    def newer(self, table: str, column: str) -> str:
        """A column's newer name."""
        return self.columns.get((table, column), column)


class Where(NamedTuple):
    """The places of the cells that people wrote, after going back."""

    untouched: int
    live: int
    kept: int
    made_again: int
    """The migrations make the very same value from the older row."""
    lost: list[str]


def read(database: Path) -> dict[str, Table]:
    """Read all rows of the app's tables, by name in lower case."""
    with closing(sqlite3.connect(database)) as connection:
        connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")
        found = [table for table in tables(connection) if table not in (*KEPT, *RECORDS)]
        return {table.lower(): _table(connection, table) for table in found}


def _table(connection: sqlite3.Connection, table: str) -> Table:
    facts = [column for column in columns(connection, table) if column[6] == 0]
    named = tuple(str(column[1]).lower() for column in facts)
    keys = tuple(str(column[1]).lower() for column in sorted(facts, key=lambda one: one[5]) if column[5])
    rows: dict[Key, Row] = {}
    times: Counter[Key] = Counter()
    listed = ", ".join(name(str(column[1])) for column in facts)
    for cells in connection.execute(f"SELECT {listed} FROM {name(table)}"):
        row = {column: _exact(cell) for column, cell in zip(named, cells, strict=True)}
        key = tuple(row[column] for column in keys or named)
        times[key] += 1
        rows[key if times[key] == 1 else (*key, str(times[key]).encode())] = row
    return Table(named, keys, rows)


def kept_in(database: Path) -> list[Kept]:
    """Read what is kept in a database."""
    with closing(sqlite3.connect(database)) as connection:
        connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", KEPT[:1]).fetchone():
            return []
        found = []
        for number, kind, table, state in connection.execute(
            "SELECT id, kind, table_name, state FROM dbsync_kept_rows ORDER BY id"
        ).fetchall():
            cells = connection.execute(
                "SELECT column_name, is_key, sides, predicted, value FROM dbsync_kept_cells WHERE row_id = ?", (number,)
            ).fetchall()
            # A table without a primary key has none: the row is known by all that the migrations make of it.
            whole = kind != "added" and not any(one[1] for one in cells)
            values = {
                str(one[0]).lower(): _exact(one[4])
                for one in cells
                if one[2] != "predicted" and (whole or one[2] == "value" or _exact(one[3]) != _exact(one[4]))
            }
            keys = {
                str(one[0]).lower(): _exact(one[3] if whole or one[2] == "predicted" else one[4])
                for one in cells
                if one[1] or whole
            }
            found.append(Kept(int(number), str(kind), str(table).lower(), str(state), values, keys))
        return found


def _exact(cell: Any) -> bytes:
    # Version 2 writes equal values equally.
    return marshal.dumps(cell, 2)


def by_the_apps_own_texts(steps: tuple[tuple[str, str], ...], database: Path, target: Path) -> dict[str, Table]:
    """Bring a copy to the newest schema as the app does, by its own files alone, and return what it holds then."""
    shutil.copyfile(database, target)
    with closing(sqlite3.connect(target, isolation_level=None)) as connection:
        for table in KEPT:
            connection.execute(f"DROP TABLE IF EXISTS {table}")
        for _, text in steps:
            connection.executescript(text)
    return read(target)


def differing(one: Mapping[str, Table], other: Mapping[str, Table]) -> list[str]:
    """The differences between two databases of one schema, in words."""
    found = [f"table {table} on one side only" for table in sorted(one.keys() ^ other.keys())]
    for table in sorted(one.keys() & other.keys()):
        first, second = one[table].rows, other[table].rows
        rows = [key for key in first.keys() | second.keys() if first.get(key) != second.get(key)]
        if rows:
            found.append(f"{table}: {len(rows)} rows, for example {_told(first, second, rows[0])}")
    return found


def where_it_is(
    *, old: Mapping[str, Table], base: Mapping[str, Table], traded: Mapping[str, Table], down: Mapping[str, Table],
    again: Mapping[str, Table], kept: list[Kept], names: Names,
) -> Where:  # fmt: skip
    """Look for every row that nobody touched, and for every cell that people wrote.

    Args:
        old: the older database before the first migration.
        base: the newer one before trade.
        traded: the newer one after trade.
        down: the older one that it came back to.
        again: what the app's own texts make of that.
        kept: what is kept beside it.
        names: what the migrations renamed.
    """
    lost: list[str] = []
    untouched = sum(_untouched(table, old[table], base, traded, down, names, lost) for table in old)
    places: Counter[str] = Counter()
    parked = {(one.table, column, value) for one in kept for column, value in one.values.items()}
    # Without a primary key, what is changed is another row.
    without = {table for table, now in traded.items() if not now.keys}
    gone = {
        (one.table, frozenset(one.keys.items()))
        for one in kept
        if one.kind == "removed" or (one.kind == "changed" and one.table in without)
    }
    older = {after: before for before, after in names.tables.items()}
    for table, now in traded.items():
        before = base[table]
        place = _Older(table, older.get(table, table), now, down, names)
        for key, row in now.rows.items():
            written = {column for column in row if before.rows.get(key, {}).get(column) != row[column]}
            there = place.row_of(row) if written else None
            for column in written:
                state = _state(table, column, row, there, place, again[table].rows.get(key), parked)
                places[state] += 1
                if state == "lost":
                    lost.append(f"{table}.{column} of {_shown(key)}: {_shown((row[column],))}")
        for key in before.rows.keys() - now.rows.keys():
            keyed = {column: before.rows[key][column] for column in before.keys or before.columns}
            if key in again[table].rows and (table, frozenset(keyed.items())) not in gone:
                lost.append(f"{table}: {_shown(key)} was removed, and is there again")
    return Where(untouched, places["live"], places["kept"], places["made again"], lost)


class _Older:
    """The older table that a newer one came from."""

    def __init__(self, table: str, before: str, now: Table, down: Mapping[str, Table], names: Names) -> None:
        self.there = down.get(before)
        self._columns = {names.newer(before, column): column for column in self.there.columns} if self.there else {}
        keys = now.keys or tuple(column for column in now.columns if column in self._columns)
        self._keys = keys if keys and all(column in self._columns for column in keys) else ()
        rows = self.there.rows.values() if self.there and self._keys else ()
        self._found = {tuple(row[self._columns[column]] for column in self._keys): row for row in rows}

    def row_of(self, row: Row) -> Row | None:
        """The older row of a newer one."""
        return self._found.get(tuple(row[column] for column in self._keys)) if self._keys else None

    def cell(self, there: Row | None, column: str) -> bytes | None:
        """The older cell of a newer column."""
        return there.get(self._columns.get(column, "")) if there is not None else None


def _state(
    table: str, column: str, row: Row, there: Row | None, place: _Older, again: Row | None,
    parked: set[tuple[str, str, bytes]],
) -> str:  # fmt: skip
    if place.cell(there, column) == row[column]:
        return "live"
    if (table, column, row[column]) in parked:
        return "kept"
    return "made again" if again is not None and again[column] == row[column] else "lost"


def _untouched(
    table: str, was: Table, base: Mapping[str, Table], traded: Mapping[str, Table], down: Mapping[str, Table],
    names: Names, lost: list[str],
) -> int:  # fmt: skip
    """How many rows of an older table nobody touched; those that came back otherwise are added to `lost`."""
    after = names.tables.get(table, table)
    if after not in traded:
        # The migrations drop it: nobody could touch it.
        same = was.rows == down[table].rows
        lost += [] if same else [f"table {table}, which the migrations drop, came back otherwise"]
        return len(was.rows)
    before, now = base[after], traded[after]
    count = 0
    for key, row in was.rows.items():
        named = {names.newer(table, column): cell for column, cell in row.items()}
        if not was.keys or not all(column in named for column in before.keys) or not before.keys:
            continue
        newer = tuple(named[column] for column in before.keys)
        if newer not in before.rows or before.rows[newer] != now.rows.get(newer):
            continue
        count += 1
        if down[table].rows.get(key) != row:
            lost.append(f"{table}: {_shown(key)} was not touched, and came back otherwise")
    return count


class Again(NamedTuple):
    """The state of every kept row, after trade in the older schema and the way up."""

    put_back: int
    conflicts: int
    lost: list[str]


def put_back(*, waiting: list[Kept], still: list[Kept], plain: Mapping[str, Table], up: Mapping[str, Table]) -> Again:
    """Each kept row is live or a conflict by name; and what is not as the app's own texts make it was kept.

    Args:
        waiting: what was kept before the way up.
        still: what is kept after it.
        plain: what the app's own texts make of the older database.
        up: the newer database.
    """
    lost: list[str] = []
    conflicts = {one.id for one in still if one.state == "conflict"}
    lost += [f"{one.table}: row {one.id} still waits" for one in still if one.state != "conflict"]
    explained: dict[str, list[Kept]] = {}
    for one in waiting:
        explained.setdefault(one.table, []).append(one)
        if one.id in conflicts or one.kind == "object":
            continue
        if not _is_live(one, up[one.table]):
            lost.append(f"{one.kind} {one.table} {_shown(tuple(one.keys.values()))} is neither live nor a conflict")
    for table in up.keys() | plain.keys():
        lost += _unexplained(table, plain[table], up[table], explained.get(table, []))
    done = sum(one.id not in conflicts for one in waiting)
    return Again(done, len(conflicts), lost)


def _is_live(one: Kept, there: Table) -> bool:
    wanted = one.keys if one.kind == "removed" else one.values
    near = there.rows.get(tuple(one.keys.get(column, b"") for column in there.keys)) if there.keys else None
    candidates = [near] if near is not None else there.rows.values() if not there.keys else []
    found = any(all(row.get(column) == value for column, value in wanted.items()) for row in candidates)
    return found is not (one.kind == "removed")


def _unexplained(table: str, plain: Table, up: Table, kept: list[Kept]) -> Iterator[str]:
    known = {(column, value) for one in kept for column, value in one.values.items()}
    removed = {tuple(one.keys.get(column, b"") for column in up.keys or up.columns) for one in kept}
    for key in plain.rows.keys() | up.rows.keys():
        first, second = plain.rows.get(key), up.rows.get(key)
        if first == second:
            continue
        if second is None:
            if key not in removed:
                yield f"{table}: {_shown(key)} of the older schema is not there after the way up"
            continue
        for column, value in second.items():
            if (first is None or first[column] != value) and (column, value) not in known:
                yield f"{table}.{column} of {_shown(key)} is {_shown((value,))}, which nobody wrote"


def _shown(key: tuple[bytes, ...]) -> str:
    return ", ".join(repr(marshal.loads(part))[:60] if part[:1] not in b"0123456789" else part.decode() for part in key)


def _told(first: Mapping[Key, Row], second: Mapping[Key, Row], key: Key) -> str:
    one, other = first.get(key), second.get(key)
    if one is None or other is None:
        return f"{_shown(key)} on the {'second' if one is None else 'first'} side only"
    cells: dict[str, Any] = {
        column: (marshal.loads(one[column]), marshal.loads(other[column]))
        for column in one if one[column] != other[column]
    }  # fmt: skip
    return f"{_shown(key)}: {cells}"
