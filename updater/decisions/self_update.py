"""Decisions about the agent's own update: pure functions of values."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from updater.model import Release, ReleaseId

TRIALS_LIMIT: Final = 2
"""Trials of a release of the agent that failed; after them it is not tried here any more."""
AWAY_LIMIT: Final = 5
"""Trials in which the network was away, as far as the agent on trial could tell."""
RETRY_DAYS: Final = 1
"""After so long a release that failed is tried again, within these limits."""


class FailedRelease(NamedTuple):
    """How a release of the agent fared here; written before the pointer is, so a crash in between repeats it."""

    release_id: ReleaseId
    version: str
    token: str
    """Of the last trial that was counted; empty for a self-test."""
    trials_count: int
    away_count: int
    is_refused: bool
    """Whether it said itself that it cannot run here."""
    reason: str
    at: str


class Note(NamedTuple):
    """The last words of an agent on trial."""

    token: str
    problem: str
    is_away: bool
    """Whether the problem was that nothing answered."""


class KitTrial(NamedTuple):
    """A trial that the pointer names."""

    kit_id: str
    token: str
    release: Release
    attempts_count: int
    is_late: bool
    """Whether its agent was ended because it did not confirm in time."""
    is_over: bool
    """Whether the program that starts kits will not start it any more."""


class KitView(NamedTuple):
    """The kits of this terminal, read at one moment."""

    kit_id: str
    """Of the kit that this process runs from."""
    version: str
    trial: KitTrial | None = None
    note: Note | None = None
    launches_spent: bool = False
    """Whether the launchers of this kit, or of the one on trial, did not reach the app: a claim of the till's."""
    failures: tuple[FailedRelease, ...] = ()


class Free(NamedTuple):
    """No trial is open."""


class Prove(NamedTuple):
    """Step of the agent on trial: look, activate a dummy, confirm."""

    trial: KitTrial


class GiveUp(NamedTuple):
    """Step of the agent on trial: end, so that the agent before starts."""

    trial: KitTrial
    reason: str


class StepAside(NamedTuple):
    """Step of the agent before: end, so that the one on trial starts."""

    trial: KitTrial


class Return(NamedTuple):
    """Step of the agent before, after the trial: record how it failed, and take it off the pointer."""

    trial: KitTrial
    failure: FailedRelease


KitStep = Free | Prove | GiveUp | StepAside | Return


def decide_kit(view: KitView, *, now: str) -> KitStep:
    """Return the step of this process in the trial of an agent."""
    trial = view.trial
    if trial is None:
        return Free()
    if trial.kit_id == view.kit_id:
        if view.launches_spent:
            return GiveUp(trial, "launchers of this agent were started again and again and did not reach the app")
        return Prove(trial)
    if trial.is_over or trial.is_late:
        return Return(trial, failure_of(view, trial, now))
    return StepAside(trial)


def failure_of(view: KitView, trial: KitTrial, now: str) -> FailedRelease:
    """Return how a release fared, with this trial counted once."""
    release = trial.release
    before = next((failure for failure in view.failures if failure.release_id == release.release_id), None)
    if before is not None and before.token == trial.token:
        return before
    note = view.note if view.note is not None and view.note.token == trial.token else None
    if note is not None:
        reason = note.problem
    elif trial.is_late:
        reason = "it ran and did not confirm in time"
    elif trial.attempts_count:
        reason = f"it was started {trial.attempts_count} times and ended without a word"
    else:
        reason = "it could not be started"
    is_away = note is not None and note.is_away
    trials, aways = (before.trials_count, before.away_count) if before is not None else (0, 0)
    return FailedRelease(
        release.release_id, release.version, trial.token, trials + (not is_away), aways + is_away,
        is_refused=False, reason=reason, at=now,
    )  # fmt: skip


def untested(view: KitView, release: Release, *, reason: str, is_refused: bool, now: str) -> FailedRelease:
    """Return how a release fared whose self-test did not end well."""
    before = next((failure for failure in view.failures if failure.release_id == release.release_id), None)
    trials, aways = (before.trials_count, before.away_count) if before is not None else (0, 0)
    return FailedRelease(release.release_id, release.version, "", trials + 1, aways, is_refused, reason, now)


def barred(failures: tuple[FailedRelease, ...], release_id: ReleaseId, *, now: str) -> str:
    """Return why a release of the agent is not tried now; empty if it may be."""
    failure = next((failure for failure in failures if failure.release_id == release_id), None)
    if failure is None:
        return ""
    if failure.is_refused or failure.trials_count >= TRIALS_LIMIT or failure.away_count >= AWAY_LIMIT:
        return f"agent {failure.version} was rejected here: {failure.reason}"
    if _days_apart(failure.at, now) < RETRY_DAYS:
        return f"agent {failure.version} failed here and is tried again a day later: {failure.reason}"
    return ""


def _days_apart(earlier: str, later: str) -> float:
    # A clock that was wrong, forward or back, keeps nothing away for long.
    try:
        return abs(datetime.fromisoformat(later) - datetime.fromisoformat(earlier)) / timedelta(days=1)
    except (ValueError, TypeError):
        return RETRY_DAYS
