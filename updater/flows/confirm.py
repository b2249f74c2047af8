"""Confirm: the app says "I work". From the moment this is durable, only a person leads back."""

from __future__ import annotations

from typing import assert_never

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
        if trial is None:
            return CONFIRMED
        match trial.verdict:
            case Verdict.CONFIRMED:
                return CONFIRMED
            case Verdict.GIVEN_UP:
                return GIVEN_UP
            case Verdict.OPEN:
                till.write_trial(trial._replace(verdict=Verdict.CONFIRMED, act="", outcome=TerminalOutcome.CONFIRMED))
            case _:
                assert_never(trial.verdict)
    till.tell(Report(TerminalOutcome.CONFIRMED, release=trial.candidate, phase="confirm", trial_id=trial_id))
    return CONFIRMED
