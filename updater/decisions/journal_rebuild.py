"""Rebuilding a lost journal from trial files first, then proofs and rejections. Pure functions of values."""

from __future__ import annotations

from typing import NamedTuple

from updater.decisions.launcher import fits
from updater.model import By, Journal, Phase, Proof, ProvenBy, Rejection, Release, Trial, TrialId, Verdict, View
from updater.outcomes import TerminalOutcome


class Rebuilt(NamedTuple):
    """State files to write, in this order, the journal last. The launcher uses only the journal, in memory."""

    trials: tuple[Trial, ...]
    """Trials that are given up by this: the agent rules on each."""
    proofs: tuple[Proof, ...]
    rejections: tuple[Rejection, ...]
    journal: Journal | None
    """None if no release ever worked here; then only an installation helps."""


def rebuild(view: View, *, now: str) -> Rebuilt:
    """Return the journal as derived from the other state files.

    A confirmed trial becomes a proof. A trial that has begun and has no verdict is given up; a given-up trial becomes
    a rejection. Good is then the highest proof that is not rejected and whose schema the database fits. No staged or
    swapped candidate is taken over: unknown means good or stay. An open choice whose database went back is a person's
    rejection.
    """
    trials = tuple(
        trial._replace(
            verdict=Verdict.GIVEN_UP, outcome=TerminalOutcome.TRIAL_LOST, reason="the journal was lost during the trial"
        )
        for trial in view.trials
        if trial.verdict is Verdict.OPEN and not trial.closed
    )
    proofs = _missing_proofs(view, now)
    rejections = _missing_rejections(view, trials, now)
    rejected = {rejection.release.release_id for rejection in (*view.rejections, *rejections)}
    worked = [proof.release for proof in (*view.proofs, *proofs) if proof.release.release_id not in rejected]
    choice = view.choice if view.choice is not None and view.choice.done else None
    good = choice.to if choice is not None else _best(view, trials, worked)
    journal = Journal(phase=Phase.IDLE, good=good) if good is not None else None
    return Rebuilt(trials=trials, proofs=proofs, rejections=rejections, journal=journal)


def next_sequence(proofs: tuple[Proof, ...]) -> int:
    """Return the sequence number of the next proof; proofs are ordered by sequence, never by clock."""
    return 1 + max((proof.sequence for proof in proofs), default=0)


def proof_of(trial: Trial, proofs: tuple[Proof, ...], *, now: str) -> Proof | None:
    """Return the proof of a confirmed trial; None if it has been written already."""
    if any(proof.trial_id == trial.trial_id for proof in proofs):
        return None
    return Proof(next_sequence(proofs), trial.candidate, ProvenBy.CONFIRMED, trial.trial_id, now)


def rejection_of(trial: Trial, rejections: tuple[Rejection, ...], *, now: str) -> Rejection | None:
    """Return the rejection of a given-up trial; None if its release has a rejection already."""
    if any(rejection.release.release_id == trial.candidate.release_id for rejection in rejections):
        return None
    return Rejection(trial.candidate, By.MACHINE, trial.outcome, trial.reason, now, trial.trial_id, claimed=True)


def _missing_proofs(view: View, now: str) -> tuple[Proof, ...]:
    proofs = view.proofs
    for trial in view.trials:
        if trial.verdict is Verdict.CONFIRMED and not trial.closed:
            proof = proof_of(trial, proofs, now=now)
            proofs = (*proofs, proof) if proof is not None else proofs
    return proofs[len(view.proofs) :]


def _missing_rejections(view: View, given_up_now: tuple[Trial, ...], now: str) -> tuple[Rejection, ...]:
    earlier = [
        trial
        for trial in view.trials
        if trial.verdict is Verdict.GIVEN_UP and not trial.closed and not trial.back_stays
    ]
    found: tuple[Rejection, ...] = ()
    for trial in (*earlier, *given_up_now):
        rejection = rejection_of(trial, (*view.rejections, *found), now=now)
        found = (*found, rejection) if rejection is not None else found
    return found


def _best(view: View, given_up_now: tuple[Trial, ...], worked: list[Release]) -> Release | None:
    given_up = {trial.trial_id: trial for trial in (*view.trials, *given_up_now) if trial.ends_back}
    owing = given_up.get(view.database.trial_id or TrialId(""))
    if owing is not None and owing.back is None and owing.good in worked:
        # The database is about to go back to the schema of this trial's good release.
        return owing.good
    installed = [release for release in reversed(worked) if release.folder in view.installed]
    fitting = [release for release in installed if fits(release, view.database)]
    return next(iter([*fitting, *installed, *reversed(worked)]), None)
