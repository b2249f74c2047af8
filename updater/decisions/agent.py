"""Decisions about the agent's next step: pure functions of values."""

from __future__ import annotations

from typing import NamedTuple

from dbsync.outcomes import NamedOutcome
from updater.answers import Answer, Catalog, Offer
from updater.decisions.launcher import row_gone
from updater.model import By, Journal, Phase, Rejection, Release, Trial, Verdict, View
from updater.outcomes import TerminalOutcome


class Fold(NamedTuple):
    """Step for a trial that has its verdict: fold the verdict into a proof or a rejection, then into the journal."""

    trial: Trial


class FoldRollback(NamedTuple):
    """Step for a person's rollback whose database part is done: write proof and journal."""

    rejection: Rejection


class Stage(NamedTuple):
    """Download, unpack, check and shelve an offered release."""

    offer: Offer


class Unstage(NamedTuple):
    """Drop a candidate that is staged or was never started."""

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


AgentStep = Rebuild | Fold | FoldRollback | Stage | Unstage | Swap | Wait


def decide_agent(view: View, catalog: Catalog | None, *, in_window: bool) -> AgentStep:
    """Return the agent's next step.

    Args:
        view: the terminal, read at one moment.
        catalog: the repository's offers; None before the repository was asked (once in a cycle, when all is settled).
        in_window: whether the store allows a swap now.
    """
    journal = view.journal
    if journal is None:
        return Rebuild()
    settle = _to_settle(view, journal)
    if settle is not None:
        return settle
    if journal.phase is Phase.SWAPPED and view.trial(journal.trial_id) is not None:
        return Wait(TerminalOutcome.ON_TRIAL, f"{journal.candidate.version if journal.candidate else ''} is on trial")
    if catalog is None:
        return Wait(TerminalOutcome.NOT_ASKED, "the repository has not been asked")
    unusable = _unusable(view, journal, catalog)
    if unusable is not None:
        return Unstage(unusable)
    offer = _wanted(view, journal, catalog)
    if offer is not None:
        return Stage(offer)
    if journal.phase is Phase.STAGED and journal.candidate is not None:
        if view.running is not None:
            return Wait(
                TerminalOutcome.WAITING, f"{journal.candidate.version} is ready and waits until the app is closed"
            )
        if any(not rejection.done for rejection in view.rejections):
            return Wait(
                TerminalOutcome.WAITING,
                f"{journal.candidate.version} is ready and waits until the rollback is finished",
            )
        if not in_window:
            return Wait(
                TerminalOutcome.WAITING, f"{journal.candidate.version} is ready and waits for the update window"
            )
        return Swap(journal.candidate)
    if journal.phase is Phase.SWAPPED and journal.candidate is not None:
        return Wait(TerminalOutcome.SWAPPED, f"{journal.candidate.version} starts at the next launch")
    return _nothing_new(view, catalog)


def lacks_sqlite(least: str, here: str) -> bool:
    """Return whether a release needs a newer SQLite (`least`, empty: any) than the one that is `here`."""
    return bool(least) and _numbers(here) < _numbers(least)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _to_settle(view: View, journal: Journal) -> Fold | FoldRollback | None:
    for trial in view.trials:
        if (trial.closed and trial.trial_id != journal.trial_id) or trial.verdict is Verdict.OPEN:
            continue
        if trial.verdict is Verdict.CONFIRMED or trial.back is not None or row_gone(trial, view.database):
            return Fold(trial)
    rejection = view.rejection(journal.good.release_id)
    if rejection is not None and rejection.by is By.PERSON and rejection.done and rejection.to is not None:
        return FoldRollback(rejection)
    return None


def _unusable(view: View, journal: Journal, catalog: Catalog) -> str | None:
    candidate = journal.candidate
    if candidate is None:
        return None
    if view.rejection(candidate.release_id) is not None:
        return f"{candidate.version} was rejected"
    if candidate.folder not in view.installed:
        return f"the version folder of {candidate.version} is gone"
    if catalog.verdict is Answer.OK and candidate.release_id not in catalog.signed:
        return f"the vendor withdrew {candidate.version}"
    return None


def _wanted(view: View, journal: Journal, catalog: Catalog) -> Offer | None:
    # Only the newest counts: if it was rejected here, an older release in between is not what the vendor wants.
    if not catalog.newer:
        return None
    newest = catalog.newer[-1]
    if newest.release == journal.candidate or view.rejection(newest.release.release_id) is not None:
        return None
    return newest


def _nothing_new(view: View, catalog: Catalog) -> Wait:
    if catalog.verdict is not Answer.OK:
        return Wait(catalog.verdict.outcome, catalog.detail)
    if catalog.needs_sqlite:
        return Wait(TerminalOutcome.NEEDS_NEWER_SQLITE, catalog.needs_sqlite)
    if catalog.newer:
        newest = catalog.newer[-1].release
        rejection = view.rejection(newest.release_id)
        return Wait(
            TerminalOutcome.REJECTED_HERE,
            f"{newest.version} was rejected here: {rejection.reason if rejection else ''}",
        )
    return Wait(TerminalOutcome.NOTHING_NEW, "this terminal has the newest release")
