"""Going back never stops at one row, value, table or object: the rest is carried, and nothing is lost silently."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from dbsync.backups.catalog import list_backups
from dbsync.cli.main import main
from dbsync.commands import downgrade
from dbsync.database.flight_recorder import FlightRecorder
from dbsync.migrations import folder
from dbsync.model import Loss, Migration, Returned, TrialId
from dbsync.upgrade import coordinator
from tests.helpers.shop import ask, effects, upgrade, version, written

SALE = "CREATE TABLE sale (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL CHECK (cents > 0), kind TEXT);"
LOOSER = """-- changes: redefine sale
CREATE TABLE new_sale (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL, kind TEXT);
INSERT INTO new_sale SELECT * FROM sale;
DROP TABLE sale;
ALTER TABLE new_sale RENAME TO sale;"""


def shop(tmp_path: Path, first: str, step: str, *rows: str) -> tuple[Path, tuple[Migration, ...]]:
    database = tmp_path / "data" / "pos_system.db"
    database.parent.mkdir()
    found = written(tmp_path / "m", first, step)
    assert upgrade(database, found[:1]).ready
    change(database, *rows)
    outcome = upgrade(database, found, trial_id="t1")
    assert outcome.name == "MIGRATED", outcome.cause
    return database, found


def change(database: Path, *statements: str | tuple[str, tuple[object, ...]]) -> None:
    with closing(sqlite3.connect(database)) as live, live:
        for statement in statements:
            live.execute(*(statement if isinstance(statement, tuple) else (statement,)))


def all_of(database: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as live:
        return live.execute(sql).fetchall()


def back(database: Path, found: tuple[Migration, ...]) -> Returned:
    """Go back as far as that loses nothing, else with the loss, which is shown first."""
    (base,) = (
        backup
        for backup in list_backups(backups=database.parent / "backups", database=database)
        if backup.trial_id == "t1"
    )
    first = downgrade.downgrade(effects(database), base, found, accept_loss=False)
    if first.outcome.name == "CARRIED_BACK":
        return first
    assert (first.outcome.name, version(database)) == ("STAYS", 2), first.outcome.cause
    second = downgrade.downgrade(effects(database), base, found, accept_loss=True)
    assert (second.outcome.name, version(database)) == ("RESTORED_WITH_LOSS", 1), second.outcome.cause
    assert second.losses == first.losses
    return second


def up_again(database: Path, found: tuple[Migration, ...]) -> None:
    outcome = upgrade(database, found, trial_id="t2")
    assert (outcome.name, version(database)) == ("MIGRATED", 2), outcome.cause


def kept(database: Path) -> list[dict[str, object]]:
    result = CliRunner().invoke(main, ["kept", "--json", "--database", str(database)])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)["kept"]
    assert isinstance(found, list)
    return found


def test_a_row_that_the_older_schema_refuses_is_parked_and_comes_back_with_its_schema(tmp_path: Path) -> None:
    database, found = shop(tmp_path, SALE, LOOSER, "INSERT INTO sale VALUES (1, 100, 'a'), (2, 200, 'b')")
    change(
        database,
        "INSERT INTO sale VALUES (3, -5, 'refund'), (4, 400, 'd')",
        "UPDATE sale SET cents = 0, kind = 'void' WHERE id = 2",
    )
    returned = back(database, found)
    assert returned.losses == (Loss("sale", 1, 1, 0),)
    assert all_of(database, "SELECT * FROM sale") == [(1, 100, "a"), (2, 200, "void"), (4, 400, "d")]
    assert returned.parked is not None
    parked = [json.loads(line)["row"] for line in returned.parked.read_text().split("\n")[:-1]]
    assert parked == [{"id": 2, "cents": 0}, {"id": 3, "cents": -5, "kind": "refund"}]
    assert [(row["kind"], row["key"], row["state"]) for row in kept(database)] == [
        ("changed", {"id": 2}, "waiting"), ("added", {"id": 3}, "waiting"),
    ]  # fmt: skip
    up_again(database, found)
    assert all_of(database, "SELECT * FROM sale") == [(1, 100, "a"), (2, 0, "void"), (3, -5, "refund"), (4, 400, "d")]
    assert kept(database) == []


def test_values_that_moved_between_rows_of_a_unique_column_go_back(tmp_path: Path) -> None:
    product = "CREATE TABLE product (id INTEGER PRIMARY KEY, barcode TEXT UNIQUE, price REAL);"
    database, found = shop(
        tmp_path, product, "ALTER TABLE product ADD COLUMN note TEXT;",
        "INSERT INTO product VALUES (1, 'A', 1.5), (2, 'B', 2.5), (3, 'C', 3.5)",
    )  # fmt: skip
    change(
        database,
        "UPDATE product SET barcode = NULL WHERE id = 1",
        "UPDATE product SET barcode = 'A' WHERE id = 2",
        "UPDATE product SET barcode = 'B' WHERE id = 3",
        "UPDATE product SET barcode = 'C' WHERE id = 1",
    )
    assert back(database, found).losses == ()
    assert all_of(database, "SELECT * FROM product") == [(1, "C", 1.5), (2, "A", 2.5), (3, "B", 3.5)]


def test_moved_keys_and_a_reference_to_its_own_table_go_back(tmp_path: Path) -> None:
    tree = "CREATE TABLE node (id INTEGER PRIMARY KEY, up INTEGER REFERENCES node(id), name TEXT);"
    database, found = shop(
        tmp_path, tree, "ALTER TABLE node ADD COLUMN note TEXT;",
        "INSERT INTO node VALUES (1, NULL, 'root'), (2, 1, 'left'), (3, 1, 'right')",
    )  # fmt: skip
    change(
        database,
        "UPDATE node SET id = 9 WHERE id = 2", "UPDATE node SET id = 2 WHERE id = 3",
        "UPDATE node SET id = 3, up = 2 WHERE id = 9",
    )  # fmt: skip
    assert back(database, found).losses == ()
    assert all_of(database, "SELECT * FROM node") == [(1, None, "root"), (2, 1, "right"), (3, 2, "left")]


def test_children_of_a_refused_row_wait_with_it(tmp_path: Path) -> None:
    first = SALE + "CREATE TABLE line (id INTEGER PRIMARY KEY, sale INTEGER NOT NULL REFERENCES sale(id), what TEXT);"
    database, found = shop(tmp_path, first, LOOSER, "INSERT INTO sale VALUES (1, 100, 'a')")
    change(
        database,
        "INSERT INTO sale VALUES (2, -5, 'refund'), (3, 7, 'c')",
        "INSERT INTO line VALUES (1, 1, 'bread'), (2, 2, 'bread again'), (3, 3, 'milk')",
    )
    assert back(database, found).losses == (Loss("line", 1, 0, 0), Loss("sale", 1, 0, 0))
    assert all_of(database, "PRAGMA foreign_key_check") == []
    assert all_of(database, "SELECT id FROM line ORDER BY id") == [(1,), (3,)]
    up_again(database, found)
    assert all_of(database, "SELECT id, sale FROM line ORDER BY id") == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize("clause", ["REPLACE", "IGNORE", "ROLLBACK"])
def test_a_conflict_clause_of_the_schema_eats_no_row(tmp_path: Path, clause: str) -> None:
    first = f"CREATE TABLE product (id INTEGER PRIMARY KEY, barcode TEXT, UNIQUE (barcode) ON CONFLICT {clause});"
    step = """-- changes: redefine product
