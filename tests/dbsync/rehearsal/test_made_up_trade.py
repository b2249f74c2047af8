"""Made-up trade: in every table that allows it, by its own rules, and the same each time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.rehearsal.made_up_trade import INSERTS_COUNT, TableTrade, trade
from dbsync.rehearsal.older_schema import OlderSchema
from dbsync.storage.connections import Connection
from tests.helpers.shop import dump, make_shop, written

SHOP = """
CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT NOT NULL, barcode TEXT UNIQUE, price REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('on', 'off')), gross REAL AS (price * 1.2) STORED);
CREATE TABLE sale (id INTEGER PRIMARY KEY AUTOINCREMENT, receipt TEXT NOT NULL UNIQUE, total REAL CHECK (total >= 0));
CREATE TABLE item (sale_id INTEGER NOT NULL REFERENCES sale(id) ON DELETE CASCADE, line INTEGER NOT NULL,
    product_id INTEGER NOT NULL REFERENCES product(id), quantity INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (sale_id, line)) WITHOUT ROWID;
CREATE TABLE payment (id TEXT PRIMARY KEY, sale_id INTEGER REFERENCES sale(id) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE category (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES category(id), name ANY NOT NULL) STRICT;
CREATE TABLE log (at TEXT, what TEXT);
CREATE VIEW sold AS SELECT receipt FROM sale;
CREATE TRIGGER sold_insert INSTEAD OF INSERT ON sold BEGIN INSERT INTO log VALUES ('', NEW.receipt); END;
CREATE TRIGGER product_log AFTER UPDATE ON product BEGIN INSERT INTO log VALUES ('now', NEW.name); END;
"""


@pytest.fixture
def shop() -> Iterator[Connection]:
    """An open shop without a row."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(SHOP)
        yield connection


def fill(connection: Connection) -> None:
    """Some rows in every table."""
    for number in range(1, 31):
        connection.execute("INSERT INTO product (name, barcode, price, state) VALUES (?, ?, ?, 'on')",
                           (f"product {number}", f"400123{number:04d}", number * 1.25))  # fmt: skip
        connection.execute("INSERT INTO sale (receipt, total) VALUES (?, ?)", (f"R-{number:06d}", number))
        connection.execute("INSERT INTO category (name) VALUES (?)", (f"category {number}",))
    for number in range(1, 31):
        connection.execute("INSERT INTO item VALUES (?, 1, ?, 1), (?, 2, ?, 3)", (number, number, number, 31 - number))
        connection.execute("INSERT INTO payment VALUES (?, ?)", (f"p{number}", number))


def by_table(made: tuple[TableTrade, ...]) -> dict[str, TableTrade]:
    """The counts by table."""
    return {one.table: one for one in made}


@pytest.mark.parametrize("filled", [True, False], ids=["with rows", "empty"])
def test_every_table_that_allows_it_has_trade_of_each_kind_within_every_constraint(
    shop: Connection, *, filled: bool
) -> None:
    if filled:
        fill(shop)
    made = by_table(trade(shop))
    assert set(made) == {"product", "sale", "item", "payment", "category", "log"}
    for one in made.values():
        assert (one.inserted >= INSERTS_COUNT, one.deleted > 0, one.cause) == (True, True, ""), one
        assert one.updated_columns == one.columns, one
    for table in ("product", "sale", "item", "payment", "category"):
        assert made[table].swapped_keys > 0, made[table]
    assert (made["product"].swapped_values > 0, made["sale"].swapped_values > 0) == (True, True)
    assert made["product"].children + made["sale"].children > 0
    # Each class that the column's type and its constraints let in.
    assert set(made["category"].classes) == {"blob", "integer", "null", "real", "text"}
    assert shop.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert shop.execute("PRAGMA foreign_key_check").fetchall() == []
    assert shop.execute("SELECT count(*) FROM log WHERE at = 'now'").fetchone()[0] > 0, "the trigger ran"


def test_rows_are_left_as_they_were_so_that_they_can_be_compared(shop: Connection) -> None:
    fill(shop)
    before = set(shop.execute("SELECT * FROM product").fetchall())
    trade(shop)
    untouched = before & set(shop.execute("SELECT * FROM product").fetchall())
    assert len(untouched) >= len(before) // 3


def test_the_same_seed_makes_the_same_rows_and_another_one_others(tmp_path: Path) -> None:
    found = []
    for seed in (0, 0, 1):
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.executescript(SHOP)
            fill(connection)
            made = trade(connection, seed=seed)
            found.append((made, list(connection.iterdump())))
    assert found[0] == found[1]
    assert found[0][1] != found[2][1]


@pytest.mark.parametrize(
    ("sql", "cause"),
    [
        ("CREATE TABLE closed (x); CREATE TRIGGER no BEFORE INSERT ON closed BEGIN SELECT RAISE(ABORT, 'secret'); END;",
         "a trigger refuses it"),
        ("CREATE TABLE closed (x CHECK (x < 0 AND x > 0) NOT NULL)", "CHECK constraint failed: x < 0 AND x > 0"),
        ("CREATE TABLE closed (x NOT NULL REFERENCES nowhere (id))", "no such table: main.nowhere"),
        ("CREATE TABLE closed (x); CREATE TRIGGER no BEFORE INSERT ON closed BEGIN SELECT RAISE(IGNORE); END;",
         "a trigger ignores it"),
    ],
    ids=["raise", "check", "reference", "ignore"],
)  # fmt: skip
def test_a_table_that_allows_nothing_is_named_with_the_cause(shop: Connection, sql: str, cause: str) -> None:
    shop.executescript(sql)
    made = by_table(trade(shop))
    assert (made["closed"].done_count, made["closed"].cause) == (0, cause)
    assert made["closed"].refused > 0
    assert made["log"].inserted >= INSERTS_COUNT, "the others have theirs"
    assert shop.execute("SELECT count(*) FROM closed").fetchone() == (0,)


def test_a_function_of_the_app_in_a_check_closes_its_table_alone(tmp_path: Path) -> None:
    database = tmp_path / "shop.db"
    with closing(sqlite3.connect(database)) as app:
        app.create_function("modulo97", 1, lambda value: 1, deterministic=True)
        app.executescript("CREATE TABLE account (iban TEXT CHECK (modulo97(iban))); CREATE TABLE log (what TEXT)")
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        made = by_table(trade(connection))
        assert made["account"].cause == "unknown function: modulo97()"
        assert made["log"].inserted >= INSERTS_COUNT
        assert connection.execute("SELECT count(*) FROM account").fetchone() == (0,)


def test_search_indexes_take_entries_and_one_over_another_table_follows_from_it(shop: Connection) -> None:
    shop.executescript(
        "CREATE VIRTUAL TABLE own USING fts5(body); CREATE VIRTUAL TABLE none USING fts5(body, content='');"
        "CREATE VIRTUAL TABLE names USING fts5(name, content='product', content_rowid='id');"
    )
    made = by_table(trade(shop))
    assert (made["own"].inserted >= INSERTS_COUNT, made["own"].updated > 0, made["own"].deleted > 0) == (
        True, True, True,
    )  # fmt: skip
    assert made["none"].inserted >= INSERTS_COUNT
    assert made["names"].cause == "it follows from product"


def test_values_that_only_the_newer_schema_allows_are_made_and_counted(tmp_path: Path, shop: Connection) -> None:
    backup = tmp_path / "older.db"
    with closing(sqlite3.connect(backup)) as older:
        older.executescript(SHOP)
    migrations = written(
        tmp_path / "m",
        "-- changes: rename log -> journal\nSELECT 1;",
    )
    shop.executescript(
        "ALTER TABLE log RENAME TO journal; ALTER TABLE category ADD COLUMN colour TEXT;"
        "DROP TABLE payment; CREATE TABLE payment (id TEXT PRIMARY KEY, sale_id INTEGER, tip REAL);"
        "CREATE TABLE loyalty (points INTEGER);"
    )
    fill_order = "INSERT INTO product (name, barcode, price, state) VALUES ('a', 'b', 1, 'on')"
    shop.execute(fill_order)
    with OlderSchema(backup, migrations) as schema:
        made = by_table(trade(shop, older=schema))
        assert schema.table_of("journal") == "log"
        assert schema.lacks("payment", ("id",)) == ["sale_id"]
    assert made["journal"].newer_only == 0
    assert made["category"].newer_only > 0
    assert made["payment"].newer_only > 0
    assert made["loyalty"].newer_only >= INSERTS_COUNT


def test_trade_leaves_the_sample_shop_sound_and_stops_when_it_is_told(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=5)
    before = dump(database)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:

        def no_time() -> None:
            raise TimeoutError

        with pytest.raises(TimeoutError):
            trade(connection, still_time=no_time)
        assert not connection.in_transaction
        assert dump(database) == before
        made = trade(connection)
        assert min(one.inserted for one in made) >= INSERTS_COUNT
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
