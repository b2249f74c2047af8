"""A till in a few lines: tests itself, confirms, sells. The environment says how it misbehaves today."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

HERE = Path(__file__).resolve().parent
VERSION = (HERE / "release.txt").read_text(encoding="ascii").strip()
SCHEMA = len(list((HERE / "migrations").glob("0*")))


def main() -> int:
    """Run the till; `--sell N` sells N times."""
    if "--self-test" in sys.argv:
        return 0
    mood = os.environ.get("SMALL_TILL_MOOD", "")
    with closing(sqlite3.connect(os.environ["TILLKEEPER_DATABASE"], timeout=5)) as database:
        found = database.execute("PRAGMA user_version").fetchone()[0]
        if found != SCHEMA:
            print(f"this till knows schema {SCHEMA}, the database has {found}", file=sys.stderr)
            return 9
        if mood == "sells and crashes":
            sell(database)
        if mood.endswith("crashes"):
            return 1
        if mood == "hangs":
            stay()
        if not confirm():
            return 0
        print(f"till {VERSION} is open", flush=True)
        if mood == "writes ahead":
            database.execute("PRAGMA journal_mode=WAL")
        for _ in range(int(sys.argv[-1])):
            sell(database)
        if mood in ("writes ahead", "stays open"):
            stay()
    return 0


def confirm() -> bool:
    """Confirm the trial, if there is one; return whether this till may sell."""
    file, trial_id = os.environ.get("TILLKEEPER_CONFIRM_FILE"), os.environ.get("TILLKEEPER_TRIAL_ID")
    if not file or not trial_id:
        return True
    temporary, answer = Path(f"{file}.new"), Path(f"{file}.ack")
    temporary.write_text(trial_id, encoding="ascii")
    temporary.replace(file)
    while not answer.exists():
        time.sleep(0.02)
    return answer.read_text(encoding="ascii") == "confirmed"


def sell(database: sqlite3.Connection) -> None:
    """Commit a sale, then give the customer the receipt."""
    receipt = f"R{os.urandom(4).hex()}"
    with database:
        database.execute("INSERT INTO sales (receipt, cents) VALUES (?, 250)", (receipt,))
    with Path(os.environ["SMALL_TILL_RECEIPTS"]).open("a", encoding="ascii", newline="\n") as receipts:
        receipts.write(f"{receipt}\n")


def stay() -> None:
    """Say that the till is waiting, and wait for a kill."""
    print(f"waits {os.getpid()}", flush=True)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