CREATE TABLE new_product (id INTEGER PRIMARY KEY, barcode TEXT);
INSERT INTO new_product SELECT * FROM product;
DROP TABLE product;
ALTER TABLE new_product RENAME TO product;"""
    database, found = shop(tmp_path, first, step, "INSERT INTO product VALUES (1, 'bread'), (2, 'milk')")
    change(database, "INSERT INTO product VALUES (3, 'bread'), (4, 'salt')")
    assert back(database, found).losses == (Loss("product", 1, 0, 0),)
    assert all_of(database, "SELECT * FROM product ORDER BY id") == [(1, "bread"), (2, "milk"), (4, "salt")]
    up_again(database, found)
    assert ask(database, "SELECT barcode FROM product WHERE id = 3") == "bread"


def test_columns_indexes_triggers_views_and_tables_that_people_made_go_back_and_up(tmp_path: Path) -> None:
    first = SALE + "CREATE TABLE audit (what TEXT);"
    step = """-- changes: rename sale -> sales
-- changes: rename sales.kind -> sales.method
ALTER TABLE sale RENAME TO sales;
ALTER TABLE sales RENAME COLUMN kind TO method;"""
    database, found = shop(tmp_path, first, step, "INSERT INTO sale VALUES (1, 100, 'a')")
    change(
        database,
        "ALTER TABLE sales ADD COLUMN note TEXT",
        "UPDATE sales SET note = 'paid twice' WHERE id = 1",
        "INSERT INTO sales VALUES (2, 200, 'b', 'gift')",
        "CREATE INDEX by_method ON sales (method)",
        "CREATE VIEW notes AS SELECT id, note FROM sales WHERE method <> 'x'",
        "CREATE TRIGGER stamp AFTER INSERT ON sales BEGIN INSERT INTO audit VALUES (new.method || ' S'); END",
        "CREATE TABLE staff (id INTEGER PRIMARY KEY, name TEXT)",
        "INSERT INTO staff VALUES (7, 'Ada')",
    )
    assert back(database, found).losses == ()
    assert all_of(database, "SELECT id, kind, note FROM sale") == [(1, "a", "paid twice"), (2, "b", "gift")]
    assert all_of(database, "SELECT * FROM notes") == [(1, "paid twice"), (2, "gift")]
    assert all_of(database, "SELECT * FROM staff") == [(7, "Ada")]
    assert ask(database, "SELECT count(*) FROM sqlite_schema WHERE name = 'by_method'") == 1
    change(database, "INSERT INTO sale (id, cents, kind) VALUES (3, 300, 'c')")
    assert all_of(database, "SELECT what FROM audit") == [("c S",)]
    up_again(database, found)
    assert all_of(database, "SELECT id, method, note FROM sales") == [
        (1, "a", "paid twice"), (2, "b", "gift"), (3, "c", None),
    ]  # fmt: skip


def test_what_people_dropped_stays_away_but_a_table_which_comes_back_and_is_told(tmp_path: Path) -> None:
    first = (
        SALE
        + """CREATE TABLE log (what TEXT);
