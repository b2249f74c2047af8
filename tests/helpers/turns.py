"""Tables of cases: each row and each column is run once by every change, all pairs with `./scripts/test --long`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def in_turns(rows: Iterable[str], columns: Iterable[str]) -> list[Any]:
    """Return all pairs; those are marked `long` in which neither the row nor the column has its turn."""
    down, across = list(rows), list(columns)
    count = max(len(down), len(across))
    chosen = {(down[place % len(down)], across[place % len(across)]) for place in range(count)}
    return [
        pytest.param(row, column, marks=() if (row, column) in chosen else pytest.mark.long)
        for row in down
        for column in across
    ]
