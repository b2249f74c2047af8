"""Which pages of a database file hold what, by walking its trees (sqlite.org/fileformat.html, 1.6)."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path


def leaves(database: Path, name: str) -> list[int]:
    """The leaf pages of a table or index, in the order of its rows; the first page of the file is 1."""
    with closing(sqlite3.connect(database)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    return _leaves(database.read_bytes(), size, root)


def _leaves(data: bytes, size: int, number: int) -> list[int]:
    page = data[(number - 1) * size : number * size]
    start = 100 if number == 1 else 0
    kind = page[start]
    if kind in (10, 13):
        return [number]
    count = struct.unpack(">H", page[start + 3 : start + 5])[0]
    cells = struct.unpack(f">{count}H", page[start + 12 : start + 12 + 2 * count])
    children = [struct.unpack(">I", page[at : at + 4])[0] for at in cells]
    children.append(struct.unpack(">I", page[start + 8 : start + 12])[0])
    found = [leaf for child in children for leaf in _leaves(data, size, child)]
    return [number, *found] if kind == 2 else found


def overwrite(database: Path, number: int, content: bytes = b"") -> None:
    """Puts something else where a page was; zeros by default."""
    with closing(sqlite3.connect(database)) as connection:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with database.open("r+b") as file:
        file.seek((number - 1) * size)
        file.write((content * (size // max(len(content), 1)) + bytes(size))[:size])
