"""Decisions about the agent's next step: pure functions of values."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from dbsync.outcomes import NamedOutcome
from updater.answers import Answer, Catalog, Offer
from updater.decisions.launcher import fits, is_settled
from updater.decisions.trial import brief
from updater.model import By, Choice, Issued, Journal, Phase, Rejection, Release, State, Trial, Verdict, View
from updater.outcomes import TerminalOutcome

RETRY_DAYS: Final = 7
"""After so long an urgent release is tried again that only the till's account has rejected."""
STALLED_DAYS: Final = 7
"""After so long a trial without an end is an alarm."""


class Fold(NamedTuple):
    """Step for a trial that has its verdict: fold the verdict into a proof or a rejection, then into the journal."""

    trial: Trial


class FoldRollback(NamedTuple):
    """Step for a person's rollback whose database part is done: write proof and journal."""

    rejection: Rejection


class FoldChoice(NamedTuple):
    """Step for a choice of the till's account whose database part is done: write rejection, proof and journal."""

    choice: Choice


class CloseChoices(NamedTuple):
    """Step for choices that do not hold: remember that they are refused, and say why."""

    number: int
    reasons: tuple[tuple[Choice, str], ...]


class Close(NamedTuple):
    """Step for a trial that was issued, has not begun and is not what the journal names: it never begins."""

    issued: Issued


class TakeBack(NamedTuple):
    """End a trial that has begun and has no verdict, because its release must not stay."""

    trial: Trial
    reason: str


class Lift(NamedTuple):
    """Lift the rejection of an urgent release that rests on the till's account alone: it is tried under a new id."""

    rejection: Rejection


class Stage(NamedTuple):
    """Download, unpack, check and shelve an offered release."""

    offer: Offer


class Unstage(NamedTuple):
    """Drop a candidate that is staged or was never started."""

    reason: str


class Unswap(NamedTuple):
    """Take back a swap whose trial has not begun; the candidate stays on disk, and is swapped in again later."""

    reason: str


class Swap(NamedTuple):
    """Make the staged release the one that starts next."""

    candidate: Release


class Wait(NamedTuple):
    """Nothing to do now."""

    outcome: NamedOutcome
    reason: str


class Rebuild(NamedTuple):
    """Step for a lost journal: derive a new one from trial files, proofs and rejections."""


Settle = Fold | FoldRollback | FoldChoice | CloseChoices | Close
"""Steps that bring the agent's files up to what has happened."""
AgentStep = Rebuild | Settle | TakeBack | Lift | Stage | Unstage | Unswap | Swap | Wait


def decide_agent(view: View, catalog: Catalog | None, *, now: str, retries_urgent: bool = False) -> AgentStep:
    """Return the agent's next step.

    Args:
        view: the terminal, read at one moment.
        catalog: the repository's offers; None before the repository was asked (once in a cycle, when all is settled).
        now: the time, UTC, in the form of the state files: for rejections that end.
        retries_urgent: whether the till's account is another one than the agent's, so that its give-up may be forged.
    """
    journal = view.journal
    if journal is None:
        return Rebuild()
    settle = _to_settle(view, journal)
    if settle is not None:
        return settle
    if catalog is None:
        return Wait(TerminalOutcome.NOT_ASKED, "the repository has not been asked")
    trial = view.trial(journal.trial_id)
    if journal.phase is Phase.SWAPPED and trial is not None:
        return _on_trial(trial, catalog)
    lifted = _to_lift(view, catalog, now) if retries_urgent else None
    if lifted is not None:
        return Lift(lifted)
    unusable = _unusable(view, journal, catalog)
    if unusable is not None:
        return Unstage(unusable)
    halt = _halt(journal, catalog)
    if halt is not None:
        return halt
    offer = _wanted(view, journal, catalog)
    if offer is not None:
        return Stage(offer)
    if journal.phase is Phase.STAGED and journal.candidate is not None:
        if view.choice is not None or any(not rejection.done for rejection in view.rejections):
            return Wait(
                TerminalOutcome.WAITING,
                f"{journal.candidate.version} is ready and waits until the rollback is finished",
            )
        return Swap(journal.candidate)
    if journal.phase is Phase.SWAPPED and journal.candidate is not None:
        when = "" if view.moment is None or view.moment.always else " in the update window"
        return Wait(TerminalOutcome.SWAPPED, f"{journal.candidate.version} starts at the next launch{when}")
    return _nothing_new(view, catalog)


