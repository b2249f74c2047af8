"""Decisions about downloads, as values."""

from __future__ import annotations

import pytest

from updater.answers import Answer
from updater.decisions.transfer import (
    GZIP,
    Body,
    Head,
    Health,
    Terms,
    Tries,
    Unfit,
    after_break,
    after_unfit,
    failed,
    judge,
    next_address,
    ordered,
    retry_seconds,
    terms,
    undoes,
)

SIZE = 1000


@pytest.mark.parametrize(
    ("head", "start", "fits"),
    [
        (Head(200, SIZE), 0, Body(0, sure=True)),
        (Head(200, None), 0, Body(0, sure=False)),
        (Head(200, SIZE), 500, Body(0, sure=True)),
        (Head(206, 500, (500, 999, SIZE)), 500, Body(500, sure=True)),
        (Head(206, 500, (500, 999, None)), 500, Body(500, sure=True)),
        (Head(200, 700, coding="gzip"), 0, Body(0, sure=False)),
    ],
)
def test_answers_that_fit(head: Head, start: int, fits: Body) -> None:
    assert judge(head, start=start, size_bytes=SIZE) == fits


@pytest.mark.parametrize(
    ("head", "start", "whole"),
    [
        (Head(200, 640), 0, False),
        (Head(200, 640), 500, False),
        (Head(206, 500, (500, 999, 2000)), 500, True),
        (Head(206, 600, (400, 999, SIZE)), 500, True),
        (Head(206, 500), 500, True),
        (Head(206, 1, (0, 0, 1)), 0, False),
        (Head(416), 500, True),
        (Head(501), 500, True),
        (Head(404), 0, False),
        (Head(304), 500, False),
        (Head(204), 0, False),
    ],
)
def test_answers_that_do_not(head: Head, start: int, whole: bool) -> None:
    found = judge(head, start=start, size_bytes=SIZE)
    assert isinstance(found, Unfit)
    assert (found.answer, found.whole) == (Answer.SERVER_WRONG, whole)


@pytest.mark.parametrize(
    ("head", "is_gzip", "first", "decoded", "size", "undone"),
    [
        (Head(200, SIZE), True, GZIP, b"", SIZE, False),
        (Head(200, SIZE, coding="gzip"), True, GZIP, GZIP, SIZE, False),
        (Head(200, 900, coding="gzip"), True, GZIP, GZIP + b"!", SIZE, True),
        (Head(200, None, coding="x-gzip"), True, GZIP, b"tar", SIZE, False),
        (Head(200, None, coding="gzip"), False, b"{}", b"", None, False),
        (Head(200, 90, coding="gzip"), False, GZIP, b"{}", None, True),
        (Head(200, 900, coding="gzip"), False, GZIP, b"{}", SIZE, True),
        (Head(200, None, coding="gzip"), False, GZIP, b"TKPACK1", SIZE, True),
        (Head(200, SIZE, coding="gzip"), False, b"{}", b"", SIZE, False),
        (Head(200, 900, coding="gzip"), False, b"{}", b"", SIZE, False),
        (Head(200, 90, coding="br"), False, b"x", b"", None, None),
        (Head(206, 10, (5, 14, 900), "gzip"), True, GZIP, b"", SIZE, None),
        (Head(206, 10, (990, 999, SIZE), "gzip"), True, b"x", b"", SIZE, False),
    ],
)
def test_when_a_coding_is_undone(
    head: Head, is_gzip: bool, first: bytes, decoded: bytes, size: int | None, undone: bool | None
) -> None:
    assert undoes(head, is_gzip=is_gzip, first=first, decoded=decoded, size_bytes=size) is undone


def broken(tries: Tries, progress_bytes: int, *, seconds: float = 1.0, least_rate: float = 1024.0) -> Tries:
    return after_break(
        tries,
        progress_bytes=progress_bytes,
        seconds=seconds,
        least_rate=least_rate,
        minimum_rate=1024.0,
        retries_count=3,
    )


def test_an_address_is_closed_after_tries_that_bring_nothing_and_never_while_it_brings_something() -> None:
    tries = Tries()
    for _ in range(2):
        tries = broken(tries, 0)
    assert (tries.empty_count, tries.closed) == (2, False)
    assert broken(tries, 10_000).empty_count == 0
    assert broken(tries, 10).closed


def test_less_than_any_address_must_bring_is_as_good_as_nothing() -> None:
    tries = Tries()
    for _ in range(3):
        assert not tries.closed
        tries = broken(tries, 10_000, seconds=10.0)
    assert tries.closed


