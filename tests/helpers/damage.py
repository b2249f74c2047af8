"""Damage that the cheap checks of SQLite do not see, and files that a crash leaves."""

from __future__ import annotations

import sqlite3
import struct
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
