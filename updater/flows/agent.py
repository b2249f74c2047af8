"""The update cycle (observe, decide, record, act) and the scheduler that triggers it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, NamedTuple, assert_never

from dbsync.errors import Refused, TillkeeperError, TryLater, interrupts, wrapped
from dbsync.outcomes import Group, NamedOutcome
from updater.answers import Answer, Catalog
from updater.decisions import agent as decisions
from updater.decisions.claims import highest_issued
from updater.errors import LockHeld
from updater.flows import self_update
from updater.flows.effects import Till, terminal_locked
from updater.flows.settle_trial import fold, fold_choice, fold_rollback, following, rebuild_journal, ruling_of
from updater.model import (
    By,
    Issued,
    Journal,
    Phase,
    Rejection,
    Release,
    Report,
    ReportPhase,
    Ruling,
    TrialId,
    Verdict,
    View,
)
from updater.outcomes import TerminalOutcome

STEPS_LIMIT: Final = 20


class Cycle(NamedTuple):
    """Result of one cycle of the agent."""

    outcome: NamedOutcome
    reason: str
    done: tuple[str, ...]
    """Steps that were done, as sentences, in order."""


def cycle(till: Till) -> Cycle:
    """Run one cycle: settle owed steps, ask the repository once, stage and swap if allowed.

    Two cycles at once would write into one unfinished download, so the second one ends at once.
    """
    if not till.try_agent_lock():
        return Cycle(TerminalOutcome.ANOTHER_AGENT, "another agent is at work on this terminal", ())
    try:
        return _cycle(till)
    except BaseException as error:
        if interrupts(error):
            raise
        # Recorded here, once, whichever package raised the error; the caller continues or exits.
        outcome = TerminalOutcome.LOCK_HELD if isinstance(error, LockHeld) else TerminalOutcome.CYCLE_FAILED
        till.tell(Report(outcome, phase=ReportPhase.CYCLE, cause=str(wrapped(error)), done="the cycle ended"))
        raise
    finally:
        till.release_agent_lock()


def _cycle(till: Till) -> Cycle:
    step_aside = self_update.settle(till)
    if step_aside is not None:
        return Cycle(step_aside.outcome, step_aside.reason, ())
    done: list[str] = []
    catalog: Catalog | None = None
    with terminal_locked(till):
        # First: what is settled below is judged by what the settings say now.
        till.write_moment(None)
    for _ in range(STEPS_LIMIT):
        wait = _perform(till, _turn(till, catalog, done), done)
        if wait is None:
            continue
        if wait.outcome != TerminalOutcome.NOT_ASKED:
            break
        catalog = self_update.waiting(till, till.find_releases())
        with terminal_locked(till):
            till.write_moment(catalog.recalled if catalog.verdict is Answer.OK else None)
        if catalog.verdict is not Answer.OK:
            till.tell(
                Report(
                    catalog.verdict.outcome, phase=ReportPhase.LOOK, cause=catalog.detail, done="nothing was changed"
                )
            )
        # Before the app: a release of it may need the newer agent.
        taken = self_update.take(till, catalog, done)
        if taken is not None:
            return Cycle(taken.outcome, taken.reason, tuple(done))
    else:
        wait = decisions.Wait(TerminalOutcome.GOES_IN_CIRCLES, f"no progress after {STEPS_LIMIT} steps")
    till.take_in()
    with terminal_locked(till):
        if catalog is not None and catalog.verdict is Answer.OK:
            _tell_unusable(till, catalog)
        _tell_stalled(till)
        _tidy(till, catalog)
    kept = (TerminalOutcome.ON_TRIAL, catalog.verdict.outcome if catalog is not None else None)
    if catalog is not None and catalog.verdict is not Answer.OK and wait.outcome not in kept:
        # A staged release may proceed; people should read that the repository could not be asked.
        wait = decisions.Wait(catalog.verdict.outcome, f"{catalog.detail}; {wait.reason}")
    return Cycle(wait.outcome, wait.reason, tuple(done))


def _tell_unusable(till: Till, catalog: Catalog) -> None:
    """Report releases that cannot be used here, once each, and keep them on record for `updater status`.

    A crash before the record is written leaves a report that comes twice.
    """
    known = till.read_unusable()
    for release in catalog.unusable:
        if release not in known:
            done = "older releases are used all the same" if release.version else "nothing new begins"
            till.tell(Report(release.outcome, phase=ReportPhase.LOOK, cause=release.cause, done=done))
    if catalog.unusable != known:
        till.write_unusable(catalog.unusable)


def _turn(till: Till, catalog: Catalog | None, done: list[str]) -> decisions.AgentStep:
    """Observe and decide once under the terminal lock, carry out a short step there, and return the step."""
    with terminal_locked(till):
        till.sync()
        view = till.look()
        step = decisions.decide_agent(view, catalog, now=till.now(), retries_urgent=till.two_accounts())
        return _record(till, view, step, done)


def _record(till: Till, view: View, step: decisions.AgentStep, done: list[str]) -> decisions.AgentStep:
    """Carry out a step that only writes state files; return the step, or a Wait if it could not be done."""
    match step:
        case decisions.Rebuild():
            lost = rebuild_journal(till)
            if lost is not None:
                return decisions.Wait(*lost)
            done.append("the journal was made again")
        case (
            decisions.Fold()
            | decisions.FoldRollback()
            | decisions.FoldChoice()
            | decisions.CloseChoices()
            | decisions.Close()
        ):
            done.append(_settle(till, view, step))
        case decisions.TakeBack():
            # The launcher takes the database back; the journal follows when it has.
            till.write_ruling(_taken_back(step.trial.trial_id, step.reason, till.now()))
            _tell_unstaged(till, step.trial.candidate, step.reason)
            done.append(step.reason)
        case decisions.Lift():
            _lift(till, view, step.rejection)
            done.append(f"{step.rejection.release.version} is urgent and is tried again")
        case decisions.Unstage():
            _unstage(till, view, step)
            done.append(step.reason)
        case decisions.Unswap():
            _unswap(till, view, step)
            done.append(step.reason)
        case decisions.Swap():
            _swap(till, view, step.candidate)
            done.append(f"{step.candidate.version} starts at the next launch")
        case decisions.Stage() | decisions.Wait():
            # These steps run later, without the terminal lock.
            pass
        case _:
            assert_never(step)
    return step


def _settle(till: Till, view: View, step: decisions.Settle) -> str:
    """Bring the agent's files up to what has happened; return it as a sentence."""
    match step:
        case decisions.Fold():
            fold(till, view, _journal(view), step.trial)
            return f"the trial of {step.trial.candidate.version} is settled: {step.trial.verdict}"
        case decisions.FoldRollback():
            fold_rollback(till, view, step.rejection)
            return "a person's rollback is settled"
        case decisions.FoldChoice():
            permitted = step.choice.number == _journal(view).permitted_choice
            fold_choice(till, view, step.choice, claimed=till.two_accounts() and not permitted)
            return "a person's rollback is settled"
        case decisions.CloseChoices():
            _close_choices(till, view, step)
            return "choices that do not hold were refused"
        case decisions.Close():
            till.write_ruling(_taken_back(step.issued.trial_id, "it never began", till.now())._replace(folded=True))
            return f"a trial of {step.issued.candidate.version} that never began is closed"
        case _:
            assert_never(step)


