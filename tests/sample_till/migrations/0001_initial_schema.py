"""The shop as it was first released."""

description = "Baseline schema with all tables"

SCHEMA = """
CREATE TABLE businesses (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    createdAt TEXT NOT NULL
);
CREATE TABLE users (
    id TEXT PRIMARY KEY,
    username TEXT NOT NULL UNIQUE COLLATE NOCASE,
    role TEXT NOT NULL CHECK (role IN ('cashier', 'manager', 'admin')),
    businessId TEXT NOT NULL REFERENCES businesses(id)
);
CREATE TABLE categories (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    businessId TEXT NOT NULL REFERENCES businesses(id) ON DELETE CASCADE
);
CREATE TABLE products (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    sku TEXT NOT NULL,
    priceCents INTEGER NOT NULL CHECK (priceCents >= 0),
    stock INTEGER NOT NULL DEFAULT 0,
    categoryId TEXT REFERENCES categories(id) ON DELETE SET NULL,
    businessId TEXT NOT NULL REFERENCES businesses(id)
);
CREATE TABLE shifts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    userId TEXT NOT NULL REFERENCES users(id),
    openedAt TEXT NOT NULL,
    closedAt TEXT
);
CREATE TABLE transactions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    receiptNumber TEXT NOT NULL UNIQUE,
    shiftId INTEGER REFERENCES shifts(id),
    totalCents INTEGER NOT NULL,
    paidWith TEXT NOT NULL CHECK (paidWith IN ('cash', 'card')),
    createdAt TEXT NOT NULL
);
CREATE TABLE transaction_items (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    transactionId INTEGER NOT NULL REFERENCES transactions(id) ON DELETE CASCADE,
    productId TEXT NOT NULL REFERENCES products(id),
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    lineCents INTEGER NOT NULL
);
CREATE INDEX idx_items_transaction ON transaction_items(transactionId);
CREATE INDEX idx_products_category ON products(categoryId);
CREATE TRIGGER stock_moves AFTER INSERT ON transaction_items
BEGIN
    UPDATE products SET stock = stock - new.quantity WHERE id = new.productId;
END;
"""


def up(db):
    db.script(SCHEMA)
    db.log("ℹ️ Baseline schema (v1): all tables made")
