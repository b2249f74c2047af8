"""Random releases one after the other: a till that skips some ends like one that takes each; and going back keeps every
value that it says it keeps, by an oracle of its own that knows what each table and column is, whatever its name."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dbsync.backups.catalog import list_backups
from dbsync.commands import downgrade
from dbsync.model import Migration
from tests.helpers.releases import Releases, Table, quoted
from tests.helpers.shop import dump, effects, files, upgrade, version, written

Rows = dict[Any, dict[str, Any]]
CASES_COUNT = 60


def rows_of(database: Path, table: str) -> Rows:
    """The rows by key."""
    with closing(sqlite3.connect(database)) as connection:
        cursor = connection.execute(f"SELECT * FROM {quoted(table)}")
        names = [one[0] for one in cursor.description]
        return {row[0]: dict(zip(names, row, strict=True)) for row in cursor}


def content(database: Path) -> list[str]:
    """Everything but when it was."""
    return [line for line in dump(database) if "dbsync_history" not in line and "schema_version" not in line]


def started(database: Path, found: tuple[Migration, ...], tables: dict[str, Table], seed: int) -> Path:
    """A shop at the first schema, with rows."""
    chance = random.Random(seed)
    database.parent.mkdir()
    assert upgrade(database, found[:1]).ready
    with closing(sqlite3.connect(database)) as live, live:
        for name, table in tables.items():
            for number in range(chance.randint(0, 5)):
                values = [chance.choice([None, 1, 2.5, "t", "", b"z"]) for _ in range(2)]
                key = f"k{number}" if table.text_key else number + 1
                live.execute(f"INSERT INTO {quoted(name)} VALUES (?, ?, ?)", (key, *values))
    return database


def trade(database: Path, tables: dict[str, Table], chance: random.Random) -> None:
    """What people do on the newest schema."""
    with closing(sqlite3.connect(database)) as live, live:
        for _ in range(chance.randint(0, 4)):
            name = chance.choice(sorted(tables))
            table, column = tables[name], quoted(chance.choice(sorted(tables[name].columns)))
            keys = [row[0] for row in live.execute(f"SELECT id FROM {quoted(name)}")]
            what = chance.choice(["add", "change", "remove"]) if keys else "add"
            if what == "add":
                key = f"p{chance.randint(0, 99)}" if table.text_key else chance.randint(5000, 5099)
                values = (key, chance.choice([None, "p", 3]))
                live.execute(f"INSERT OR IGNORE INTO {quoted(name)} (id, {column}) VALUES (?, ?)", values)
            elif what == "change":
                edit = (chance.choice(["P", 9, None]), chance.choice(keys))
                live.execute(f"UPDATE {quoted(name)} SET {column} = ? WHERE id = ?", edit)
            else:
                live.execute(f"DELETE FROM {quoted(name)} WHERE id = ?", (chance.choice(keys),))


def wrong(first: tuple[Table, Rows, Rows], last: tuple[Table, Rows, Rows] | None, changed: set[int]) -> list[str]:
    """What of one table is not as it has to be after going back.

    Args:
        first: the table in the first schema, with its rows there and those after going back.
        last: the same table in the newest schema, with its rows before and after what people did; None: it is gone.
        changed: columns whose values a migration changed: what people put there cannot be told from that.
    """
    table, base, back = first
    if last is None:
        return [] if back == base else ["a table that is gone is otherwise"]
    newest, before, now = last
    names = {number: name for name, number in newest.columns.items()}
    found = []
    for key, row in base.items():
        if key in before and key not in now:
            found += [f"{key} is back"] if key in back else []
            continue
        if key not in back:
            found.append(f"{key} is lost")
            continue
        for column, number in table.columns.items():
            name, want = names.get(number), row[column]
            if name is not None and key in before and before[key][name] != now[key][name]:
                if number in changed:
                    continue
                want = now[key][name]
            found += [] if str(back[key][column]) == str(want) else [f"{key}.{column}"]
    new = now.keys() - before.keys()
    found += [f"{key} is lost" for key in new - back.keys()]
    found += [f"{key} came from nowhere" for key in back.keys() - base.keys() - new]
    for key in new & back.keys():
        for column, number in table.columns.items():
            name = names.get(number)
            if name is not None and number not in changed and str(back[key][column]) != str(now[key][name]):
                found.append(f"{key}.{column} of a new row")
    return found


@pytest.mark.parametrize("seed", range(CASES_COUNT))
def test_skipping_ends_like_taking_each_and_going_back_keeps_what_it_says(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    releases = Releases(chance)
    texts = [releases.first()]
    first = {name: table.copy() for name, table in releases.tables.items()}
    texts += [releases.step().text for _ in range(chance.randint(2, 4))]
    found = written(tmp_path / "m", *texts)
    ways = [started(tmp_path / way / "shop.db", found, first, seed) for way in ("each", "at once")]
    base = {name: rows_of(ways[0], name) for name in first}
    for database in ways:
        for count in range(2, len(found) + 1) if database == ways[0] else [len(found)]:
            outcome = upgrade(database, found[:count])
            assert outcome.name == "MIGRATED", (texts, outcome.cause)
    assert content(ways[0]) == content(ways[1])
    database = chance.choice(ways)
    before = {name: rows_of(database, name) for name in releases.tables}
    trade(database, releases.tables, chance)
    now, left = {name: rows_of(database, name) for name in releases.tables}, content(database)
    kept = next(one for one in list_backups(backups=database.parent / "backups", database=database) if one.version == 1)
    returned = downgrade.downgrade(effects(database), kept, found, accept_loss=False)
    if returned.outcome.name == "STAYS":
        assert before != now, "nothing was done that could be lost"
        assert (version(database), content(database)) == (len(found), left)
        assert not list(database.parent.glob("*before-restore*.db")), "no copy of what stays"
    else:
        assert (returned.outcome.name, version(database)) == ("CARRIED_BACK", 1)
        for name, table in first.items():
            last = next((one for one in releases.tables if releases.tables[one].number == table.number), None)
            newest = (releases.tables[last], before[last], now[last]) if last is not None else None
            assert wrong((table, base[name], rows_of(database, name)), newest, releases.changed) == [], (name, texts)
    assert not [one for one in files(database.parent) if ".part-" in one]
