"""What a migration may change because it says so, and what it changes beyond that."""

from __future__ import annotations

from tests.helpers.damages import OTHER_OPTIONS, rebuild, rebuilt

DECLARED: dict[str, tuple[str, str, str | None]] = {
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
    "a conversion of every price but one, declared by a condition": (
        "update product.price where o.price < 100", "UPDATE product SET price = round(price * 100) WHERE id <> 2;", None,
    ),
    "a conversion of every price but one, declared by its result": (
        "update product.price = round(o.price * 100)", "UPDATE product SET price = round(price * 100) WHERE id <> 2;", "product.price: 1 rows differ, keys 2",
    ),
    "a conversion that goes by the row after": ("update product.price where n.price = round(o.price * 100)", "UPDATE product SET price = round(price * 100);", None),
    "a conversion gone wrong in one row": (
        "update product.price where n.price = round(o.price * 100)", "UPDATE product SET price = round(price * 100) + (id = 2);", "product.price: 1 rows differ, keys 2",
    ),
    "a table renamed and written": (
        "rename left_shelf -> shelf", "ALTER TABLE left_shelf RENAME TO shelf; UPDATE shelf SET x = 'z' WHERE id = 1;", "left_shelf.x: 1 rows differ, keys 1",
    ),
    "a generated column": ("redefine product.double", rebuilt("stock * 2", "stock * 3"), None),
    "a search with other options": (
        "redefine search", OTHER_OPTIONS, None,
    ),
    "delete is no update": ("delete child", "DELETE FROM child WHERE id = 1; UPDATE child SET note = 'x' WHERE id = 2;", "child.note: 1 rows differ, keys 2"),
    "insert is no delete": ("insert soft", "DELETE FROM soft WHERE id = 1; INSERT INTO soft VALUES (9, 'p1');", "soft: 1 rows are gone, keys 1"),
    "drop a column and write another": (
        "drop column product.picture", "ALTER TABLE product DROP COLUMN picture; UPDATE product SET code = 'c' WHERE id = 1;", "product.code: 1 rows differ, keys 1",
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
