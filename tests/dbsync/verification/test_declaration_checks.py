"""Declarations that cannot be meant: found before a release, told on a till, harmless to one that skips releases."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.lint.check import check
from dbsync.model import Migration
from tests.helpers.shop import ask, files, upgrade, version, written

FIRST = """
CREATE TABLE sales (id INTEGER PRIMARY KEY AUTOINCREMENT, cents INTEGER NOT NULL, flag INTEGER, "odd name" TEXT);
CREATE TABLE words (word TEXT PRIMARY KEY, times INTEGER) WITHOUT ROWID;
CREATE INDEX by_flag ON sales(flag);
CREATE VIEW dear AS SELECT * FROM sales WHERE cents > 100;
CREATE TRIGGER counts AFTER INSERT ON sales BEGIN UPDATE words SET times = times + 1; END;
"""


def shop(folder: Path, *texts: str) -> tuple[Path, tuple[Migration, ...]]:
    """A database at the first schema, with rows; and all migrations."""
    found = written(folder / "m", FIRST, *texts)
    database = folder / "data" / "shop.db"
    database.parent.mkdir()
    assert upgrade(database, found[:1]).ready
    with closing(sqlite3.connect(database)) as live, live:
        live.executemany("INSERT INTO sales (cents, flag) VALUES (?, ?)", [(100, 0), (200, 1), (300, None)])
        live.execute("INSERT INTO words VALUES ('one', 1)")
    return database, found


def problems(tmp_path: Path) -> list[tuple[str, str]]:
    (tmp_path / "scratch").mkdir(exist_ok=True)
    found = check(folder=tmp_path / "m", scratch=tmp_path / "scratch")
    assert files(tmp_path / "scratch") == set()
    return [(one.what, one.safe) for one in found]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("update sales.cents = cents + 1", "ambiguous column name: cents"),
        ("update sales.cents = o.cent + 1", "no such column: o.cent"),
        ("update sales.cents, sales.flag where n.flag =", "syntax error"),
        ("update sales where no_such(o.cents)", "no such function: no_such"),
        ("delete sales where n.cents = 1", "no such column: n.cents"),
        ("insert sales where o.cents = 1", "no such column: o.cents"),
    ],
)
def test_an_expression_that_sqlite_does_not_take_is_named_before_the_release_and_on_the_till(
    tmp_path: Path, line: str, cause: str
) -> None:
    database, found = shop(tmp_path, f"-- changes: {line}\nUPDATE sales SET cents = cents + 1;")
    before = ask(database, "SELECT group_concat(cents) FROM sales")
    said = problems(tmp_path)[0][0]
    assert said.startswith(f"the declaration `{line.partition(' where')[0].partition(',')[0]}")
    assert f"` is invalid: {cause}" in said or cause in said
    outcome = upgrade(database, found)
    assert outcome.name == "VERIFICATION_FAILED"
    assert "` is invalid: " in outcome.cause
    assert cause in outcome.cause
    assert (version(database), ask(database, "SELECT group_concat(cents) FROM sales")) == (1, before)


@pytest.mark.parametrize(
    ("line", "what", "near"),
    [
        ("update sale.cents", "column sale.cents", "sales.cents"),
        ("update sale", "table sale", "sales"),
        ("update sales.cent = o.cents", "column sales.cent", "sales.cents"),
        ("insert sale", "table sale", "sales"),
        ("delete wörds", "table wörds", "words"),
        ("reset sals", "table sals", "sales"),
        ("retype words.tims", "column words.tims", "words.times"),
        ("redefine trigger count", "trigger count", "counts"),
        ("redefine sales.flags", "column sales.flags", "sales.flag"),
        ("rename sals -> sold", "table sals", "sales"),
    ],
)
def test_a_name_that_is_not_there_is_a_slip_and_the_nearest_one_is_named(
    tmp_path: Path, line: str, what: str, near: str
) -> None:
    shop(tmp_path, f"-- changes: {line}\nSELECT 1;")
    safe = f"Is {near} meant?"
    assert problems(tmp_path) == [
        (f"it declares a change to {what}, which does not exist before or after the migration", safe)
    ]


@pytest.mark.parametrize(
    ("line", "step", "near"),
    [
        ("drop column sales.own", "SELECT 1", ""),
        ("drop index own", "SELECT 1", ""),
        ("drop view dears", "SELECT 1", ""),
        ("drop index by_flags", "DROP INDEX by_flag", "by_flag"),
        ("drop view dears", "DROP VIEW dear", "dear"),
    ],
)
def test_a_drop_of_what_somebody_may_have_added_is_no_slip_unless_one_much_like_it_is_dropped(
    tmp_path: Path, line: str, step: str, near: str
) -> None:
    shop(tmp_path, f"-- changes: {line}\n{step};")
    found = problems(tmp_path)
    assert bool(found) == bool(near)
    assert all(near in safe for _, safe in found)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("-- changes: drop table words\nSELECT 1;", "table words"),
        ("-- changes: drop column sales.flag\nSELECT 1;", "column sales.flag"),
        (
            """-- changes: drop table sales
