"""Fourteen ways in which an earlier state machine could be broken, each as the shortest trace that broke it."""

from __future__ import annotations

import pytest

from dbsync.errors import DiskFull, Locked, ReadOnly, TryLater
from dbsync.model import Migration, ReleaseId, TrialId
from tests.drills import plug
from tests.drills.plug import LIMITS, NEW, Story, new_world, run, settle
from tests.simulators.database import SimulatedEffects
from tests.simulators.till import SimulatedTill
from tests.simulators.world import World
from updater.flows.agent import cycle
from updater.flows.confirm import ConfirmAnswer, confirm
from updater.flows.launch import launch
from updater.flows.rollback import allow
from updater.model import Journal, Phase

UPDATE = Story("update", ("agent", "launch", "agent", "launch"))


def moment(story: Story, text: str, nth: int = 1, given: dict[int, str] | None = None) -> int:
    """The number of the n-th effect of that name in a story, with earlier disturbances given."""
    world = run(story, given or {})
    found = [int(line.split()[0]) for line in world.log if line[:4].strip().isdigit() and line[15:] == text]
    return found[nth - 1]


def at_rest(world: World) -> bool:
    """Whether the journal is at rest."""
    journal = world.visible().get("journal")
    return isinstance(journal, Journal) and journal.phase is Phase.IDLE


def test_v1_a_journal_that_is_visible_and_not_durable_is_not_built_on() -> None:
    # The swap is renamed, its agent dies before the fsync; the launcher migrates on it; the power goes after COMMIT.
    kill = {moment(UPDATE, "sync journal", 2): "kill"}
    after_commit = moment(UPDATE, "check what was committed", 1, kill)
    world = run(UPDATE, {**kill, after_commit: "cut"})
    assert world.started[-1][0] == "1.1"
    assert world.database.version == NEW.schema


def test_v2_a_give_up_is_not_folded_before_the_database_went_back() -> None:
    story = Story(
        "v2", ("agent", "launch", "lose journal", "agent", "launch", "agent"), behaviour="exit0", ends_with="1.0"
    )
    world = run(story, {})
    assert (world.started[-1][0], world.database.version) == ("1.0", 2)
    assert at_rest(world)


def test_v3_a_rollback_that_is_cut_after_the_rejection_is_finished_and_the_rejected_one_never_starts() -> None:
    story = Story("v3", ("agent", "launch", "agent", "rollback", "launch"), ends_with="1.0")
    world = run(story, {moment(story, f"sync rejected/{NEW.release_id}") + 1: "cut"})
    assert (world.started[-1][0], world.database.version) == ("1.0", 2)


def test_v4_a_confirm_that_was_acknowledged_outlives_a_lost_journal() -> None:
    story = Story("v4", ("agent", "launch", "lose journal", "agent", "launch"))
    world = run(story, {})
    assert world.acknowledged_confirms
    assert world.started[-1][0] == "1.1"


def test_v5_a_give_up_that_was_not_folded_outlives_a_lost_journal() -> None:
    story = Story(
        "v5", ("agent", "launch", "lose journal", "agent", "agent", "launch"), behaviour="crash", ends_with="1.0"
    )
    world = run(story, {})
    assert f"rejected/{NEW.release_id}" in world.visible()
    assert len({trial_id for version, trial_id in world.started if version == "1.1"}) == 1


@pytest.mark.parametrize("when", ["migrate to 4", "verify", "commit", "check what was committed"])
def test_v6_a_journal_lost_during_a_migration_is_not_rebuilt_under_it(when: str) -> None:
    tick = moment(UPDATE, when)
    world = run(UPDATE, {tick: "lose journal", tick + 1: "agent"})
    assert world.database.version in (2, 4)
    assert at_rest(world)


def test_v7_a_begun_trial_whose_journal_is_lost_is_given_up_and_rejected() -> None:
    story = Story("v7", ("agent", "begin", "lose journal", "agent", "launch", "agent"), ends_with="1.0")
    world = run(story, {})
    assert f"rejected/{NEW.release_id}" in world.visible()
    assert (world.started[-1][0], world.database.version) == ("1.0", 2)


