"""One view of a terminal from the agent's records and the claims of the till's account. Pure functions of values.

The agent's files are records. What the till's account can write is a claim: it adds verdict, counts and times to a
trial that the agent has issued and has not folded, and nothing else. Releases come from the agent's files alone.
"""

# Annotations are evaluated here: as texts, NamedTuple compiles each again at every start (`scripts/bench launch`).
from typing import Final, NamedTuple

from updater.decisions.launcher import fits, gone_back
from updater.model import (
    By,
    Choice,
    Facts,
    Issued,
    Journal,
    Phase,
    Proof,
    Rejection,
    Release,
    Ruling,
    Seen,
    State,
    Trial,
    TrialId,
    Verdict,
    View,
)
from updater.outcomes import TerminalOutcome

NUMBERS_AHEAD: Final = 1000
"""A choice may be so far ahead of what is settled: each command counts one on."""
HOLDS = ""
"""The reason of a choice that holds."""


class _Judged(NamedTuple):
    """The choices of the till's account, judged."""

    choice: Choice | None
    dead: tuple[tuple[Choice, str], ...]
    settled: int


def compose(seen: Seen) -> View:
    """Return the view that decisions depend on."""
    rulings = {ruling.trial_id: ruling for ruling in seen.rulings}
    claims = {trial.trial_id: trial for trial in seen.claims.trials}
    named = seen.journal.trial_id if seen.journal is not None else None
    trials: list[Trial] = []
    for issued in seen.issued:
        claim = claims.get(issued.trial_id)
        if claim is None and issued.trial_id in seen.claims.lost and issued.trial_id == named:
            claim = _lost(issued)
        trial = composed(issued, claim, rulings.get(issued.trial_id))
        trials += [trial] if trial is not None else []
    journal = effective(seen.journal, seen.issued, tuple(trials), seen.database)
    judged = _judge_all(seen, journal, tuple(trials))
    rejections = seen.rejections
    if judged.choice is not None:
        rejections = (*_without(rejections, judged.choice.of), _as_rejection(judged.choice, journal))
    return View(
        journal=journal,
        trials=tuple(trials),
        proofs=seen.proofs,
        rejections=rejections,
        database=seen.database,
        running=seen.running,
        boot_id=seen.boot_id,
        installed=seen.installed,
        journal_broken=seen.journal_broken,
        journal_unavailable=seen.journal_unavailable,
        issued=seen.issued,
        choice=judged.choice,
        dead_choices=judged.dead,
        settled_choice=judged.settled,
        moment=seen.moment,
        unfolded=frozenset(
            issued.trial_id
            for issued in seen.issued
            if (ruling := rulings.get(issued.trial_id)) is None or not ruling.folded
        ),
    )


def composed(issued: Issued, claim: Trial | None, ruling: Ruling | None) -> Trial | None:
    """Return a trial from the agent's record and the till's claim; None if it has not begun.

    Of a trial that the agent has folded, the claim adds only how the database went back: it decides no verdict.
    """
    if claim is None and ruling is None:
        return None
    trial = claim or Trial(issued.trial_id, issued.candidate, issued.good)
    verdict = Verdict.GIVEN_UP if trial.verdict is Verdict.TAKEN_BACK else trial.verdict
    trial = trial._replace(
        trial_id=issued.trial_id, candidate=issued.candidate, good=issued.good, verdict=verdict, closed=False
    )
    if ruling is None:
        return trial
    if ruling.folded:
        trial = Trial(
            issued.trial_id, issued.candidate, issued.good,
            back=trial.back, backup=trial.backup, content_sha256=trial.content_sha256,
        )  # fmt: skip
    return trial._replace(
        verdict=ruling.verdict, by=ruling.by, outcome=ruling.outcome, reason=ruling.reason, closed=ruling.folded
    )


def effective(
    journal: Journal | None, issued: tuple[Issued, ...], trials: tuple[Trial, ...], database: Facts
) -> Journal | None:
    """Return the journal as it counts: one older than a swap whose trial has begun is read as that swap.

    The agent issues a trial before the journal names it. A power cut can take the journal's last write back while
    the trial goes on; the number that the journal knows shows that it is the older one. A newer journal is never
    overruled.
    """
    if journal is None:
        return None
    begun = {trial.trial_id for trial in trials if trial.begun and not trial.closed}
    newer = [swap for swap in issued if swap.number > journal.last]
    swapped = [swap for swap in newer if swap.trial_id in begun or swap.trial_id == database.trial_id]
    if not swapped:
        return journal
    last = max(swapped, key=lambda found: found.number)
    return journal._replace(phase=Phase.SWAPPED, good=last.good, candidate=last.candidate, trial_id=last.trial_id)


