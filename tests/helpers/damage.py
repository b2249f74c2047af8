"""Damage that the cheap checks of SQLite do not see, and files that a crash leaves."""

from __future__ import annotations

import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

INNER, LEAF = 2, 10
"""The types of an index's pages (sqlite.org/fileformat2.html#b_tree_pages)."""


def exchange_pages(database: Path) -> None:
    """Exchanges two pages of an index: each is sound by itself, and keys are no longer in order.

    `quick_check` finds nothing; a query that uses the index does not find rows that are there.
    """
    with closing(sqlite3.connect(database)) as live:
        live.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        size_bytes = live.execute("PRAGMA page_size").fetchone()[0]
        roots = [row[0] for row in live.execute("SELECT rootpage FROM sqlite_schema WHERE type = 'index'")]
    data = bytearray(database.read_bytes())
    for root in roots:
        at = (root - 1) * size_bytes
        if data[at] != INNER:
            continue
        (count,) = struct.unpack_from(">H", data, at + 3)
        cells = struct.unpack_from(f">{count}H", data, at + 12)
        leaves = [struct.unpack_from(">I", data, at + cell)[0] for cell in cells]
        if len(leaves) > 1 and data[(leaves[0] - 1) * size_bytes] == LEAF:
            first, second = ((leaf - 1) * size_bytes for leaf in leaves[:2])
            one = bytes(data[first : first + size_bytes])
            data[first : first + size_bytes] = data[second : second + size_bytes]
            data[second : second + size_bytes] = one
            database.write_bytes(data)
            return
    raise AssertionError("no index has three pages")


def flip(path: Path, at: int) -> None:
    """Flips the bits of one byte of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 0xFF]))


def logged(database: Path, *, page_bytes: int = 4096, commits_count: int = 5) -> Path:
    """A database as an app leaves it that dies: sales are committed in its log and nowhere else."""
    subprocess.run([sys.executable, "-c", _DIES, database, str(page_bytes), str(commits_count)], check=True)
    assert Path(f"{database}-wal").stat().st_size > 0
    return database


_DIES = """
import os, sqlite3, sys
app = sqlite3.connect(sys.argv[1], isolation_level=None)
app.execute(f"PRAGMA page_size={sys.argv[2]}")
app.execute("PRAGMA journal_mode=WAL").fetchall()
app.execute("PRAGMA cache_size=1")
app.execute("CREATE TABLE sale (id INTEGER PRIMARY KEY, note TEXT)")
app.execute("INSERT INTO sale (note) VALUES ('old')")
app.execute("DELETE FROM sale")
app.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
app.execute("PRAGMA wal_autocheckpoint=0").fetchall()
for number in range(int(sys.argv[3])):
    app.execute("INSERT INTO sale (note) VALUES (?)", ("x" * 5000,))
app.execute("BEGIN")
for number in range(40):
    app.execute("INSERT INTO sale (note) VALUES (?)", ("y" * 5000,))
os._exit(0)
"""
