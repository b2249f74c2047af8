"""Columns, indexes, triggers and views that no release of the vendor has: a migration keeps them, or may drop them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.lint.check import check
from dbsync.model import Migration
from tests.helpers import forks
from tests.helpers.shop import ask, dump, files, upgrade, version, written

FIRST = """
CREATE TABLE sale (id INTEGER PRIMARY KEY AUTOINCREMENT, cents INTEGER NOT NULL);
CREATE TABLE line (sale INTEGER REFERENCES sale(id), nr INTEGER, what TEXT, PRIMARY KEY (sale, nr)) WITHOUT ROWID;
CREATE TABLE item (qty INTEGER);
CREATE INDEX by_cents ON sale(cents);
"""
LOCAL = """
ALTER TABLE sale ADD COLUMN note TEXT NOT NULL DEFAULT 'none' CHECK (note <> "zzz");
ALTER TABLE sale ADD COLUMN "twice ""as"" much" AS (cents * 2);
ALTER TABLE line ADD COLUMN seen;
ALTER TABLE item ADD COLUMN shelf TEXT COLLATE NOCASE;
CREATE UNIQUE INDEX own_note ON sale(note) WHERE note <> "none";
CREATE VIEW shown AS SELECT s.id, s.note, s.cents FROM sale s WHERE note <> "none";
CREATE TRIGGER sold AFTER INSERT ON sale BEGIN UPDATE item SET qty = qty - 1; END;
CREATE TRIGGER through INSTEAD OF DELETE ON shown BEGIN DELETE FROM sale WHERE id = old.id; END;
CREATE TABLE support (told TEXT, sale INTEGER REFERENCES sale(id), s, l, FOREIGN KEY (s, l) REFERENCES line(sale, nr));
CREATE INDEX support_told ON support(told);
"""
ROWS = """
INSERT INTO sale (id, cents) VALUES (1, 100), (5, 500), (9, 900);
INSERT INTO item (qty, shelf) VALUES (10, 'a'), (20, 'B'), (30, 'c');
UPDATE sale SET note = 'n' || id WHERE id > 1;
INSERT INTO line VALUES (1, 1, 'tea', -0.0), (1, 2, 'tea', x'00ff'), (5, 1, 'cup', '1.0');
INSERT INTO support VALUES ('by phone', 5, 5, 1);
DELETE FROM item WHERE qty = 20;
"""
BY_HAND = """
CREATE TABLE new_sale (id INTEGER PRIMARY KEY AUTOINCREMENT, cents INTEGER NOT NULL, tip INTEGER);
INSERT INTO new_sale (id, cents) SELECT id, cents FROM sale;
DROP TABLE sale;
ALTER TABLE new_sale RENAME TO sale;
CREATE INDEX by_cents ON sale(cents);
"""
ASIDE = """
ALTER TABLE line RENAME TO old_line;
CREATE TABLE line (sale INTEGER REFERENCES sale(id), nr INTEGER, what TEXT, x, PRIMARY KEY (sale, nr)) WITHOUT ROWID;
INSERT INTO line (sale, nr, what) SELECT sale, nr, what FROM old_line;
DROP TABLE old_line;
"""
BY_HELPER = '''"""A rebuild."""
def up(db):
    db.rebuild_table("sale", "id INTEGER PRIMARY KEY AUTOINCREMENT, cents INTEGER NOT NULL, tip INTEGER")
    db.rebuild_table("item", "qty INTEGER, price INTEGER")
    db.constrain("line", "nr > 0")
'''
RENAMES = """-- changes: rename sale -> sales
-- changes: rename sale.cents -> sale.amount
-- changes: drop index by_cents
CREATE TABLE sales (id INTEGER PRIMARY KEY AUTOINCREMENT, amount INTEGER NOT NULL);
INSERT INTO sales SELECT id, cents FROM sale;
CREATE TABLE t (sale INTEGER REFERENCES sales(id), nr INTEGER, what TEXT, PRIMARY KEY (sale, nr)) WITHOUT ROWID;
INSERT INTO t SELECT sale, nr, what FROM line;
DROP TABLE line;
ALTER TABLE t RENAME TO line;
DROP TABLE sale;
"""
CELLS = 'SELECT id || note || "twice ""as"" much" FROM {sale} ORDER BY id'


def shop(folder: Path, *steps: str, local: str = LOCAL + ROWS) -> tuple[Path, tuple[Migration, ...]]:
    """A database at the first schema with local additions and rows; and all migrations."""
    found = written(folder / "m", FIRST, *steps)
    database = folder / "data" / "shop.db"
    database.parent.mkdir()
    assert upgrade(database, found[:1]).ready
    with closing(sqlite3.connect(database)) as live:
        live.executescript(local)
    return database, found


def rows(database: Path, sql: str) -> list[object]:
    with closing(sqlite3.connect(database)) as live:
        return [row[0] if len(row) == 1 else row for row in live.execute(sql)]


def objects(database: Path) -> list[object]:
    sql = "SELECT type || ' ' || name FROM sqlite_schema WHERE sql IS NOT NULL AND type <> 'table' ORDER BY 1"
    return rows(database, sql)


ALL = ["index by_cents", "index own_note", "index support_told", "trigger sold", "trigger through", "view shown"]
REFERENCES = "SELECT \"table\" FROM pragma_foreign_key_list('support') ORDER BY id DESC"


@pytest.mark.parametrize("step", [BY_HAND, ASIDE, BY_HELPER, BY_HAND + ASIDE], ids=["hand", "aside", "helper", "both"])
def test_a_rebuild_keeps_what_others_added(tmp_path: Path, step: str) -> None:
    database, found = shop(tmp_path, step)
    outcome = upgrade(database, found)
    assert outcome.name == "MIGRATED", outcome.cause
    assert rows(database, CELLS.format(sale="sale")) == ["1none200", "5n51000", "9n91800"]
    assert rows(database, "SELECT seen FROM line ORDER BY sale, nr") == [-0.0, b"\0\xff", "1.0"]
    assert rows(database, "SELECT shelf FROM item ORDER BY qty") == ["a", "c"]
    assert rows(database, "SELECT id, note, cents FROM shown") == [(5, "n5", 500), (9, "n9", 900)]
    assert objects(database) == ALL
    assert rows(database, REFERENCES) == ["sale", "line", "line"]
    with closing(sqlite3.connect(database)) as live, pytest.raises(sqlite3.IntegrityError):
        live.execute("UPDATE sale SET note = 'n5' WHERE id = 9")
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("INSERT INTO sale (cents) VALUES (1)")
        live.execute("DELETE FROM shown WHERE id = 5")
    assert rows(database, "SELECT max(id) FROM sale") == [10], "no number is given again"
    assert rows(database, "SELECT sum(qty) FROM item") == [38]
    assert ask(database, "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'dbsync_local%'") == 0


def test_declared_renames_are_followed(tmp_path: Path) -> None:
    database, found = shop(tmp_path, RENAMES, local=LOCAL.replace("s.cents FROM", "s.cents AS c FROM") + ROWS)
    outcome = upgrade(database, found)
    assert outcome.name == "MIGRATED", outcome.cause
    assert rows(database, "SELECT id, note, c FROM shown") == [(5, "n5", 500), (9, "n9", 900)]
    assert rows(database, "SELECT id || note FROM sales ORDER BY id") == ["1none", "5n5", "9n9"]
    assert rows(database, "SELECT seen FROM line ORDER BY sale, nr") == [-0.0, b"\0\xff", "1.0"]
    assert objects(database) == [name for name in ALL if name != "index by_cents"]
    assert rows(database, REFERENCES) == ["sales", "line", "line"]
    assert rows(database, "SELECT * FROM support") == [("by phone", 5, 5, 1)]


def test_a_local_trigger_does_not_act_on_what_a_migration_writes(tmp_path: Path) -> None:
    step = "-- changes: insert sale\nINSERT INTO sale (cents) VALUES (7);"
    database, found = shop(tmp_path, step)
    outcome = upgrade(database, found)
    assert outcome.name == "MIGRATED", outcome.cause
    assert rows(database, "SELECT sum(qty) FROM item") == [40]
    assert objects(database) == ALL


PERMITTED = f"""-- changes: drop column sale.note
-- changes: drop column sale."twice ""as"" much"
-- changes: drop index own_note
-- changes: drop trigger through
-- changes: drop view shown
{BY_HAND}"""


def test_the_vendor_can_permit_the_loss_of_what_no_schema_of_his_has(tmp_path: Path) -> None:
    database, found = shop(tmp_path / "local", PERMITTED)
    outcome = upgrade(database, found)
    assert outcome.name == "MIGRATED", outcome.cause
    assert rows(database, "SELECT name FROM pragma_table_xinfo('sale')") == ["id", "cents", "tip"]
    assert objects(database) == ["index by_cents", "index support_told", "trigger sold"]
    plain, found = shop(tmp_path / "plain", PERMITTED, local="")
    assert upgrade(plain, found).name == "MIGRATED", "where there is nothing to drop, the lines do nothing"
    (tmp_path / "scratch").mkdir()
    for place in (None, database):
        assert check(folder=found[0].path.parent, database=place, scratch=tmp_path / "scratch") == []
    assert files(tmp_path / "scratch") == set()


def test_a_misspelt_drop_is_still_found_before_a_release(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    written(tmp_path / "m", FIRST, f"-- changes: drop column sale.cent\n{BY_HAND}".replace("cents INTEGER NOT NULL, ", "")
            .replace("cents", "id"))  # fmt: skip
    (problem,) = check(folder=tmp_path / "m", scratch=tmp_path / "scratch")
    assert "column sale.cent, which does not exist" in problem.what
    assert problem.safe == "Is sale.cents meant?"


ANOTHER_KEY = """-- changes: drop column sale.id
-- changes: drop index by_cents
CREATE TABLE t (cents INTEGER NOT NULL); INSERT INTO t SELECT cents FROM sale;
DROP TABLE sale; ALTER TABLE t RENAME TO sale;
"""


@pytest.mark.parametrize(
    ("step", "cause", "line"),
    [
        (
            ANOTHER_KEY,
            'column sale.note, sale.twice "as" much was added to this database and cannot be kept: the key',
            "drop column sale.note",
        ),
        (
            "-- changes: drop column sale.note\n" + BY_HAND,
            "index own_note was added to this database and cannot be kept: no such column: note",
            "drop index own_note",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_with_the_line_that_permits_it(
    tmp_path: Path, step: str, cause: str, line: str
) -> None:
    database, found = shop(tmp_path, step)
    before = dump(database)
    outcome = upgrade(database, found)
    assert outcome.name == "MIGRATION_FAILED"
    assert cause in outcome.cause
    assert f"`-- changes: {line}`" in outcome.hint
    assert (dump(database), version(database)) == (before, 1)


def test_what_a_migration_drops_by_name_is_for_it_to_declare(tmp_path: Path) -> None:
    database, found = shop(tmp_path, "DROP TRIGGER IF EXISTS sold;")
    outcome = upgrade(database, found)
    assert outcome.name == "VERIFICATION_FAILED"
    assert "trigger sold is gone (allow it with `changes: drop trigger sold`)" in outcome.cause
    assert objects(database) == ALL


def test_several_releases_at_once_and_a_column_that_the_vendor_takes_over(tmp_path: Path) -> None:
    adopts = '''"""The vendor's own column of that name."""