def _journal(view: View) -> Journal:
    """Return the journal of a view that led to this step; without a journal the step would be `Rebuild`."""
    assert view.journal is not None
    return view.journal


def _swap(till: Till, view: View, candidate: Release) -> None:
    journal = _journal(view)
    number = highest_issued(view) + 1
    trial_id = TrialId(f"{number:06d}-{till.new_id()}")
    # Issued first: a crash here leaves a trial that the journal does not name, and the next cycle closes it.
    till.write_issued(Issued(number, trial_id, candidate, journal.good, till.now()))
    # This rename is the swap. A crash before it leaves STAGED; after it, the next launch is the trial.
    till.write_journal(journal._replace(phase=Phase.SWAPPED, trial_id=trial_id, last=number))
    till.tell(Report(TerminalOutcome.SWAPPED, candidate, ReportPhase.SWAP, done="it starts at the next launch"))


def _unstage(till: Till, view: View, step: decisions.Unstage) -> None:
    journal = _journal(view)
    if journal.trial_id is not None:
        till.write_ruling(_taken_back(journal.trial_id, step.reason, till.now())._replace(folded=True))
    till.write_journal(following(view, journal._replace(phase=Phase.IDLE, candidate=None, trial_id=None)))
    _tell_unstaged(till, journal.candidate, step.reason)


