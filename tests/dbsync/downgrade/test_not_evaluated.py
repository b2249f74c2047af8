"""Going back with tables that SQLite here cannot evaluate: the app alone has a function, a collation or a module."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from dbsync.complement import kept
from dbsync.model import Loss, Migration
from tests.dbsync.downgrade.test_table_kinds import BY_BACKUP, BY_BASE, SALE, back
from tests.helpers.shop import upgrade, version, written

RENAMED: Final = "-- changes: rename own -> owns\nALTER TABLE own RENAME TO owns;"
STEPS: Final = {"by the backup": BY_BACKUP, "by a base": BY_BASE, "its table is renamed": RENAMED}


class Own(NamedTuple):
    """A table of the app, and how it differs after people changed it: counted as far as SQLite can match its rows."""

    sql: str
    loss: Loss
    lacks: str
    """The name in the reason for which its rows cannot be put back; empty: none of them waits."""


TABLES: Final = {
    "a function in a CHECK": Own(
        "CREATE TABLE own (code TEXT PRIMARY KEY, n, CHECK (code REGEXP '^[a-z]'));", Loss("own", 1, 1, 0), "REGEXP"
    ),
    "a function in a CHECK, no key": Own(
        "CREATE TABLE own (code TEXT CHECK (code REGEXP '^[a-z]'), n);", Loss("own", 2, 0, 1), "REGEXP"
    ),
    "a function in a generated column": Own(
        "CREATE TABLE own (code TEXT PRIMARY KEY, n, e AS (money(n)) STORED);", Loss("own", 1, 1, 0), "money"
    ),
    "a function in an index": Own(
        "CREATE TABLE own (code TEXT PRIMARY KEY, n); CREATE INDEX ix ON own (money(n));", Loss("own", 1, 1, 1), "money"
    ),
    "a collation in an index": Own(
        "CREATE TABLE own (code TEXT PRIMARY KEY, n); CREATE INDEX ix ON own (n COLLATE german);",
        Loss("own", 1, 1, 1), "german",
    ),
    "a collation in a key": Own(
        "CREATE TABLE own (code TEXT COLLATE german PRIMARY KEY, n);", Loss("own", 1, 1, 1), "german"
    ),
    "a collation that orders the table": Own(
        "CREATE TABLE own (code TEXT COLLATE german PRIMARY KEY, n) WITHOUT ROWID;", Loss("own", 2, 0, 2), ""
    ),
}  # fmt: skip
"""Each with the columns `code` and `n`. Rows that SQLite cannot collect are in the export and the set-aside copy."""

MODULE: Final = (
    "PRAGMA writable_schema=ON; INSERT INTO sqlite_master VALUES"
    " ('table', 'vec', 'vec', 0, 'CREATE VIRTUAL TABLE vec USING vec0(embedding float[4])')"
)
"""A virtual table, as the app leaves it behind."""


def change(database: Path, *statements: str) -> None:
    """Run statements as the app does, which has everything."""
    with closing(as_the_app(database)) as live, live:
        for statement in statements:
            live.executescript(statement)


def rows(database: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(as_the_app(database)) as live:
        return live.execute(sql).fetchall()


def as_the_app(database: Path) -> sqlite3.Connection:
    live = sqlite3.connect(database)
    live.create_function("regexp", 2, lambda *_: True, deterministic=True)
    live.create_function("money", 1, lambda cents: cents, deterministic=True)
    live.create_collation("german", lambda left, right: (left < right) - (left > right))
    return live


def shop(tmp_path: Path, own: str, step: str) -> tuple[Path, tuple[Migration, ...]]:
    """A shop that the app made, adopted and brought over one step."""
    database = tmp_path / "data" / "shop.db"
    database.parent.mkdir()
    change(database, SALE + own, "INSERT INTO sale (cents, mark) VALUES (1, 'A')")
    change(database, "INSERT INTO own (code, n) VALUES ('a', 1), ('b', 2), ('c', 3)")
    found = written(tmp_path / "m", SALE + own, step)
    assert upgrade(database, found[:1]).ready
    outcome = upgrade(database, found, trial_id="t1")
    assert outcome.name == "MIGRATED", outcome.cause
    return database, found


BOTH: Final = [(name, step) for name in TABLES for step in STEPS]
BOTH.remove(("a collation in an index", "its table is renamed"))  # SQLite cannot


@pytest.mark.parametrize(("name", "step"), BOTH)
def test_a_table_that_nobody_touched_is_in_nobodys_way(tmp_path: Path, name: str, step: str) -> None:
    database, found = shop(tmp_path, TABLES[name].sql, STEPS[step])
    change(database, "INSERT INTO sale (cents, mark) VALUES (7, 'B')")
    returned = back(database, found)
    assert (returned.outcome.name, returned.losses) == ("CARRIED_BACK", ()), returned.outcome.cause
    assert (version(database), rows(database, "SELECT count(*) FROM sale")) == (1, [(2,)])
    assert rows(database, "SELECT code, n FROM own ORDER BY n") == [("a", 1), ("b", 2), ("c", 3)]
    assert rows(database, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("step", ["by the backup", "by a base"])
@pytest.mark.parametrize("name", TABLES)
def test_changes_in_it_are_counted_and_the_rest_goes_back(tmp_path: Path, name: str, step: str) -> None:
    own = TABLES[name]
    database, found = shop(tmp_path, own.sql, STEPS[step])
    change(
        database,
        "INSERT INTO sale (cents, mark) VALUES (7, 'B')",
        "INSERT INTO own (code, n) VALUES ('d', 4)", "UPDATE own SET n = 22 WHERE code = 'b'",
        "DELETE FROM own WHERE code = 'a'",
    )  # fmt: skip
    first = back(database, found)
    assert (first.outcome.name, first.losses, version(database)) == ("STAYS", (own.loss,), 2), first.outcome.cause
    done = back(database, found, accept_loss=True)
    assert (done.outcome.name, done.losses, version(database)) == ("RESTORED_WITH_LOSS", (own.loss,), 1)
    assert rows(database, "SELECT count(*) FROM sale") == [(2,)]
    # A changed row is as it was: it does not go because its new state cannot be written.
    assert rows(database, "SELECT code, n FROM own WHERE n > 1 ORDER BY n") == [("b", 2), ("c", 3)]
    assert rows(database, "PRAGMA integrity_check") == [("ok",)]
    assert done.export is not None
    text = (done.export / "own.csv").read_text()
    assert ("22" in text, "4" in text) == (True, True)
    outcome = upgrade(database, found, trial_id="t2")
    assert outcome.name == "MIGRATED", outcome.cause
    assert rows(database, "SELECT code, n FROM own WHERE n > 1 ORDER BY n") == [("b", 2), ("c", 3)]
    with closing(as_the_app(database)) as live:
        reasons = [str(row.reason) for row in kept.all_rows(live)] if kept.exists(live) else []
    assert (reasons != [], [why for why in reasons if own.lacks not in why]) == (own.lacks != "", [])


@pytest.mark.parametrize("touched", [False, True])
def test_a_table_whose_module_is_missing_goes_back_with_the_tables_that_hold_its_rows(
    tmp_path: Path, touched: bool
) -> None:
    database = tmp_path / "data" / "shop.db"
    database.parent.mkdir()
    found = written(tmp_path / "m", SALE, BY_BACKUP)
    assert upgrade(database, found[:1]).ready
    change(
        database,
        "CREATE TABLE vec_rows (id INTEGER PRIMARY KEY, v); INSERT INTO vec_rows VALUES (1, 'a')",
        MODULE,
    )
    assert upgrade(database, found, trial_id="t1").name == "MIGRATED"
    change(database, "INSERT INTO sale (cents, mark) VALUES (7, 'B')")
    if touched:
        change(database, "INSERT INTO vec_rows VALUES (2, 'b')", "UPDATE vec_rows SET v = 'z' WHERE id = 1")
    returned = back(database, found)
    assert (returned.outcome.name, returned.losses) == ("CARRIED_BACK", ()), returned.outcome.cause
    assert rows(database, "SELECT cents FROM sale") == [(7,)]
    assert rows(database, "SELECT * FROM vec_rows") == ([(1, "z"), (2, "b")] if touched else [(1, "a")])
    assert rows(database, "SELECT count(*) FROM sqlite_master WHERE name = 'vec'") == [(1,)]


def test_a_table_whose_module_is_missing_and_that_was_made_since_is_told(tmp_path: Path) -> None:
    database, found = shop(tmp_path, "CREATE TABLE own (code, n);", BY_BACKUP)
    change(
        database,
        "CREATE TABLE vec_rows (id INTEGER PRIMARY KEY, v); INSERT INTO vec_rows VALUES (1, 'a')",
        MODULE,
    )
    loss = Loss("table vec", 1, 0, 0)
    first = back(database, found)
    assert (first.outcome.name, first.losses, version(database)) == ("STAYS", (loss,), 2), first.outcome.cause
    done = back(database, found, accept_loss=True)
    assert (done.outcome.name, done.losses, version(database)) == ("RESTORED_WITH_LOSS", (loss,), 1)
    assert rows(database, "SELECT * FROM vec_rows") == [(1, "a")]
    assert upgrade(database, found, trial_id="t2").name == "MIGRATED"
    assert rows(database, "SELECT * FROM vec_rows") == [(1, "a")]
    with closing(as_the_app(database)) as live:
        (waiting,) = kept.all_rows(live)
    assert (waiting.table, waiting.reason) == ("table vec", "no such module: vec0")


def test_a_table_whose_module_is_missing_and_that_people_dropped_comes_back_and_is_told(tmp_path: Path) -> None:
    database = tmp_path / "data" / "shop.db"
    database.parent.mkdir()
    found = written(tmp_path / "m", SALE, BY_BACKUP)
    assert upgrade(database, found[:1]).ready
    change(database, MODULE)
    assert upgrade(database, found, trial_id="t1").name == "MIGRATED"
    change(database, "PRAGMA writable_schema=ON; DELETE FROM sqlite_master WHERE name = 'vec'")
    first = back(database, found)
    assert (first.outcome.name, first.losses) == ("STAYS", (Loss("table vec", 0, 0, 1),)), first.outcome.cause
