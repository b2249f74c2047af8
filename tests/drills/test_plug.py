"""The drill in memory as a test: every single disturbance, a sample of pairs, and proof that it would notice mistakes.

Every disturbance with both orders of recovery, and all pairs: python -m tests.drills.plug --twice 1
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from dbsync.model import Backup, BackupKind, TrialId
from dbsync.upgrade import decisions as dbsync_decisions
from tests.drills.plug import STORIES, Story, play, run
from tests.simulators.database import SimulatedEffects
from tests.simulators.till import SimulatedTill
from tests.simulators.world import Violated
from updater.decisions import launcher
from updater.flows import settle_trial

PAIRS_STRIDE = 211
SOME_PAIRS_STRIDE = 1009
NAMES = {story.name: story for story in STORIES}


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_something_complete_starts_fits_loses_nothing_and_settles(story: Story) -> None:
    undisturbed = run(story, {})
    assert undisturbed.started[-1][0] == story.ends_with
    assert play(story, stride=SOME_PAIRS_STRIDE, both_orders=False, every=5) > 180


@pytest.mark.long
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_so_it_does_in_both_orders_of_recovery_and_after_more_pairs(story: Story) -> None:
    assert play(story, stride=PAIRS_STRIDE) > 1500


def no_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SimulatedTill, "sync", lambda self: None)


def nothing_owed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(launcher, "owing_trial", lambda view, journal: None)


def no_limits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(launcher, "launch_spent", lambda trial, limits: None)


def restored_blindly(patch: pytest.MonkeyPatch) -> None:
    def always(facts: object, change: object, **_: object) -> object:
        return dbsync_decisions.Restore(aside=False)

    patch.setattr(dbsync_decisions, "decide_return", always)


def carried_without_looking_at_the_proof(patch: pytest.MonkeyPatch) -> None:
    right = SimulatedEffects.keep_aside

    def wrong(self: SimulatedEffects, part: Backup) -> Any:
        kept = right(self, part)
        self.world.backups[kept.path.name].kind = BackupKind.MANUAL
        return kept

    patch.setattr(SimulatedEffects, "keep_aside", wrong)


def aside_not_synced(patch: pytest.MonkeyPatch) -> None:
    right = SimulatedEffects.keep_aside

    def wrong(self: SimulatedEffects, part: Backup) -> Any:
        kept = right(self, part)
        self.world.backups[kept.path.name].durable = False
        return kept

    patch.setattr(SimulatedEffects, "keep_aside", wrong)


def lock_not_asked(patch: pytest.MonkeyPatch) -> None:
    def wrong(self: SimulatedTill) -> bool:
        self.world.database_lock = self.process
        return True

    patch.setattr(SimulatedTill, "try_database_lock", wrong)


def row_guard_off_and_compare_off(patch: pytest.MonkeyPatch) -> None:
    right = SimulatedEffects.look

    def wrong(self: SimulatedEffects) -> Any:
        return right(self)._replace(trial_id=TrialId("id1"))

    patch.setattr(SimulatedEffects, "look", wrong)
    restored_blindly(patch)


def rejection_never_written(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settle_trial, "rejection_of", lambda trial, rejections, now: None)


def rejected_may_start(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(launcher, "_unless_rejected", lambda chosen, good, rejections, proofs: chosen)


MUTATIONS: Final = [
    (no_sync, "update"),
    (nothing_owed, "app crashes"),
    (no_limits, "app crashes"),
    (no_limits, "app ends without a word"),
    (restored_blindly, "sells, then crashes"),
    (aside_not_synced, "sells, then crashes, with a loss"),
    (carried_without_looking_at_the_proof, "sells, then crashes, with a loss"),
    (lock_not_asked, "update"),
    (row_guard_off_and_compare_off, "app crashes"),
    pytest.param(rejected_may_start, "rollback, readable", marks=pytest.mark.long),
]


@pytest.mark.parametrize(("mutation", "name"), MUTATIONS, ids=lambda one: one if isinstance(one, str) else one.__name__)
def test_the_drill_notices(monkeypatch: pytest.MonkeyPatch, mutation: Callable[..., None], name: str) -> None:
    mutation(monkeypatch)
    with pytest.raises((Violated, AssertionError)):
        play(NAMES[name], stride=0 if mutation is not no_sync else 23)


def test_the_drill_notices_a_release_that_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rejection_never_written(monkeypatch)
    try:
        world = run(NAMES["app crashes"], {})
    except Violated:
        return
    assert len({trial_id for version, trial_id in world.started if version == "1.1"}) > 1
