"""Decides how high each counter of a database must be: pure functions of the numbers that were read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

LEAP_LIMIT: Final = 1_000_000
"""A mark may be that much above every number in a database here, or twice that number: what a till uses in years."""
NUMBER_LIMIT: Final = 2**63 - 1
"""The highest integer of SQLite."""


class High(NamedTuple):
    """The number that a counter must not be below."""

    number: int
    """The highest that is believed."""
    not_believed: int | None = None
    """A mark outside the database that is too high to be true; None if there is none."""


def is_believed(mark: int, *, seen: int) -> bool:
    """Return whether a mark, which another account may have written, can be true beside the numbers in databases."""
    return 0 <= mark <= min(NUMBER_LIMIT, seen + max(LEAP_LIMIT, seen))


def high(mark: int | None, seen: Iterable[int]) -> High | None:
    """Return how high a counter must be; None if no number of it is known.

    Args:
        mark: the mark outside the database, which is a claim.
        seen: its numbers in the databases and copies that are here.
    """
    numbers = list(seen)
    highest = max(numbers, default=0)
    if mark is None:
        return High(highest) if numbers else None
    if not is_believed(mark, seen=highest):
        return High(highest, mark)
    return High(max(highest, mark))


def lower(numbers: Mapping[str, int | None], wanted: Mapping[str, High]) -> dict[str, High]:
    """Return the counters of a database that are below what they must be; None: it has no number yet."""
    return {
        name: wanted[name]
        for name, number in numbers.items()
        if name in wanted and (wanted[name].number > (number or 0))
    }
