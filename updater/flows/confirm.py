"""Confirm: the app says "I work". From the moment this is durable, only a person leads back."""

from __future__ import annotations

from updater.flows.effects import Records, terminal_locked
from updater.model import Report, Verdict
from updater.outcomes import TerminalOutcome

CONFIRMED, GIVEN_UP = "confirmed", "given up"


def confirm(till: Records, trial_id: str | None) -> str:
    """Records the confirm of the trial under which the asking app was started.

    It judges by that trial's file alone, never by the journal: an app that was started without a trial, or under one
    that is long over, works and may go on.

    Returns:
        CONFIRMED when the confirm is durable or nothing is on trial; GIVEN_UP when the trial is over and the app has to
        close without selling.
    """
    if not trial_id:
        return CONFIRMED
    with terminal_locked(till):
        till.sync()
        trial = till.read_trial(trial_id)
        if trial is None or trial.verdict is Verdict.CONFIRMED:
            return CONFIRMED
        if trial.verdict is Verdict.GIVEN_UP:
            return GIVEN_UP
        till.write_trial(trial._replace(verdict=Verdict.CONFIRMED, act="", outcome=TerminalOutcome.CONFIRMED))
    till.tell(Report(TerminalOutcome.CONFIRMED, release=trial.candidate, phase="confirm", trial_id=trial_id))
    return CONFIRMED
