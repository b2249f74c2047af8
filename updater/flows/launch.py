"""The launcher: select the version, prepare the database, count, start the app, and watch it until it confirms.

It loops: observe, decide, record, act. After every wait, kill or give-up it observes again. It never writes the
journal or the program folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, assert_never

from dbsync.outcomes import NamedOutcome, OutcomeName
from updater.decisions import launcher
from updater.decisions.trial import counted, ended
from updater.flows.effects import AppEvent, AppEventKind, Till, terminal_locked
from updater.model import Act, Journal, Limits, Release, ReleaseId, Report, ReportPhase, Trial, TrialId, Verdict, View
from updater.outcomes import TerminalOutcome

if TYPE_CHECKING:
    from dbsync.model import Outcome

STEPS_LIMIT: Final = 60
"""A launch that decides more often than this makes no progress; it ends with an outcome of its own."""
PAUSE_SECONDS: Final = 0.1
QUICK_FAILURE_SECONDS: Final = 60.0
"""An app that ends with a code other than 0 within this time counts as a failed start."""


class Launched(NamedTuple):
    """Result of a launch."""

    outcome: NamedOutcome
    exit_code: int
    release: Release | None = None
    cause: str = ""


def launch(till: Till, limits: Limits) -> Launched:
    """Start the right version of the app and wait for its end; return the outcome, also if no version can start."""
    run = _Run(till, limits)
    for _ in range(STEPS_LIMIT):
        launched = run.step()
        if launched is not None:
            return launched
    return run.refuse(TerminalOutcome.GOES_IN_CIRCLES, f"no progress after {STEPS_LIMIT} steps")


def journal_of(view: View, *, now: str) -> Journal | None:
    """Return the journal, or the one that a rebuild derives; in memory, for callers that may not write it."""
    if view.journal is not None:
        return view.journal
    # Here, because a start that finds its journal needs none of it.
    from updater.decisions.journal_rebuild import rebuild

    return rebuild(view, now=now).journal


class _Run:
    """One launch. Between steps it remembers the refused release, the clerk's notice and the time it waited."""

    def __init__(self, till: Till, limits: Limits) -> None:
        self.till = till
        self.limits = limits
        self.refused: ReleaseId | None = None
        self.last: Outcome | None = None
        self.owed: Outcome | None = None
        """Why a return of the database that is owed could not be done in this run."""
        self.notice = ""
        self.waited_seconds = 0.0

    def step(self) -> Launched | None:
        """Take one step: observe, decide and record under both locks, then do long work under one lock or none."""
        with terminal_locked(self.till):
            self.till.sync()
            alone = self.till.try_database_lock()
            view = self.till.look()
            step = self._decide_and_record(view) if alone or view.running is not None else None
        if step is None:
            return self._wait(TerminalOutcome.BUSY, "the database is being updated")
        return self._perform(step)

    def _decide_and_record(self, view: View) -> launcher.LaunchStep:
        """Decide and record a step; release the database lock on an error.

        Runs under the terminal lock, and under the database lock unless an app runs, so the view stays valid.
        """
        try:
            journal = view.journal or journal_of(view, now=self.till.now())
            step = launcher.decide_launch(view, journal, self.limits, refused=self.refused, owed=self.owed is not None)
            self._record(step, view.boot_id)
        except BaseException:
            self.till.release_database_lock()
            raise
        return step

    def _record(self, step: launcher.LaunchStep, boot_id: str) -> None:
        """Write the records, or start the app, that must exist before the terminal lock is released."""
        match step:
            case launcher.Prepare():
                if step.trial is not None:
                    # Counted before the act: a crash from here on leaves an attempt that did not end.
                    self.till.write_trial(counted(step.trial, Act.ATTEMPT, boot_id))
            case launcher.GiveUp():
                self._give_up(step.trial, step.outcome, step.reason)
            case launcher.Start():
                self._start(step, boot_id)
                # The app holds the app lock by now, so no other process begins work on the database.
                self.till.release_database_lock()
            case launcher.Attach():
                # The app runs and holds the app lock, as above.
                self.till.release_database_lock()
            case launcher.GoBack() | launcher.FinishRollback() | launcher.Refuse():
                pass
            case _:
                assert_never(step)

    def _perform(self, step: launcher.LaunchStep) -> Launched | None:
        """Carry out a long step: with the app under no lock, with the database under the database lock alone."""
        match step:
            case launcher.Attach():
                return self._attach(step)
            case launcher.Start():
                return self._watch(step.release, step.trial)
            case (
                launcher.GiveUp()
                | launcher.GoBack()
                | launcher.FinishRollback()
                | launcher.Prepare()
                | launcher.Refuse()
            ):
                return self._perform_alone(step)
            case _:
                assert_never(step)

    def _perform_alone(self, step: launcher.StepAlone) -> Launched | None:
        """Carry out a step under the database lock alone, then release the lock."""
        try:
            match step:
                case launcher.Prepare():
                    return self._prepare(step.release, step.trial)
                case launcher.GoBack() | launcher.FinishRollback():
                    return self._settle(step)
                case launcher.Refuse():
                    if step.outcome == OutcomeName.LOCKED and self.waited_seconds < self.limits.busy_seconds:
                        return self._wait(OutcomeName.LOCKED, step.cause)
                    if self.owed is not None:
                        return self.refuse(self.owed.name, self.owed.cause, told=True)
                    return self.refuse(step.outcome, step.cause)
                case launcher.GiveUp():
                    # The give-up is recorded; the next look finds the return that the database owes.
                    return None
                case _:
                    assert_never(step)
        finally:
            self.till.release_database_lock()

    # ------------------------------------------------------------------------------------------------- database

    def _prepare(self, release: Release, trial: Trial | None) -> Launched | None:
        from updater.flows import prepare_database

        outcome = prepare_database.prepare(self.till, release, trial)
        self.last = outcome
        if outcome.ready:
            return None
        self.notice = outcome.name.clerk_sentence
        if trial is None:
            return self.refuse(outcome.name, outcome.cause, told=True)
        self.refused = None if outcome.failed else release.release_id
        return None

    def _give_up(self, trial: Trial, outcome: NamedOutcome, reason: str) -> None:
        """Record the give-up of a trial, under both locks and with no app running.

        A confirm that came first was seen by the look before.
        """
        self.till.write_trial(trial._replace(verdict=Verdict.GIVEN_UP, act=Act.NONE, outcome=outcome, reason=reason))
        self.notice = outcome.clerk_sentence
        self.till.tell(Report(outcome, trial.candidate, ReportPhase.TRIAL, cause=reason, trial_id=trial.trial_id))

    def _settle(self, step: launcher.GoBack | launcher.FinishRollback) -> Launched | None:
        from updater.flows import prepare_database

        match step:
            case launcher.GoBack():
                returned = prepare_database.go_back(self.till, step.trial)
            case launcher.FinishRollback():
                returned = prepare_database.finish_rollback(self.till, step.rejection)
            case _:
                assert_never(step)
        if returned.pending:
            self.owed = returned.outcome
            self.notice = TerminalOutcome.OPEN_MEANWHILE.clerk_sentence
        return None

    # ------------------------------------------------------------------------------------------------------ app

    def _start(self, step: launcher.Start, boot_id: str) -> None:
        if step.trial is not None:
            # Counted before the act: a crash from here on leaves a launch that did not confirm.
            self.till.write_trial(counted(step.trial, Act.LAUNCH, boot_id))
        trial_id = step.trial.trial_id if step.trial else None
        self.till.start_app(step.release, trial_id=trial_id, notice=self.notice)

    def _attach(self, step: launcher.Attach) -> Launched | None:
        trial_id = step.running.trial_id
        if trial_id is None:
            return Launched(TerminalOutcome.ALREADY_RUNNING, 0)
        if self.till.asks_confirm(trial_id):
            # Its launcher died between the confirm and the answer; the app still waits.
            self._answer(trial_id)
        trial = self.till.read_trial(trial_id)
        if trial is None or trial.verdict is Verdict.CONFIRMED:
            return Launched(TerminalOutcome.ALREADY_RUNNING, 0)
        self.till.attach_app()
        return self._watch(trial.candidate, trial, attached=True)

    def _answer(self, trial_id: TrialId) -> bool:
        """Confirm a trial at its app's request and answer the app; return whether the app may continue."""
        # Here, because a start without a trial needs none of it.
        from updater.flows.confirm import ConfirmAnswer, confirm

        answer = confirm(self.till, trial_id)
        self.till.answer_confirm(trial_id, answer)
        return answer is ConfirmAnswer.CONFIRMED

    def _watch(self, release: Release, trial: Trial | None, *, attached: bool = False) -> Launched | None:
        """Watch the app until it ends; leave an attached app once it has confirmed, as its exit code is not known."""
        watched = trial.trial_id if trial else None
        limit_seconds = self.limits.confirm_seconds - trial.running_seconds if trial else None
        while True:
            if attached and watched is None:
                return Launched(TerminalOutcome.ALREADY_RUNNING, 0)
            event = self.till.await_app(trial_id=watched, limit_seconds=limit_seconds)
            match event.kind:
                case AppEventKind.ASKS:
                    assert watched is not None, "only an app on trial is heard"
                    watched = None if self._answer(watched) else watched
                case AppEventKind.CONFIRMED:
                    watched = None
                case AppEventKind.OVERDUE:
                    # A process tree that does not end is left running: no false end is recorded, and the next look
                    # attaches to it again.
                    if not self.till.end_app():
                        return self.refuse(TerminalOutcome.APP_WILL_NOT_END, "the app was asked to end and did not")
                    return self._ended(release, trial, event._replace(exit_code=-1))
                case AppEventKind.EXITED:
                    return self._ended(release, trial, event)
                case _:
                    assert_never(event.kind)

    def _ended(self, release: Release, trial: Trial | None, event: AppEvent) -> Launched | None:
        if trial is not None:
            with terminal_locked(self.till):
                current = self.till.read_trial(trial.trial_id)
                if current is not None and current.verdict is Verdict.OPEN:
                    current = ended(current, exit_code=event.exit_code, seconds=event.seconds)
                    self.till.write_trial(current)
            if current is not None and current.verdict is not Verdict.CONFIRMED:
                closed = event.exit_code == 0 and current.verdict is Verdict.OPEN
                return Launched(TerminalOutcome.CLOSED_UNCONFIRMED, 0, release) if closed else None
        failed = event.exit_code != 0 and (trial is not None or event.seconds < QUICK_FAILURE_SECONDS)
        count = self.till.note_start(release, failed=failed)
        if failed and count == self.limits.failed_starts_count:
            cause = f"it ended with code {event.exit_code}, {count} times, one after another"
            self.till.tell(Report(TerminalOutcome.RELEASE_FAILS, release, ReportPhase.START, cause=cause))
        return Launched(TerminalOutcome.APP_ENDED, event.exit_code, release)

    # --------------------------------------------------------------------------------------------------- ending

    def _wait(self, outcome: NamedOutcome, cause: str) -> Launched | None:
        if self.waited_seconds >= self.limits.busy_seconds:
            return self.refuse(outcome, cause)
        # The process that holds the database may need this lock to release the database.
        self.till.release_database_lock()
        self.till.pause(PAUSE_SECONDS)
        self.waited_seconds += PAUSE_SECONDS
        return None

    def refuse(self, outcome: NamedOutcome, cause: str, *, told: bool = False) -> Launched:
        """End the launch without an app; people should read the first cause of this run."""
        if self.last is not None and not self.last.ready and outcome == TerminalOutcome.NOT_PREPARED:
            outcome, cause, told = self.last.name, self.last.cause, True
        if not told:
            self.till.tell(Report(outcome, phase=ReportPhase.LAUNCH, cause=cause, done="nothing was started"))
        return Launched(outcome, outcome.exit_status, cause=cause)
