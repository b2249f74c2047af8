"""What a migration changed without saying so is found; what harms nothing is not; what is declared is allowed and no more."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.changes import declared
from dbsync.errors import BadMigrations
from dbsync.model import Outcome
from tests.helpers.shop import dump, upgrade, version, written

BASE = """
CREATE TABLE parent (id TEXT PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE UNIQUE);
CREATE TABLE child (id INTEGER PRIMARY KEY AUTOINCREMENT, parent TEXT REFERENCES parent(id) ON DELETE CASCADE, note TEXT);
CREATE TABLE soft (id INTEGER PRIMARY KEY, parent TEXT REFERENCES parent(id) ON DELETE SET NULL);
CREATE TABLE product (
    id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE, price REAL NOT NULL CHECK (price >= 0), picture BLOB,
    stock INTEGER DEFAULT 0, code TEXT, double AS (stock * 2)
);
CREATE TABLE nokey (a, b TEXT);
CREATE TABLE pairs (x TEXT, y TEXT, v INTEGER, PRIMARY KEY (x, y)) WITHOUT ROWID;
CREATE TABLE "table" ("group" TEXT, "größe" INTEGER, "with space" TEXT);
CREATE INDEX product_code ON product(code);
CREATE VIEW cheap AS SELECT id FROM product WHERE price < 1;
CREATE TRIGGER gone AFTER DELETE ON nokey BEGIN UPDATE product SET stock = stock + 1; END;
CREATE VIRTUAL TABLE search USING fts5(title, body);
CREATE TABLE article (id INTEGER PRIMARY KEY, title TEXT);
CREATE VIRTUAL TABLE article_search USING fts5(title, content='article', content_rowid='id');
CREATE VIRTUAL TABLE area USING rtree(id, x0, x1);
"""
ROWS = """
INSERT INTO parent VALUES ('p1', 'Ann'), ('p2', 'Bo'), ('p3', 'Cy');
INSERT INTO child (parent, note) VALUES ('p1', 'a'), ('p1', 'b'), ('p2', 'c'), ('p3', NULL);
DELETE FROM child WHERE note = 'c';
INSERT INTO child (parent, note) VALUES ('p2', 'd');
DELETE FROM child WHERE note = 'd';
INSERT INTO soft VALUES (1, 'p1'), (2, 'p2'), (3, NULL);
INSERT INTO product (id, name, price, picture, stock, code) VALUES
    (1, 'Bread', 0.1, x'00ff10', 5, '007'), (2, 'Milk', 1.25, x'01', 7, '1'), (3, 'Salt', 3, NULL, 0, NULL);
INSERT INTO nokey VALUES (1, 'x'), (1, 'x'), ('1', 'y'), (2.5, 'z'), (NULL, NULL);
INSERT INTO pairs VALUES ('a', 'b', 1), ('a', 'c', 2);
INSERT INTO "table" VALUES ('g', 7, 's'), ('h', 8, 't');
INSERT INTO search VALUES ('one', 'two words'), ('three', 'four');
INSERT INTO article VALUES (10, 'ten'), (20, 'twenty');
INSERT INTO article_search (rowid, title) SELECT id, title FROM article;
INSERT INTO area VALUES (1, 0, 5), (2, 3, 9);
"""
REBUILD_PRODUCT = """
CREATE TABLE new_product ({columns});
INSERT INTO new_product (id, name, price, picture, stock, code) SELECT id, name, price, picture, stock, code FROM product;
DROP TABLE product; ALTER TABLE new_product RENAME TO product;
CREATE INDEX product_code ON product(code);
"""
PRODUCT = (
    "id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE, price REAL NOT NULL CHECK (price >= 0), picture BLOB,"
    " stock INTEGER DEFAULT 0, code TEXT, double AS (stock * 2)"
)


def rebuilt(before: str = "", after: str = "") -> str:
    """A rebuild of product in SQLite's order, with one thing other than it was; its view is made again."""
    text = REBUILD_PRODUCT.format(columns=PRODUCT.replace(before, after) if before else PRODUCT)
    view = "CREATE VIEW cheap AS SELECT id FROM product WHERE price < 1;"
    trigger = "CREATE TRIGGER gone AFTER DELETE ON nokey BEGIN UPDATE product SET stock = stock + 1; END;"
    return f"DROP VIEW cheap; DROP TRIGGER gone; {text} {view} {trigger}"


