"""What people do in a shop, made up from its schema: rows added, changed and removed, within all keys and constraints.

The same is done to the database of the newer schema and to a twin of the older one that was never migrated. What the
one becomes when it is taken back has to be what the other is.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from dbsync.rehearsal.made_up_values import longer
from tests.drills.content import columns, name, opened
from tests.drills.real_course import LENGTH, NOTE, Course, people_have

Values = dict[str, Any]


class Done(NamedTuple):
    """What people did."""

    added: int
    changed: int
    removed: int
    refused: int
    """What a constraint of one of the two schemas did not allow; done in neither."""

    @property
    def done_count(self) -> int:
        """All that was done."""
        return self.added + self.changed + self.removed


def work(twin: Path, live: Path, plan: Course, *, edits_count: int, seed: int = 7) -> Done:
    """Does the same to both, foreign keys on; one edit after the other, each in both or in neither."""
    chance = random.Random(seed)
    done = {"add": 0, "change": 0, "remove": 0, "refused": 0}
    with opened(twin) as old, opened(live) as new:
        old.execute("BEGIN")
        new.execute("BEGIN")
        filled = [
            one for one in people_have(old) if old.execute(f"SELECT 1 FROM {name(one)} LIMIT 1").fetchone() is not None
        ]
        tables = [_Table(old, one) for one in filled]
        for number in range(edits_count):
            table = tables[number % len(tables)]
            verb = chance.choice(["add", "change", "remove"] if number >= len(tables) else ["change"])
            done[_one(old, new, plan, table, verb, chance)] += 1
        if plan.measured:
            # The newer app keeps what it added in step; otherwise that would be a loss, and be told.
            table_name, text = plan.measured
            length = f"length({name(text)})"
            new.execute(f"UPDATE {name(table_name)} SET {LENGTH} = {length} WHERE {LENGTH} IS NOT {length}")
        old.execute("COMMIT")
        new.execute("COMMIT")
    return Done(done["add"], done["change"], done["remove"], done["refused"])


class Lossy(NamedTuple):
    """What the older schema cannot hold, as people wrote it: how many rows of which table."""

    notes_count: int
    odd_count: int


def write_what_is_lost(twin: Path, live: Path, plan: Course, *, count: int) -> Lossy:
    """Values in a column that the older schema does not have, and numbers between what it can count in."""
    with opened(twin) as old, opened(live) as new:
        table = _Table(old, plan.biggest)
        notes = table.some_rows(old, count)
        for key in notes:
            _change(new, plan, table, key, {}, more={NOTE: "what only the newer version can say"})
        odd: list[Values] = []
        if plan.scaled and isinstance(plan.scaled[2], int):
            scaled = _Table(old, plan.scaled[0])
            column, factor = plan.scaled[1], plan.scaled[2]
            odd = scaled.some_rows(old, count)
            for key in odd:
                _change(old, None, scaled, key, {column: 4})
                _change(new, plan, scaled, key, {}, more={column: 4 * factor + 3})
    return Lossy(len(notes), len(odd))


class _Table:
    """What is needed to find and write the rows of a table."""

    def __init__(self, connection: sqlite3.Connection, table: str) -> None:
        rows = [row for row in columns(connection, table) if not row[6]]
        keys = [str(row[1]) for row in sorted(rows, key=lambda row: int(row[5])) if row[5]]
        nulls = " OR ".join(f"{name(one)} IS NULL" for one in keys)
        if keys and connection.execute(f"SELECT 1 FROM {name(table)} WHERE {nulls} LIMIT 1").fetchone():
            keys = []
        self.table = table
        self.columns = [str(row[1]) for row in rows]
        self.keys = keys
        self.numbered = len(keys) == 1 and str(next(row[2] for row in rows if row[1] == keys[0])).upper() == "INTEGER"
        self.found_by = keys or ["rowid"]

    def some_rows(self, connection: sqlite3.Connection, count: int) -> list[Values]:
        """The keys of rows here and there."""
        listed = ", ".join(_quoted(one) for one in self.found_by)
        every = max(1, connection.execute(f"SELECT count(*) FROM {name(self.table)}").fetchone()[0] // count)
        rows = connection.execute(f"SELECT {listed} FROM {name(self.table)} ORDER BY {listed}").fetchall()[::every]
        return [dict(zip(self.found_by, row, strict=True)) for row in rows[:count]]

    def any_row(self, connection: sqlite3.Connection, chance: random.Random) -> tuple[Values, Values] | None:
        """Key and values of a row."""
        count = connection.execute(f"SELECT count(*) FROM {name(self.table)}").fetchone()[0]
        if not count:
            return None
        listed = ", ".join(_quoted(one) for one in [*self.found_by, *self.columns])
        row = connection.execute(
            f"SELECT {listed} FROM {name(self.table)} LIMIT 1 OFFSET ?", (chance.randrange(count),)
        ).fetchone()
        width = len(self.found_by)
        return dict(zip(self.found_by, row[:width], strict=True)), dict(zip(self.columns, row[width:], strict=True))


def _one(
    old: sqlite3.Connection, new: sqlite3.Connection, plan: Course, table: _Table, verb: str, chance: random.Random
) -> str:
    found, other = table.any_row(old, chance), table.any_row(old, chance)
    if found is None or other is None:
        return "refused"
    key, values = found
    if verb == "remove":
        return verb if _both(old, new, plan, lambda c, p: _remove(c, p, table, key)) else "refused"
    if verb == "change":
        column = chance.choice([one for one in table.columns if one not in table.keys] or table.columns)
        # What stands in another row is a value that the schema knows; what stands there already is no change.
        value = other[1][column]
        if type(value) is type(values[column]) and value == values[column]:
            value = _another(value, chance)
        return verb if _both(old, new, plan, lambda c, p: _change(c, p, table, key, {column: value})) else "refused"
    added = {one: value for one, value in values.items() if not (table.numbered and one in table.keys)}
    others = [] if table.numbered else table.keys or table.columns
    for one in others:
        added[one] = _another(added[one], chance)
    return verb if _both(old, new, plan, lambda c, p: _add(c, p, table, added)) else "refused"


def _another(value: Any, chance: random.Random) -> Any:
    return longer(value, 1 + chance.randrange(10**6))


def _both(
    old: sqlite3.Connection,
    new: sqlite3.Connection,
    plan: Course,
    act: Callable[[sqlite3.Connection, Course | None], None],
) -> bool:
    for connection in (old, new):
        connection.execute("SAVEPOINT edit")
    try:
        act(old, None)
        act(new, plan)
        for connection in (old, new):
            _check_deferred(connection)
    except sqlite3.IntegrityError:
        for connection in (old, new):
            connection.execute("ROLLBACK TO edit")
        return False
    else:
        return True
    finally:
        for connection in (old, new):
            connection.execute("RELEASE edit")


def _check_deferred(connection: sqlite3.Connection) -> None:
    """A reference that is checked at COMMIT only is checked now: there it would undo the whole day's work."""
    late = "SELECT 1 FROM sqlite_schema WHERE sql LIKE '%initially deferred%' LIMIT 1"
    if connection.execute(late).fetchone() and connection.execute("PRAGMA foreign_key_check").fetchone():
        raise sqlite3.IntegrityError("a deferred reference does not hold")


