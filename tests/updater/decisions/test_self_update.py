"""Decisions about the trial of an agent: pure functions of values."""

from __future__ import annotations

import pytest

from updater.decisions.self_update import (
    AWAY_LIMIT,
    TRIALS_LIMIT,
    FailedRelease,
    Free,
    GiveUp,
    KitTrial,
    KitView,
    Note,
    Prove,
    Return,
    StepAside,
    barred,
    decide_kit,
    untested,
)
from updater.model import Release, ReleaseId, SchemaNumber

NEW = Release(ReleaseId("f" * 64), "2", SchemaNumber(0))
TRIAL = KitTrial("new", "t", NEW, 0, is_late=False, is_over=False)
NOW = "2026-11-30T10:00:00.000Z"


def view(kit_id: str = "old", trial: KitTrial | None = TRIAL, **values: object) -> KitView:
    return KitView(kit_id, "1", trial)._replace(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "step"),
    [
        (view(trial=None), Free),
        (view("new"), Prove),
        (view("new", launches_spent=True), GiveUp),
        (view("old"), StepAside),
        (view("old", TRIAL._replace(attempts_count=3)), StepAside),
        (view("old", TRIAL._replace(is_late=True)), Return),
        (view("old", TRIAL._replace(is_over=True)), Return),
        (view("third", TRIAL._replace(is_over=True)), Return),
    ],
)
def test_the_step_of_each_agent(seen: KitView, step: type) -> None:
    assert isinstance(decide_kit(seen, now=NOW), step)


def returned(seen: KitView, now: str = NOW) -> FailedRelease:
    step = decide_kit(seen, now=now)
    assert isinstance(step, Return)
    return step.failure


def test_a_release_that_fails_is_tried_again_a_day_later_and_then_no_more() -> None:
    over = TRIAL._replace(is_over=True, attempts_count=3)
    failures: tuple[FailedRelease, ...] = ()
    for count in range(1, TRIALS_LIMIT + 1):
        now = f"2026-12-{2 * count:02d}T10:00:00.000Z"
        assert barred(failures, NEW.release_id, now=now) == ""
        failures = (returned(view("old", over._replace(token=f"t{count}"), failures=failures), now),)
        assert "3 times" in barred(failures, NEW.release_id, now=now)
    assert "rejected here" in barred(failures, NEW.release_id, now="2027-12-01T10:00:00.000Z")
    assert barred(failures, ReleaseId("e" * 64), now=NOW) == "", "another release is another matter"


def test_a_network_that_was_away_counts_for_less_and_is_bounded_too() -> None:
    late = TRIAL._replace(is_late=True)
    failures: tuple[FailedRelease, ...] = ()
    for count in range(1, AWAY_LIMIT + 1):
        now = f"2026-12-{2 * count:02d}T10:00:00.000Z"
        assert barred(failures, NEW.release_id, now=now) == ""
        note = Note(f"t{count}", "OFFLINE: no route", is_away=True)
        failures = (returned(view("old", late._replace(token=f"t{count}"), failures=failures, note=note), now),)
        assert (failures[0].trials_count, failures[0].away_count) == (0, count)
    assert "OFFLINE" in barred(failures, NEW.release_id, now="2027-12-01T10:00:00.000Z")


def test_a_trial_is_counted_once_and_the_words_of_another_are_not_its() -> None:
    over = TRIAL._replace(is_over=True, attempts_count=1)
    first = returned(view("old", over, note=Note("another", "OFFLINE", is_away=True)))
    assert (first.trials_count, first.away_count, "OFFLINE" in first.reason) == (1, 0, False)
    assert returned(view("old", over, failures=(first,)), "2027-01-01T00:00:00.000Z") == first


def test_a_clock_that_was_wrong_keeps_nothing_away_for_long() -> None:
    failure = untested(view(), NEW, reason="why", is_refused=False, now="2099-01-01T00:00:00.000Z")
    assert barred((failure,), NEW.release_id, now=NOW) == ""
    assert barred((failure._replace(at="not a time"),), NEW.release_id, now=NOW) == ""
    assert "rejected" in barred((failure._replace(is_refused=True),), NEW.release_id, now=NOW)