CREATE TABLE spare (v TEXT);
CREATE INDEX by_kind ON sale (kind);
CREATE VIEW kinds AS SELECT kind FROM sale;
CREATE TRIGGER logged AFTER INSERT ON sale BEGIN INSERT INTO log VALUES (new.kind); END;"""
    )
    rows = ("INSERT INTO sale VALUES (1, 100, 'a')", "DELETE FROM log", "INSERT INTO spare VALUES ('x')")
    database, found = shop(tmp_path, first, "ALTER TABLE sale ADD COLUMN tip INTEGER;", *rows)
    gone = ("DROP INDEX by_kind", "DROP VIEW kinds", "DROP TRIGGER logged", "DROP TABLE spare")
    change(database, *gone, "INSERT INTO sale VALUES (2, 200, 'b', NULL)")
    assert back(database, found).losses == (Loss("spare", 0, 0, 1), Loss("table spare", 0, 0, 1))
    assert all_of(database, "SELECT * FROM sale") == [(1, 100, "a"), (2, 200, "b")]
    names = "SELECT name FROM sqlite_schema WHERE name IN ('by_kind', 'kinds', 'logged', 'spare')"
    assert all_of(database, names) == [("spare",)]
    assert all_of(database, "SELECT * FROM log") == []
    up_again(database, found)
    assert (all_of(database, names), kept(database)) == ([("spare",)], [])


@pytest.mark.parametrize("step", ["CREATE TABLE more (v);", LOOSER], ids=["elsewhere", "rebuilds it"])
def test_a_not_null_that_people_dropped_since_is_told_and_its_rows_wait(tmp_path: Path, step: str) -> None:
    first = "CREATE TABLE sale (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL, kind TEXT NOT NULL);"
    database, found = shop(tmp_path, first, step, "INSERT INTO sale VALUES (1, 100, 'a'), (2, 200, 'b')")
    looser = "CREATE TABLE own (id INTEGER PRIMARY KEY, cents INTEGER, kind TEXT)"
    rebuild = (looser, "INSERT INTO own SELECT * FROM sale", "DROP TABLE sale", "ALTER TABLE own RENAME TO sale")
    change(
        database, *rebuild, "INSERT INTO sale VALUES (3, NULL, 'c'), (4, 400, 'd')",
        "UPDATE sale SET cents = NULL WHERE id = 2",
    )  # fmt: skip
    assert back(database, found).losses == (Loss("sale", 1, 1, 0), Loss("definition of sale", 0, 1, 0))
    assert all_of(database, "SELECT * FROM sale") == [(1, 100, "a"), (2, 200, "b"), (4, 400, "d")]
    up_again(database, found)
    assert all_of(database, "SELECT * FROM sale") == [(1, 100, "a"), (2, 200, "b"), (4, 400, "d")]
    reasons = {str(row["key"]): row["reason"] for row in kept(database)}
    assert reasons == dict.fromkeys(("{'id': 2}", "{'id': 3}"), "NOT NULL constraint failed: sale.cents")


def test_a_part_of_the_schema_that_cannot_go_back_is_named_and_waits(tmp_path: Path) -> None:
    database, found = shop(
        tmp_path, SALE, "CREATE TABLE loyalty (id INTEGER PRIMARY KEY, points INTEGER);",
        "INSERT INTO sale VALUES (1, 100, 'a')",
    )  # fmt: skip
    change(
        database,
        "INSERT INTO loyalty VALUES (1, 50)",
        "ALTER TABLE loyalty ADD COLUMN note TEXT",
        "UPDATE loyalty SET note = 'vip'",
        "CREATE TRIGGER points AFTER INSERT ON sale BEGIN UPDATE loyalty SET points = points + 1; END",
    )
    returned = back(database, found)
    assert {loss.table for loss in returned.losses} == {"loyalty", "column loyalty.note", "trigger points"}
    # A trigger on a table that is not there would make every sale fail.
    change(database, "INSERT INTO sale VALUES (2, 200, 'b')")
    up_again(database, found)
    assert all_of(database, "SELECT * FROM loyalty") == [(1, 50, "vip")]
    change(database, "INSERT INTO sale VALUES (3, 300, 'c')")
    assert ask(database, "SELECT points FROM loyalty") == 51
    assert kept(database) == []


STRANGE = ["\u2028", "\x00\x01\x1b\r\n\x85\u2029\x0b\x0c\x1c", "\ufeff", "'\"\\", "\U0001f956"]


@pytest.mark.parametrize("text", STRANGE)
def test_any_text_goes_to_the_place_where_it_waits_and_back(tmp_path: Path, text: str) -> None:
    step = "ALTER TABLE sale ADD COLUMN note TEXT; ALTER TABLE sale ADD COLUMN raw;"
    database, found = shop(tmp_path, SALE, step, "INSERT INTO sale VALUES (1, 100, 'a')")
    change(
        database, ("UPDATE sale SET note = ?, kind = ?, raw = CAST(X'c328' AS TEXT)", (text, text)),
        "INSERT INTO sale VALUES (2, 5, CAST(X'ff' AS TEXT), 'x', -0.0)",
    )  # fmt: skip
    sql = "SELECT id, hex(kind), hex(note), typeof(raw), hex(raw) FROM sale"
    before = all_of(database, sql)
    assert back(database, found).losses == (Loss("sale", 0, 2, 0),)
    assert all_of(database, "SELECT id, hex(kind) FROM sale") == [(1, text.encode().hex().upper()), (2, "FF")]
    assert len(kept(database)) == 2
    up_again(database, found)
    assert all_of(database, sql) == before


def test_the_rowid_of_a_row_without_a_key_is_kept_where_it_is_free(tmp_path: Path) -> None:
    first = "CREATE TABLE word (text TEXT); CREATE TABLE use (word INTEGER);"
    database, found = shop(
        tmp_path, first, "ALTER TABLE word ADD COLUMN note TEXT;", "INSERT INTO word VALUES ('a'), ('b'), ('c')"
    )
    change(
        database, "DELETE FROM word WHERE rowid = 1", "INSERT INTO word (rowid, text) VALUES (70, 'd')",
        "INSERT INTO use VALUES (70)",
    )  # fmt: skip
    assert back(database, found).losses == ()
    assert all_of(database, "SELECT rowid, text FROM word") == [(2, "b"), (3, "c"), (70, "d")]


@pytest.mark.parametrize("other", ["", "CREATE TABLE more (v);"], ids=["one step", "two steps"])
def test_a_row_that_comes_back_to_a_taken_rowid_is_told(tmp_path: Path, other: str) -> None:
    first = "CREATE TABLE word (text TEXT CHECK (length(text) < 5)); CREATE TABLE number (n INTEGER PRIMARY KEY, t);"
    step = """-- changes: redefine word
