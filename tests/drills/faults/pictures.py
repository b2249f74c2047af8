"""The content of a shop's database at one moment, by plain SQL, and the comparison with what was there before."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from backports import zstd

from tests.drills.content import content
from tests.drills.faults import kept_values
from tests.drills.faults.kept_values import Numbers, Value, Values

COLUMNS: Final = {
    "transactions": ["receiptNumber", "totalCents", "paidWith", "createdAt", "shiftId"],
    "transaction_items": ["transactionId", "productId", "quantity", "lineCents"],
    # No sku: the corrected migration 6 renames one.
    "products": ["id", "name", "priceCents", "categoryId", "businessId"],
    "users": ["id", "username", "role", "businessId"],
    "shifts": ["id", "userId", "openedAt"],
    "categories": ["id", "name", "businessId"],
    "businesses": ["id", "name", "createdAt"],
}
"""What every schema of the sample till has."""
SMALL_BYTES: Final = 4096
NEW_FILE: Final = ".new-"
UNFINISHED: Final = (".part-", NEW_FILE, ".staging-", ".old-")
SALE_BYTES: Final = 85
LARGE_BYTES: Final = 100_000_000
LONG_RECEIPT_BYTES: Final = 3_900
"""Of a sale with its index entry, about."""
SALES: Final = ("transactions", "transaction_items")


class Receipt(NamedTuple):
    """What a customer holds."""

    number: str
    cents: str
    product: str


class Picture(NamedTuple):
    """Everything in a database that a migration must not lose."""

    version: int
    rows: dict[str, Counter[bytes]]
    objects: frozenset[tuple[str, str, str]]
    receipts: frozenset[Receipt]
    stock: dict[str, int]
    """For each product what is in stock plus what was sold: it never changes."""
    problems: tuple[str, ...]
    """What SQLite's own checks find."""
    numbers: Numbers
    """Its counters."""
    newer: Values
    """Values that only a newer schema can hold, as the app sees them."""
    kept: Values
    """Such values in its complement."""


class NoPicture(Exception):
    """The database cannot be read."""


def picture(database: Path, scratch: Path) -> Picture:
    """Return the content of a database, through a copy with its side files: the database itself is not touched.

    Raises:
        NoPicture: it is missing, or cannot be read.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    if not database.exists():
        raise NoPicture("it is missing")
    for ending in ("", "-wal", "-journal"):
        side = Path(f"{database}{ending}")
        if side.exists():
            shutil.copy(side, scratch / side.name)
    try:
        if database.suffix == ".zst":
            plain = scratch / "plain.db"
            plain.write_bytes(zstd.decompress((scratch / database.name).read_bytes()))
            return _picture(plain)
        return _picture(scratch / database.name)
    except (sqlite3.Error, ValueError, zstd.ZstdError) as cause:
        raise NoPicture(str(cause)) from cause
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _picture(copy: Path) -> Picture:
    with closing(sqlite3.connect(copy)) as connection:
        problems = [str(row[0]) for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
        problems += [f"foreign key of {row[0]}" for row in connection.execute("PRAGMA foreign_key_check")]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        receipts = connection.execute(
            "SELECT receiptNumber, totalCents, productId FROM transactions t"
            " JOIN transaction_items i ON i.transactionId = t.id"
        )
        known = frozenset(Receipt(number, str(cents), product) for number, cents, product in receipts)
        stock = dict(connection.execute("SELECT id, stock FROM products"))
        for product, quantity in connection.execute("SELECT productId, quantity FROM transaction_items"):
            stock[product] = stock.get(product, 0) + quantity
        numbers = kept_values.numbers(connection)
        newer, kept = kept_values.live(connection), kept_values.kept(connection)
    found = content(copy, COLUMNS)
    objects = frozenset((kind, name, " ".join(sql.split())) for kind, name, sql in found.objects)
    return Picture(version, found.rows, objects, known, stock, tuple(problems), numbers, newer, kept)


def grow(database: Path, size_bytes: int) -> None:
    """Record sales until a database has about that size: a large one has long receipts, not millions of them."""
    size_before = database.stat().st_size
    padding = "-" * (LONG_RECEIPT_BYTES if size_bytes > LARGE_BYTES else 0)
    count = max(0, size_bytes - size_before) // (SALE_BYTES + len(padding))
    with closing(sqlite3.connect(database)) as connection, connection:
        first = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM transactions").fetchone()[0]
        connection.executemany(
            "INSERT INTO transactions (id, receiptNumber, totalCents, paidWith, createdAt)"
            " VALUES (?, ?, ?, 'cash', '2026-11-28T10:00:00Z')",
            ((number, f"G{number:012d}{padding}", number % 900) for number in range(first, first + count)),
        )


def in_words(live: Path, folder: Path, scratch: Path) -> str:
    """Return which schema and how many sales the live database and the other ones have."""

    def described(path: Path) -> str:
        try:
            found = picture(path, scratch)
        except NoPicture as cause:
            return str(cause)
        return f"schema {found.version}, {found.rows['transactions'].total()} sales"

    lines = [f"live: {described(live)}"]
    lines += [f"kept: {described(path)} in {path.name}" for path in databases_beside(folder, live)]
    return "; ".join(lines)


def sales_lost(before: Picture | None, now: Picture | None) -> int:
    """Return how many sales a database had before and has not now; 0 where that cannot be told."""
    if before is None or now is None:
        return 0
    return (before.rows["transactions"] - now.rows["transactions"]).total()


def missing_rows(before: Picture, after: Picture) -> list[str]:
    """Return what was there before and is not there after, in words; sales are counted by receipts, not here."""
    found = []
    for table, rows in before.rows.items():
        missing = (rows - after.rows.get(table, Counter())).total()
        if missing:
            found.append(f"{missing} rows of {table} are missing")
        if table not in SALES and (after.rows.get(table, Counter()) - rows).total():
            found.append(f"rows of {table} have changed")
    if before.stock != after.stock:
        found.append("the stock does not agree with the sales")
    return found


def receipts_in(file: Path) -> list[Receipt]:
    """Return what customers hold; a torn last line was never handed over."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="ascii").split("\n")[:-1]
    return [Receipt(*line.split()) for line in lines]


def kept_aside(folder: Path, live: Path, scratch: Path) -> frozenset[Receipt]:
    """Return the receipts that other databases in a folder know: what was put aside, and backups."""
    found: set[Receipt] = set()
    for path in databases_beside(folder, live):
        try:
            found |= picture(path, scratch).receipts
        except NoPicture:
            continue
    return frozenset(found)


def values_aside(folder: Path, live: Path, scratch: Path) -> Values:
    """Return the values of a newer schema that other databases in a folder hold."""
    found: set[Value] = set()
    for path in databases_beside(folder, live):
        try:
            other = picture(path, scratch)
        except NoPicture:
            continue
        found |= other.newer | other.kept
    return frozenset(found)


def unfinished(folder: Path) -> list[str]:
    """Return the unfinished files and folders, but for small ones of state files.

    A cut write of a state file leaves a few hundred bytes, which the next write of that name replaces.
    """
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob(".*"))
        if path.name.startswith(UNFINISHED) and not (path.name.startswith(NEW_FILE) and _is_small(path))
    ]


def _is_small(path: Path) -> bool:
    return path.is_file() and path.stat().st_size <= SMALL_BYTES


def databases_beside(folder: Path, live: Path) -> Iterable[Path]:
    """Return the finished database files of a folder, but for the live one."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != live and ".db" in path.name
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not path.name.endswith(("-wal", "-shm", "-journal", ".lock", ".json"))
    ]  # fmt: skip
