"""The hard patterns as calls: what a rebuild forgets comes along, data that does not allow a constraint is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.migrations import repeated_rows
from dbsync.model import Outcome
from dbsync.storage.connections import open_scratch
from tests.helpers.shop import ask, dump, upgrade, version, written

BASE = """
CREATE TABLE category (id TEXT PRIMARY KEY, name TEXT);
CREATE TABLE product (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT COLLATE NOCASE, sku TEXT DEFAULT 'a,b', -- a comment, with a comma
    category TEXT, price INTEGER CHECK (price > -1)
);
CREATE TABLE plain (a TEXT, b INTEGER);
CREATE INDEX product_name ON product(name);
CREATE TABLE log (text TEXT);
CREATE TRIGGER changed AFTER UPDATE ON product BEGIN INSERT INTO log VALUES (new.name); END;
CREATE TABLE pairs (x TEXT, y INTEGER, v TEXT, PRIMARY KEY (y, x)) WITHOUT ROWID;
CREATE TABLE sent (at INTEGER PRIMARY KEY, v TEXT);
CREATE TABLE taken (v TEXT, rowid TEXT, _rowid_ TEXT);
CREATE VIEW cheap AS SELECT name FROM product WHERE price < 2;
"""
ROWS = (
    "INSERT INTO category VALUES ('c1', 'Food')",
    "INSERT INTO product (name, sku, category, price) VALUES ('Bread', 'A', 'c1', 1), ('Milk', 'A', NULL, NULL)",
    "INSERT INTO product (name, sku, category, price) VALUES ('Salt', 'B', 'c1', 0), ('gone', 'B', NULL, 9)",
    "DELETE FROM product WHERE name = 'gone'",
    "INSERT INTO plain VALUES ('x', 1), ('y', NULL)",
    "INSERT INTO pairs VALUES ('a', 1, 'same'), ('b', 1, 'same'), ('a', 2, 'other')",
    "INSERT INTO sent VALUES (-9223372036854775808, 'a'), (1762500000000, 'b'), (9223372036854775807, 'c')",
    "INSERT INTO taken (oid, v, rowid, _rowid_) VALUES (7, 'a', 'x', 'y')",
)


def run(folder: Path, body: str, *changes: str) -> tuple[Path, Outcome]:
    """Rows in a small shop, then one Python step."""
    database = folder / "data" / "shop.db"
    database.parent.mkdir()
    assert upgrade(database, written(folder / "one", BASE)).ready
    with closing(sqlite3.connect(database)) as live, live:
        for statement in ROWS:
            live.execute(statement)
    step = f'"""A step."""\n\nchanges = {list(changes)!r}\n\n\ndef up(db):\n    {body}\n'
    return database, upgrade(database, written(folder / "two", BASE, step))


def kept(database: Path) -> bool:
    """Whether all that hangs on the table is there: index, trigger, view, mark."""
    with closing(sqlite3.connect(database)) as live:
        names = {
            row[0] for row in live.execute("SELECT name FROM sqlite_schema WHERE type IN ('index', 'trigger', 'view')")
        }
        mark = live.execute("SELECT seq FROM sqlite_sequence WHERE name = 'product'").fetchone()[0]
        live.execute("SELECT * FROM cheap").fetchall()
    return {"product_name", "changed", "cheap"} <= names and mark == 4


def test_a_column_is_added_only_if_it_is_missing(tmp_path: Path) -> None:
    database, outcome = run(
        tmp_path,
        "assert db.add_column('plain', 'weight', 'REAL DEFAULT 0')\n    assert not db.add_column('plain', 'Weight', 'REAL')",
    )
    assert outcome.name == "MIGRATED", outcome.cause
    assert ask(database, "SELECT sum(weight) FROM plain") == 0.0


def test_a_foreign_key_is_added_and_all_that_hangs_on_the_table_comes_along(tmp_path: Path) -> None:
    database, outcome = run(tmp_path, "db.add_foreign_key('product', 'category', 'category(id)', on_delete='SET NULL')")
    assert outcome.name == "MIGRATED", outcome.cause
    assert kept(database)
    assert ask(database, "SELECT \"on_delete\" FROM pragma_foreign_key_list('product')") == "SET NULL"
    assert ask(database, "SELECT count(*) FROM log") == 0


def test_a_foreign_key_over_rows_that_point_to_nothing_is_refused(tmp_path: Path) -> None:
    database, outcome = run(
        tmp_path,
        "db.execute(\"UPDATE plain SET a = 'lost'\")\n    db.add_foreign_key('plain', 'a', 'category(id)')",
        "update plain.a",
    )
    assert (outcome.name, outcome.cause) == (
        "MIGRATION_FAILED",
        "2 rows of plain refer to rows of category that are not there",
    )
    assert version(database) == 1


@pytest.mark.parametrize(
    ("settle", "changes", "skus"),
    [
        ("suffix", ("update product.sku where n.sku glob o.sku || '-*'", "insert log"), ["A", "A-2", "B"]),
        ("keep_oldest", ("delete product",), ["A", "B"]),
        ("keep_newest", ("delete product",), ["A", "B"]),
    ],
)
def test_duplicates_are_settled_as_stated(
    tmp_path: Path, settle: str, changes: tuple[str, ...], skus: list[str]
) -> None:
    database, outcome = run(tmp_path, f"db.add_unique('product', ['sku'], settle='{settle}')", *changes)
    assert outcome.name == "MIGRATED", outcome.cause
    with closing(sqlite3.connect(database)) as live:
        rows = live.execute("SELECT sku, name FROM product ORDER BY sku").fetchall()
    assert [row[0] for row in rows] == skus
    assert rows[0][1] == ("Milk" if settle == "keep_newest" else "Bread")
    assert kept(database)


def test_duplicates_that_are_not_settled_are_refused_with_their_count(tmp_path: Path) -> None:
    database, outcome = run(tmp_path, "db.add_unique('product', ['sku'])")
    assert (outcome.name, outcome.cause) == ("MIGRATION_FAILED", "1 rows of product repeat sku, keys 2")
    assert version(database) == 1


def test_not_null_with_a_backfill(tmp_path: Path) -> None:
    database, outcome = run(
        tmp_path,
        "db.not_null('product', 'price', fill='0')",
        "update product.price where o.price IS NULL",
        "insert log",
    )
    assert outcome.name == "MIGRATED", outcome.cause
    assert kept(database)
    assert ask(database, "SELECT \"notnull\" FROM pragma_table_info('product') WHERE name = 'price'") == 1
    assert ask(database, "SELECT price FROM product WHERE name = 'Milk'") == 0


@pytest.mark.parametrize("column", ["category", "sku"])
def test_not_null_reaches_a_column_with_a_comment_before_or_behind_it(tmp_path: Path, column: str) -> None:
    database, outcome = run(
        tmp_path,
        f"db.not_null('product', '{column}', fill=\"'c1'\")",
        f"update product.{column} where o.{column} IS NULL",
        "insert log",
    )
    assert outcome.name == "MIGRATED", outcome.cause
    assert kept(database)
    assert ask(database, f"SELECT \"notnull\" FROM pragma_table_info('product') WHERE name = '{column}'") == 1


def test_a_backfill_in_batches_tells_how_far_it_is(tmp_path: Path) -> None:
    database, outcome = run(
        tmp_path,
        "db.add_column('plain', 'c', 'INTEGER')\n    db.backfill('plain', 'c', 'coalesce(b, 7)', batch_rows=1)",
    )
    assert outcome.name == "MIGRATED", outcome.cause
    assert ask(database, "SELECT sum(c) FROM plain") == 8


@pytest.mark.parametrize("table", ["sent", "pairs", "taken"])
def test_a_backfill_reaches_every_row_whatever_its_key(tmp_path: Path, table: str) -> None:
    body = f"db.add_column('{table}', 'c', 'TEXT')\n    db.backfill('{table}', 'c', \"v || '!'\", batch_rows=2)"
    database, outcome = run(tmp_path, body)
    assert outcome.name == "MIGRATED", outcome.cause
    assert ask(database, f"SELECT count(*) FROM {table} WHERE c IS NOT v || '!'") == 0
    assert ask(database, f"SELECT count(*) FROM {table} WHERE c LIKE '%!'") in (1, 3)


@pytest.mark.parametrize("settle", ["suffix", "keep_oldest", "keep_newest"])
def test_duplicates_of_a_table_without_rowids_are_settled_by_key(tmp_path: Path, settle: str) -> None:
    changes = "update pairs.v" if settle == "suffix" else "delete pairs"
    database, outcome = run(tmp_path, f"db.add_unique('pairs', ['v'], settle='{settle}')", changes)
    assert outcome.name == "MIGRATED", outcome.cause
    with closing(sqlite3.connect(database)) as live:
        rows = live.execute("SELECT x || y, v FROM pairs ORDER BY y, x").fetchall()
    assert (
        rows
        == {
            "suffix": [("a1", "same"), ("b1", "same-2"), ("a2", "other")],
            "keep_oldest": [("a1", "same"), ("a2", "other")],
            "keep_newest": [("b1", "same"), ("a2", "other")],
        }[settle]
    )


def test_a_rebuild_keeps_rowids_whose_name_is_taken(tmp_path: Path) -> None:
    body = "db.rebuild_table('taken', 'v TEXT, rowid TEXT, _rowid_ TEXT, w TEXT')"
    database, outcome = run(tmp_path, body)
    assert outcome.name == "MIGRATED", outcome.cause
    assert ask(database, "SELECT oid || v || rowid || _rowid_ FROM taken") == "7axy"


def test_a_rebuild_takes_rowids_away_and_gives_them_back(tmp_path: Path) -> None:
    there = "db.rebuild_table('pairs', 'x TEXT, y INTEGER, v TEXT, PRIMARY KEY (y, x)')"
    back = "db.rebuild_table('pairs', '(x TEXT, y INTEGER, v TEXT, PRIMARY KEY (y, x)) WITHOUT ROWID')"
    database, outcome = run(tmp_path, f"{there}\n    {back}")
    assert outcome.name == "MIGRATED", outcome.cause
    assert ask(database, "SELECT group_concat(x || y || v) FROM pairs") == "a1same,b1same,a2other"


def test_a_column_that_is_not_there_is_no_text_in_quotes(tmp_path: Path) -> None:
    database, outcome = run(tmp_path, 'db.execute(\'UPDATE "pairs" SET v = "x" || lost\')')
    assert outcome.name == "MIGRATION_FAILED"
    assert outcome.cause.startswith("no such column: lost (line")
    assert version(database) == 1


def test_validate_clean_constrain(tmp_path: Path) -> None:
    body = "db.constrain('plain', 'b > 0', clean='UPDATE plain SET b = 1 WHERE b IS NULL')"
    database, outcome = run(tmp_path, body, "update plain.b")
    assert outcome.name == "MIGRATED", outcome.cause
    with closing(sqlite3.connect(database)) as live, pytest.raises(sqlite3.IntegrityError):
        live.execute("INSERT INTO plain VALUES ('z', 0)")


def test_rows_that_break_a_check_are_refused_with_their_count(tmp_path: Path) -> None:
    database, outcome = run(tmp_path, "db.constrain('product', 'price > 0')")
    assert (outcome.name, outcome.cause) == ("MIGRATION_FAILED", "1 rows of product break CHECK (price > 0)")
    assert version(database) == 1


def test_a_table_gets_another_definition_with_a_conversion(tmp_path: Path) -> None:
    body = "db.rebuild_table('plain', 'a TEXT, b INTEGER, double INTEGER', copy={'double': 'b * 2'})"
    database, outcome = run(tmp_path, body)
    assert outcome.name == "MIGRATED", outcome.cause
    assert ask(database, "SELECT sum(double) FROM plain") == 2
    assert dump(database)[0] == "version 2"


def test_the_worked_example_of_the_specification_works_as_it_stands(tmp_path: Path) -> None:
    body = (
        "columns = [row[1] for row in db.query('PRAGMA table_info(product)')]\n"
        "    if 'barcode' not in columns:\n"
        "        db.execute('ALTER TABLE product ADD COLUMN barcode TEXT')\n"
        "        db.log(\"✅ Added 'barcode' column to products\")"
    )
    database, outcome = run(tmp_path, body)
    assert outcome.name == "MIGRATED", outcome.cause
    assert ask(database, "SELECT count(*) FROM product WHERE barcode IS NULL") == 3


@pytest.mark.parametrize(
    ("index", "keys"),
    [
        ("CREATE UNIQUE INDEX u ON product (sku)", "2 rows of product repeat others, keys 1, 3"),
        ("create unique index if not exists u on [product] (sku COLLATE NOCASE DESC, lower(sku)) WHERE price IS NULL OR 1;",
         "2 rows of product repeat others, keys 1, 3"),
        ("CREATE UNIQUE INDEX u ON product (nothing)", ""),
        ("CREATE UNIQUE INDEX u ON product (sku) WHERE id > 1", ""),
        ("SELECT 1", ""),
    ],
)  # fmt: skip
def test_rows_in_the_way_of_a_unique_index_are_named_by_key(tmp_path: Path, index: str, keys: str) -> None:
    with closing(open_scratch()) as connection:
        connection.execute("CREATE TABLE product (id INTEGER PRIMARY KEY, sku TEXT, price)")
        connection.execute(
            "INSERT INTO product VALUES (1, 'A', 1), (2, 'B', NULL), (3, 'A', NULL), (4, NULL, 1), (5, NULL, 1)"
        )
        assert repeated_rows.of_index(connection, index) == keys
    step = f"{index};" if index.startswith("CREATE UNIQUE INDEX u ON product (sku)") and keys else None
    if step:
        database, outcome = run(tmp_path, f"db.execute({index!r})")
        assert outcome.cause.startswith("UNIQUE constraint failed: product.sku: 2 rows of product repeat others, keys ")
        assert version(database) == 1