CREATE TABLE new_word (text TEXT);
INSERT INTO new_word (rowid, text) SELECT rowid, text FROM word;
DROP TABLE word;
ALTER TABLE new_word RENAME TO word;"""
    database, found = shop(tmp_path, first, step, "INSERT INTO word VALUES ('a')")
    change(database, "INSERT INTO word VALUES ('longer'), ('longest'), ('largest')")
    back(database, found)
    change(database, "INSERT INTO word VALUES ('b'), ('c')")
    if other:
        (tmp_path / "m" / "0003_step.sql").write_text(other)
        found = folder.load(tmp_path / "m")
    told: list[str] = []
    live = effects(database, lambda event: told.append(event.text))
    outcome = coordinator.upgrade(live, migrations=found, trial_id=TrialId("t2"))
    assert outcome.name == "MIGRATED", outcome.cause
    assert all_of(database, "SELECT * FROM word ORDER BY rowid") == [
        ("a",), ("b",), ("c",), ("largest",), ("longer",), ("longest",)
    ]  # fmt: skip
    assert kept(database) == []
    (text,) = (text for text in told if "rowid" in text)
    assert text == "put back 2 rows of word under other rowids: other rows have theirs now"
    (line,) = (line for line in FlightRecorder(live.backups, database).lines() if line["event"] == "put_back")
    assert (line["rows"], line["conflicts"], line["moved_rowids"]) == (3, 0, "word: 2")


def test_later_trade_stays_and_what_it_contradicts_is_reported_by_row(tmp_path: Path) -> None:
    step = "ALTER TABLE sale ADD COLUMN tip INTEGER NOT NULL DEFAULT 0;" + LOOSER.split("\n", 1)[1].replace(
        "kind TEXT);", "kind TEXT, tip INTEGER NOT NULL DEFAULT 0);"
    )
    database, found = shop(
        tmp_path, SALE, "-- changes: redefine sale\n" + step,
        "INSERT INTO sale VALUES (1, 100, 'a'), (2, 200, 'b'), (3, 300, 'c')",
    )  # fmt: skip
    change(
        database,
        "UPDATE sale SET tip = 5",
        "UPDATE sale SET cents = -1 WHERE id = 3",
        "INSERT INTO sale VALUES (4, -2, 'refund', 0)",
    )
    back(database, found)
    change(
        database,
        "DELETE FROM sale WHERE id = 1",
        "UPDATE sale SET cents = 333 WHERE id = 3",
        "INSERT INTO sale VALUES (4, 400, 'later')",
    )
    up_again(database, found)
    assert all_of(database, "SELECT * FROM sale") == [(2, 200, "b", 5), (3, 333, "c", 5), (4, 400, "later", 0)]
    reasons = {str(row["key"]): row["reason"] for row in kept(database)}
    assert reasons == {
        "{'id': 1}": "the row is not there any more",
        "{'id': 3}": "cents was changed since",
        "{'id': 4}": "its key belongs to another row now",
    }


def test_a_number_that_was_given_to_another_row_gets_nothing_of_the_first(tmp_path: Path) -> None:
    step = "ALTER TABLE sale ADD COLUMN tip INTEGER NOT NULL DEFAULT 0;"
    database, found = shop(tmp_path, SALE, step, "INSERT INTO sale VALUES (1, 100, 'a'), (2, 200, 'b')")
    change(database, "UPDATE sale SET tip = 5")
    back(database, found)
    change(database, "DELETE FROM sale WHERE id = 2", "INSERT INTO sale VALUES (2, 900, 'another')")
    up_again(database, found)
    assert all_of(database, "SELECT * FROM sale") == [(1, 100, "a", 5), (2, 900, "another", 0)]
    assert [row["reason"] for row in kept(database)] == ["the row of this number may be another one"]


def test_of_equal_rows_without_a_key_one_that_was_edited_gives_nothing_to_another(tmp_path: Path) -> None:
    database, found = shop(
        tmp_path, "CREATE TABLE line (sku TEXT, n INTEGER);", "ALTER TABLE line ADD COLUMN off INTEGER;",
        "INSERT INTO line VALUES ('bread', 1), ('bread', 1), ('milk', 1)",
    )  # fmt: skip
    change(database, "UPDATE line SET off = 50 WHERE rowid = 2", "UPDATE line SET off = 20 WHERE rowid = 3")
    back(database, found)
    change(database, "UPDATE line SET n = 2 WHERE rowid = 2", "UPDATE line SET rowid = 9 WHERE rowid = 3")
    up_again(database, found)
    # The milk is like no other line: its number may have changed, as by VACUUM.
    assert all_of(database, "SELECT sku, n, off FROM line") == [("bread", 1, None), ("bread", 2, None), ("milk", 1, 20)]
    assert [row["reason"] for row in kept(database)] == ["the row of this number may be another one"]


def test_a_column_that_people_made_on_both_versions_keeps_the_later_value(tmp_path: Path) -> None:
    database, found = shop(
        tmp_path, "CREATE TABLE sale (id INTEGER PRIMARY KEY, cents INTEGER);",
        "ALTER TABLE sale ADD COLUMN tip INTEGER NOT NULL DEFAULT 1;", "INSERT INTO sale VALUES (1, 100), (2, 200)",
    )  # fmt: skip
    # The older schema has no column `tip`, and refuses this one.
    change(database, "ALTER TABLE sale ADD COLUMN own CHECK (tip > 0)", "UPDATE sale SET own = 5")
    back(database, found)
    change(database, "ALTER TABLE sale ADD COLUMN own", "UPDATE sale SET own = 9 WHERE id = 1")
    up_again(database, found)
    assert all_of(database, "SELECT id, own FROM sale") == [(1, 9), (2, 5)]
    assert [row["reason"] for row in kept(database)] == ["own was changed since"]


def test_the_default_of_a_column_that_people_made_is_no_loss_and_null_beside_it_is_one(tmp_path: Path) -> None:
    database, found = shop(
        tmp_path, "CREATE TABLE sale (id INTEGER PRIMARY KEY);",
        "CREATE TABLE line (a); INSERT INTO line SELECT id FROM sale;", "INSERT INTO sale VALUES (1), (2), (3), (4)",
    )  # fmt: skip
    for column in ("own REAL DEFAULT 3", "word TEXT COLLATE NOCASE DEFAULT 'a'", "free DEFAULT 1"):
        change(database, f"ALTER TABLE line ADD COLUMN {column}")
    change(
        database, "UPDATE line SET own = NULL WHERE a = 1", "UPDATE line SET word = 'A' WHERE a = 2",
        "UPDATE line SET free = 1.0 WHERE a = 3",
    )  # fmt: skip
    losses = {loss.table: tuple(loss)[1:] for loss in back(database, found).losses}
    assert losses["line"] == (0, 3, 0)
    up_again(database, found)
    assert all_of(database, "SELECT a, own, word, typeof(free) FROM line") == [
        (1, None, "a", "integer"), (2, 3.0, "A", "integer"), (3, 3.0, "a", "real"), (4, 3.0, "a", "integer"),
    ]  # fmt: skip


def test_a_result_that_cannot_go_up_again_is_restored_and_everything_waits(tmp_path: Path) -> None:
    step = """-- changes: update sale.kind
