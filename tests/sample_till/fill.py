"""Fills a shop: a business, its catalogue, and a past of sales. The same numbers give the same shop."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from uuid import UUID

PRODUCTS_COUNT = 500
CATEGORIES = ("Bakery", "Drinks", "Fruit", "Dairy", "Household", "Stationery", "Frozen", "Snacks")
ITEMS_PER_SALE = 4
SALES_AT_ONCE = 10_000
Row = tuple[int | str, ...]


def fill(database: Path, *, items_count: int, duplicate_sku: bool = False, seed: int = 1, uuids: bool = False) -> None:
    """Fills a database that has schema 1 or newer with about `items_count` sold items.

    With `uuids` products and receipts are named as real shops name them, which makes rows of about 90 bytes.
    """
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
        names = [str(UUID(int=chance.getrandbits(128))) if uuids else f"p{n}" for n in range(PRODUCTS_COUNT)]
        products = [
            (one, f"Product {n}", f"SKU-{n:05d}", chance.randint(50, 4000), 10_000, f"c{n % len(CATEGORIES)}", "b1")
            for n, one in enumerate(names)
        ]
        if duplicate_sku:
            products[7] = (*products[7][:2], products[3][2], *products[7][3:])
        columns = "id, name, sku, priceCents, stock, categoryId, businessId"
        connection.executemany(f"INSERT INTO products ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", products)
        receipt = "RCP-2024-02-01-T1-{:012d}" if uuids else "P{:08d}"
        sales = sell_before(chance, [(one[0], one[3]) for one in products], items_count // ITEMS_PER_SALE, receipt)
        while some := list(islice(sales, SALES_AT_ONCE)):
            connection.executemany(
                "INSERT INTO transactions (id, receiptNumber, shiftId, totalCents, paidWith, createdAt)"
                " VALUES (?, ?, 1, ?, ?, ?)",
                [sale for sale, _ in some],
            )
            connection.executemany(
                "INSERT INTO transaction_items (transactionId, productId, quantity, lineCents) VALUES (?, ?, ?, ?)",
                [item for _, items in some for item in items],
            )


def sell_before(
    chance: random.Random, products: list[tuple[str, int]], sales_count: int, receipt: str
) -> Iterator[tuple[Row, list[Row]]]:
    """The sales of the past, each with its items."""
    for number in range(1, sales_count + 1):
        items: list[Row] = []
        total = 0
        for product, price in chance.sample(products, ITEMS_PER_SALE):
            quantity = chance.randint(1, 3)
            items.append((number, product, quantity, price * quantity))
            total += price * quantity
        paid_with = "cash" if number % 3 else "card"
        yield (number, receipt.format(number), total, paid_with, "2024-02-01T10:00:00Z"), items