def lacks_sqlite(least: str, here: str) -> bool:
    """Return whether a release needs a newer SQLite (`least`, empty: any) than the one that is `here`."""
    return bool(least) and _numbers(here) < _numbers(least)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _to_settle(view: View, journal: Journal) -> Settle | None:
    choice = _went_back(view, journal)
    if choice is not None:
        return choice
    for trial in view.trials:
        if (trial.closed and trial.trial_id != journal.trial_id) or trial.verdict is Verdict.OPEN:
            continue
        if view.choice is not None and trial.candidate == view.choice.of and trial.ends_back:
            # The choice ended it: it is folded with the choice, which also says where the till goes.
            continue
        if trial.verdict is Verdict.CONFIRMED or is_settled(trial, view.database):
            return Fold(trial)
    rejection = view.rejection(journal.good.release_id)
    by_person = view.choice is None and rejection is not None and rejection.by is By.PERSON and rejection.done
    if by_person and rejection is not None and rejection.to is not None:
        return FoldRollback(rejection)
    return _to_close(view, journal)


def _to_close(view: View, journal: Journal) -> Close | CloseChoices | None:
    begun = {trial.trial_id for trial in view.trials}
    unnamed = (issued for issued in view.issued if issued.trial_id != journal.trial_id)
    stale = next((issued for issued in unnamed if issued.trial_id in view.unfolded - begun), None)
    if stale is not None:
        return Close(stale)
    is_open = any(trial.trial_id == journal.trial_id and not trial.closed for trial in view.trials)
    if view.dead_choices and view.choice is None and not is_open:
        # Not during a trial: what it ends with decides whether a choice holds.
        return CloseChoices(max(choice.number for choice, _ in view.dead_choices), view.dead_choices)
    return None


def _went_back(view: View, journal: Journal) -> FoldChoice | None:
    """Return the step for an open choice if the database went back as it says; None while that is owed."""
    choice = view.choice
    if choice is None or not choice.done or view.database.state is not State.OK or not fits(choice.to, view.database):
        return None
    trial = view.trial(journal.trial_id)
    if trial is None or trial.candidate != choice.of or trial.verdict is Verdict.CONFIRMED:
        return FoldChoice(choice)
    return FoldChoice(choice) if trial.ends_back and is_settled(trial, view.database) else None


def _on_trial(trial: Trial, catalog: Catalog) -> TakeBack | Wait:
    withdrawn = _withdrawn(trial.candidate, catalog)
    if withdrawn and trial.verdict is Verdict.OPEN:
        return TakeBack(trial, withdrawn)
    return Wait(TerminalOutcome.ON_TRIAL, f"{trial.candidate.version} is on trial")


def _to_lift(view: View, catalog: Catalog, now: str) -> Rejection | None:
    """Return the rejection of the newest release that ends by time; None if none does.

    A give-up by the till's account cannot be told from a forged one. An urgent release is not kept away by it for
    ever: it comes back under a new trial, and each time people read of it.
    """
    if not catalog.newer:
        return None
    newest = catalog.newer[-1]
    rejection = view.rejection(newest.release.release_id)
    if rejection is None or not newest.urgent or not rejection.claimed:
        return None
    return rejection if _days_between(rejection.at, now) >= RETRY_DAYS else None