def rebuild(table: str, definition: str, columns: str, choice: str = "") -> str:
    """A rebuild of another table."""
    return (
        f"CREATE TABLE fresh ({definition}); INSERT INTO fresh ({columns}) SELECT {choice or columns} FROM {table};"
        f" DROP TABLE {table}; ALTER TABLE fresh RENAME TO {table};"
    )


DAMAGES = {
    "every child gone": ("DELETE FROM child;", "child: 3 rows are gone", "delete child"),
    "one row gone": ("DELETE FROM soft WHERE id = 2;", "soft: 1 rows are gone, keys 2", "delete soft"),
    "links set to null": ("UPDATE soft SET parent = NULL;", "soft.parent: 2 rows differ, keys 1, 2", "update soft.parent"),
    "a cell": ("UPDATE product SET stock = 6 WHERE id = 1;", "product.stock: 1 rows differ", "update product.stock"),
    "a float in its last bit": (
        "UPDATE product SET price = 0.10000000000000002 WHERE id = 1;", "product.price: 1 rows differ, keys 1",
        "update product.price",
    ),
    "a blob cut by a byte": ("UPDATE product SET picture = x'00ff' WHERE id = 1;", "product.picture: 1 rows", "update product.picture"),
    "a blob that became text": ("UPDATE product SET picture = 'x' WHERE id = 2;", "product.picture: 1 rows", "update product.picture"),
    "a null that became nothing": ("UPDATE product SET code = '' WHERE id = 3;", "product.code: 1 rows differ", "update product.code"),
    "case in a NOCASE column": ("UPDATE product SET name = 'bread' WHERE id = 1;", "product.name: 1 rows", "update product.name"),
    "case in a NOCASE unique": ("UPDATE parent SET name = 'ANN' WHERE id = 'p1';", "parent.name: 1 rows", "update parent.name"),
    "1 that became '1'": ("UPDATE nokey SET a = '1' WHERE b = 'x';", "rows", "nokey"),
    "007 that became 7": (
        rebuilt("code TEXT", "code INTEGER"), "product.code: 2 rows differ", "product.code",
    ),
    "rows swapped between keys": (
        "UPDATE product SET name = CASE id WHEN 1 THEN 'Milk' ELSE 'Bread' END WHERE id < 3;",
        "product.name: 2 rows differ, keys 1, 2", "update product.name",
    ),
    "keys renumbered": ("UPDATE product SET id = id + 10;", "product: 3 rows are gone, keys 1, 2, 3", "delete product"),
    "the shop's own trigger fired": ("DELETE FROM nokey WHERE b = 'z';", "product.stock: 3 rows differ", "update product.stock"),
    "a duplicate too few": ("DELETE FROM nokey WHERE rowid = 1; UPDATE product SET stock = stock - 1;", "nokey: 1 rows are gone", "delete nokey"),
    "a duplicate too many": ("INSERT INTO nokey VALUES (1, 'x');", "nokey: 1 rows are new", "insert nokey"),
    "a row without rowid": ("UPDATE pairs SET v = 3 WHERE y = 'c';", "pairs.v: 1 rows differ, keys a/c", "update pairs.v"),
    "a row without rowid gone": ("DELETE FROM pairs WHERE y = 'c';", "pairs: 1 rows are gone, keys a/c", "delete pairs"),
    "a table called table": ('UPDATE "table" SET "größe" = 9 WHERE "group" = \'g\';', "table.größe: 1 rows", "update table.größe"),
    "a name with a space": ('UPDATE "table" SET "with space" = \'\';', "table.with space: 2 rows", 'update table."with space"'),
    "a search text": ("UPDATE search SET body = 'other' WHERE title = 'one';", "search.body: 1 rows differ", "update search.body"),
    "a search row gone": ("DELETE FROM search WHERE title = 'one';", "search: 1 rows are gone", "delete search"),
    "a search that finds the wrong one": (
        "UPDATE article_search SET title = 'ten' WHERE rowid = 20;", "the search index article_search does not fit", "",
    ),
    "an area moved": ("UPDATE area SET x1 = 6 WHERE id = 1;", "area.x1: 1 rows differ", "update area.x1"),
    "a table gone": ("DROP TABLE pairs;", "table pairs with 2 rows is gone", "drop table pairs"),
    "a column gone": ("ALTER TABLE product DROP COLUMN picture;", "column product.picture is gone", "drop column product.picture"),
    "a column renamed": ("ALTER TABLE soft RENAME COLUMN parent TO owner;", "column soft.parent is gone", "drop column soft.parent"),
    "a table renamed": ('ALTER TABLE "table" RENAME TO tables;', "table table with 2 rows is gone", "drop table table"),
    "an index gone": ("DROP INDEX product_code;", "index product_code is gone", "drop index product_code"),
    "an index on something else": (
        "DROP INDEX product_code; CREATE INDEX product_code ON product(name);", "index product_code is defined otherwise",
        "redefine index product_code",
    ),
    "a view gone": ("DROP VIEW cheap;", "view cheap is gone", "drop view cheap"),
    "a view that says something else": (
        "DROP VIEW cheap; CREATE VIEW cheap AS SELECT id FROM product WHERE price < 2;", "view cheap is defined otherwise",
        "redefine view cheap",
    ),
    "a trigger gone": ("DROP TRIGGER gone;", "trigger gone is gone", "drop trigger gone"),
    "a trigger gone with a rebuild": (
        rebuild("nokey", "a, b TEXT", "a, b"), "trigger gone is gone", "drop trigger gone",
    ),
    "a forgotten collation": (rebuilt("name TEXT COLLATE NOCASE", "name TEXT"), "product.name is defined otherwise (collation)", "redefine product.name"),
    "a forgotten check": (rebuilt(" CHECK (price >= 0)"), "product has lost CHECK (price > = 0)", "redefine product"),
    "a forgotten not null": (rebuilt("REAL NOT NULL", "REAL"), "product.price is defined otherwise (not null)", "redefine product.price"),
    "a forgotten default": (rebuilt(" DEFAULT 0"), "product.stock is defined otherwise (default)", "redefine product.stock"),
    "another type": (rebuilt("price REAL", "price NUMERIC"), "product.price", "product.price"),
    "a forgotten on delete": (
        rebuild("soft", "id INTEGER PRIMARY KEY, parent TEXT REFERENCES parent(id)", "id, parent"),
        "soft has lost the foreign key parent no action set null", "redefine soft",
    ),
    "a forgotten reference": (
        rebuild("soft", "id INTEGER PRIMARY KEY, parent TEXT", "id, parent"), "soft has lost the foreign key", "redefine soft",
    ),
    "a forgotten autoincrement": (
        rebuild("child", "id INTEGER PRIMARY KEY, parent TEXT REFERENCES parent(id) ON DELETE CASCADE, note TEXT", "id, parent, note"),
        "child has lost AUTOINCREMENT", "redefine child",
    ),
    "a mark set back": (
        rebuild(
            "child", "id INTEGER PRIMARY KEY AUTOINCREMENT, parent TEXT REFERENCES parent(id) ON DELETE CASCADE, note TEXT",
            "id, parent, note",
        ),
        "the mark of child fell from 5 to 4", "reset child",
    ),
    "a forgotten unique": (
        rebuild("parent", "id TEXT PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE", "id, name"), "parent has lost UNIQUE (name nocase)",
        "redefine parent",
    ),
    "a forgotten without rowid": (
        rebuild("pairs", "x TEXT, y TEXT, v INTEGER, PRIMARY KEY (x, y)", "x, y, v"), "pairs has lost WITHOUT ROWID", "redefine pairs",
    ),
    "a copy that left a row": (
        rebuild("soft", "id INTEGER PRIMARY KEY, parent TEXT REFERENCES parent(id) ON DELETE SET NULL", "id, parent", "id, parent")
        .replace("FROM soft;", "FROM soft WHERE parent IS NOT NULL;"),
        "soft: 1 rows are gone, keys 3", "delete soft",
    ),
    "a copy with columns crossed": (
        rebuild("pairs", "x TEXT, y TEXT, v INTEGER, PRIMARY KEY (x, y)) WITHOUT ROWID; --", "x, y, v", "y, x, v")
        .replace("--)", ""),
        "pairs: 2 rows are gone", "delete pairs",
    ),
    "a conversion that rounds": ("UPDATE product SET price = round(price, 1);", "product.price: 1 rows differ, keys 2", "update product.price"),
    "text trimmed": ("UPDATE child SET note = 'A' WHERE note = 'a';", "child.note: 1 rows differ, keys 1", "update child.note"),
    "an unknown quoted name": ('UPDATE child SET note = "noote";', "noote", ""),
}  # fmt: skip