def up(db):
    db.add_column("item", "shelf", "TEXT COLLATE NOCASE")
'''
    database, found = shop(
        tmp_path, BY_HAND, adopts, ASIDE, BY_HELPER.replace("qty INTEGER,", "qty INTEGER, shelf TEXT COLLATE NOCASE,")
    )
    outcome = upgrade(database, found)
    assert outcome.name == "MIGRATED", outcome.cause
    assert rows(database, CELLS.format(sale="sale")) == ["1none200", "5n51000", "9n91800"]
    assert rows(database, "SELECT shelf FROM item ORDER BY qty") == ["a", "c"]
    assert objects(database) == ALL


def test_a_column_in_the_middle_keeps_its_place(tmp_path: Path) -> None:
    local = """
CREATE TABLE other (id INTEGER PRIMARY KEY AUTOINCREMENT, own TEXT UNIQUE, cents INTEGER NOT NULL);
INSERT INTO other SELECT id, NULL, cents FROM sale; DROP TABLE sale; ALTER TABLE other RENAME TO sale;
CREATE INDEX by_cents ON sale(cents); INSERT INTO sale VALUES (3, 'mine', 30);
"""
    database, found = shop(tmp_path, BY_HAND, local=local)
    outcome = upgrade(database, found)
    assert outcome.name == "MIGRATED", outcome.cause
    assert rows(database, "SELECT name FROM pragma_table_info('sale')") == ["id", "own", "cents", "tip"]
    assert rows(database, "SELECT * FROM sale") == [(3, "mine", 30, None)]


@pytest.mark.parametrize("step", [BY_HAND, BY_HELPER], ids=["hand", "helper"])
def test_values_under_a_not_null_that_people_dropped_refuse_a_rebuild_until_they_are_filled(
    tmp_path: Path, step: str
) -> None:
    local = """
CREATE TABLE other (id INTEGER PRIMARY KEY AUTOINCREMENT, cents INTEGER);
INSERT INTO other SELECT id, cents FROM sale; DROP TABLE sale; ALTER TABLE other RENAME TO sale;
CREATE INDEX by_cents ON sale(cents); INSERT INTO sale VALUES (3, NULL), (4, 40);
"""
    database, found = shop(tmp_path, step, local=local)
    before = dump(database)
    outcome = upgrade(database, found, trial_id="t1")
    assert (outcome.name, dump(database)) == ("MIGRATION_FAILED", before)
    assert outcome.cause.startswith(("NOT NULL constraint failed: new_sale.cents", "NOT NULL constraint failed: dbs"))
    assert ".cents (line " in outcome.cause
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("UPDATE sale SET cents = 0 WHERE cents IS NULL")
    outcome = upgrade(database, found, trial_id="t1")
    assert outcome.name == "MIGRATED", outcome.cause
    assert rows(database, "SELECT id, cents FROM sale") == [(3, 0), (4, 40)]


def test_rows_without_a_key_that_get_other_rowids_are_refused(tmp_path: Path) -> None:
    step = "CREATE TABLE t (qty INTEGER, x); INSERT INTO t (qty) SELECT qty FROM item; DROP TABLE item; ALTER TABLE t RENAME TO item;"
    database, found = shop(tmp_path, step)
    before = dump(database)
    outcome = upgrade(database, found)
    # Rows 1 and 3 became rows 1 and 2: which was which is not to be known, and a wrong value is worse than none.
    assert outcome.name == "VERIFICATION_FAILED"
    assert dump(database) == before


def test_what_others_added_goes_back_with_what_was_sold_since(tmp_path: Path) -> None:
    database, found = shop(tmp_path, BY_HAND)
    assert upgrade(database, found).name == "MIGRATED"
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("INSERT INTO sale (cents, note) VALUES (70, 'after')")
        live.execute("UPDATE sale SET note = 'changed' WHERE id = 5")
    done = forks.run(["-m", "dbsync", "downgrade", "--database", database, "--yes"])
    assert (done.returncode, "nothing was lost" in done.stdout) == (0, True), done.stdout + done.stderr
    assert rows(database, "SELECT id || note FROM sale ORDER BY id") == ["1none", "5changed", "9n9", "10after"]
    assert objects(database) == ALL
    assert version(database) == 1
