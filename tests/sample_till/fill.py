"""Fills a shop: a business, its catalogue, and a past of sales. The same numbers give the same shop."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

PRODUCTS_COUNT = 500
CATEGORIES = ("Bakery", "Drinks", "Fruit", "Dairy", "Household", "Stationery", "Frozen", "Snacks")
ITEMS_PER_SALE = 4


def fill(database: Path, *, items_count: int, duplicate_sku: bool = False, seed: int = 1) -> None:
    """Fills a database that has schema 1 or newer with about `items_count` sold items."""
    chance = random.Random(seed)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(
            "INSERT INTO businesses (id, name, createdAt) VALUES ('b1', 'Corner Shop', '2024-01-02T08:00:00Z')"
        )
        connection.execute("INSERT INTO users VALUES ('u1', 'Ann', 'cashier', 'b1'), ('u2', 'Bo', 'manager', 'b1')")
        connection.execute("INSERT INTO shifts (userId, openedAt) VALUES ('u1', '2024-01-02T08:00:00Z')")
        connection.executemany(
            "INSERT INTO categories (id, name, businessId) VALUES (?, ?, 'b1')",
            [(f"c{number}", name) for number, name in enumerate(CATEGORIES)],
        )
        products = [
            (f"p{n}", f"Product {n}", f"SKU-{n:05d}", chance.randint(50, 4000), 10_000, f"c{n % len(CATEGORIES)}", "b1")
            for n in range(PRODUCTS_COUNT)
        ]
        if duplicate_sku:
            products[7] = (*products[7][:2], products[3][2], *products[7][3:])
        columns = "id, name, sku, priceCents, stock, categoryId, businessId"
        connection.executemany(f"INSERT INTO products ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", products)
        sell_before(connection, chance, [(one[0], one[3]) for one in products], items_count // ITEMS_PER_SALE)


def sell_before(
    connection: sqlite3.Connection, chance: random.Random, products: list[tuple[str, int]], sales_count: int
) -> None:
    """The sales of the past."""
    sales, items = [], []
    for number in range(1, sales_count + 1):
        total = 0
        for product, price in chance.sample(products, ITEMS_PER_SALE):
            quantity = chance.randint(1, 3)
            items.append((number, product, quantity, price * quantity))
            total += price * quantity
        sales.append((number, f"P{number:08d}", total, "cash" if number % 3 else "card", "2024-02-01T10:00:00Z"))
    columns = "id, receiptNumber, shiftId, totalCents, paidWith, createdAt"
    connection.executemany(f"INSERT INTO transactions ({columns}) VALUES (?, ?, 1, ?, ?, ?)", sales)
    connection.executemany(
        "INSERT INTO transaction_items (transactionId, productId, quantity, lineCents) VALUES (?, ?, ?, ?)", items
    )
