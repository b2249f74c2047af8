"""The gaps that an exhaustive look at two accounts found, M1 to M17: each one's shortest trace, on the real flows.

The till's account and the agent's are two; a test ends by saying what is on disk.
"""

from __future__ import annotations

import pytest

from dbsync.model import Back
from tests.drills.explorer import SHOPS, Scenario, new_situation
from tests.simulators.clerk import FOREIGN, UNISSUED
from tests.simulators.replay import Replay
from tests.simulators.situation import time_at
from updater.model import Act, Choice, Journal, Phase, Release, Ruling, Trial, Verdict

FIRST = "000001-id1"


def till(shop: str = "schema") -> Replay:
    assert shop in SHOPS
    return Replay(new_situation(Scenario("told", shop)))


def release(replay: Replay, number: int) -> Release:
    return next(one for one in replay.world.releases.values() if one.version == f"1.{number}")


def with_third_release(replay: Replay) -> Replay:
    """The second release is good, and the third is offered."""
    replay.run("agent").run("launch").run("agent")
    replay.world.offered.append(release(replay, 2))
    return replay


def journal(replay: Replay) -> Journal:
    found = replay.disk["journal"]
    assert isinstance(found, Journal)
    return found


def ruling(replay: Replay, trial_id: str = FIRST) -> Ruling:
    found = replay.disk[f"verdicts/{trial_id}"]
    assert isinstance(found, Ruling)
    return found


def trial(replay: Replay, trial_id: str = FIRST) -> Trial:
    found = replay.disk[f"trial/{trial_id}"]
    assert isinstance(found, Trial)
    return found


def choice(replay: Replay, number: int, *, of: Release, to: Release) -> Replay:
    """A choice lies in the shared folder."""
    made = Choice(number, of, to, time_at(replay.world.clock_seconds), None, f"choice{number}")
    return replay.put(f"choices/{number:06d}", made)


def open_trial(replay: Replay, number: int = 1) -> Trial:
    """A trial as a forger would write it: begun, without a verdict."""
    return Trial(
        replay.disk["journal"].trial_id, release(replay, number), release(replay, number - 1),
        attempts_count=1, act=Act.ATTEMPT, boot_id="forged",
    )  # fmt: skip


def test_m1_a_trial_is_issued_durably_before_the_journal_names_it() -> None:
    swapped = till().cut("agent", "sync journal")
    assert (journal(swapped).phase, swapped.names("issued")) == (Phase.SWAPPED, [FIRST])
    not_yet = till().cut("agent", "sync issued", loses=("issued",))
    assert (journal(not_yet).phase, not_yet.names("issued")) == (Phase.STAGED, [])
    between = till().cut("agent", "sync journal", loses=("journal",))
    between.run("launch").run("agent")
    assert between.started == ["1.0"]
    # The number was used: what the journal never named is closed, and the release got another one.
    assert (ruling(between).verdict, journal(between).last) == (Verdict.TAKEN_BACK, 2)
    assert len(between.names("issued")) == 2


def test_m2_a_journal_older_than_a_trial_that_has_begun_is_read_as_the_swap() -> None:
    replay = till().kill("agent", "sync journal").run("launch").lose("journal")
    assert (journal(replay).phase, journal(replay).last) == (Phase.STAGED, 0)
    # The agent folds and its journal is lost again: the trial has its verdict, and the journal is still the older one.
    replay.kill("agent", "sync journal").lose("journal")
    assert (journal(replay).phase, journal(replay).last) == (Phase.STAGED, 0)
    replay.run("launch")
    assert replay.started == ["1.1*", "1.1"]
    replay.run("agent")
    assert (journal(replay).phase, journal(replay).good.version, journal(replay).last) == (Phase.IDLE, "1.1", 1)
    assert (ruling(replay).verdict, ruling(replay).folded) == (Verdict.CONFIRMED, True)


def test_m3_an_app_whose_trial_the_agent_gave_up_gets_no_confirm() -> None:
    replay = till().run("agent").kill("launch", "await app", which=0)
    replay.world.files["journal"] = "garbage"
    replay.run("agent")
    assert ruling(replay).verdict is Verdict.GIVEN_UP
    replay.run("confirm")
    assert replay.world.acknowledged_confirms == set()
    replay.run("launch").run("agent")
    assert replay.started == ["1.1*", "1.0"]
    assert trial(replay).verdict is not Verdict.CONFIRMED
    assert (journal(replay).good.version, replay.names("rejected")) == ("1.0", [release(replay, 1).release_id])