def _unswap(till: Till, view: View, step: decisions.Unswap) -> None:
    """Take a swap back. A crash after the ruling leaves a journal whose trial is over: the next cycle writes it."""
    journal = _journal(view)
    if journal.trial_id is not None:
        till.write_ruling(_taken_back(journal.trial_id, step.reason, till.now())._replace(folded=True))
    till.write_journal(following(view, journal._replace(phase=Phase.STAGED, trial_id=None)))
    _tell_unstaged(till, journal.candidate, step.reason)


def _tell_unstaged(till: Till, candidate: Release | None, reason: str) -> None:
    done = "it will not be started"
    till.tell(Report(TerminalOutcome.UNSTAGED, candidate, ReportPhase.SWAP, cause=reason, done=done))


def _taken_back(trial_id: TrialId, reason: str, now: str) -> Ruling:
    return Ruling(trial_id, Verdict.TAKEN_BACK, By.MACHINE, TerminalOutcome.UNSTAGED, reason, now)


def _close_choices(till: Till, view: View, step: decisions.CloseChoices) -> None:
    till.write_journal(following(view, _journal(view)._replace(last_choice=step.number)))
    for choice, why in step.reasons:
        till.tell(
            Report(
                TerminalOutcome.CHOICE_REFUSED, choice.of, ReportPhase.ROLLBACK, cause=why, done="nothing was changed"
            )
        )


def _lift(till: Till, view: View, rejection: Rejection) -> None:
    """Lift a rejection and close its trials first: otherwise the next fold would write it again."""
    for trial in view.trials:
        if trial.candidate == rejection.release and trial.ends_back:
            ruling = ruling_of(trial, now=till.now())
            till.write_ruling(ruling._replace(verdict=Verdict.TAKEN_BACK, folded=True))
    till.remove_rejection(rejection.release.release_id)
    cause = f"the till's account gave it up: {rejection.outcome}"
    till.tell(Report(TerminalOutcome.URGENT_RETRIED, rejection.release, ReportPhase.SWAP, cause=cause))


def _tell_stalled(till: Till) -> None:
    """Raise an alarm for a trial that has no end after days: a forged beginning would otherwise stop every update."""
    view, now = till.look(), till.now()
    for issued in view.issued:
        if issued.trial_id in view.unfolded and decisions.is_stalled(issued, view.trial(issued.trial_id), now):
            cause = f"issued at {issued.at}, and neither confirmed nor gone back"
            report = Report(TerminalOutcome.TRIAL_STALLED, issued.candidate, ReportPhase.TRIAL, cause=cause)
            till.tell(report._replace(trial_id=issued.trial_id, done="nothing was changed"))


