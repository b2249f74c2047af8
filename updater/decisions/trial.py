"""Counters of a trial: counting before an act, correcting after a reboot or an end, and the limits."""

from __future__ import annotations

from dbsync.outcomes import NamedOutcome
from updater.model import Act, Limits, Trial
from updater.outcomes import TerminalOutcome


def settled(trial: Trial, boot_id: str) -> Trial:
    """Return the trial with an act that a reboot cut off counted as an interruption instead of a failure."""
    if not trial.act or trial.boot_id == boot_id:
        return trial
    attempts, launches = int(trial.act == Act.ATTEMPT), int(trial.act == Act.LAUNCH)
    return trial._replace(
        act=Act.NONE,
        attempts_count=trial.attempts_count - attempts,
        launches_count=trial.launches_count - launches,
        interruptions_count=trial.interruptions_count + 1,
    )


def counted(trial: Trial, act: Act, boot_id: str) -> Trial:
    """Return the trial as it is written before an attempt or a launch."""
    trial = settled(trial, boot_id)
    return trial._replace(
        act=act,
        boot_id=boot_id,
        attempts_count=trial.attempts_count + int(act is Act.ATTEMPT),
        launches_count=trial.launches_count + int(act is Act.LAUNCH),
    )


def ended(trial: Trial, *, exit_code: int, seconds: float, words: str = "") -> Trial:
    """Return the trial after its app ended without a confirm.

    Exit code 0 is a launch without a verdict; any other code is a failed launch, whose last words are kept until the
    trial has a verdict.
    """
    clean = int(exit_code == 0)
    return trial._replace(
        reason=trial.reason if clean else how_it_ended(exit_code, words),
        act=Act.NONE,
        launches_count=trial.launches_count - clean,
        clean_exits_count=trial.clean_exits_count + clean,
        running_seconds=trial.running_seconds + seconds,
    )


def spoilt(trial: Trial) -> Trial:
    """Return the trial after this machine kept its app from working: an interruption, and no launch of it counts."""
    return trial._replace(
        act=Act.NONE,
        launches_count=trial.launches_count - 1,
        interruptions_count=trial.interruptions_count + 1,
    )


def how_it_ended(exit_code: int, words: str) -> str:
    """Return how a failed app ended, in words: -1 stands for a code that nobody learned."""
    known = f"it ended with code {exit_code}" if exit_code != -1 else "it ended"
    return f"{known}: {words}" if words else known


def brief(reason: str) -> str:
    """Return a reason in one line: of several lines that an app printed, its first and its last one."""
    first, *others = [line for line in reason.split("\n") if line.strip()] or [""]
    return f"{first} … {others[-1].strip()}" if others else first


def attempt_spent(trial: Trial, limits: Limits) -> tuple[NamedOutcome, str] | None:
    """Return outcome and reason if a trial may make no further attempt to prepare the database; None if it may."""
    if trial.attempts_count >= limits.attempts_count:
        return TerminalOutcome.ATTEMPTS_SPENT, f"{trial.attempts_count} attempts to prepare the database did not end"
    if trial.refusals_count >= limits.refusals_count:
        return (
            TerminalOutcome.ATTEMPTS_SPENT,
            f"the database could not be prepared {trial.refusals_count} times: see the reports before",
        )
    return _interrupted_too_often(trial, limits)


def launch_spent(trial: Trial, limits: Limits) -> tuple[NamedOutcome, str] | None:
    """Return outcome and reason if a trial may not start its app again; None if it may."""
    if trial.launches_count >= limits.launches_count:
        last = f"; {trial.reason}" if trial.reason else ""
        return TerminalOutcome.APP_FAILED, f"the app was started {trial.launches_count} times and did not confirm{last}"
    if trial.clean_exits_count >= limits.clean_exits_count:
        return TerminalOutcome.NEVER_CONFIRMED, f"the app ended {trial.clean_exits_count} times without a word"
    if trial.running_seconds >= limits.confirm_seconds:
        return TerminalOutcome.CONFIRM_OVERDUE, f"the app ran {trial.running_seconds:.0f} seconds without confirming"
    return _interrupted_too_often(trial, limits)


def _interrupted_too_often(trial: Trial, limits: Limits) -> tuple[NamedOutcome, str] | None:
    if trial.interruptions_count > limits.interruptions_count:
        return (
            TerminalOutcome.INTERRUPTED,
            f"the trial was cut off by {trial.interruptions_count} restarts of the machine",
        )
    return None
