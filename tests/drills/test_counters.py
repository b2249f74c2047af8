"""A sample of the drill of many restores; `python -m tests.drills.counters` does a thousand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drills import counters


@pytest.mark.parametrize("seed", [1, 4])
def test_no_counter_is_ever_lower_and_each_gap_is_explained(tmp_path: Path, seed: int) -> None:
    figures = counters.Drill(tmp_path, seed).run(20)
    assert sum(figures.operations.values()) == 20
    assert figures.raised["receipt"] == figures.raised["fiscal"] == figures.raised["ids"] > 0
    assert figures.explanations >= figures.raised["receipt"]
    assert not list(tmp_path.rglob(".part-*"))