DROP VIEW dear; CREATE TABLE n AS SELECT * FROM sales; DROP TABLE sales; ALTER TABLE n RENAME TO sales;
CREATE VIEW dear AS SELECT * FROM sales WHERE cents > 100;""",
            "table sales",
        ),
    ],
)
def test_what_is_declared_to_go_and_stays_is_a_slip(tmp_path: Path, text: str, what: str) -> None:
    """A till that skips releases would take the one that stays for another of that name, and not look into it."""
    shop(tmp_path, text)
    assert (f"it declares that {what} is dropped, which is there after it", "") in problems(tmp_path)


def test_what_can_be_meant_is_quiet(tmp_path: Path) -> None:
    text = """
-- changes: update SALES.Cents = o.cents * 2
-- changes: update sales."odd name"
-- changes: rename sales -> sold
-- changes: rename sold.flag -> sold.mark
-- changes: update sold.mark
-- changes: drop column sold."odd name"
-- changes: redefine sold.extra
-- changes: redefine view dear
-- changes: drop trigger counts
-- changes: insert fresh
-- changes: delete words where o.times > 3
DROP VIEW dear; DROP TRIGGER counts; ALTER TABLE sales RENAME TO sold; ALTER TABLE sold RENAME COLUMN flag TO mark;
ALTER TABLE sold ADD COLUMN extra TEXT; ALTER TABLE sold DROP COLUMN "odd name"; UPDATE sold SET cents = cents * 2;
CREATE TABLE fresh (id INTEGER PRIMARY KEY); CREATE VIEW dear AS SELECT * FROM sold WHERE cents > 100;
"""
    database, found = shop(tmp_path, text.lstrip())
    assert problems(tmp_path) == []
    assert upgrade(database, found).name == "MIGRATED"


def test_a_till_that_skips_a_release_is_not_held_to_expressions_of_the_way_in_between(tmp_path: Path) -> None:
    """By the end the column that the expression speaks of is gone, and before it another was not there yet."""
    texts = """
