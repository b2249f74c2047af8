"""The explorer as a test: a sample of its scenarios, and proof that it would notice mistakes.

All scenarios, for as long as you like: python -m tests.drills.explorer --seconds 600; all mistakes: --seeded.
"""

from __future__ import annotations

import pytest

from tests.drills.explorer import explore, main, notice, scenario_named
from tests.drills.mistakes import MISTAKES, Mistake
from tests.simulators.moves import cut, subsets

SAMPLES = {
    "one halt, same": 700,
    "lies": 250,
    "the moment, schema": 250,
    "a choice and a halt, readable": 500,
}
"""Scenarios, and how many transitions of each are looked at here."""
QUICK = (
    "journal_before_verdict", "given_up_before_its_rejection", "issued_after_the_journal", "issued_not_synced",
    "releases_from_the_shared_file", "unissued_trials_count", "choice_without_a_proof", "choice_leaves_anything",
    "no_moment", "moment_judged_once", "start_not_counted", "recall_leaves_an_open_trial", "no_alarm",
    "urgent_stays_rejected", "nothing_owed", "pause_leaves_a_swap",
)  # fmt: skip
"""Mistakes that are noticed within a second or two."""
NAMED = {mistake.name: mistake for mistake in MISTAKES}


@pytest.mark.parametrize("name", SAMPLES)
def test_no_promise_is_violated_in_a_sample(name: str) -> None:
    found = explore(scenario_named(name), transitions_count=SAMPLES[name])
    assert not found.violation, found
    assert found.transitions_count >= SAMPLES[name]


@pytest.mark.parametrize("name", QUICK)
def test_the_explorer_notices(name: str) -> None:
    assert notice(NAMED[name]).violation


@pytest.mark.long
@pytest.mark.parametrize("mistake", [one for one in MISTAKES if one.name not in QUICK], ids=lambda one: one.name)
def test_the_explorer_notices_after_a_while(mistake: Mistake) -> None:
    assert notice(mistake, seconds=250.0).violation


@pytest.mark.long
@pytest.mark.parametrize("shop", ["schema", "readable", "same", "lossy"])
def test_one_halt_anywhere_violates_nothing(shop: str) -> None:
    found = explore(scenario_named(f"one halt, {shop}"))
    assert found.is_complete, found
    assert not found.violation, found


def test_a_cut_loses_every_subset_of_what_is_not_durable() -> None:
    from tests.drills.explorer import new_situation

    world = new_situation(scenario_named("one halt, schema"))
    world.pending = {"journal": "garbage", "moment": "another"}
    lost = sorted(sorted(one) for one in subsets(world))
    assert lost == [[], ["journal"], ["journal", "moment"], ["moment"]]
    after = cut(world, frozenset({"journal"}))
    assert (after.files["moment"], after.files["journal"] == "garbage", after.pending) == ("another", False, {})


def test_the_command_names_what_it_explored(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "one account", "--seconds", "1"]) == 0
    assert "one disturbance, one account" in capsys.readouterr().out
