"""Cells exactly as SQLite stores them, as parameters of statements and compared with each other."""

from __future__ import annotations

import math
from collections.abc import Iterable

from dbsync.storage.raw_text import BadText

Value = None | int | float | str | bytes
"""One cell, as a connection within `raw_text.every_text` reads it."""


def bound(values: Iterable[Value]) -> tuple[list[str], list[Value]]:
    """Return the SQL that stands for each value in a statement, and its parameters."""
    cells = list(values)
    if BadText not in map(type, cells):
        # Nearly every row.
        return ["?"] * len(cells), cells
    marks = ["CAST(? AS TEXT)" if isinstance(value, BadText) else "?" for value in cells]
    return marks, [bytes(value) if isinstance(value, BadText) else value for value in cells]


def same(one: Value, other: Value) -> bool:
    """Return whether two cells are equal in value and storage class; 0.0 and -0.0 differ."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, float) and isinstance(other, float):
        return math.copysign(1.0, one) == math.copysign(1.0, other)
    return True