-- changes: update sales.cents where n.flag = 1
UPDATE sales SET cents = cents + 5 WHERE flag = 1;
+
ALTER TABLE sales ADD COLUMN paid INTEGER DEFAULT 1;
+
-- changes: delete words where o.times = (SELECT max(paid) FROM main.sales)
-- changes: update words.times = o.times + (SELECT max(paid) FROM main.sales)
DELETE FROM words;
+
-- changes: drop column sales.paid
ALTER TABLE sales DROP COLUMN paid;
+
-- changes: drop index by_flag
-- changes: drop column sales.flag
DROP INDEX by_flag;
ALTER TABLE sales DROP COLUMN flag;
"""
    database, found = shop(tmp_path, *(one.strip() for one in texts.split("+\n")))
    assert problems(tmp_path) == []
    step_by_step = tmp_path / "data" / "step.db"
    step_by_step.write_bytes(database.read_bytes())
    for count in range(2, len(found) + 1):
        assert upgrade(step_by_step, found[:count]).name == "MIGRATED"
    outcome = upgrade(database, found)
    assert outcome.name == "MIGRATED", outcome.cause
    for one in (database, step_by_step):
        assert ask(one, "SELECT group_concat(cents) FROM sales") == "100,205,300"
        assert ask(one, "SELECT count(*) FROM words") == 0


PLAIN = """
CREATE TABLE t (id INTEGER PRIMARY KEY, c INTEGER, d TEXT); CREATE TABLE u (id INTEGER PRIMARY KEY, x TEXT);
CREATE INDEX i ON t(c); CREATE VIEW v AS SELECT c FROM t; CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END;
"""
PLUS = "-- changes: update t.c = o.c + 1\nUPDATE t SET c = c + 1;"
WHERE = "-- changes: update t.c where n.d = 'a'\nUPDATE t SET c = c + 1 WHERE d = 'a';"
INSERT = "-- changes: insert t where n.d = 'in'\nINSERT INTO t (c, d) VALUES (9, 'in');"
PAIRS = {
    "a table dropped and made anew": (
        "-- changes: drop table u\nDROP TABLE u;",
        "CREATE TABLE u (id INTEGER PRIMARY KEY AUTOINCREMENT, y INT); INSERT INTO u VALUES (1, 5);",
    ),
    "a column dropped and added anew": (
        "-- changes: drop column t.d\nALTER TABLE t DROP COLUMN d;", "ALTER TABLE t ADD COLUMN d INTEGER DEFAULT 7;",
    ),
    "an index dropped and another made": ("-- changes: drop index i\nDROP INDEX i;", "CREATE INDEX i ON t(d);"),
    "an index of a table made anew": (
        "-- changes: drop table t\n-- changes: drop view v\nDROP VIEW v; DROP TABLE t;",
        "CREATE TABLE t (d TEXT, c TEXT); CREATE INDEX i ON t(d);",
    ),
    "a view": ("-- changes: drop view v\nDROP VIEW v;", "CREATE VIEW v AS SELECT d FROM t;"),
    "a trigger": (
        "-- changes: drop trigger g\nDROP TRIGGER g;", "CREATE TRIGGER g AFTER DELETE ON t BEGIN SELECT 1; END;",
    ),
    "rows that came and were changed": (INSERT, PLUS),
    "rows that came and lost their mark": (
        INSERT, "-- changes: update t.d where o.d = 'in'\nUPDATE t SET d = 'out' WHERE d = 'in';",
    ),
    "rows that were changed and went": (PLUS, "-- changes: delete t where o.c = 101\nDELETE FROM t WHERE c = 101;"),
    "a condition on what was changed after": (WHERE, "-- changes: update t.d\nUPDATE t SET d = 'z';"),
    "a condition on a column renamed after": (
        WHERE, "-- changes: rename t.d -> t.e\nALTER TABLE t RENAME COLUMN d TO e;",
    ),
    "a condition in a table renamed after": (WHERE, "-- changes: rename t -> tt\nALTER TABLE t RENAME TO tt;"),
    "a value from a table that was changed after": (
        "-- changes: update t.c = (SELECT max(id) FROM main.u)\nUPDATE t SET c = (SELECT max(id) FROM u);",
        "-- changes: insert u\nINSERT INTO u VALUES (77, 'q');",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_two_good_releases_are_good_for_a_till_that_skips_the_first(tmp_path: Path, name: str) -> None:
    found = written(tmp_path / "m", PLAIN, *PAIRS[name])
    ends = []
    for way in ("each", "at once"):
        database = tmp_path / way / "shop.db"
        database.parent.mkdir()
        assert upgrade(database, found[:1]).ready
        with closing(sqlite3.connect(database)) as live, live:
            live.executescript("INSERT INTO t VALUES (1, 100, 'a'), (2, 200, 'b'); INSERT INTO u VALUES (1, 'x');")
        for count in (2, 3) if way == "each" else (3,):
            outcome = upgrade(database, found[:count])
            assert outcome.name == "MIGRATED", outcome.cause
        with closing(sqlite3.connect(database)) as live:
            ends.append([line for line in live.iterdump() if "dbsync_history" not in line and "schema_ver" not in line])
    assert ends[0] == ends[1]
    assert files(tmp_path / "m") == {one.path.name for one in found}


def test_a_permission_of_one_migration_keeps_its_condition_beside_others_that_change_other_tables(
    tmp_path: Path,
) -> None:
    """Only what another one may have made untrue is weakened."""
    more = "-- changes: delete t where o.c = 100\nDELETE FROM t;"
    found = written(tmp_path / "m", PLAIN, more, "-- changes: insert u\nINSERT INTO u VALUES (5, 'q');")
    database = tmp_path / "data" / "shop.db"
    database.parent.mkdir()
    assert upgrade(database, found[:1]).ready
    with closing(sqlite3.connect(database)) as live, live:
        live.executescript("INSERT INTO t VALUES (1, 100, 'a'), (2, 200, 'b')")
    outcome = upgrade(database, found)
    assert (outcome.name, "t: 1 rows are gone, keys 2" in outcome.cause) == ("VERIFICATION_FAILED", True)
    assert (version(database), ask(database, "SELECT count(*) FROM t")) == (1, 2)


def test_check_proves_each_migration_by_itself_on_real_rows(tmp_path: Path) -> None:
    """On a till that takes both at once the first one's condition would not be held against it."""
    more = "-- changes: delete t where o.c = 100\nDELETE FROM t;"
    found = written(tmp_path / "m", PLAIN, more, PLUS)
    database = tmp_path / "data" / "shop.db"
    database.parent.mkdir()
    assert upgrade(database, found[:1]).ready
    with closing(sqlite3.connect(database)) as live, live:
        live.executescript("INSERT INTO t VALUES (1, 100, 'a'), (2, 200, 'b')")
    (tmp_path / "scratch").mkdir()
    problems = check(folder=tmp_path / "m", database=database, scratch=tmp_path / "scratch")
    assert [(one.where, one.what) for one in problems] == [
        ("0002_step", "t: 1 rows are gone, keys 2, written by DELETE FROM t (0002_step.sql line 2)")
    ]
    assert files(tmp_path / "scratch") == set()
