"""What a migration can do to a database of every kind of table: damages, and what harms nothing."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from dbsync.model import Outcome
from tests.helpers.shop import upgrade, written

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
CREATE TABLE memo (code TEXT, body TEXT);
CREATE VIRTUAL TABLE memo_search USING fts5(body, content='memo');
CREATE TABLE left_shelf (id INTEGER PRIMARY KEY, x TEXT, y TEXT);
CREATE TABLE right_shelf (id INTEGER PRIMARY KEY, x TEXT, y TEXT);
CREATE TRIGGER moved AFTER DELETE ON right_shelf BEGIN UPDATE left_shelf SET x = old.x WHERE id = old.id; END;
CREATE TABLE tag (id INTEGER PRIMARY KEY, word TEXT);
CREATE VIEW tagged AS SELECT word FROM tag;
CREATE TABLE late (
    id INTEGER PRIMARY KEY, parent TEXT REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED,
    code TEXT UNIQUE ON CONFLICT REPLACE
);
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
INSERT INTO memo VALUES ('m1', 'first'), ('m2', 'second'), ('m3', 'third');
INSERT INTO memo_search (rowid, body) SELECT rowid, body FROM memo;
INSERT INTO left_shelf VALUES (1, 'a', 'A'), (2, 'b', 'B');
INSERT INTO right_shelf VALUES (1, 'c', 'C'), (2, 'd', 'D');
INSERT INTO late VALUES (1, 'p1', 'one');
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


THROUGH_A_VIEW = """
CREATE VIEW door AS SELECT * FROM soft;
CREATE TRIGGER opened INSTEAD OF INSERT ON door BEGIN UPDATE soft SET parent = new.parent; END;
INSERT INTO door VALUES (7, 'p2');
"""
OTHER_OPTIONS = """
DROP TABLE search;
CREATE VIRTUAL TABLE search USING fts5(title, body, tokenize='porter');
INSERT INTO search VALUES ('one', 'two words'), ('three', 'four');
"""
WRONG_ORDER = """
ALTER TABLE parent RENAME TO t;
CREATE TABLE parent (id TEXT PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE UNIQUE);
INSERT INTO parent SELECT * FROM t;
DROP TABLE t;
"""

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
        "UPDATE article_search SET title = 'ten' WHERE rowid = 20;", "the index article_search does not fit", "",
    ),
    "an area moved": ("UPDATE area SET x1 = 6 WHERE id = 1;", "area.x1: 1 rows differ", "update area.x1"),
    "a table gone": ("DROP TABLE pairs;", "table pairs with 2 rows is gone", "drop table pairs"),
    "a column gone": ("ALTER TABLE product DROP COLUMN picture;", "column product.picture is gone", "drop column product.picture"),
    "a column renamed": ("ALTER TABLE soft RENAME COLUMN parent TO owner;", "column soft.parent is gone", "drop column soft.parent"),
    "a table renamed": ('ALTER TABLE "table" RENAME TO tables;', "table table with 2 rows is gone", "drop table table"),
    "an index gone": ("DROP INDEX product_code;", "index product_code is gone", "drop index product_code"),
    "an index on something else": (
        "DROP INDEX product_code; CREATE INDEX product_code ON product(name);", "index product_code: definition changed",
        "redefine index product_code",
    ),
    "a view gone": ("DROP VIEW cheap;", "view cheap is gone", "drop view cheap"),
    "a view that says something else": (
        "DROP VIEW cheap; CREATE VIEW cheap AS SELECT id FROM product WHERE price < 2;", "view cheap: definition changed",
        "redefine view cheap",
    ),
    "a trigger gone": ("DROP TRIGGER gone;", "trigger gone is gone", "drop trigger gone"),
    "a trigger gone with a rebuild": (
        rebuild("nokey", "a, b TEXT", "a, b"), "trigger gone is gone", "drop trigger gone",
    ),
    "a forgotten collation": (rebuilt("name TEXT COLLATE NOCASE", "name TEXT"), "product.name: definition changed (collation)", "redefine product.name"),
    "a forgotten check": (rebuilt(" CHECK (price >= 0)"), "product has lost CHECK (price >= 0)", "redefine product"),
    "a forgotten not null": (rebuilt("REAL NOT NULL", "REAL"), "product.price: definition changed (NOT NULL)", "redefine product.price"),
    "a forgotten default": (rebuilt(" DEFAULT 0"), "product.stock: definition changed (default)", "redefine product.stock"),
    "another type": (rebuilt("price REAL", "price NUMERIC"), "product.price", "product.price"),
    "a forgotten on delete": (
        rebuild("soft", "id INTEGER PRIMARY KEY, parent TEXT REFERENCES parent(id)", "id, parent"),
        "soft has lost the foreign key (parent) to parent (id) on delete set null", "redefine soft",
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
        "AUTOINCREMENT counter of child dropped from 5 to 4", "reset child",
    ),
    "a forgotten unique": (
        rebuild("parent", "id TEXT PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE", "id, name"), "parent has lost UNIQUE (name collate nocase)",
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
    "an unknown quoted name": ('UPDATE child SET note = "noote";', "no such column: noote", ""),
    "a misspelt name that fills a new column": (
        'ALTER TABLE child ADD COLUMN memo TEXT; UPDATE child SET memo = "notee";', "no such column: notee", "",
    ),
    "a misspelt name that fills a new table": (
        'CREATE TABLE more (id, note); INSERT INTO more SELECT id, "notee" FROM child;', "no such column: notee", "",
    ),
    "a misspelt name in a new index": ('CREATE INDEX more ON child("notee");', "no such column: notee", ""),
    "a misspelt name in a new view": ('CREATE VIEW more AS SELECT "notee" FROM child;', "no such column: notee", ""),
    "a misspelt name in a new trigger": (
        'CREATE TRIGGER more AFTER UPDATE OF note ON child BEGIN UPDATE soft SET parent = "notee"; END;', "no such column: notee", "",
    ),
    "a text that is a column's name": ("UPDATE child SET note = 'note';", "child.note: 3 rows differ", "update child.note"),
    "written under another name": (
        "ALTER TABLE left_shelf RENAME TO shelf; UPDATE shelf SET x = 'z' WHERE id = 2; ALTER TABLE shelf RENAME TO left_shelf;",
        "left_shelf.x: 1 rows differ, keys 2, written by UPDATE shelf (0002_step.sql line 1)", "update left_shelf.x",
    ),
    "two tables that changed places": (
        "ALTER TABLE left_shelf RENAME TO t; ALTER TABLE right_shelf RENAME TO left_shelf; ALTER TABLE t RENAME TO right_shelf;",
        "left_shelf.x: 2 rows differ, keys 1, 2", "update left_shelf.x",
    ),
    "two columns that changed places": (
        "ALTER TABLE left_shelf RENAME COLUMN x TO t; ALTER TABLE left_shelf RENAME COLUMN y TO x; ALTER TABLE left_shelf RENAME COLUMN t TO y;",
        "left_shelf.x: 2 rows differ, keys 1, 2", "update left_shelf.x",
    ),
    "a table made anew of a choice": (
        "ALTER TABLE left_shelf RENAME TO t; CREATE TABLE left_shelf AS SELECT id, upper(x) AS x, y FROM t; DROP TABLE t;",
        "left_shelf.x: 2 rows differ", "update left_shelf.x",
    ),
    "a row written over by the same key": (
        "INSERT OR REPLACE INTO child (id, parent) VALUES (1, 'p1');", "child.note: 1 rows differ, keys 1", "update child.note",
    ),
    "a row written by an upsert": (
        "INSERT INTO pairs VALUES ('a', 'b', 1) ON CONFLICT (x, y) DO UPDATE SET v = v + 1;", "pairs.v: 1 rows differ, keys a/b", "update pairs.v",
    ),
    "rows written through a view": (
        THROUGH_A_VIEW,
        "soft.parent: 2 rows differ, keys 1, 3, written by INSERT INTO door (0002_step.sql line 4, through trigger opened)", "update soft.parent",
    ),
    "a generated column that says something else": (rebuilt("stock * 2", "stock * 3"), "product.double: definition changed (expression)", "redefine product.double"),
    "a search with other options": (
        OTHER_OPTIONS,
        "table search: definition changed", "redefine search",
    ),
    "a rebuild that renumbers under a search": (
        rebuild("memo", "code TEXT, body TEXT", "code, body").replace("FROM memo;", "FROM memo ORDER BY code DESC;"),
        "the index memo_search does not fit its content", "",
    ),
    "an area that the index lost": ("DELETE FROM area_rowid WHERE rowid = 1;", "the index area does not fit its content", ""),
    "a rebuild in the wrong order": (
        WRONG_ORDER,
        "child has lost the foreign key (parent) to parent (id) on delete cascade", "which ALTER TABLE … RENAME put in the place of parent",
    ),
    "a key that is not deferred any more": (
        rebuild("late", "id INTEGER PRIMARY KEY, parent TEXT REFERENCES parent(id), code TEXT UNIQUE ON CONFLICT REPLACE", "id, parent, code"),
        "late has lost the foreign key (parent) to parent (id) initially deferred", "redefine late",
    ),
    "a rebuild with columns in another order": (
        rebuild("soft", "parent TEXT REFERENCES parent(id) ON DELETE SET NULL, id INTEGER PRIMARY KEY", "id, parent"),
        "the columns of soft changed their order (parent, id)", "redefine soft",
    ),
    "a conflict that is not settled any more": (
        rebuild("late", "id INTEGER PRIMARY KEY, parent TEXT REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED, code TEXT UNIQUE", "id, parent, code"),
        "late has lost UNIQUE (code) on conflict replace", "redefine late",
    ),
}  # fmt: skip

CASCADES = {
    "a rebuild that cascades away every child": (
        rebuild("parent", "id TEXT PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE UNIQUE", "id, name"), "child: 3 rows are gone, keys 1, 2, 4",
    ),
    "a rebuild that sets every link to NULL": (
        rebuild("parent", "id TEXT PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE UNIQUE", "id, name"), "soft.parent: 2 rows differ, keys 1, 2",
    ),
}  # fmt: skip
"""What happens where foreign keys are on inside a migration, which dbsync never allows."""

HARMLESS = {
    "a column added": "ALTER TABLE product ADD COLUMN weight REAL DEFAULT 0;",
    "a table added": "CREATE TABLE more (a); INSERT INTO more VALUES (1);",
    "an index added": "CREATE INDEX more ON product(stock);",
    "a view added": "CREATE VIEW more AS SELECT 1;",
    "a lossless rebuild": rebuilt(),
    "a rebuild with a new column": rebuilt("code TEXT", "code TEXT, weight REAL"),
    "a rebuild with constraints spelt otherwise": rebuild("late", "id INTEGER CONSTRAINT k PRIMARY KEY, [parent] TEXT, code TEXT, FOREIGN KEY (parent) REFERENCES Parent(id) DEFERRABLE INITIALLY DEFERRED, UNIQUE (code) ON CONFLICT REPLACE", "id, parent, code"),
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


@cache
def _base() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "shop.db"
        assert upgrade(database, written(Path(folder) / "one", BASE)).ready
        with closing(sqlite3.connect(database)) as live, live:
            for statement in ROWS.split(";\n"):
                live.execute(statement)
        return database.read_bytes()


def base_shop(folder: Path) -> Path:
    """A database with rows in every kind of table."""
    database = folder / "data" / "shop.db"
    database.parent.mkdir()
    database.write_bytes(_base())
    return database


def run(folder: Path, step: str, *changes: str) -> tuple[Path, Outcome]:
    """Such a database, and what becomes of it."""
    database = base_shop(folder)
    header = "".join(f"-- changes: {line}\n" for line in changes)
    return database, upgrade(database, written(folder / "two", BASE, header + step))
