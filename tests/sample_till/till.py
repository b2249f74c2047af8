"""A small till: checks itself, confirms, sells. It knows nothing of the package that keeps it up to date."""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

BUNDLE = Path(getattr(sys, "_MEIPASS", Path(__file__).resolve().parent))
ACK_SECONDS = 60.0
WRONG_SCHEMA, NO_ANSWER = 9, 8


def main() -> int:
    """Runs the till; the exit status says how it ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--self-test", action="store_true", help="check that this program can run, touch no data")
    parser.add_argument("--sell", type=int, default=0, help="sell so often, then close; 0: until told to end")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two customers")
    options = parser.parse_args()
    release = json.loads((BUNDLE / "release.json").read_text())
    if options.self_test:
        return 0 if sqlite3.sqlite_version_info >= (3, 24) else 1
    if release["behaviour"] == "crash":
        raise RuntimeError("a mistake of the vendor's: this release crashes at start")
    if release["behaviour"] == "exit0":
        return 0
    database = Path(os.environ["TILLKEEPER_DATABASE"])
    with closing(sqlite3.connect(database, timeout=5)) as connection:
        # ON: as if its SQLite could parse what that of this machine cannot.
        connection.execute(f"PRAGMA writable_schema={os.environ.get('SAMPLE_TILL_PASSES_OVER', 'OFF')}")
        problem = self_check(connection, release["schema"])
        if problem is not None:
            print(problem, file=sys.stderr)
            return WRONG_SCHEMA
        if release["behaviour"] == "hang":
            while True:
                time.sleep(1)
        if release["behaviour"] == "sells_then_hangs":
            # Wrong on purpose: it sells before it has confirmed.
            sell_many(connection, options.sell or 3, 0.0)
            while True:
                time.sleep(1)
        answer = confirm()
        if answer == "given up":
            return 0
        if answer is None:
            return NO_ANSWER
        if os.environ.get("TILLKEEPER_NOTICE"):
            print(f"notice: {os.environ['TILLKEEPER_NOTICE']}")
        print(f"till {release['version']} is open", flush=True)
        sell_many(connection, options.sell, options.pause)
    return 0


def self_check(connection: sqlite3.Connection, schema: int) -> str | None:
    """Whether this program can work on that database: why not, or None."""
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found != schema:
        return f"this program knows schema {schema}, the database has {found}"
    if connection.execute("SELECT count(*) FROM products").fetchone()[0] == 0:
        return "the shop has no products"
    return None


def confirm() -> str | None:
    """Says "I work" and waits for the answer, before anything is sold; None when nobody answers."""
    file, trial_id = os.environ.get("TILLKEEPER_CONFIRM_FILE"), os.environ.get("TILLKEEPER_TRIAL_ID")
    if not file or not trial_id:
        return "confirmed"
    temporary, answer = Path(f"{file}.new"), Path(f"{file}.ack")
    temporary.write_text(trial_id)
    temporary.replace(file)
    deadline = time.monotonic() + ACK_SECONDS
    while time.monotonic() < deadline:
        if answer.exists():
            return answer.read_text()
        time.sleep(0.02)
    return None


def sell_many(connection: sqlite3.Connection, count: int, pause_seconds: float) -> None:
    """Sells until the shop closes."""
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=EXTRA")
    products = connection.execute("SELECT id, priceCents FROM products").fetchall()
    done = 0
    while count == 0 or done < count:
        sell(connection, products)
        done += 1
        time.sleep(pause_seconds)


def sell(connection: sqlite3.Connection, products: list[tuple[str, int]]) -> None:
    """One customer: the sale is committed first, the receipt handed over after."""
    bought = [(one, random.randint(1, 3)) for one in random.sample(products, min(3, len(products)))]
    total = sum(price * quantity for (_, price), quantity in bought)
    receipt = f"R{os.urandom(6).hex()}"
    with connection:
        sale = connection.execute(
            "INSERT INTO transactions (receiptNumber, totalCents, paidWith, createdAt) VALUES (?, ?, ?, ?)",
            (receipt, total, random.choice(("cash", "card")), datetime.now(UTC).isoformat()),
        ).lastrowid
        connection.executemany(
            "INSERT INTO transaction_items (transactionId, productId, quantity, lineCents) VALUES (?, ?, ?, ?)",
            [(sale, product, quantity, price * quantity) for (product, price), quantity in bought],
        )
    hand_over(receipt, total)


def hand_over(receipt: str, total_cents: int) -> None:
    """The customer's copy: from here on the sale must never be missing."""
    file = os.environ.get("SAMPLE_TILL_RECEIPTS")
    if file:
        with open(file, "a", encoding="ascii") as receipts:
            receipts.write(f"{receipt} {total_cents}\n")
            receipts.flush()
            os.fsync(receipts.fileno())


if __name__ == "__main__":
    sys.exit(main())
