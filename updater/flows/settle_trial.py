"""Folding verdicts into proofs, rejections and the journal; rebuilding a lost journal."""

from __future__ import annotations

from typing import assert_never

from dbsync.outcomes import NamedOutcome
from updater.decisions.journal_rebuild import next_sequence, proof_of, rebuild, rejection_of
from updater.flows.effects import Till
from updater.model import Journal, Phase, Proof, ProvenBy, Rejection, Report, ReportPhase, Trial, TrialId, Verdict, View
from updater.outcomes import TerminalOutcome


def fold(till: Till, view: View, journal: Journal, trial: Trial) -> None:
    """Fold a verdict into a proof or a rejection first, then into the journal.

    A crash in between leaves a proof or rejection that the repeated fold finds and does not write twice.
    """
    match trial.verdict:
        case Verdict.CONFIRMED:
            _fold_confirmed(till, view, journal, trial)
        case Verdict.GIVEN_UP | Verdict.OPEN:
            # Open: a person's rejection of its candidate has ended the trial (`allow`); its file does not say so yet.
            _fold_given_up(till, view, journal, trial)
        case _:
            assert_never(trial.verdict)
    till.write_trial(trial._replace(closed=True))


def _fold_confirmed(till: Till, view: View, journal: Journal, trial: Trial) -> None:
    proof = None if trial.closed else proof_of(trial, view.proofs, now=till.now())
    if proof is not None:
        till.write_proof(proof)
    if journal.trial_id == trial.trial_id:
        till.write_journal(Journal(Phase.IDLE, good=trial.candidate, previous=journal.good))


def _fold_given_up(till: Till, view: View, journal: Journal, trial: Trial) -> None:
    # A closed trial was folded, and a person may have allowed its release since: only the journal must follow.
    unwritten = not (trial.back_stays or trial.closed)
    rejection = rejection_of(trial, view.rejections, now=till.now()) if unwritten else None
    if rejection is not None:
        till.write_rejection(rejection)
    if journal.trial_id == trial.trial_id:
        good = trial.candidate if trial.back_stays else journal.good
        till.write_journal(Journal(Phase.IDLE, good=good, previous=journal.previous))


def fold_rollback(till: Till, view: View, rejection: Rejection) -> None:
    """Fold a person's rollback whose database part is done into proofs and journal."""
    assert rejection.to is not None
    # No trial led to it: its proof has the id of the rollback as trial id, so a repeat finds it.
    name = TrialId(rejection.intent_id)
    chosen = [proof for proof in view.proofs if proof.why == ProvenBy.CHOSEN and proof.trial_id == name]
    if not chosen:
        till.write_proof(Proof(next_sequence(view.proofs), rejection.to, ProvenBy.CHOSEN, name, till.now()))
    till.write_journal(Journal(Phase.IDLE, good=rejection.to, previous=None))


def rebuild_journal(till: Till) -> tuple[NamedOutcome, str] | None:
    """Rebuild a lost journal under both locks: a running migration must not lose its trial.

    Returns:
        None if the journal was rebuilt, else outcome and reason.
    """
    if not till.try_database_lock():
        return TerminalOutcome.BUSY, "the journal is lost and the database is being updated; next time"
    try:
        view = till.look()
        if view.journal_unavailable:
            return TerminalOutcome.TROUBLE, "the journal cannot be read now; next time"
        rebuilt = rebuild(view, now=till.now())
        if rebuilt.journal is None:
            return TerminalOutcome.NOTHING_INSTALLED, "there is no journal and nothing that worked here before"
        for trial in rebuilt.trials:
            till.write_trial(trial)
        for proof in rebuilt.proofs:
            till.write_proof(proof)
        for rejection in rebuilt.rejections:
            till.write_rejection(rejection)
        if view.journal_broken:
            till.put_aside_journal()
        till.write_journal(rebuilt.journal)
    finally:
        till.release_database_lock()
    cause = "the journal could not be read" if view.journal_broken else "the journal was gone"
    till.tell(
        Report(
            TerminalOutcome.JOURNAL_REBUILT,
            rebuilt.journal.good,
            ReportPhase.JOURNAL,
            cause=cause,
            done="it was made again",
        )
    )
    return None