def is_stalled(issued: Issued, trial: Trial | None, now: str) -> bool:
    """Return whether a trial that the agent issued should have ended long ago."""
    confirmed = trial is not None and trial.verdict is Verdict.CONFIRMED
    return not confirmed and _days_between(issued.at, now) >= STALLED_DAYS


def _days_between(earlier: str, later: str) -> float:
    try:
        passed = datetime.fromisoformat(later) - datetime.fromisoformat(earlier)
    except (ValueError, TypeError):
        return 0.0
    return passed / timedelta(days=1)


def _unusable(view: View, journal: Journal, catalog: Catalog) -> str | None:
    candidate = journal.candidate
    if candidate is None:
        return None
    if view.rejection(candidate.release_id) is not None:
        return f"{candidate.version} was rejected"
    if candidate.folder not in view.installed:
        return f"the version folder of {candidate.version} is gone"
    withdrawn = _withdrawn(candidate, catalog)
    if not withdrawn and candidate.release_id in catalog.unwanted:
        return f"{candidate.version} is not what the vendor means for this terminal"
    return withdrawn or None


def _withdrawn(release: Release, catalog: Catalog) -> str:
    """Return the sentence about a release that the vendor withdrew, by name or from what is signed; else nothing."""
    if release.release_id in catalog.withdrawn:
        reason = catalog.withdrawn[release.release_id]
        return f"the vendor withdrew {release.version}{f': {reason}' if reason else ''}"
    is_gone = catalog.verdict is Answer.OK and release.release_id not in catalog.signed
    return f"the vendor withdrew {release.version}" if is_gone else ""


def _halt(journal: Journal, catalog: Catalog) -> Unswap | Wait | None:
    """Return the step of a terminal whose vendor paused updates, or says what cannot be followed; None otherwise.

    A pause takes back a swap that has not begun. Without one, what is staged stays so, and what is swapped in begins:
    nothing else was ever said about it that this terminal could follow.
    """
    if catalog.paused and journal.phase is Phase.SWAPPED:
        return Unswap(catalog.paused)
    if catalog.stays and journal.phase is not Phase.SWAPPED:
        return Wait(TerminalOutcome.STEERING_REFUSED, catalog.stays)
    return Wait(TerminalOutcome.PAUSED_BY_VENDOR, catalog.paused) if catalog.paused else None


def _wanted(view: View, journal: Journal, catalog: Catalog) -> Offer | None:
    # Only the newest counts: if it was rejected here, an older release in between is not what the vendor wants.
    if not catalog.newer:
        return None
    newest = catalog.newer[-1]
    # The repository may have been asked before the newest release became good here.
    is_here = newest.release in (journal.candidate, journal.good)
    if is_here or view.rejection(newest.release.release_id) is not None:
        return None
    return newest


def wanted_downloads(view: View, journal: Journal, catalog: Catalog | None) -> frozenset[str] | None:
    """Return the names of the version folders whose archives are still wanted; None if the repository did not say.

    An archive that could not be unpacked for a reason of this machine is used again; the others are of no use.
    """
    if catalog is None or catalog.verdict is not Answer.OK or catalog.paused or catalog.stays:
        return None
    offer = _wanted(view, journal, catalog)
    return frozenset() if offer is None else frozenset({offer.release.folder})


def _nothing_new(view: View, catalog: Catalog) -> Wait:
    if catalog.verdict is not Answer.OK:
        return Wait(catalog.verdict.outcome, catalog.detail)
    if catalog.unusable:
        newest = catalog.unusable[0]
        return Wait(newest.outcome, newest.cause)
    if catalog.newer:
        release = catalog.newer[-1].release
        rejection = view.rejection(release.release_id)
        return Wait(
            TerminalOutcome.REJECTED_HERE,
            f"{release.version} was rejected here: {brief(rejection.reason) if rejection else ''}",
        )
    return Wait(TerminalOutcome.NOTHING_NEW, "this terminal has the newest release")