HARMLESS = {
    "a column added": "ALTER TABLE product ADD COLUMN weight REAL DEFAULT 0;",
    "a table added": "CREATE TABLE more (a); INSERT INTO more VALUES (1);",
    "an index added": "CREATE INDEX more ON product(stock);",
    "a view added": "CREATE VIEW more AS SELECT 1;",
    "a lossless rebuild": rebuilt(),
    "a rebuild with a new column": rebuilt("code TEXT", "code TEXT, weight REAL"),
    "a rebuild with columns in another order": rebuild("soft", "parent TEXT REFERENCES parent(id) ON DELETE SET NULL, id INTEGER PRIMARY KEY", "id, parent"),
    "a rebuild without a key": rebuild('"table"', '"group" TEXT, "größe" INTEGER, "with space" TEXT', '"group", "größe", "with space"'),
    "an index renamed": "DROP INDEX product_code; CREATE INDEX code_of_product ON product (code);",
    "an index spelt otherwise": 'DROP INDEX product_code; create index "product_code" on "product"( code );',
    "not null added": rebuilt("stock INTEGER DEFAULT 0", "stock INTEGER NOT NULL DEFAULT 0"),
    "a unique index added": "CREATE UNIQUE INDEX names ON product(name);",
    "the same value written": "UPDATE product SET stock = stock;",
    "a row written and put back": "UPDATE soft SET parent = 'p3' WHERE id = 1; UPDATE soft SET parent = 'p1' WHERE id = 1;",
    "rows in another order": (
        rebuild("nokey", "a, b TEXT", "a, b").replace("FROM nokey", "FROM nokey ORDER BY b DESC")
        + "CREATE TRIGGER gone AFTER DELETE ON nokey BEGIN UPDATE product SET stock = stock + 1; END;"
    ),
    "a mark carried over": rebuild(
        "child", "id INTEGER PRIMARY KEY AUTOINCREMENT, parent TEXT REFERENCES parent(id) ON DELETE CASCADE, note TEXT", "id, parent, note"
    ) + "UPDATE sqlite_sequence SET seq = 5 WHERE name = 'child';",
}  # fmt: skip