def test_m4_the_moment_is_judged_before_each_attempt_and_never_after_the_commit() -> None:
    replay = till().run("agent").cut("launch", "look at the database")
    assert (trial(replay).attempts_count, trial(replay).act) == (1, Act.ATTEMPT)
    replay.world.in_moment = False
    replay.run("launch")
    assert replay.started == ["1.0"]
    assert (trial(replay).attempts_count, trial(replay).act, trial(replay).verdict) == (1, Act.ATTEMPT, Verdict.OPEN)
    replay.world.in_moment = True
    replay.kill("launch", "start 1.1")
    replay.world.in_moment = False
    replay.run("launch")
    assert replay.started == ["1.0", "1.1*"]
    assert trial(replay).verdict is Verdict.CONFIRMED


@pytest.mark.parametrize("who", ["rollback", "choice"])
def test_m5_what_a_launch_acts_on_is_durable_before_it_takes_anything_back(who: str) -> None:
    replay = till().run("agent").run("launch").kill(who, "sync choices")
    replay.run("launch").lose()
    replay.run("launch")
    assert replay.started == ["1.1*", "1.0", "1.0"]
    replay.run("agent")
    assert replay.names("rejected") == [release(replay, 1).release_id]
    assert (journal(replay).good.version, journal(replay).last_choice) == ("1.0", 1)


def test_m6_an_open_trial_that_a_person_left_is_given_up_by_the_launcher_first() -> None:
    replay = till().run("agent").run("launch", behaviour="exit0").cut("rollback", "sync choices")
    assert (trial(replay).verdict, replay.world.database.version) == (Verdict.OPEN, 4)
    replay.world.agent_alive = False
    replay.run("launch")
    assert replay.started[-1] == "1.0"
    assert (trial(replay).verdict, replay.world.database.version) == (Verdict.GIVEN_UP, 2)


def test_m7_a_database_that_was_kept_is_not_decided_again_after_the_fold() -> None:
    replay = till("readable").run("agent").run("launch", behaviour="exit0").run("rollback")
    replay.run("launch").run("agent").run("launch")
    assert replay.told.count("KEPT") <= 1
    before = trial(replay)
    replay.told.clear()
    replay.run("agent").run("launch")
    assert (replay.told.count("KEPT"), replay.started[-1], trial(replay)) == (0, "1.0", before)
    assert (before.back, ruling(replay).folded) == (Back.KEPT, True)


def test_m8_a_choice_that_a_launch_acts_on_is_not_lost() -> None:
    replay = till().run("agent").run("launch").kill("choice", "sync choices")
    assert "choices/000001" in replay.world.pending
    replay.cut("launch", "start 1.0")
    assert replay.names("choices") == ["000001"]
    replay.run("launch")
    assert replay.started == ["1.1*", "1.0"]


def test_m9_a_choice_never_names_a_rejected_or_recalled_release() -> None:
    replay = till().run("agent").run("launch").run("agent").run("rollback").run("agent")
    choice(replay, 2, of=release(replay, 0), to=release(replay, 1))
    replay.run("launch").run("agent")
    assert replay.started == ["1.1*", "1.0"]
    assert (journal(replay).good.version, journal(replay).last_choice) == ("1.0", 2)
    assert replay.names("rejected") == [release(replay, 1).release_id]
    assert replay.told.count("CHOICE_REFUSED") == 1


def test_m10_a_choice_that_leaves_an_earlier_release_rejects_no_later_one() -> None:
    replay = with_third_release(till("readable")).run("agent").run("launch").run("agent")
    assert journal(replay).good.version == "1.2"
    choice(replay, 1, of=release(replay, 1), to=release(replay, 0))
    replay.run("launch").run("agent")
    assert replay.started[-1] == "1.2"
    assert (journal(replay).good.version, journal(replay).last_choice, replay.names("rejected")) == ("1.2", 1, [])


def test_m11_a_choice_to_what_the_database_does_not_fit_is_refused_before_anything_is_done() -> None:
    replay = with_third_release(till()).run("agent").run("launch").run("agent")
    before = replay.world.database.version
    choice(replay, 1, of=release(replay, 2), to=release(replay, 0))
    replay.run("launch").run("agent")
    assert (replay.started[-1], replay.world.database.version) == ("1.2", before)
    assert (journal(replay).good.version, journal(replay).last_choice, replay.names("rejected")) == ("1.2", 1, [])


def test_m12_no_trial_begins_while_a_choice_is_open() -> None:
    replay = with_third_release(till("readable")).run("agent")
    assert journal(replay).phase is Phase.SWAPPED
    choice(replay, 1, of=release(replay, 1), to=release(replay, 0))
    replay.run("launch")
    assert replay.started[-1] == "1.0"
    assert replay.names("trial") == [FIRST]
    replay.run("agent")
    assert (journal(replay).good.version, journal(replay).last_choice) == ("1.0", 1)
    assert release(replay, 1).release_id in replay.names("rejected")
    assert release(replay, 2).release_id not in replay.names("rejected")