def test_v8_two_clicks_do_not_wait_for_each_other_for_ever() -> None:
    for tick in range(1, plug.length_of(UPDATE) + 1):
        world = run(UPDATE, {tick: "launch2"})
        assert world.terminal_lock is None
        assert world.database_lock is None
        assert world.database.version == 4


def test_v9_a_second_click_during_a_failing_migration_does_not_migrate_under_the_old_version() -> None:
    story = Story("v9", ("agent", "launch", "agent", "launch"), broken=True, ends_with="1.0")
    for what in ("try database lock", "migrate to 4", "start 1.0"):
        for nth in (1, 2):
            try:
                tick = moment(story, what, nth)
            except IndexError:
                continue
            world = run(story, {tick: "launch2"})
            assert (world.started[-1][0], world.database.version) == ("1.0", 2)


def test_v10_what_the_old_version_sold_between_two_attempts_is_in_the_backup_that_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story = Story("v10", ("agent", "launch", "launch", "agent"), behaviour="crash", ends_with="1.0")
    right, full = SimulatedEffects.apply, [True]

    def once_full(
        self: SimulatedEffects,
        migration: Migration,
        among: tuple[Migration, ...],
        trial_id: TrialId | None,
        release: tuple[ReleaseId | None, str | None],
    ) -> None:
        if full and self.world.started and trial_id is not None:
            full.clear()
            raise DiskFull(operation="migrate", cause="no space")
        right(self, migration, among, trial_id, release)

    monkeypatch.setattr(SimulatedEffects, "apply", once_full)
    world = run(story, {})
    assert not full
    versions = [version for version, _ in world.started]
    assert versions[1:4] == ["1.0", "1.1", "1.1"], "the old one sold while the trial was open, then the new one failed"
    assert world.acknowledged <= set(world.database.sales)
    assert not [one for one in world.backups.values() if one.kind == "before-restore"]


def test_v11_a_candidate_that_sold_before_it_confirmed_and_then_failed_is_gone_back_from() -> None:
    story = Story("v11", ("agent", "launch", "agent"), behaviour="sells_then_crash", ends_with="1.0")
    world = run(story, {})
    aside = [one for one in world.backups.values() if one.kind == "before-restore"]
    assert aside
    assert world.acknowledged <= set(world.database.sales) | {sale for one in aside for sale in one.content.sales}


def test_v12_the_old_app_is_never_told_to_close_because_of_a_trial_that_is_not_its_own() -> None:
    story = Story("v12", ("agent", "launch"), behaviour="crash", ends_with="1.0")
    world = new_world(story)
    cycle(SimulatedTill(world, "agent"))
    launch(SimulatedTill(world, "launcher"), LIMITS)
    assert world.started[-1][0] == "1.0"
    assert not at_rest(world), "the agent is dead: the give-up is not folded"
    assert confirm(SimulatedTill(world, "confirm"), None) is ConfirmAnswer.CONFIRMED
    assert confirm(SimulatedTill(world, "confirm"), TrialId("never heard of")) is ConfirmAnswer.CONFIRMED


def test_v13_nobody_restores_by_hand_between_the_comparison_and_the_start() -> None:
    asked: list[bool] = []

    def by_hand(process: str, what: str) -> None:
        asked.append(SimulatedTill(world, "rollback").try_database_lock())

    world = new_world(UPDATE)
    world.armed[moment(UPDATE, "start 1.1")] = by_hand
    for step in UPDATE.steps:
        plug._act(world, step)
    assert asked == [False]
    settle(world, UPDATE, order="cashier", exact=True)


