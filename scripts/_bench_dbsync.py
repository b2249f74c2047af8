"""dbsync against the same SQL in plain sqlite3 with the usual checks, on the same data, in one run."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _environment import ROOT, say

STEPS = {
    "add a column": ("", "ALTER TABLE transaction_items ADD COLUMN note TEXT;"),
    "UNIQUE rebuild": (
        "",
        """
        CREATE TABLE new_items (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            transactionId INTEGER NOT NULL REFERENCES transactions(id) ON DELETE CASCADE,
            productId TEXT NOT NULL REFERENCES products(id),
            quantity INTEGER NOT NULL CHECK (quantity > 0),
            lineCents INTEGER NOT NULL,
            UNIQUE (transactionId, id)
        );
        INSERT INTO new_items SELECT * FROM transaction_items;
        DROP TABLE transaction_items;
        ALTER TABLE new_items RENAME TO transaction_items;
        CREATE INDEX idx_items_transaction ON transaction_items(transactionId);
        CREATE TRIGGER stock_moves AFTER INSERT ON transaction_items
        BEGIN
            UPDATE products SET stock = stock - new.quantity WHERE id = new.productId;
        END;
        """,
    ),
    "backfill": (
        "update transaction_items.lineCents = o.lineCents + 1",
        "UPDATE transaction_items SET lineCents = lineCents + 1;",
    ),
}
PLAIN = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA foreign_keys=OFF")
connection.execute("PRAGMA synchronous=EXTRA")
connection.execute("BEGIN IMMEDIATE")
text, start = open(sys.argv[2]).read(), 0
statement = ""
for piece in text.split(";"):
    statement += piece + ";"
    if sqlite3.complete_statement(statement):
        if statement.strip(" \\n;"):
            connection.execute(statement)
        statement = ""
assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
assert not connection.execute("PRAGMA foreign_key_check").fetchall()
connection.execute("COMMIT")
"""


def bench(size_megabytes: int) -> None:
    """Makes one database and runs every step through both, on fresh copies."""
    sys.path.insert(0, str(ROOT))
    from dbsync import api
    from tests.sample_till.bundles import copy_migrations

    with tempfile.TemporaryDirectory(prefix="tillkeeper-bench-") as place:
        folder = Path(place)
        shop = folder / "shop.db"
        copy_migrations(folder / "base", schema=4)
        api.run_migrations(shop, folder / "base")
        say(f"making a shop of about {size_megabytes} MB ...")
        # In a process of its own: what a parent has used counts as its children's peak.
        text = "import sys; from pathlib import Path; from tests.sample_till.fill import fill;"
        text += "fill(Path(sys.argv[1]), items_count=int(sys.argv[2]))"
        subprocess.run(
            [sys.executable, "-c", text, str(shop), str(size_megabytes * 19_000)],
            check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        size = shop.stat().st_size
        say(f"{size / 1e6:.0f} MB")
        _copies(folder, shop)
        for name, (changes, sql) in STEPS.items():
            _step(folder, shop, name, changes, sql)


def _copies(folder: Path, shop: Path) -> None:
    from dbsync import api

    began = time.monotonic()
    shutil.copyfile(shop, folder / "cp.db")
    with (folder / "cp.db").open("r+b") as file:
        os.fsync(file.fileno())
    cp_seconds = time.monotonic() - began
    (folder / "cp.db").unlink()
    began = time.monotonic()
    made = api.create_backup(shop, to=folder / "backup" / "b.db")
    seconds = time.monotonic() - began
    made.unlink()
    say(f"backup, checked and digested: {seconds:.2f} s, cp + fsync {cp_seconds:.2f} s: {seconds / cp_seconds:.1f} x")


def _step(folder: Path, shop: Path, name: str, changes: str, sql: str) -> None:
    migrations = folder / "migrations"
    shutil.rmtree(migrations, ignore_errors=True)
    shutil.copytree(folder / "base", migrations)
    header = f"-- changes: {changes}\n" if changes else ""
    (migrations / "0005_step.sql").write_text(header + sql)
    (folder / "plain.py").write_text(PLAIN)
    results = {}
    for side in ("plain", "dbsync"):
        work = folder / side
        work.mkdir()
        database = work / "shop.db"
        shutil.copyfile(shop, database)
        step = str(migrations / "0005_step.sql")
        words = {
            "plain": [sys.executable, str(folder / "plain.py"), str(database), step],
            "dbsync": [
                sys.executable,
                "-m",
                "dbsync",
                "upgrade",
                "--database",
                str(database),
                "--migrations",
                str(migrations),
            ],
        }[side]
        results[side] = _run(words)
        shutil.rmtree(work)
    (plain_s, plain_mb), (our_s, our_mb) = results["plain"], results["dbsync"]
    ours, plain = f"dbsync {our_s:.1f} s, {our_mb:.0f} MB", f"sqlite3 {plain_s:.1f} s, {plain_mb:.0f} MB"
    say(f"{name}: {ours}; {plain}: {our_s / plain_s:.2f} x")
    say("  dbsync: backup, checked; migration; quick_check, foreign keys, structure, conservation; COMMIT; quick_check")
    say("  sqlite3: the same SQL; quick_check, foreign_key_check; COMMIT")


def _run(words: "list[str]") -> "tuple[float, float]":
    began = time.monotonic()
    process = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{words} failed")
    return time.monotonic() - began, usage.ru_maxrss / 1024
