"""A short part of the drill of the wire. `python -m tests.drills.wire` is the whole of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.drills.wire import BYTES_LIMIT, STALL, TROUBLES, can_stall_names, cut, ground, tried
from tests.helpers.wires import MODES


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make a certificate")
def test_a_download_that_is_cut_in_each_way_costs_little_more_than_the_archive(tmp_path: Path) -> None:
    seen = cut(tmp_path, seed=5, cuts_count=5, size_bytes=2_500_000)
    assert (seen.outcome, sorted(seen.happened)) == ("SWAPPED", sorted(TROUBLES))
    assert seen.ratio <= BYTES_LIMIT, seen


@pytest.mark.slow
def test_hostile_ways_have_a_name_and_an_end_and_leave_nothing_partial(tmp_path: Path) -> None:
    found = ground(tmp_path, 100_000)
    cases = [("drip the head", "metadata"), ("portal", "archive"), ("gzip bomb", "metadata"), ("many parts", "archive")]
    rows = [tried(found, *case) for case in cases]
    assert [row.problems for row in rows] == [()] * len(rows), "\n".join(row.in_words() for row in rows)
    assert [row.outcome for row in rows] == ["TIMED_OUT", "STAGING_LATER", "REFUSED", "SWAPPED"]


@pytest.mark.slow
@pytest.mark.skipif(not can_stall_names(), reason="this system does not let a test mount anything")
def test_a_name_server_that_is_silent_is_not_waited_for(tmp_path: Path) -> None:
    row = tried(ground(tmp_path, 100_000), STALL, "metadata")
    assert (row.problems, row.outcome) == ((), "TIMED_OUT")


def test_the_drill_has_many_ways() -> None:
    assert len(MODES) + 1 >= 50