def test_an_address_that_is_slower_than_its_terms_is_remembered_with_its_speed() -> None:
    tries = broken(Tries(), 500_000, seconds=10.0, least_rate=100_000.0)
    assert (tries.empty_count, tries.slow_rate) == (0, 50_000.0)
    assert broken(tries, 2_000_000, seconds=10.0, least_rate=100_000.0).slow_rate is None


def test_a_whole_file_is_asked_for_once() -> None:
    unfit = Unfit(Answer.SERVER_WRONG, "", whole=True)
    tries = after_unfit(Tries(), unfit)
    assert (tries.whole, tries.closed) == (True, False)
    assert after_unfit(tries, unfit).closed


def test_the_next_address() -> None:
    tries = {"a": Tries(), "b": Tries(), "c": Tries(closed=True)}
    assert next_address("abc", tries, None) == "a"
    assert next_address("abc", tries, "b") == "b", "it brought something"
    assert next_address("abc", {**tries, "a": Tries(1)}, "a") == "b"
    assert next_address("abc", {**tries, "b": Tries(closed=True), "a": Tries(1)}, "a") == "a"
    assert next_address("c", tries, "c") is None


def test_waits_grow_and_differ() -> None:
    assert [retry_seconds(count, base_seconds=1, chance=0.5) for count in (1, 2, 3, 9)] == [1, 2, 4, 30]
    assert retry_seconds(1, base_seconds=1, chance=0) < retry_seconds(1, base_seconds=1, chance=1)


def granted(tries: dict[str, Tries], address: str = "a", *, most_rate: float = 0.0) -> Terms:
    return terms(tries, address, left_bytes=10_000_000, left_seconds=200.0, minimum_rate=1024.0, most_rate=most_rate)


def test_beside_others_the_rest_must_come_within_the_share() -> None:
    fresh, slow = Tries(), Tries(slow_rate=30_000.0)
    assert granted({"a": fresh}) == (200.0, 1024.0), "alone"
    assert granted({"a": fresh, "b": Tries(closed=True)}) == (200.0, 1024.0)
    assert granted({"a": fresh, "b": fresh}) == (100.0, 100_000.0)
    assert granted({"a": slow, "b": fresh}) == (100.0, 100_000.0)


def test_where_the_others_were_slow_too_it_need_not_be_much_faster() -> None:
    slow = Tries(slow_rate=30_000.0)
    assert granted({"a": Tries(), "b": slow}) == (200.0, 15_000.0)
    assert granted({"a": slow, "b": slow._replace(slow_rate=40_000.0)}) == (200.0, 20_000.0)
    assert granted({"a": slow, "b": slow._replace(slow_rate=40.0)}) == (200.0, 1024.0)


def test_the_limit_of_this_terminal_makes_no_address_slow() -> None:
    assert granted({"a": Tries(), "b": Tries()}, most_rate=50_000.0) == (100.0, 25_000.0)


def test_a_slow_address_gives_way_and_of_slow_ones_the_fastest_comes_first() -> None:
    slow, slower = Tries(slow_rate=30_000.0), Tries(slow_rate=20_000.0)
    assert next_address("abc", {"a": slow, "b": slower, "c": Tries()}, "a") == "c"
    assert next_address("ab", {"a": slow, "b": slower}, "a") == "a"
    assert next_address("ab", {"a": slow, "b": slower}, "b") == "a"
    assert next_address("ab", {"a": slow, "b": Tries(empty_count=1)}, "a") == "b", "it may have been one bad moment"
    assert next_address("ab", {"a": slow._replace(closed=True), "b": slower}, "a") == "b"


def test_addresses_that_failed_come_last_and_those_that_asked_are_left_alone() -> None:
    def health(until: float, *, asked: bool = False) -> Health:
        return Health(1, until, asked, "OFFLINE", "")

    found = {"a": health(150), "b": health(50), "d": health(150, asked=True), "e": health(10_000, asked=True)}
    assert ordered("abcde", found, now=100, longest_seconds=600) == (["b", "c", "e", "a"], ["d"])


def test_pauses_grow_up_to_a_limit() -> None:
    def pause(before: Health | None, wait: float | None = None) -> float:
        return failed(
            before, answer=Answer.OFFLINE, detail="", wait_seconds=wait, now=0, longest_seconds=2000, chance=0.5
        ).until

    second = Health(1, 0, False, "", "")
    assert (pause(None), pause(second), pause(second._replace(failures_count=9))) == (300, 600, 2000)
    assert (pause(None, 100), pause(None, 10**9)) == (112.5, 2250)