def _change(
    connection: sqlite3.Connection, plan: Course | None, table: _Table, key: Values, values: Values,
    more: Values | None = None,
) -> None:  # fmt: skip
    written = {**_translated(plan, table, values), **(more or {})}
    sets = ", ".join(f"{name(one)} = ?" for one in written)
    where, given = _where(plan, table, key)
    count = connection.execute(
        f"UPDATE {name(table.table)} SET {sets} WHERE {where}", (*written.values(), *given)
    ).rowcount
    assert count == 1, (table.table, key, count)


def _add(connection: sqlite3.Connection, plan: Course | None, table: _Table, values: Values) -> None:
    written = _translated(plan, table, values)
    listed, marks = ", ".join(name(one) for one in written), ", ".join("?" for _ in written)
    connection.execute(f"INSERT INTO {name(table.table)} ({listed}) VALUES ({marks})", tuple(written.values()))


def _remove(connection: sqlite3.Connection, plan: Course | None, table: _Table, key: Values) -> None:
    where, given = _where(plan, table, key)
    assert connection.execute(f"DELETE FROM {name(table.table)} WHERE {where}", given).rowcount == 1


def _where(plan: Course | None, table: _Table, key: Values) -> tuple[str, tuple[Any, ...]]:
    found = _translated(plan, table, key)
    return " AND ".join(f"{_quoted(one)} = ?" for one in found), tuple(found.values())


def _translated(plan: Course | None, table: _Table, values: Values) -> Values:
    if plan is None:
        return values
    return {plan.column(table.table, one): plan.value(table.table, one, value) for one, value in values.items()}


def _quoted(column: str) -> str:
    return column if column == "rowid" else name(column)
