"""A point of sale: products, sales with lines, shifts, an audit log."""

from __future__ import annotations

from typing import Final

NAME: Final = "pos"
FIRST: Final = """\
-- description: products, sales, shifts
CREATE TABLE categories (id TEXT PRIMARY KEY NOT NULL, title TEXT NOT NULL, parent_id TEXT REFERENCES categories(id));
CREATE TABLE products (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    sku TEXT UNIQUE,
    price_cents INTEGER NOT NULL CHECK (price_cents >= 0),
    stock INTEGER NOT NULL DEFAULT 0,
    category_id TEXT REFERENCES categories(id) ON DELETE SET NULL
);
CREATE TABLE shifts (id INTEGER PRIMARY KEY AUTOINCREMENT, cashier TEXT NOT NULL, opened_at TEXT, closed_at TEXT);
CREATE TABLE sales (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    receipt TEXT NOT NULL UNIQUE,
    shift_id INTEGER REFERENCES shifts(id),
    total_cents INTEGER NOT NULL,
    paid_with TEXT NOT NULL CHECK (paid_with IN ('cash', 'card')),
    sold_at TEXT
);
CREATE TABLE sale_items (
    sale_id INTEGER NOT NULL REFERENCES sales(id) ON DELETE CASCADE,
    line INTEGER NOT NULL,
    product_id TEXT REFERENCES products(id),
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    line_cents INTEGER NOT NULL,
    PRIMARY KEY (sale_id, line)
) WITHOUT ROWID;
CREATE TABLE settings (key TEXT PRIMARY KEY NOT NULL, value) WITHOUT ROWID;
CREATE TABLE audit (at TEXT, who TEXT, did TEXT);
CREATE INDEX sales_by_shift ON sales (shift_id);
CREATE INDEX products_by_name ON products (lower(name));
CREATE VIEW takings AS SELECT shift_id, sum(total_cents) AS cents FROM sales GROUP BY shift_id;
"""
BARCODES: Final = """\
-- description: barcodes, and where a sale was made
ALTER TABLE products ADD COLUMN barcode TEXT;
CREATE UNIQUE INDEX products_by_barcode ON products (barcode) WHERE barcode IS NOT NULL AND barcode <> '';
ALTER TABLE sales ADD COLUMN channel TEXT NOT NULL DEFAULT 'shop';
"""
REFUNDS: Final = '''\
"""More ways to pay, negative lines, refunds."""

description = "More ways to pay, negative lines, refunds"
changes = ["redefine sales", "redefine sales.paid_with", "redefine sale_items", "redefine sale_items.quantity"]


def up(db):
    db.rebuild_table(
        "sales",
        """
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        receipt TEXT NOT NULL UNIQUE,
        shift_id INTEGER REFERENCES shifts(id),
        total_cents INTEGER NOT NULL,
        paid_with TEXT,
        sold_at TEXT,
        channel TEXT NOT NULL DEFAULT 'shop'
        """,
    )
    db.rebuild_table(
        "sale_items",
        """(
        sale_id INTEGER NOT NULL REFERENCES sales(id) ON DELETE CASCADE,
        line INTEGER NOT NULL,
        product_id TEXT REFERENCES products(id),
        quantity INTEGER NOT NULL CHECK (quantity <> 0),
        line_cents INTEGER NOT NULL,
        PRIMARY KEY (sale_id, line)
        ) WITHOUT ROWID""",
    )
    db.execute(
        "CREATE TABLE refunds (id INTEGER PRIMARY KEY AUTOINCREMENT,"
        " sale_id INTEGER NOT NULL REFERENCES sales(id), cents INTEGER NOT NULL, reason TEXT)"
    )
'''
PRICES: Final = '''\
"""Prices with decimals; lines have their name."""

description = "Prices with decimals; lines have their name"
changes = [
    "drop column products.price_cents",
    "rename sale_items -> sale_lines",
    "rename sale_lines.line -> sale_lines.number",
]


def up(db):
    db.execute("ALTER TABLE products ADD COLUMN price REAL NOT NULL DEFAULT 0")
    db.execute("UPDATE products SET price = price_cents / 100.0")
    db.execute("ALTER TABLE products DROP COLUMN price_cents")
    db.execute("ALTER TABLE sale_items RENAME TO sale_lines")
    db.execute("ALTER TABLE sale_lines RENAME COLUMN line TO number")


def down_row(table, row):
    if table == "products":
        row["price_cents"] = round(row.pop("price") * 100)
    return row
'''
CUSTOMERS: Final = """\
-- description: customers, stock by place
-- changes: drop column products.stock
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, phone TEXT UNIQUE);
ALTER TABLE sales ADD COLUMN customer_id INTEGER REFERENCES customers(id);
CREATE TABLE stock_levels (
    product_id TEXT NOT NULL REFERENCES products(id) ON DELETE CASCADE,
    place TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    PRIMARY KEY (product_id, place)
) WITHOUT ROWID;
INSERT INTO stock_levels SELECT id, 'shop', stock FROM products WHERE stock <> 0;
ALTER TABLE products DROP COLUMN stock;
"""
MIGRATIONS: Final = (FIRST, BARCODES, REFUNDS, PRICES, CUSTOMERS)
_PRICES: Final = "SELECT sum(price_cents) FROM products"
_LINES: Final = "SELECT count(*), sum(line_cents), sum(quantity) FROM sale_items"
COUNTED: Final = {
    "sales": ("SELECT count(*), sum(total_cents) FROM sales",) * 5,
    "lines": (_LINES,) * 3 + ("SELECT count(*), sum(line_cents), sum(quantity) FROM sale_lines",) * 2,
    "prices": (_PRICES,) * 3 + ("SELECT sum(CAST(round(price * 100) AS INTEGER)) FROM products",) * 2,
    "shifts": ("SELECT count(*), max(id), group_concat(cashier) FROM shifts",) * 5,
}