def _perform(till: Till, step: decisions.AgentStep, done: list[str]) -> decisions.Wait | None:
    """Carry out a long step without the terminal lock; return the Wait that ends the cycle, None to continue."""
    match step:
        case decisions.Stage():
            return _stage(till, step, done)
        case decisions.Wait():
            return step
        case (
            decisions.Rebuild()
            | decisions.Fold()
            | decisions.FoldRollback()
            | decisions.FoldChoice()
            | decisions.CloseChoices()
            | decisions.Close()
            | decisions.TakeBack()
            | decisions.Lift()
            | decisions.Unstage()
            | decisions.Unswap()
            | decisions.Swap()
        ):
            return None
        case _:
            assert_never(step)


def _stage(till: Till, step: decisions.Stage, done: list[str]) -> decisions.Wait | None:
    """Download, unpack, check and shelve without any lock, then record the candidate if it is still wanted."""
    offer = step.offer
    problem = _shelve(till, step)
    if problem is not None:
        return problem
    with terminal_locked(till):
        till.sync()
        view = till.look()
        journal = view.journal
        begun = journal is not None and journal.phase is Phase.SWAPPED and view.trial(journal.trial_id) is not None
        if journal is None or begun:
            return decisions.Wait(TerminalOutcome.ON_TRIAL, "another release went on trial meanwhile")
        if journal.candidate == offer.release:
            return None
        if journal.trial_id is not None:
            # A crash here leaves a swap that is taken back: the next cycle finds the offer again.
            reason = f"{offer.release.version} takes its place"
            till.write_ruling(_taken_back(journal.trial_id, reason, till.now())._replace(folded=True))
        staged = journal._replace(phase=Phase.STAGED, candidate=offer.release, trial_id=None)
        till.write_journal(following(view, staged))
    till.tell(Report(TerminalOutcome.STAGED, offer.release, ReportPhase.STAGE, done="it is complete on disk"))
    done.append(f"{offer.release.version} is complete on disk ({offer.size_bytes} bytes)")
    return None


def _shelve(till: Till, step: decisions.Stage) -> decisions.Wait | None:
    offer = step.offer
    try:
        if till.reuse(offer):
            return None
        archive = till.download(offer)
    except (TryLater, Refused) as error:
        # The download differs from what was signed: the transfer is bad, not the release, so no release is rejected.
        return _not_staged(till, step, TerminalOutcome.STAGING_LATER, error)
    try:
        staging = till.unpack(offer, archive)
        till.check_unpacked(offer, staging)
        till.shelve(offer, staging)
    except TryLater as error:
        return _not_staged(till, step, TerminalOutcome.STAGING_LATER, error)
    except Refused as error:
        with terminal_locked(till):
            till.write_rejection(
                Rejection(offer.release, By.MACHINE, TerminalOutcome.STAGING_REFUSED, error.cause, till.now())
            )
        return _not_staged(till, step, TerminalOutcome.STAGING_REFUSED, error)
    return None


def _not_staged(till: Till, step: decisions.Stage, outcome: NamedOutcome, error: TillkeeperError) -> decisions.Wait:
    till.tell(Report(outcome, step.offer.release, ReportPhase.STAGE, cause=str(error), done="nothing was changed"))
    return decisions.Wait(outcome, error.in_words)


def _tidy(till: Till, catalog: Catalog | None) -> None:
    view = till.look()
    if view.journal is None:
        return
    wanted = [view.journal.good, view.journal.candidate, view.journal.previous]
    wanted += [release for trial in view.trials if not trial.closed for release in (trial.candidate, trial.good)]
    wanted += [proof.release for proof in view.proofs[-2:]]
    wanted += [rejection.to for rejection in view.rejections if not rejection.done]
    downloads = decisions.wanted_downloads(view, view.journal, catalog)
    if downloads is not None and catalog is not None and catalog.agent is not None:
        downloads |= {catalog.agent.release.folder}
    till.tidy(
        frozenset(release.release_id for release in wanted if release is not None),
        downloads=downloads,
    )
    kit = till.own_kit()
    if kit is not None and kit.look().trial is None:
        kit.tidy()


