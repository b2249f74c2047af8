"""Confirm: the app states that it works. Once this is durable, only a person can roll back."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

from updater.flows.effects import Records, terminal_locked
from updater.model import Act, Report, ReportPhase, TrialId, Verdict
from updater.outcomes import TerminalOutcome


class ConfirmAnswer(StrEnum):
    """Answer to an app that confirms, as written to `<confirm file>.ack`."""

    CONFIRMED = "confirmed"
    GIVEN_UP = "given up"
    """The trial is over: the app must close without selling."""


def confirm(till: Records, trial_id: TrialId | None) -> ConfirmAnswer:
    """Record the confirm of the trial under which the asking app was started.

    The answer depends on that trial alone, never on the journal: an app that was started without a trial, or under one
    that nobody knows any more, works and may continue. The agent may have ended the trial; its ruling counts.

    Returns:
        CONFIRMED if the confirm is durable or no release is on trial; GIVEN_UP if the trial is over and the app must
        close without selling.
    """
    if not trial_id:
        return ConfirmAnswer.CONFIRMED
    with terminal_locked(till):
        till.sync()
        trial = till.read_trial(trial_id)
        if trial is None:
            return ConfirmAnswer.CONFIRMED
        match trial.verdict:
            case Verdict.CONFIRMED:
                return ConfirmAnswer.CONFIRMED
            case Verdict.GIVEN_UP | Verdict.TAKEN_BACK:
                return ConfirmAnswer.GIVEN_UP
            case Verdict.OPEN:
                till.write_trial(
                    trial._replace(
                        verdict=Verdict.CONFIRMED, act=Act.NONE, outcome=TerminalOutcome.CONFIRMED, reason=""
                    )
                )
            case _:
                assert_never(trial.verdict)
    till.tell(Report(TerminalOutcome.CONFIRMED, release=trial.candidate, phase=ReportPhase.CONFIRM, trial_id=trial_id))
    return ConfirmAnswer.CONFIRMED