UPDATE sale SET kind = 1 / (cents <> 500);
CREATE TABLE total (kind TEXT NOT NULL, cents INTEGER NOT NULL);
INSERT INTO total SELECT kind, cents FROM sale;"""
    database, found = shop(tmp_path, SALE, step, "INSERT INTO sale VALUES (1, 100, 'a')")
    change(database, "INSERT INTO sale VALUES (2, 500, 'b')", "INSERT INTO total VALUES ('x', 9)")
    returned = back(database, found)
    assert "migrating the result up again fails: NOT NULL constraint failed: total.kind" in returned.not_known
    assert all_of(database, "SELECT id, cents FROM sale") == [(1, 100), (2, 500)]
    change(database, "UPDATE sale SET cents = 501 WHERE id = 2")
    up_again(database, found)
    assert ("x", 9) in all_of(database, "SELECT * FROM total")
    assert [(row["table"], row["reason"]) for row in kept(database)] == [("sale", "its key belongs to another row now")]


def test_two_hops_back_and_up_again_bring_everything(tmp_path: Path) -> None:
    database = tmp_path / "data" / "pos_system.db"
    database.parent.mkdir()
    steps = SALE, "ALTER TABLE sale ADD COLUMN tip INTEGER;", "ALTER TABLE sale ADD COLUMN staff TEXT;"
    found = written(tmp_path / "m", *steps)
    for number in (1, 2, 3):
        assert upgrade(database, found[:number], trial_id=f"t{number}").ready
        names = ", ".join(f"({number * 10 + row}, {row}, 'k'{', 7' * (number - 1)})" for row in (1, 2))
        change(database, f"INSERT INTO sale VALUES {names}")
    change(database, "UPDATE sale SET staff = 'Ada' WHERE id % 2", "UPDATE sale SET tip = 3 WHERE id < 25")
    before = all_of(database, "SELECT * FROM sale")
    bases = {backup.trial_id: backup for backup in list_backups(backups=database.parent / "backups", database=database)}
    for number in (3, 2):
        run = effects(database)
        gone = downgrade.downgrade(run, bases[TrialId(f"t{number}")], found[:number], accept_loss=True)
        assert (gone.outcome.name, version(database)) == ("RESTORED_WITH_LOSS", number - 1), gone.outcome.cause
        change(database, f"INSERT INTO sale (id, cents, kind) VALUES ({number * 100}, 1, 'later')")
    assert upgrade(database, found, trial_id="t4").name == "MIGRATED"
    after = all_of(database, "SELECT * FROM sale WHERE kind <> 'later'")
    assert after == before
    assert kept(database) == []