def test_v14_a_rejection_is_not_lifted_before_the_database_went_back() -> None:
    story = Story("v14", ("agent", "launch", "agent", "rollback"), ends_with="1.0")
    world = new_world(story)
    world.armed[moment(story, "sync choices/000001") + 1] = lambda process, what: _kill(world, process)
    for step in story.steps:
        plug._guarded(world, step, story)
    with pytest.raises(TryLater, match="not finished"):
        allow(SimulatedTill(world, "rollback"), "1.1")
    settle(world, story, order="cashier", exact=False)
    assert (world.started[-1][0], world.database.version) == ("1.0", 2)
    assert allow(SimulatedTill(world, "rollback"), "1.1") == NEW


def _kill(world: World, process: str) -> None:
    from tests.simulators.world import Killed

    world.kill(process)
    raise Killed


REFUSED_TWICE = Story("v15", ("agent", *["launch"] * 4, "agent"), broken=True, ends_with="1.0")


def test_v15_a_migration_that_is_not_tried_again_ends_its_trial_in_the_same_start() -> None:
    # Its verdict is cut twice, after its failure is on record: the loop breaker refuses the third run.
    first = moment(REFUSED_TWICE, "record ended", 1) + 1
    second = moment(REFUSED_TWICE, "record ended", 2, {first: "kill"}) + 1
    world = run(REFUSED_TWICE, {first: "kill", second: "kill"})
    told = [report.outcome for report in world.told if report.trial_id is not None]
    assert told == ["FAILED_BEFORE"]
    assert [notice for _, notice in world.notices if notice] == ["You can sell. Please call support. Code U-3023."]
    assert f"rejected/{NEW.release_id}" in world.visible()


@pytest.mark.parametrize("refusing", ["preflight", "begin", "copy_backup"])
def test_v16_a_refused_attempt_says_nothing_against_the_app_that_opens(
    monkeypatch: pytest.MonkeyPatch, refusing: str
) -> None:
    for error in (DiskFull, Locked, ReadOnly):

        def refuse(*_: object, error: type[TryLater] = error, **__: object) -> None:
            raise error(operation="prepare", cause="not now")

        monkeypatch.undo()
        world = new_world(UPDATE)
        monkeypatch.setattr(SimulatedEffects, refusing, refuse)
        for step in ("agent", "launch", "launch"):
            plug._act(world, step)
        assert [version for version, _ in world.notices[-2:]] == ["1.0", "1.0"]
        assert all("cannot open" not in notice and "try again" not in notice for _, notice in world.notices)


def test_v17_what_was_taken_out_is_told_beside_the_old_version() -> None:
    story = Story("v17", ("agent", "launch"), behaviour="sells_then_crash", carries=False)
    world = new_world(story)
    for step in story.steps:
        plug._act(world, step)
    assert world.notices[-1] == ("1.0", "The update was undone. You can sell. Please call support. Code U-2102.")


def test_v18_a_candidate_that_stays_is_not_called_undone() -> None:
    # It worked here once, a person went back from it and allowed it again; now it sells and crashes.
    story = Story("v18", ("agent", "launch", "agent", "rollback", "launch", "agent", "allow", "agent"), carries=False)
    world = new_world(story)
    for step in story.steps:
        plug._act(world, step)
    world.behaviour["1.1"] = "sells_then_crash"
    plug._act(world, "launch")
    assert world.notices[-1] == ("1.1", "You can sell. Please call support. Code U-2104.")
    assert [report.outcome for report in world.told][-1] == "STAYS", "nothing was taken out"


def test_v19_a_release_without_a_trial_whose_migration_fails_says_that_nothing_opens() -> None:
    story = Story("v19", ("agent", "launch"), broken=True)
    world = new_world(story)
    journal = world.visible()["journal"]
    world.files["journal"] = journal._replace(good=NEW)
    world.folders.add(NEW.folder)
    for _ in range(4):
        done = launch(SimulatedTill(world, "launcher"), LIMITS)
        assert "The till cannot open. Please call support." in done.outcome.when_shut, done
    assert done.outcome == "FAILED_BEFORE"
    assert len(world.started) == 1, "only the one before"
