"""How high a counter must be: marks are claims, numbers in databases are evidence."""

from __future__ import annotations

import pytest

from dbsync.counters.decisions import LEAP_LIMIT, NUMBER_LIMIT, High, high, lower


@pytest.mark.parametrize(
    ("mark", "seen", "wanted"),
    [
        (None, [], None),
        (None, [3, 7], High(7)),
        (9, [3, 7], High(9)),
        (5, [3, 7], High(7)),
        (9, [], High(9)),
        (LEAP_LIMIT, [], High(LEAP_LIMIT)),
        (LEAP_LIMIT + 1, [], High(0, LEAP_LIMIT + 1)),
        (7 + LEAP_LIMIT + 1, [7], High(7, 7 + LEAP_LIMIT + 1)),
        (2 * 10**7, [10**7], High(2 * 10**7)),
        (2 * 10**7 + 1, [10**7], High(10**7, 2 * 10**7 + 1)),
        (NUMBER_LIMIT + 1, [NUMBER_LIMIT], High(NUMBER_LIMIT, NUMBER_LIMIT + 1)),
        (-1, [7], High(7, -1)),
    ],
)
def test_a_mark_counts_as_far_as_it_can_be_true(mark: int | None, seen: list[int], wanted: High | None) -> None:
    assert high(mark, seen) == wanted


def test_a_counter_without_a_number_is_below_every_number_but_zero() -> None:
    wanted = {"a": High(5), "b": High(5), "c": High(5), "d": High(0), "not here": High(9)}
    assert lower({"a": 5, "b": 4, "c": None, "d": None, "no mark": 1}, wanted) == {"b": High(5), "c": High(5)}
