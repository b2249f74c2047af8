"""Every combination of journal phase and trial state: decided by the real functions, compared with the map."""

from __future__ import annotations

import re

import pytest

from dbsync.model import Back, Facts, ReleaseId, SchemaNumber, State, TrialId
from tests.helpers.places import ROOT
from updater.answers import Answer, Catalog
from updater.decisions.agent import decide_agent
from updater.decisions.journal_rebuild import rebuild
from updater.decisions.launcher import decide_launch, select
from updater.decisions.trial import brief
from updater.model import By, Journal, Limits, Phase, Proof, Rejection, Release, Trial, Verdict, View

GOOD = Release(ReleaseId("1" * 64), "1.0", SchemaNumber(2))
CANDIDATE = Release(ReleaseId("2" * 64), "1.1", SchemaNumber(4))
NEXT = Release(ReleaseId("3" * 64), "1.2", SchemaNumber(5))
OLD_DATABASE = Facts(State.OK, SchemaNumber(2))
NEW_DATABASE = Facts(State.OK, SchemaNumber(4), trial_id=TrialId("t1"), release_id=CANDIDATE.release_id)
OPEN = Trial(TrialId("t1"), CANDIDATE, GOOD)
GIVEN_UP = OPEN._replace(verdict=Verdict.GIVEN_UP, outcome="APP_FAILED", reason="it did not confirm")
LIMITS = Limits()

TRIALS: dict[str, tuple[Trial | None, Facts]] = {
    "none": (None, OLD_DATABASE),
    "begun, before COMMIT": (OPEN._replace(attempts_count=1), OLD_DATABASE),
    "begun, after COMMIT": (OPEN._replace(attempts_count=1, launches_count=1), NEW_DATABASE),
    "begun, a limit is spent": (OPEN._replace(launches_count=LIMITS.launches_count), NEW_DATABASE),
    "confirmed": (OPEN._replace(verdict=Verdict.CONFIRMED), NEW_DATABASE),
    "given up, database not back": (GIVEN_UP, NEW_DATABASE),
    "given up before COMMIT": (GIVEN_UP, OLD_DATABASE),
    "given up, back: done": (GIVEN_UP._replace(back=Back.DONE), OLD_DATABASE),
    "given up, back: kept": (GIVEN_UP._replace(back=Back.KEPT), NEW_DATABASE._replace(readable_from=SchemaNumber(2))),
    "given up, back: stays": (GIVEN_UP._replace(back=Back.STAYS), NEW_DATABASE),
}
"""A trial file and the database that goes with it, by the words of the document."""

JOURNALS = (*(str(phase) for phase in Phase), "lost")


def view_of(journal: str, trial: str) -> View:
    """A terminal in one state. A fold that was cut has written proof, rejection and journal; only the trial is open."""
    found, database = TRIALS[trial]
    works_on = found is not None and (found.verdict is Verdict.CONFIRMED or found.back_stays)
    folded = works_on and journal in ("IDLE", "STAGED")
    good = CANDIDATE if folded else GOOD
    journals = {
        "IDLE": Journal(Phase.IDLE, good=good),
        "STAGED": Journal(Phase.STAGED, good=good, candidate=NEXT),
        "SWAPPED": Journal(Phase.SWAPPED, good=GOOD, candidate=CANDIDATE, trial_id=TrialId("t1")),
        "lost": None,
    }
    proofs: tuple[Proof, ...] = (Proof(1, GOOD, "installed", None, ""),)
    if folded or (found is not None and found.back_stays):
        proofs = (*proofs, Proof(2, CANDIDATE, "confirmed", TrialId("t0"), ""))
    rejected = found is not None and found.back is not None and not found.back_stays and journal in ("IDLE", "STAGED")
    rejections = (Rejection(CANDIDATE, By.MACHINE, "APP_FAILED", "", ""),) if rejected else ()
    return View(
        journal=journals[journal],
        trials=(found,) if found is not None else (),
        proofs=proofs,
        rejections=rejections,
        database=database,
        running=None,
        boot_id="boot",
        installed=frozenset({GOOD.folder, CANDIDATE.folder, NEXT.folder}),
        journal_broken=journal == "lost",
    )


def decided(journal: str, trial: str) -> tuple[str, str, str]:
    """What is selected, the launcher's step, and the agent's."""
    view = view_of(journal, trial)
    known = view.journal or rebuild(view, now="").journal
    assert known is not None
    selected = select(known, view.trial(known.trial_id), view.rejections, view.proofs, view.database)
    is_candidate = selected == CANDIDATE and (journal in ("SWAPPED", "lost"))
    launch = decide_launch(view, known, LIMITS)
    signed = frozenset({GOOD.release_id, CANDIDATE.release_id, NEXT.release_id})
    agent = decide_agent(view, Catalog(Answer.OK, "", (), signed), now="")
    assert is_candidate or selected == known.good
    return "candidate" if is_candidate else "good", type(launch).__name__, type(agent).__name__


def documented() -> dict[tuple[str, str], tuple[str, str, str]]:
    """The table of the document."""
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("| journal | trial | selected | launcher | agent |\n")[2].partition("\n\n")[0]
    rows = [re.split(r" *\| *", line.strip("| ")) for line in table.splitlines()[1:]]
    found = {(journal, trial): (selected, launcher, agent) for journal, trial, selected, launcher, agent in rows}
    assert len(found) == len(rows), "each combination has one row"
    return found


@pytest.mark.parametrize("trial", TRIALS)
@pytest.mark.parametrize("journal", JOURNALS)
def test_every_combination_of_journal_and_trial_is_decided_as_the_map_says(journal: str, trial: str) -> None:
    assert documented()[journal, trial] == decided(journal, trial)


def test_the_map_has_no_combination_that_does_not_exist() -> None:
    assert documented().keys() == {(journal, trial) for journal in JOURNALS for trial in TRIALS}


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("it ended with code 1", "it ended with code 1"),
        ("it ended: Traceback:\n  File\n\nValueError: no paper\n", "it ended: Traceback: … ValueError: no paper"),
        ("", ""),
        ("one\u2028line", "one\u2028line"),
    ],
)
def test_a_reason_is_one_line_in_a_list(reason: str, line: str) -> None:
    assert brief(reason) == line