DECLARED = {
    "delete": ("delete child where o.note IS NULL", "DELETE FROM child WHERE note IS NULL;", None),
    "delete too many": ("delete child where o.note IS NULL", "DELETE FROM child WHERE id > 1;", "child: 1 rows are gone, keys 2"),
    "insert": ("insert soft where n.id > 3", "INSERT INTO soft VALUES (4, 'p1');", None),
    "insert another": ("insert soft where n.id > 4", "INSERT INTO soft VALUES (4, 'p1');", "soft: 1 rows are new, keys 4"),
    "update": ("update product.stock", "UPDATE product SET stock = 0;", None),
    "update two": ("update product.stock, product.code", "UPDATE product SET stock = 0, code = 'c';", None),
    "update another column too": ("update product.stock", "UPDATE product SET stock = 0, code = 'c';", "product.code: 3 rows differ"),
    "update where": ("update product.stock where o.id = 1", "UPDATE product SET stock = 9 WHERE id = 1;", None),
    "update elsewhere": ("update product.stock where o.id = 1", "UPDATE product SET stock = 9 WHERE id < 3;", "product.stock: 1 rows differ, keys 2"),
    "a conversion": ("update product.price = round(o.price * 100)", "UPDATE product SET price = round(price * 100);", None),
    "a conversion that missed one": (
        "update product.price = round(o.price * 100)", "UPDATE product SET price = round(price * 100) WHERE id > 1;", "product.price: 1 rows differ, keys 1",
    ),
    "rename a table": ('rename "table" -> "tables"', 'ALTER TABLE "table" RENAME TO "tables";', None),
    "rename a column": ("rename soft.parent -> soft.owner", "ALTER TABLE soft RENAME COLUMN parent TO owner;", None),
    "rename and change": (
        "rename soft.parent -> soft.owner", "ALTER TABLE soft RENAME COLUMN parent TO owner; UPDATE soft SET owner = 'p3';", "soft.parent: 3 rows differ",
    ),
    "drop a column": ("drop column product.picture", "ALTER TABLE product DROP COLUMN picture;", None),
    "drop a table": ("drop table pairs", "DROP TABLE pairs;", None),
    "drop an index": ("drop index product_code", "DROP INDEX product_code;", None),
    "retype": (
        "retype nokey.a", "UPDATE nokey SET a = CAST(a AS TEXT) WHERE b = 'x';", None,
    ),
    "redefine a view": (
        "redefine view cheap", "DROP VIEW cheap; CREATE VIEW cheap AS SELECT id FROM product WHERE price < 2;", None,
    ),
    "redefine a column": ("redefine product.name", rebuilt("name TEXT COLLATE NOCASE", "name TEXT"), None),
    "redefine is no update": (
        "redefine product.name", rebuilt("name TEXT COLLATE NOCASE", "name TEXT") + "UPDATE product SET name = 'x';", "product.name: 3 rows differ",
    ),
    "reset": (
        "reset child",
        rebuild("child", "id INTEGER PRIMARY KEY AUTOINCREMENT, parent TEXT REFERENCES parent(id) ON DELETE CASCADE, note TEXT", "id, parent, note"),
        None,
    ),
}  # fmt: skip


