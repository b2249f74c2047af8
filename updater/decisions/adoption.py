"""A terminal whose trials nobody has issued, as versions before two accounts left them. Pure functions of values."""

from __future__ import annotations

from typing import NamedTuple

from updater.model import Issued, Journal, Ruling, Trial


class Adopted(NamedTuple):
    """The agent's files that take the place of trust in the trial files."""

    journal: Journal | None
    """Knows the highest number, so that no earlier trial is taken for a swap after it."""
    issued: tuple[Issued, ...]
    rulings: tuple[Ruling, ...]


def adopted(journal: Journal | None, trials: tuple[Trial, ...], *, now: str) -> Adopted:
    """Return what the agent has on record for the trials of such a terminal: each is issued, closed ones are folded.

    Args:
        journal: the journal; None if there is none that can be read.
        trials: the trial files, oldest first.
        now: the time, UTC, for the records.
    """
    named = journal.trial_id if journal is not None else None
    ordered = sorted(trials, key=lambda trial: (not trial.closed, trial.trial_id == named))
    issued = [
        Issued(number, trial.trial_id, trial.candidate, trial.good, now)
        for number, trial in enumerate(ordered, start=1)
    ]
    unbegun = journal is not None and named is not None and all(trial.trial_id != named for trial in trials)
    if unbegun and journal is not None and named is not None and journal.candidate is not None:
        issued.append(Issued(len(issued) + 1, named, journal.candidate, journal.good, now))
    rulings = tuple(
        Ruling(trial.trial_id, trial.verdict, trial.by, trial.outcome, trial.reason, now, folded=True)
        for trial in trials
        if trial.closed
    )
    known = journal._replace(last=len(issued)) if journal is not None else None
    return Adopted(known, tuple(issued), rulings)
