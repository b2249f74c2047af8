"""The laws of going back and up again, on a few random databases and one pair of versions of each app; the rest:

python -m tests.drills.laws random --runs 2000 --jobs 2; python -m tests.drills.laws lineages --jobs 2
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drills.laws import pairs
from tests.drills.laws.course import Course, case_of

EACH: int = 6


@pytest.mark.parametrize("first", [1, *(pytest.param(1 + turn * EACH, marks=pytest.mark.long) for turn in (1, 2, 3))])
def test_the_laws_hold_on_random_databases(tmp_path: Path, first: int) -> None:
    judged = 0
    for seed in range(first, first + EACH):
        folder = tmp_path / str(seed)
        folder.mkdir()
        case = case_of(seed)
        ended = Course(case, folder).run()
        assert not ended.violations, f"seed {seed}: {ended.violations[0]}\n{case.in_words()}"
        judged += sum(ended.checks.values())
    assert judged > EACH
    assert not list(tmp_path.rglob(".part-*"))


@pytest.mark.parametrize(
    "pair", [pairs.Pair("pos", 1, 5), pairs.Pair("loyalty", 1, 4), pairs.Pair("kitchen", 2, 5)], ids=str
)
def test_a_version_and_a_later_one_there_and_back(tmp_path: Path, pair: pairs.Pair) -> None:
    traded = pairs.run(pair, tmp_path, edits_count=300)
    assert not traded.violations, traded.violations
    assert (traded.edits_count, traded.left_count) == (300, 0)
    assert min(traded.changed_cells_count, traded.kept_count) > 0
    assert not list(tmp_path.rglob(".part-*"))