@pytest.mark.parametrize("at", ["sync rejected", "sync proofs", "sync journal"])
def test_m13_a_rebuilt_journal_remembers_a_choice_that_was_carried_out(at: str) -> None:
    replay = till().run("agent").run("launch").run("choice")
    replay.world.files["journal"] = "garbage"
    replay.kill("agent", at).run("launch").run("agent").run("launch")
    assert replay.started == ["1.1*", "1.0", "1.0"]
    assert replay.names("rejected") == [release(replay, 1).release_id]
    assert (journal(replay).good.version, journal(replay).last_choice) == ("1.0", 1)


def test_m14_a_give_up_of_an_id_that_was_never_issued_is_ignored() -> None:
    replay = till()
    forged = Trial(UNISSUED, release(replay, 1), release(replay, 0), attempts_count=1, verdict=Verdict.GIVEN_UP)
    replay.put(f"trial/{UNISSUED}", forged).run("agent").run("launch").run("agent")
    assert (replay.started, journal(replay).good.version) == (["1.1*"], "1.1")
    assert (replay.names("rejected"), replay.names("verdicts")) == ([], [FIRST])


def test_m14_an_urgent_release_comes_back_under_a_new_id() -> None:
    replay = till().run("agent")
    replay.world.urgent = True
    replay.put(f"trial/{FIRST}", open_trial(replay)._replace(verdict=Verdict.GIVEN_UP, outcome="APP_FAILED"))
    replay.run("agent")
    assert replay.names("rejected") == [release(replay, 1).release_id]
    replay.days(8).run("agent")
    assert replay.names("rejected") == []
    assert replay.told.count("URGENT_RETRIED") == 1
    assert (journal(replay).phase, journal(replay).last) == (Phase.SWAPPED, 2)
    assert (ruling(replay).verdict, ruling(replay).folded) == (Verdict.TAKEN_BACK, True)


def test_m15_a_recall_ends_a_trial_that_has_begun() -> None:
    replay = till().run("agent")
    replay.put(f"trial/{FIRST}", open_trial(replay))
    replay.world.recalled.add(release(replay, 1).release_id)
    del replay.world.releases[release(replay, 1).release_id]
    replay.world.offered.pop()
    replay.run("agent").run("launch").run("agent")
    assert replay.started == ["1.0"]
    assert (ruling(replay).verdict, ruling(replay).folded) == (Verdict.TAKEN_BACK, True)
    assert (journal(replay).phase, replay.names("rejected")) == (Phase.IDLE, [])


def test_m16_a_trial_that_pretends_to_have_begun_is_an_alarm() -> None:
    replay = till().run("agent")
    replay.put(f"trial/{FIRST}", open_trial(replay)).run("agent")
    assert "TRIAL_STALLED" not in replay.told
    replay.days(8).run("agent")
    assert "TRIAL_STALLED" in replay.told
    assert replay.names("verdicts") == []


def test_m17_a_choice_never_leaves_a_candidate_that_has_not_begun() -> None:
    replay = till().run("agent").run("choice")
    assert replay.names("choices") == []
    choice(replay, 1, of=release(replay, 1), to=release(replay, 0))
    replay.run("launch").run("agent")
    assert (replay.started, journal(replay).good.version) == (["1.1*"], "1.1")
    assert (journal(replay).last_choice, replay.names("rejected")) == (1, [])


def test_a_foreign_release_in_a_trial_file_is_never_started_and_never_proven() -> None:
    replay = till().run("agent")
    forged = open_trial(replay)._replace(candidate=FOREIGN, good=FOREIGN, verdict=Verdict.CONFIRMED)
    replay.put(f"trial/{FIRST}", forged).run("launch").run("agent").run("launch")
    assert {version.rstrip("*") for version in replay.started} <= {"1.0", "1.1"}
    assert all(FOREIGN.release_id not in name for name in replay.disk)


def test_a_pause_takes_back_a_swap_that_has_not_begun_and_no_other() -> None:
    replay = till().run("agent")
    replay.world.paused = True
    replay.run("agent").run("launch")
    assert (replay.started, journal(replay).phase) == (["1.0"], Phase.STAGED)
    assert (ruling(replay).verdict, ruling(replay).folded) == (Verdict.TAKEN_BACK, True)
    replay.world.paused = False
    replay.run("agent").run("launch")
    assert replay.started == ["1.0", "1.1*"]