def highest_issued(view: View) -> int:
    """Return the highest number of an issued trial, also one that only the journal remembers."""
    known = view.journal.last if view.journal is not None else 0
    return max([known, *(issued.number for issued in view.issued)])


def next_choice(view: View) -> int:
    """Return the number of the next choice."""
    there = [choice.number for choice, _ in view.dead_choices]
    there += [view.choice.number] if view.choice is not None else []
    return 1 + max([view.settled_choice, *there])


def _lost(issued: Issued) -> Trial:
    """Return the trial of a file that cannot be read: unknown means the good release."""
    return Trial(
        issued.trial_id, issued.candidate, issued.good,
        verdict=Verdict.GIVEN_UP, outcome=TerminalOutcome.TRIAL_LOST, reason="the trial's file could not be read",
    )  # fmt: skip


def _without(rejections: tuple[Rejection, ...], release: Release) -> tuple[Rejection, ...]:
    return tuple(rejection for rejection in rejections if rejection.release.release_id != release.release_id)


def _as_rejection(choice: Choice, journal: Journal | None) -> Rejection:
    """Return a choice in the form that every decision knows: what is left is rejected, and names where to go."""
    trial_id = journal.trial_id if journal is not None and journal.candidate == choice.of else None
    return Rejection(
        choice.of, By.PERSON, TerminalOutcome.ROLLED_BACK, "a person went back", choice.at,
        trial_id=trial_id, to=choice.to, backup=choice.backup, intent_id=choice.intent_id, done=choice.done,
    )  # fmt: skip


def _judge_all(seen: Seen, journal: Journal | None, trials: tuple[Trial, ...]) -> _Judged:
    """Judge the choices, newest first: the newest that holds is open, all others are dead."""
    settled = journal.last_choice if journal is not None else 0
    known = settled
    # Without a journal, the proof of a choice shows that it was carried out.
    proven = {proof.trial_id for proof in seen.proofs} if journal is None else set()
    open_choice: Choice | None = None
    dead: list[tuple[Choice, str]] = []
    for choice in sorted(seen.claims.choices, key=lambda found: found.number, reverse=True):
        if choice.number > known + NUMBERS_AHEAD:
            # No number of ours: taken for one, it would make every later choice an old one.
            continue
        if choice.number <= settled or choice.intent_id in proven:
            settled = max(settled, choice.number)
            continue
        why = _refused(choice, seen, journal, trials)
        if why == HOLDS and open_choice is None:
            open_choice = choice
        else:
            dead.append((choice, why or "a later choice takes its place"))
    return _Judged(open_choice, tuple(dead), settled)


def _refused(choice: Choice, seen: Seen, journal: Journal | None, trials: tuple[Trial, ...]) -> str:
    """Return why a choice does not hold; empty if it does."""
    permitted = journal is not None and choice.number == journal.permitted_choice
    if seen.moment is not None and not seen.moment.till_may_roll_back and not permitted:
        return "the till's account may not go back on this terminal"
    if not any(proof.release == choice.to for proof in seen.proofs):
        return f"{choice.to.version} has never worked here"
    if any(rejection.release.release_id == choice.to.release_id for rejection in seen.rejections):
        return f"{choice.to.version} is rejected here"
    if seen.moment is not None and choice.to.release_id in seen.moment.recalled:
        return f"the vendor withdrew {choice.to.version}"
    if choice.of.release_id == choice.to.release_id:
        return "it leaves nothing"
    if not _leaves_what_runs(choice, journal, trials, seen.proofs, seen.database):
        return f"{choice.of.version} is not what runs here"
    if choice.backup is None and seen.database.state is State.OK and not fits(choice.to, seen.database):
        return f"the database does not fit {choice.to.version}"
    return HOLDS


def _leaves_what_runs(
    choice: Choice, journal: Journal | None, trials: tuple[Trial, ...], proofs: tuple[Proof, ...], database: Facts
) -> bool:
    """Return whether a choice leaves the good release, or the candidate of the trial that has begun."""
    if journal is None:
        # The journal is lost: the newest proof is what ran, unless a trial that has begun came after it.
        begun = [trial for trial in trials if not trial.closed and trial.begun]
        newest = begun[-1].candidate if begun else (proofs[-1].release if proofs else None)
        return choice.of == newest
    trial = _of(trials, journal.trial_id)
    if trial is None or not trial.begun or trial.closed:
        return choice.of == journal.good
    ended = gone_back(trial, database)
    # Ended and not folded yet: the good release runs; or the choice itself is what ended it.
    return choice.of == trial.candidate or (ended and choice.of == journal.good)


def _of(trials: tuple[Trial, ...], trial_id: TrialId | None) -> Trial | None:
    return next((trial for trial in trials if trial.trial_id == trial_id), None)
