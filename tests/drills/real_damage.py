"""What a migration does wrong in a real database: rows lost, swapped or changed in silence; and what harms nothing."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tests.drills.content import columns, name, opened
from tests.drills.real_course import definition, people_have


class Damage(NamedTuple):
    """SQL that loses or changes something."""

    kind: str
    table: str
    sql: str


def damages(database: Path, *, count: int, seed: int = 7) -> list[Damage]:
    """Damages that plain SQLite accepts and that change something, of each kind in turn, in tables here and there."""
    chance = random.Random(seed)
    found: list[Damage] = []
    with opened(database) as live, closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        live.backup(scratch)
        tables = [one for one in people_have(scratch) if scratch.execute(f"SELECT 1 FROM {name(one)}").fetchone()]
        chance.shuffle(tables)
        each = [list(_in_table(scratch, one)) for one in tables]
        kinds = sorted({one.kind for some in each for one in some})
        while len(found) < count and any(each):
            for kind in kinds:
                fitting = [(one, some) for some in each for one in some if one.kind == kind]
                if not fitting or len(found) == count:
                    continue
                damage, some = fitting[0]
                some.remove(damage)
                each.append(each.pop(each.index(some)))
                if _changes_something(scratch, damage):
                    found.append(damage)
    return found


def rebuilt_by_helper(database: Path) -> str:
    """A migration that gives every table the definition that it has already."""
    with opened(database) as live:
        calls = [f"    db.rebuild_table({one!r}, {definition(live, one)!r})" for one in people_have(live)]
    return '"""The same again."""\n\n\ndef up(db):\n' + "\n".join(calls) + "\n"


def rebuilt_by_hand(database: Path) -> str:
    """The same in SQL as people write it: rows in another order, and so with other rowids."""
    parts = ["PRAGMA legacy_alter_table=ON"]
    with opened(database) as live:
        for table in people_have(live):
            kept = live.execute(
                "SELECT sql FROM sqlite_schema WHERE tbl_name = ? AND type IN ('index', 'trigger') AND sql IS NOT NULL",
                (table,),
            ).fetchall()
            listed = ", ".join(name(row[1]) for row in columns(live, table) if not row[6])
            new = name(f"new_{table}")
            parts.append(f"CREATE TABLE {new} {definition(live, table)}")
            parts.append(f"INSERT INTO {new} ({listed}) SELECT {listed} FROM {name(table)} ORDER BY {listed} DESC")
            parts += [f"DROP TABLE {name(table)}", f"ALTER TABLE {new} RENAME TO {name(table)}"]
            parts += [str(sql) for (sql,) in kept]
    return ";\n".join([*parts, "PRAGMA legacy_alter_table=OFF"]) + ";\n"


def _in_table(scratch: sqlite3.Connection, table: str) -> Iterator[Damage]:
    quoted = name(table)
    without = scratch.execute(f"PRAGMA table_list({quoted})").fetchone()[4]
    rows = columns(scratch, table)
    row = "rowid" if not without else ", ".join(name(one[1]) for one in rows if one[5])
    last = f"({row}) = (SELECT {row} FROM {quoted} ORDER BY {row} DESC LIMIT 1)"
    first = f"({row}) = (SELECT {row} FROM {quoted} ORDER BY {row} LIMIT 1)"
    yield Damage("a row deleted", table, f"DELETE FROM {quoted} WHERE {last}")
    yield Damage("all rows deleted", table, f"DELETE FROM {quoted}")
    listed = ", ".join(name(one[1]) for one in rows if not one[5])
    if listed:
        again = f"INSERT INTO {quoted} ({listed}) SELECT {listed} FROM {quoted} WHERE {last}"
        yield Damage("a row twice", table, again)
    for one in rows:
        if one[5] or one[6]:
            continue
        cell, set_last = name(one[1]), f"UPDATE {quoted} SET {name(one[1])} = "
        kind = scratch.execute(f"SELECT typeof({cell}) FROM {quoted} WHERE {last}").fetchone()[0]
        if kind == "text":
            yield Damage("a blank more in a text", table, f"{set_last}{cell} || ' ' WHERE {last}")
            yield Damage("capitals", table, f"{set_last}upper({cell}) WHERE {last}")
        elif kind == "integer":
            yield Damage("one more", table, f"{set_last}{cell} + 1 WHERE {last}")
            yield Damage("a number as a text", table, f"{set_last}CAST({cell} AS TEXT) WHERE {last}")
        elif kind == "real":
            yield Damage("the last bit of a float", table, f"{set_last}{cell} * 1.0000000000000002 WHERE {last}")
        elif kind == "blob":
            yield Damage("a byte less", table, f"{set_last}substr({cell}, 1, length({cell}) - 1) WHERE {last}")
        else:
            yield Damage("a value where there was none", table, f"{set_last}1 WHERE {last}")
        yield Damage("a value gone", table, f"{set_last}NULL WHERE {last}")
        other = f"(SELECT {cell} FROM {quoted} WHERE {first})"
        swapped = f"{set_last}CASE WHEN {last} THEN {other} ELSE (SELECT {cell} FROM {quoted} WHERE {last}) END"
        yield Damage("two cells swapped", table, f"{swapped} WHERE {first} OR {last}")
    for (index,) in scratch.execute(
        "SELECT name FROM sqlite_schema WHERE tbl_name = ? AND type = 'index' AND sql IS NOT NULL", (table,)
    ).fetchall():
        yield Damage("an index gone", table, f"DROP INDEX {name(index)}")
    for (trigger,) in scratch.execute(
        "SELECT name FROM sqlite_schema WHERE tbl_name = ? AND type = 'trigger'", (table,)
    ).fetchall():
        yield Damage("a trigger gone", table, f"DROP TRIGGER {name(trigger)}")


def _changes_something(scratch: sqlite3.Connection, damage: Damage) -> bool:
    """Tried in plain SQLite and undone; the whole table is read before and after."""
    if damage.sql.startswith("DROP"):
        return True

    def cells() -> list[str]:
        found = columns(scratch, damage.table)
        kinds = ", ".join(f"{name(one[1])}, typeof({name(one[1])})" for one in found)
        return sorted(map(repr, scratch.execute(f"SELECT {kinds} FROM {name(damage.table)}")))

    before = cells()
    scratch.execute("SAVEPOINT trial")
    try:
        scratch.execute(damage.sql)
        return cells() != before
    except sqlite3.Error:
        return False
    finally:
        scratch.execute("ROLLBACK TO trial")
        scratch.execute("RELEASE trial")