def run(folder: Path, step: str, *changes: str) -> tuple[Path, Outcome]:
    """A database with rows in every kind of table, and what becomes of it."""
    database = folder / "data" / "shop.db"
    database.parent.mkdir()
    assert upgrade(database, written(folder / "one", BASE)).ready
    with closing(sqlite3.connect(database)) as live, live:
        for statement in ROWS.split(";\n"):
            live.execute(statement)
    header = "".join(f"-- changes: {line}\n" for line in changes)
    return database, upgrade(database, written(folder / "two", BASE, header + step))


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_is_found_named_and_undone(tmp_path: Path, name: str) -> None:
    step, words, line = DAMAGES[name]
    database, outcome = run(tmp_path, step)
    assert outcome.failed, name
    assert words in outcome.cause, outcome.cause
    assert line in outcome.cause
    assert version(database) == 1
    assert outcome.backup is not None
    assert dump(database) == dump(outcome.backup.path)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_harms_nothing_raises_no_alarm(tmp_path: Path, name: str) -> None:
    database, outcome = run(tmp_path, HARMLESS[name])
    assert outcome.name == "MIGRATED", outcome.cause
    assert version(database) == 2


@pytest.mark.parametrize("name", DECLARED)
def test_what_is_declared_is_allowed_and_no_more(tmp_path: Path, name: str) -> None:
    line, step, words = DECLARED[name]
    database, outcome = run(tmp_path, step, line)
    if words is None:
        assert outcome.name == "MIGRATED", outcome.cause
    else:
        assert outcome.name == "VERIFICATION_FAILED"
        assert words in outcome.cause, outcome.cause
    assert version(database) == (2 if words is None else 1)


@pytest.mark.parametrize("line", ["", "destroy everything", "update", "rename a", "drop product", "retype product"])
def test_a_declaration_that_is_not_understood_is_said_so_before_anything_runs(tmp_path: Path, line: str) -> None:
    found = written(tmp_path / "m", f'"""x"""\nchanges = [{line!r}]\n\n\ndef up(db):\n    pass\n')
    with pytest.raises(BadMigrations, match="is not understood"):
        declared(found)


def test_no_value_is_ever_told(tmp_path: Path) -> None:
    database, outcome = run(tmp_path, "UPDATE child SET note = 'my secret';")
    assert "secret" not in outcome.cause
    flight = (database.parent / "backups" / "dbsync-flight.jsonl").read_text()
    assert "secret" not in flight


def test_two_migrations_that_speak_of_one_column_prove_nothing_about_the_whole_way(tmp_path: Path) -> None:
    texts = (
        "-- changes: update product.price = o.price + 1\nUPDATE product SET price = price + 1;",
        "-- changes: update product.price = o.price * 2\nUPDATE product SET price = price * 2;",
    )
    found = written(tmp_path / "m", *texts)
    assert declared(found).updates == {("product", "price"): (None, None)}
    assert declared(found[:1]).updates[("product", "price")].value == "o.price + 1"


def test_a_column_that_is_renamed_twice_keeps_the_name_that_it_had_before(tmp_path: Path) -> None:
    texts = (
        "-- changes: rename a -> b\n-- changes: rename b.x -> b.y\n",
        "-- changes: rename b.y -> b.z\n-- changes: update b.z\n",
    )
    found = declared(written(tmp_path / "m", *texts))
    assert (found.tables, found.columns) == ({"a": "b"}, {("a", "x"): "z"})
    assert list(found.updates) == [("a", "x")]


def test_a_proof_that_runs_out_of_time_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dbsync import conservation, verify

    monkeypatch.setattr(verify, "LIMIT_SECONDS", 0.0)
    monkeypatch.setattr(conservation, "STEPS", 1)
    database, outcome = run(tmp_path, "UPDATE product SET stock = stock;")
    assert outcome.name == "VERIFICATION_FAILED"
    assert "could not be proven within 0 seconds" in outcome.cause
    assert version(database) == 1
