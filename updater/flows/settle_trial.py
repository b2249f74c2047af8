"""Folding verdicts and choices into proofs, rejections and the journal; rebuilding a lost journal."""

from __future__ import annotations

from typing import assert_never

from dbsync.outcomes import NamedOutcome
from updater.decisions.claims import highest_issued, next_choice
from updater.decisions.journal_rebuild import next_sequence, proof_of, rebuild, rejection_of
from updater.decisions.launcher import is_settled
from updater.flows.effects import Till
from updater.model import (
    By,
    Choice,
    Journal,
    Phase,
    Proof,
    ProvenBy,
    Rejection,
    Release,
    Report,
    ReportPhase,
    Ruling,
    Trial,
    TrialId,
    Verdict,
    View,
)
from updater.outcomes import TerminalOutcome


def fold(till: Till, view: View, journal: Journal, trial: Trial) -> None:
    """Fold a verdict: the agent's ruling first, then proof or rejection, then the journal.

    A crash in between leaves a ruling that is not folded: the repeated fold finds what is written and writes the rest.
    """
    ruling = ruling_of(trial, now=till.now())
    if not trial.closed:
        till.write_ruling(ruling)
    match trial.verdict:
        case Verdict.CONFIRMED:
            _fold_confirmed(till, view, journal, trial)
        case Verdict.GIVEN_UP | Verdict.OPEN:
            # Open: a person's rejection of its candidate has ended the trial (`allow`); its file does not say so yet.
            _fold_given_up(till, view, journal, trial)
        case Verdict.TAKEN_BACK:
            _follow(till, view, journal, trial)
        case _:
            assert_never(trial.verdict)
    till.write_ruling(ruling._replace(folded=True))


def ruling_of(trial: Trial, *, now: str) -> Ruling:
    """Return the agent's ruling that repeats a trial's verdict."""
    verdict = Verdict.GIVEN_UP if trial.verdict is Verdict.OPEN else trial.verdict
    return Ruling(trial.trial_id, verdict, trial.by, trial.outcome, trial.reason, now)


def following(view: View, journal: Journal) -> Journal:
    """Return a new journal with the numbers that the one before knows: it is never older than what was issued."""
    settled = view.journal.last_choice if view.journal is not None else 0
    return journal._replace(last=highest_issued(view), last_choice=max(settled, journal.last_choice))


def _fold_confirmed(till: Till, view: View, journal: Journal, trial: Trial) -> None:
    proof = None if trial.closed else proof_of(trial, view.proofs, now=till.now())
    if proof is not None:
        till.write_proof(proof)
    if journal.trial_id == trial.trial_id:
        till.write_journal(following(view, Journal(Phase.IDLE, good=trial.candidate, previous=journal.good)))


def _fold_given_up(till: Till, view: View, journal: Journal, trial: Trial) -> None:
    # A closed trial was folded, and a person may have allowed its release since: only the journal must follow.
    unwritten = not (trial.back_stays or trial.closed)
    rejection = rejection_of(trial, view.rejections, now=till.now()) if unwritten else None
    if rejection is not None:
        till.write_rejection(rejection)
    _follow(till, view, journal, trial)


def _follow(till: Till, view: View, journal: Journal, trial: Trial) -> None:
    if journal.trial_id == trial.trial_id:
        good = trial.candidate if trial.back_stays else journal.good
        till.write_journal(following(view, Journal(Phase.IDLE, good=good, previous=journal.previous)))


def fold_rollback(till: Till, view: View, rejection: Rejection) -> None:
    """Fold a person's rollback whose database part is done into proofs and journal."""
    assert rejection.to is not None
    _prove_chosen(till, view, rejection.to, name=rejection.intent_id)
    till.write_journal(following(view, Journal(Phase.IDLE, good=rejection.to, previous=None)))


def fold_choice(till: Till, view: View, choice: Choice, *, claimed: bool) -> None:
    """Fold a choice whose database part is done: rulings, rejection, proof, then the journal with the choice's number.

    `claimed` says that nothing but the till's account is behind it.

    A crash in between leaves an open choice, and the repeated fold writes what is missing.
    """
    now = till.now()
    for trial in view.trials:
        back = trial.verdict is Verdict.CONFIRMED or is_settled(trial, view.database)
        if trial.candidate != choice.of and not trial.closed and trial.verdict is not Verdict.OPEN and back:
            # Another trial that has ended: its ruling and its rejection stand before the journal of the choice.
            fold(till, view, view.journal or Journal(Phase.IDLE, good=choice.of), trial)
    ended = [_ended_by_choice(trial) for trial in view.trials if trial.candidate == choice.of and not trial.closed]
    for trial in ended:
        till.write_ruling(ruling_of(trial, now=now))
        if trial.verdict is Verdict.CONFIRMED and (proof := proof_of(trial, view.proofs, now=now)) is not None:
            # It worked here before it was left: its proof comes before that of the release that was chosen.
            till.write_proof(proof)
            view = view._replace(proofs=(*view.proofs, proof))
    _reject_and_prove(till, view, choice, claimed=claimed)
    journal = Journal(Phase.IDLE, good=choice.to, previous=None, last_choice=choice.number)
    till.write_journal(following(view, journal))
    for trial in ended:
        till.write_ruling(ruling_of(trial, now=now)._replace(folded=True))


def _ended_by_choice(trial: Trial) -> Trial:
    if trial.verdict is Verdict.CONFIRMED:
        return trial
    return trial._replace(verdict=Verdict.GIVEN_UP, by=By.PERSON, outcome=TerminalOutcome.PERSON)


def _reject_and_prove(till: Till, view: View, choice: Choice, *, claimed: bool) -> None:
    rejection = view.rejection(choice.of.release_id)
    assert rejection is not None, "an open choice is among the rejections"
    till.write_rejection(rejection._replace(at=till.now(), claimed=claimed))
    _prove_chosen(till, view, choice.to, name=choice.intent_id)


def _prove_chosen(till: Till, view: View, to: Release, *, name: str) -> None:
    # No trial led to it: its proof has the id of the rollback as trial id, so a repeat finds it.
    chosen = [proof for proof in view.proofs if proof.why == ProvenBy.CHOSEN and proof.trial_id == name]
    if not chosen:
        till.write_proof(Proof(next_sequence(view.proofs), to, ProvenBy.CHOSEN, TrialId(name), till.now()))


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
            return TerminalOutcome.TROUBLE, f"the journal cannot be read now ({view.journal_unavailable}); next time"
        if view.choice is not None and not view.choice.done:
            return TerminalOutcome.BUSY, "the journal is lost and a rollback is not finished; next time"
        rebuilt = rebuild(view, now=till.now())
        if rebuilt.journal is None:
            return TerminalOutcome.NOTHING_INSTALLED, "there is no journal and nothing that worked here before"
        ended = [trial for trial in view.trials if not trial.closed and trial.verdict is not Verdict.OPEN]
        for trial in (*ended, *rebuilt.trials):
            # First: proof, rejection and journal rest on it, and the till's account must not turn it round any more.
            till.write_ruling(ruling_of(trial, now=till.now()))
        for proof in rebuilt.proofs:
            till.write_proof(proof)
        for rejection in rebuilt.rejections:
            till.write_rejection(rejection)
        if view.choice is not None and view.choice.done:
            _reject_and_prove(till, view, view.choice, claimed=till.two_accounts())
        if view.journal_broken:
            till.put_aside_journal()
        till.write_journal(following(view, rebuilt.journal._replace(last_choice=next_choice(view) - 1)))
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