def back_up(till: Till) -> str:
    """Make the backup that is due on the schedule; return what was done, empty if nothing was.

    A launch that works on the database comes first: the next hour tries again.
    """
    if not till.try_database_lock():
        return ""
    try:
        done = till.back_up()
    except BaseException as error:
        if interrupts(error):
            raise
        cause = wrapped(error).located
        till.tell(
            Report(TerminalOutcome.BACKUP_NOT_MADE, phase=ReportPhase.BACKUP, cause=cause, done="none was removed")
        )
        return f"{TerminalOutcome.BACKUP_NOT_MADE}: {cause}"
    finally:
        till.release_database_lock()
    if done is None:
        return ""
    for path in (*done.rotten, *done.replaced):
        became = "it was replaced by its copy" if path in done.replaced else "a new backup was made"
        till.tell(Report(TerminalOutcome.BACKUP_ROTTEN, phase=ReportPhase.BACKUP, cause=str(path), done=became))
    if done.away:
        till.tell(Report(TerminalOutcome.SECOND_PLACE_AWAY, phase=ReportPhase.BACKUP, cause=done.away, done="it waits"))
    return f"backed up: {done.made.path}" if done.made is not None else ""


def _next(ended: Cycle, again: Callable[[], datetime | None]) -> datetime | None:
    """Return when the next cycle runs before its interval has passed; None if it need not."""
    if ended.outcome is TerminalOutcome.AGENT_UNPROVEN:
        return datetime.now().astimezone() + timedelta(seconds=self_update.RETRY_SECONDS)
    return again() if ended.outcome.group is Group.LATER else None


def _cycle_or_failure(till: Till) -> Cycle:
    """Run a cycle; one that could not even begin must not end the agent: the next cycle observes again."""
    try:
        return cycle(till)
    except BaseException as error:
        if interrupts(error):
            raise
        return Cycle(TerminalOutcome.CYCLE_FAILED, wrapped(error).in_words, ())


def _back_up_or_say(till: Till) -> str:
    try:
        return back_up(till)
    except TillkeeperError as error:
        # Its report could not be written: the next hour observes again.
        return error.in_words


def run(
    till: Till,
    *,
    interval_seconds: float,
    jitter_seconds: float,
    told: Callable[[Cycle], None],
    said: Callable[[str], None],
    again: Callable[[], datetime | None],
    wait: Callable[[], None],
) -> None:
    """Run a cycle at every interval, and the backups that are due every hour, until `wait` returns.

    The scheduler only triggers; all durable state is in our files. A cycle that runs then runs on: its caller ends the
    process.

    Args:
        till: the terminal.
        interval_seconds: between two cycles.
        jitter_seconds: by which they vary.
        told: receives each cycle; it ends this agent after those of `self_update.ENDS`.
        said: receives what else was done.
        again: returns when an address that was given up is asked again: a cycle that failed is repeated then.
        wait: returns when the agent is asked to end.
    """
    from apscheduler.schedulers.background import BackgroundScheduler

    def ring() -> None:
        ended = _cycle_or_failure(till)
        told(ended)
        moment = _next(ended, again)
        if moment is not None and moment < cycles.next_run_time:
            cycles.modify(next_run_time=moment)

    def back_up_in_turn() -> None:
        if not self_update.is_on_trial(till) and (done := _back_up_or_say(till)):
            said(done)

    scheduler = BackgroundScheduler(timezone="UTC")
    cycles = scheduler.add_job(
        ring,
        "interval",
        seconds=interval_seconds,
        jitter=jitter_seconds,
        max_instances=1,
        coalesce=True,
        misfire_grace_time=None,
        next_run_time=datetime.now().astimezone(),
    )
    # One at a time with the cycles: both have files in the folder of backups.
    scheduler.add_job(
        back_up_in_turn, "interval", hours=1, max_instances=1, coalesce=True, misfire_grace_time=None,
        next_run_time=datetime.now().astimezone(),
    )  # fmt: skip
    scheduler.start()
    wait()
    scheduler.shutdown(wait=False)
