"""Two days of trade on the newer version, then back: all that can be carried arrives, the rest is reported exactly."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.backups.catalog import list_backups
from dbsync.commands import downgrade
from dbsync.model import Back, Loss, Migration, Returned, SchemaNumber, TrialId
from dbsync.upgrade import restore_decision
from tests.helpers.shop import ask, dump, effects, make_shop, released, sales, upgrade, version, written

UNSOLD = "SELECT id FROM products WHERE id <> 'new' AND id NOT IN (SELECT productId FROM transaction_items)"


def trade(database: Path) -> None:
    """Sales with items, a refund, a void, an edit of an old sale, stock moves, new and changed and removed products."""
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("PRAGMA foreign_keys=ON")
        for number in range(50):
            sale = live.execute(
                "INSERT INTO transactions (receiptNumber, shiftId, totalCents, paidWith, createdAt)"
                " VALUES (?, 1, ?, 'cash', '2026-11-20')",
                (f"T{number}", 100 + number),
            ).lastrowid
            live.execute(
                "INSERT INTO transaction_items (transactionId, productId, quantity, lineCents) VALUES (?, ?, 1, ?)",
                (sale, f"p{number}", 100 + number),
            )
        live.execute("UPDATE transactions SET totalCents = totalCents - 50, paidWith = 'card' WHERE id = 3")
        live.execute("DELETE FROM transactions WHERE id = 5")
        live.execute("DELETE FROM transactions WHERE receiptNumber = 'T7'")
        live.execute("UPDATE products SET stock = stock + 500 WHERE id IN ('p1', 'p2')")
        live.execute("UPDATE products SET name = 'Brot „hell“', priceCents = 199 WHERE id = 'p3'")
        live.execute(
            "INSERT INTO products (id, name, sku, priceCents, categoryId, businessId)"
            " VALUES ('new', 'Neu', 'N', 1, 'c1', 'b1')"
        )
        live.execute(f"DELETE FROM products WHERE id = ({UNSOLD} ORDER BY id LIMIT 1)")
        live.execute("UPDATE categories SET name = 'Getränke' WHERE id = 'c1'")
        live.execute("INSERT INTO shifts (userId, openedAt) VALUES ('u1', '2026-11-20')")


def picture(database: Path) -> list[str]:
    """Every row of the app's tables, without dbsync's."""
    ours = ("dbsync_history", "schema_version", "sqlite_sequence", "new_categories")
    return sorted(line for line in dump(database) if line.startswith("INSERT") and not any(one in line for one in ours))


def shop(tmp_path: Path, found: tuple[Migration, ...], *, schema: int = 2) -> tuple[Path, Returned | None, Path]:
    """A shop brought to `found` on trial: database, nothing yet, and the same shop that was never brought there."""
    database = make_shop(tmp_path, schema=schema)
    twin = tmp_path / "twin.db"
    twin.write_bytes(database.read_bytes())
    outcome = upgrade(database, found, trial_id="t1")
    assert outcome.name == "MIGRATED", outcome.cause
    return database, None, twin


def go_back(database: Path, found: tuple[Migration, ...], *, older: int, confirmed: bool = False) -> Returned:
    """What the launcher does after a give-up."""
    from dbsync.backups.catalog import list_backups

    kept = next(
        one for one in list_backups(backups=database.parent / "backups", database=database) if one.trial_id == "t1"
    )
    return restore_decision.go_back(
        effects(database), trial_id=TrialId("t1"), backup=kept, content_sha256=None, older_schema=SchemaNumber(older),
        ever_confirmed=confirmed, migrations=found,
    )  # fmt: skip


@pytest.mark.parametrize("confirmed", [False, True])
def test_two_days_of_trade_go_back_to_the_row(tmp_path: Path, confirmed: bool) -> None:
    found = released(tmp_path, 5)
    database, _, twin = shop(tmp_path, found)
    trade(database)
    trade(twin)
    returned = go_back(database, found, older=2, confirmed=confirmed)
    assert (returned.back, returned.outcome.name, returned.losses) == (Back.DONE, "CARRIED_BACK", ())
    assert picture(database) == picture(twin)
    assert (version(database), sales(database)) == (2, 148)
    stock = "SELECT stock FROM products WHERE id = 'p1'"
    assert ask(database, stock) == ask(twin, stock)
    assert ask(database, "PRAGMA integrity_check") == "ok"
    assert upgrade(database, found, trial_id="t2").name == "MIGRATED"
    assert sales(database) == 148


def test_numbers_that_were_given_out_are_not_given_out_again(tmp_path: Path) -> None:
    found = released(tmp_path, 4)
    database, _, _ = shop(tmp_path, found)
    trade(database)
    with closing(sqlite3.connect(database)) as live, live:
        last = live.execute("SELECT max(id) FROM transactions").fetchone()[0]
        live.execute("DELETE FROM transactions WHERE id = ?", (last,))
    assert go_back(database, found, older=2).outcome.name == "CARRIED_BACK"
    with closing(sqlite3.connect(database)) as live, live:
        number = live.execute(
            "INSERT INTO transactions (receiptNumber, totalCents, paidWith, createdAt) VALUES ('X', 1, 'cash', '')"
        ).lastrowid
    assert number == last + 1


@pytest.mark.parametrize("confirmed", [False, True])
def test_what_the_older_schema_cannot_hold_is_parked_and_reported_exactly(tmp_path: Path, confirmed: bool) -> None:
    found = released(tmp_path, 5)
    database, _, _ = shop(tmp_path, found)
    trade(database)
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("UPDATE products SET barcode = '4006381333931' WHERE id IN ('p1', 'p9')")
    returned = go_back(database, found, older=2, confirmed=confirmed)
    if confirmed:
        assert (returned.back, returned.outcome.name) == (Back.STAYS, "STAYS")
        assert (version(database), sales(database)) == (5, 148)
        return
    assert (returned.back, returned.outcome.name) == (Back.DONE, "RESTORED_WITH_LOSS")
    assert [tuple(one) for one in returned.losses] == [("products", 0, 2, 0)]
    assert (version(database), sales(database)) == (2, 148)
    assert returned.parked is not None
    lines = [json.loads(line) for line in returned.parked.read_text().splitlines()]
    assert {line["row"]["id"]: line["row"]["barcode"] for line in lines} == {
        "p1": "4006381333931",
        "p9": "4006381333931",
    }
    assert returned.export is not None
    assert len((returned.export / "products.csv").read_text().splitlines()) == 3
    assert returned.set_aside is not None
    assert ask(returned.set_aside.path, "SELECT count(*) FROM products WHERE barcode IS NOT NULL") == 2
    flight = (database.parent / "backups" / "dbsync-flight.jsonl").read_text()
    assert "4006381333931" not in flight


def test_a_report_that_is_asked_for_twice_says_it_once(tmp_path: Path) -> None:
    database = tmp_path / "data" / "pos_system.db"
    database.parent.mkdir()
    found = written(tmp_path / "m", "CREATE TABLE a (id INTEGER PRIMARY KEY);", "ALTER TABLE a ADD COLUMN word TEXT;")
    assert upgrade(database, found[:1]).ready
    assert upgrade(database, found).name == "MIGRATED"
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("INSERT INTO a VALUES (1, 'new'), (2, NULL)")
    base = next(one for one in list_backups(backups=database.parent / "backups", database=database) if one.version == 1)
    for _ in range(2):
        carried = downgrade.diff(effects(database), base, found, export=tmp_path / "export").carried
        assert carried is not None
        assert carried.losses == (Loss("a", 0, 1, 0),)
        lines = (tmp_path / "export" / "parked.jsonl").read_text().splitlines()
        assert [json.loads(line)["row"] for line in lines] == [{"id": 1, "word": "new"}]


def test_migrations_that_the_database_never_had_do_not_count(tmp_path: Path) -> None:
    database = tmp_path / "data" / "pos_system.db"
    database.parent.mkdir()
    steps = "CREATE TABLE a (id INTEGER PRIMARY KEY);", "ALTER TABLE a ADD COLUMN word TEXT;"
    found = written(tmp_path / "m", *steps, "-- changes: delete a\nDELETE FROM a;")
    assert upgrade(database, found[:1]).ready
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("INSERT INTO a VALUES (1)")
    assert upgrade(database, found[:2]).name == "MIGRATED"
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("INSERT INTO a (id) VALUES (2)")
    base = next(one for one in list_backups(backups=database.parent / "backups", database=database) if one.version == 1)
    seen = downgrade.diff(effects(database), base, found, export=None)
    assert (seen.done, seen.carried and seen.carried.losses) == ((Loss("a", 1, 0, 0),), ())
    returned = downgrade.downgrade(effects(database), base, found, accept_loss=False)
    assert returned.outcome.name == "CARRIED_BACK"
    assert (version(database), ask(database, "SELECT group_concat(id) FROM a")) == (1, "1,2")


CENTS = '''"""Prices in euros, as the till shows them."""

changes = ["drop column products.priceCents"]


def up(db):
    db.execute("ALTER TABLE products ADD COLUMN priceEuro REAL NOT NULL DEFAULT 0")
    db.execute("UPDATE products SET priceEuro = priceCents / 100.0")
    db.execute("ALTER TABLE products DROP COLUMN priceCents")


def down_row(table, row):
    if table == "products":
        row["priceCents"] = round(row.pop("priceEuro") * 100)
    return row
'''


def without_check(folder: Path) -> tuple[Migration, ...]:
    """A catalogue of its own, whose price changes its meaning."""
    first = "CREATE TABLE products (id TEXT PRIMARY KEY, name TEXT, priceCents INTEGER NOT NULL DEFAULT 0);"
    return written(folder, first, CENTS)


def test_a_column_that_changed_its_meaning_goes_back_by_down_row(tmp_path: Path) -> None:
    database = tmp_path / "data" / "pos_system.db"
    database.parent.mkdir()
    found = without_check(tmp_path / "m")
    assert upgrade(database, found[:1]).ready
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("INSERT INTO products VALUES ('a', 'Bread', 555), ('b', 'Milk', 129)")
    assert upgrade(database, found, trial_id="t1").name == "MIGRATED"
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("INSERT INTO products VALUES ('c', 'Salt', 0.99)")
        live.execute("UPDATE products SET priceEuro = 5.65 WHERE id = 'a'")
    returned = go_back(database, found, older=1)
    assert returned.outcome.name == "CARRIED_BACK", returned
    with closing(sqlite3.connect(database)) as live:
        rows = live.execute("SELECT id, priceCents FROM products ORDER BY id").fetchall()
    assert rows == [("a", 565), ("b", 129), ("c", 99)]


OTHER = """
CREATE TABLE nokey (a TEXT, b INTEGER);
CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT);
CREATE VIRTUAL TABLE found USING fts5(text, content='note', content_rowid='id');
CREATE VIRTUAL TABLE own USING fts5(title, body);
CREATE TABLE pairs (x TEXT, y TEXT, v, PRIMARY KEY (x, y)) WITHOUT ROWID;
CREATE TABLE "old name" (id INTEGER PRIMARY KEY, "was" TEXT);
CREATE TRIGGER indexed AFTER INSERT ON note BEGIN INSERT INTO found (rowid, text) VALUES (new.id, new.text); END;
"""
OTHER_STEP = """\
-- changes: rename "old name" -> "new name"
-- changes: rename "new name".was -> "new name".is_now
ALTER TABLE "old name" RENAME TO "new name";
ALTER TABLE "new name" RENAME COLUMN "was" TO is_now;
ALTER TABLE nokey ADD COLUMN c TEXT DEFAULT 'x';
"""


def test_tables_of_every_kind_go_back(tmp_path: Path) -> None:
    database = tmp_path / "data" / "pos_system.db"
    database.parent.mkdir()
    found = written(tmp_path / "m", OTHER, OTHER_STEP)
    assert upgrade(database, found[:1]).ready
    with closing(sqlite3.connect(database)) as live, live:
        live.executemany("INSERT INTO nokey VALUES (?, ?)", [("one", 1), ("one", 1), ("two", 2)])
        live.execute("INSERT INTO note (text) VALUES ('first words')")
        live.execute("INSERT INTO own VALUES ('t', 'body')")
        live.execute("INSERT INTO pairs VALUES ('a', 'b', x'00ff')")
        live.execute("INSERT INTO \"old name\" VALUES (1, 'a'), (2, 'b')")
    assert upgrade(database, found, trial_id="t1").name == "MIGRATED"
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("INSERT INTO nokey (a, b) VALUES ('three', 3)")
        live.execute("DELETE FROM nokey WHERE rowid = 1")
        live.execute("INSERT INTO note (text) VALUES ('second words')")
        live.execute("INSERT INTO own VALUES ('u', 'other')")
        live.execute("UPDATE pairs SET v = 1.5")
        live.execute("UPDATE \"new name\" SET is_now = 'c' WHERE id = 2")
        live.execute('DELETE FROM "new name" WHERE id = 1')
    returned = go_back(database, found, older=1)
    assert returned.outcome.name == "CARRIED_BACK", returned
    with closing(sqlite3.connect(database)) as live:
        assert live.execute("SELECT a, b FROM nokey ORDER BY a").fetchall() == [("one", 1), ("three", 3), ("two", 2)]
        assert live.execute('SELECT id, "was" FROM "old name"').fetchall() == [(2, "c")]
        assert live.execute("SELECT text FROM note ORDER BY id").fetchall() == [("first words",), ("second words",)]
        assert live.execute("SELECT rowid FROM found WHERE found MATCH 'second'").fetchall() == [(2,)]
        assert live.execute("SELECT title FROM own ORDER BY 1").fetchall() == [("t",), ("u",)]
        assert live.execute("SELECT v, typeof(v) FROM pairs").fetchall() == [(1.5, "real")]
        triggers = live.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    assert triggers == [("indexed",)]
    # The default of the new column of `nokey` comes again by itself: nothing is parked.
    assert (returned.parked, (database.parent / "backups" / "reports").exists()) == (None, False)


def test_a_migration_that_is_not_the_same_twice_is_never_taken_for_proof(tmp_path: Path) -> None:
    found = written(
        tmp_path / "m",
        "CREATE TABLE a (x); ",
        "ALTER TABLE a ADD COLUMN r;\nUPDATE a SET r = random();",
    )
    database = tmp_path / "data" / "pos_system.db"
    database.parent.mkdir()
    assert upgrade(database, found[:1]).ready
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("INSERT INTO a VALUES (1)")
    assert upgrade(database, found, trial_id="t1").name == "MIGRATED"
    returned = go_back(database, found, older=1, confirmed=True)
    assert returned.back is Back.STAYS
    assert version(database) == 2


NAMES = {
    "a column dropped and another made": (
        "-- changes: drop column t.d\nALTER TABLE t DROP COLUMN d;", "ALTER TABLE t ADD COLUMN d TEXT DEFAULT 'new';",
    ),
    "a column renamed and another made": (
        "-- changes: rename t.d -> t.e\nALTER TABLE t RENAME COLUMN d TO e;",
        "ALTER TABLE t ADD COLUMN d TEXT DEFAULT 'new';",
    ),
    "a table dropped and another made": (
        "-- changes: drop table t\nDROP TABLE t;", "CREATE TABLE t (id INTEGER PRIMARY KEY, d TEXT DEFAULT 'new');",
    ),
    "a table renamed and another made": (
        "-- changes: rename t -> tt\nALTER TABLE t RENAME TO tt;",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, d TEXT DEFAULT 'new');",
    ),
}  # fmt: skip


@pytest.mark.parametrize("stepwise", [True, False], ids=["each release", "one skipped"])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_another_thing_has_now_is_not_taken_for_the_older_one(
    tmp_path: Path, name: str, stepwise: bool
) -> None:
    first = (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, d TEXT); CREATE TABLE sales (id INTEGER PRIMARY KEY, cents INTEGER);"
    )
    found = written(tmp_path / "m", first, *NAMES[name])
    database = tmp_path / "data" / "pos_system.db"
    database.parent.mkdir()
    assert upgrade(database, found[:1]).ready
    with closing(sqlite3.connect(database)) as live, live:
        live.executescript("INSERT INTO t VALUES (1, 'old'), (2, 'older')")
    for count in (2, 3) if stepwise else (3,):
        assert upgrade(database, found[:count]).name == "MIGRATED"
    base = next(one for one in list_backups(backups=database.parent / "backups", database=database) if one.version == 1)
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("INSERT INTO sales VALUES (1, 500)")
    seen = downgrade.diff(effects(database), base, found, export=None)
    assert (seen.done, seen.carried and seen.carried.losses) == ((Loss("sales", 1, 0, 0),), ())
    # What somebody put under the new name has no place in the older schema, and is said so.
    change = "INSERT INTO t (id, d) VALUES (1, 'mine')" if "table" in name else "UPDATE t SET d = 'mine' WHERE id = 1"
    with closing(sqlite3.connect(database)) as live, live:
        live.execute(change)
    refused = downgrade.downgrade(effects(database), base, found, accept_loss=False)
    lost = Loss("t", 1, 0, 0) if "table" in name else Loss("t", 0, 1, 0)
    assert (refused.outcome.name, refused.losses, version(database)) == ("STAYS", (lost,), 3)
    returned = downgrade.downgrade(effects(database), base, found, accept_loss=True)
    assert (returned.outcome.name, returned.parked is not None) == ("RESTORED_WITH_LOSS", True)
    assert (version(database), ask(database, "SELECT cents FROM sales")) == (1, 500)
    assert ask(database, "SELECT group_concat(d) FROM t") == "old,older"


@pytest.mark.parametrize("text", ["SELECT 1;", "-- changes: rename sales -> sold\nALTER TABLE sales RENAME TO sold;"])
def test_the_first_number_of_a_table_is_not_given_out_again_although_its_row_is_gone(tmp_path: Path, text: str) -> None:
    """The older database has no mark of a table that was empty, nor one under its newer name."""
    found = written(tmp_path / "m", "CREATE TABLE sales (id INTEGER PRIMARY KEY AUTOINCREMENT, cents INTEGER);", text)
    database = tmp_path / "data" / "pos_system.db"
    database.parent.mkdir()
    assert upgrade(database, found[:1]).ready
    assert upgrade(database, found).name == "MIGRATED"
    base = next(one for one in list_backups(backups=database.parent / "backups", database=database) if one.version == 1)
    name = "sold" if "sold" in text else "sales"
    with closing(sqlite3.connect(database)) as live, live:
        live.executescript(f"INSERT INTO {name} VALUES (7, 100); DELETE FROM {name};")
    returned = downgrade.downgrade(effects(database), base, found, accept_loss=False)
    assert (returned.outcome.name, returned.losses) == ("CARRIED_BACK", ())
    with closing(sqlite3.connect(database)) as live, live:
        assert live.execute("INSERT INTO sales (cents) VALUES (1)").lastrowid == 8
    assert version(database) == 1
