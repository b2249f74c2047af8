"""The launcher: select the version, prepare the database, count, start the app, and watch it until it confirms.

It loops: observe, decide, record, act. After every wait, kill or give-up it observes again. It never writes the
journal or the program folder.

Whatever a step raises is on record under a name. Before an app runs, the next step then starts what needs nothing
written; once one runs, no error of the launcher ends it, and the launch lasts until the app has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, assert_never

from dbsync.errors import TillkeeperError, interrupts, wrapped
from dbsync.outcomes import NamedOutcome, OutcomeName
from updater.decisions import launcher
from updater.decisions.trial import counted, ended, how_it_ended, spoilt
from updater.errors import AppAlreadyRunning, Busy, outcome_of
from updater.flows.effects import AppEvent, AppEventKind, Till, locked_already, terminal_locked
from updater.model import (
    Act,
    Back,
    Journal,
    Limits,
    Phase,
    Release,
    ReleaseId,
    Report,
    ReportPhase,
    Trial,
    TrialId,
    Verdict,
    View,
)
from updater.outcomes import TerminalOutcome

if TYPE_CHECKING:
    from dbsync.model import Outcome, Returned

STEPS_LIMIT: Final = 60
"""A launch that decides more often than this makes no progress; it ends with an outcome of its own."""
ERRORS_LIMIT: Final = 3
"""Errors that nothing expected, after which a launch without an app ends, or how its app ended stays unknown."""
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
    """One launch. Between steps it remembers the refused release, the clerk's notice and the time it waited.

    It also remembers the first error that nothing expected, and the app that runs.
    """

    def __init__(self, till: Till, limits: Limits) -> None:
        self.till = till
        self.limits = limits
        self.refused: ReleaseId | None = None
        self.last: Outcome | None = None
        self.owed: Outcome | None = None
        """Why a return of the database that is owed could not be done in this run."""
        self.notice = ""
        self.waited_seconds = 0.0
        self.error: TillkeeperError | None = None
        self.errors_count = 0
        self.despite = False
        self.app: tuple[Release, Trial | None] | None = None
        self.told: set[str] = set()

    def step(self) -> Launched | None:
        """Take one step; whatever it raises, an app that runs goes on, and otherwise the next step starts one."""
        try:
            return self._step()
        except BaseException as error:
            if interrupts(error):
                raise
            return self._after(wrapped(error))

    def _after(self, error: TillkeeperError) -> Launched | None:
        """Continue after an error: with the app if one runs; else with what needs nothing written."""
        while self.app is not None:
            self._tell_error(error, self.app[0], done="the app runs on")
            try:
                self.till.release_database_lock()
                return self._watch(*self.app)
            except BaseException as again:
                if interrupts(again):
                    raise
                error = wrapped(again)
                self.till.pause(PAUSE_SECONDS)
        self.till.release_database_lock()
        # The first error is the cause; those after it only show that it lasts.
        cause = self.error = self.error or error
        self.errors_count += 1
        self.despite = True
        if self.errors_count < ERRORS_LIMIT and outcome_of(error) != TerminalOutcome.BUSY:
            return None
        self._tell_error(cause, None, done="nothing was started", shut=True)
        return Launched(outcome_of(cause), outcome_of(cause).exit_status, cause=str(cause))

    def _tell_error(self, error: TillkeeperError, release: Release | None, *, done: str, shut: bool = False) -> None:
        opens = False if shut else (True if release is not None else None)
        self._tell(Report(outcome_of(error), release, ReportPhase.LAUNCH, cause=str(error), done=done, opens=opens))

    def _tell(self, report: Report) -> None:
        """Record an outcome; a record that cannot be written stops no till."""
        try:
            self.till.tell(report)
        except BaseException as error:
            if interrupts(error):
                raise

    def _step(self) -> Launched | None:
        """Observe, decide and record under both locks, then do long work under one lock or none."""
        try:
            self.till.take_terminal_lock()
        except Busy as error:
            return self._step_beside(error)
        try:
            with locked_already(self.till):
                if not self.despite:
                    self.till.sync()
                alone = self.till.try_database_lock()
                view = self.till.look()
                step = self._decide_and_record(view) if alone or view.running is not None else None
        except BaseException:
            self.till.release_database_lock()
            raise
        if step is None:
            return self._wait(TerminalOutcome.BUSY, "the database is being updated")
        return self._perform(step)

    def _step_beside(self, error: Busy) -> Launched | None:
        """Start what needs nothing written, beside a process that keeps the terminal lock and does not end.

        The database lock still keeps this apart from every migration and restore, and the app lock from a second app.
        """
        alone = self.till.try_database_lock()
        view = self.till.look()
        if not alone and view.running is None:
            return self._wait(TerminalOutcome.BUSY, "the database is being updated")
        step = launcher.decide_despite(view, view.journal or journal_of(view, now=self.till.now()))
        if step is None:
            raise error
        match step:
            case launcher.Start():
                self._tell_error(error, step.release, done="the app starts; nothing else was done")
            case launcher.Attach():
                self._tell_error(error, None, done="an app runs")
            case _:
                assert_never(step)
        self.notice = ""
        self._record(step, view.boot_id)
        return self._perform(step)

    def _decide_and_record(self, view: View) -> launcher.LaunchStep:
        """Decide and record a step.

        Runs under the terminal lock, and under the database lock unless an app runs, so the view stays valid.
        """
        step = self._decide_despite(view) if self.despite else None
        if step is None and self.despite:
            # Nothing may start as it is: the error may have passed, and the way that it cut is the only one.
            self.despite = False
            self.till.sync()
            view = self.till.look()
        if step is None:
            journal = view.journal or journal_of(view, now=self.till.now())
            swapped = journal is not None and journal.phase is Phase.SWAPPED
            step = launcher.decide_launch(
                view, journal, self.limits,
                in_moment=not swapped or self.till.in_moment(), refused=self.refused, owed=self.owed is not None,
            )  # fmt: skip
        self._record(step, view.boot_id)
        return step

    def _decide_despite(self, view: View) -> launcher.LaunchStep | None:
        assert self.error is not None
        journal = view.journal or journal_of(view, now=self.till.now())
        step = launcher.decide_despite(view, journal)
        release: Release | None = None
        if step is None and self.errors_count + 1 >= ERRORS_LIMIT:
            # A return that is owed failed each time: the till opens on what fits the database as it is.
            step = launcher.meanwhile(view, journal)
        match step:
            case launcher.Start():
                self.notice = outcome_of(self.error).when_open
                release, done = step.release, f"{step.release.version} starts; nothing else was done"
            case launcher.Attach():
                done = "an app runs"
            case None:
                done = "it is tried again"
            case _:
                assert_never(step)
        self._tell_error(self.error, release, done=done)
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
                # The app runs by now, so no other process begins work on the database.
                self.till.release_database_lock()
            case launcher.Attach():
                # The app runs, as above.
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
                # Without an app, its start failed and is counted: the next look decides again.
                return self._watch(step.release, step.trial) if self.app is not None else None
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
        self.notice = outcome.name.when_open
        if trial is None:
            return self.refuse(outcome.name, outcome.cause, told=True)
        self.refused = None if outcome.failed else release.release_id
        return None

    def _give_up(self, trial: Trial, outcome: NamedOutcome, reason: str) -> None:
        """Record the give-up of a trial, under both locks and with no app running.

        A confirm that came first was seen by the look before.
        """
        self.till.write_trial(trial._replace(verdict=Verdict.GIVEN_UP, act=Act.NONE, outcome=outcome, reason=reason))
        self.notice = outcome.when_open
        self._tell(
            Report(outcome, trial.candidate, ReportPhase.TRIAL, cause=reason, trial_id=trial.trial_id, opens=True)
        )

    def _settle(self, step: launcher.GoBack | launcher.FinishRollback) -> Launched | None:
        from updater.flows import prepare_database

        match step:
            case launcher.GoBack():
                returned = prepare_database.go_back(self.till, step.trial)
                if returned.back is not None and (returned.back is Back.STAYS or returned.losses):
                    # The candidate goes on, or something is missing: the sentence of the give-up would hide it.
                    self.notice = returned.outcome.name.when_open
            case launcher.FinishRollback():
                returned = prepare_database.finish_rollback(self.till, step.rejection)
            case _:
                assert_never(step)
        if returned.pending:
            # Before anything that may fail: what opens then is not what the sentence of the give-up speaks of.
            self.owed, self.notice = returned.outcome, returned.outcome.name.when_open
            self._tell_owed(step, returned)
        return None

    def _tell_owed(self, step: launcher.GoBack | launcher.FinishRollback, returned: Returned) -> None:
        from updater.flows import prepare_database

        view = self.till.look()
        meanwhile = launcher.meanwhile(view, view.journal or journal_of(view, now=self.till.now()))
        trial_id: TrialId | None = None
        match step:
            case launcher.GoBack():
                release, trial_id = step.trial.candidate, step.trial.trial_id
            case launcher.FinishRollback():
                release = step.rejection.release
            case _:
                assert_never(step)
        self._tell(prepare_database.pending(returned, release, trial_id, opens=meanwhile is not None))

    # ------------------------------------------------------------------------------------------------------ app

    def _start(self, step: launcher.Start, boot_id: str) -> None:
        if step.trial is not None:
            # Counted before the act: a crash from here on leaves a launch that did not confirm.
            self.till.write_trial(counted(step.trial, Act.LAUNCH, boot_id))
        trial_id = step.trial.trial_id if step.trial else None
        # A notice is about what opens: an update that was undone or put off is not the one on trial.
        notice = "" if step.trial else self.notice
        try:
            self.till.start_app(step.release, trial_id=trial_id, notice=notice)
        except BaseException as error:
            if step.trial is None or interrupts(error):
                raise
            self._start_failed(step.release, step.trial, wrapped(error))
        else:
            self.app = (step.release, step.trial)

    def _start_failed(self, release: Release, trial: Trial, error: TillkeeperError) -> None:
        """Record why an app on trial could not be started: the launch is counted, so this ends within its limit."""
        if isinstance(error, AppAlreadyRunning):
            # Another app runs: nothing was tried, so no launch is used up.
            self.till.write_trial(trial)
            raise error
        done = "it was counted as a failed start"
        self._tell(
            Report(outcome_of(error), release, ReportPhase.START, cause=str(error), done=done, trial_id=trial.trial_id)
        )

    def _attach(self, step: launcher.Attach) -> Launched | None:
        trial_id = step.running.trial_id
        # An app that another launcher started: this one need not see its end.
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
            event = self._await(release, watched, limit_seconds)
            match event.kind:
                case AppEventKind.ASKS:
                    # An answer that could not be given is given at the next look: the app goes on asking.
                    continue
                case AppEventKind.CONFIRMED:
                    watched = None
                case AppEventKind.OVERDUE:
                    # A process tree that does not end is left running: no false end is recorded, and the next look
                    # attaches to it again.
                    if not self._end_app(release):
                        self.app = None
                        return self.refuse(TerminalOutcome.APP_WILL_NOT_END, "the app was asked to end and did not")
                    return self._ended(release, trial, event._replace(exit_code=-1))
                case AppEventKind.EXITED:
                    return self._ended(release, trial, event)
                case _:
                    assert_never(event.kind)

    def _await(self, release: Release, watched: TrialId | None, limit_seconds: float | None) -> AppEvent:
        """Wait for the app and answer its confirm; an error on the way is told once, and waiting goes on."""
        ended_count = 0
        while True:
            try:
                event = self.till.await_app(trial_id=watched, limit_seconds=limit_seconds)
                if event.kind is not AppEventKind.ASKS:
                    return event
                assert watched is not None, "only an app on trial is heard"
                return event._replace(kind=AppEventKind.CONFIRMED) if self._answer(watched) else event
            except BaseException as error:
                if interrupts(error):
                    raise
                told = wrapped(error)
                if str(told) not in self.told:
                    self.told.add(str(told))
                    self._tell_error(told, release, done="the app runs on")
                # Its end is known in another way, but not how it ended: that is asked again.
                ended_count += self._has_ended()
                if ended_count >= ERRORS_LIMIT:
                    return AppEvent(AppEventKind.EXITED, -1)
                self.till.pause(PAUSE_SECONDS)

    def _end_app(self, release: Release) -> bool:
        try:
            return self.till.end_app()
        except BaseException as error:
            if interrupts(error):
                raise
            self._tell_error(wrapped(error), release, done="the app was not ended")
            return False

    def _has_ended(self) -> bool:
        """Return whether the app has ended for sure, asked in another way than by waiting for it."""
        try:
            return self.till.look().running is None
        except BaseException as error:
            if interrupts(error):
                raise
            return False

    def _ended(self, release: Release, trial: Trial | None, event: AppEvent) -> Launched | None:
        self.app = None
        held = self._held_database() if event.exit_code != 0 else ""
        if held:
            # The app cannot work here now, whatever its release.
            held = f"{how_it_ended(event.exit_code, event.words)}; {held}"
            report = Report(OutcomeName.MACHINE_PROBLEM, release, ReportPhase.START, cause=held, opens=False)
            self._tell(report._replace(done="it is not held against the release"))
        if trial is not None:
            current = self._count_end(release, trial, event, spoils=bool(held))
            if current is not None and current.verdict is not Verdict.CONFIRMED:
                if held:
                    # Not at once again: each start would be an interruption.
                    problem = OutcomeName.MACHINE_PROBLEM
                    return Launched(problem, problem.exit_status, release, held)
                closed = event.exit_code == 0 and current.verdict is Verdict.OPEN
                return Launched(TerminalOutcome.CLOSED_UNCONFIRMED, 0, release) if closed else None
        try:
            if not held:
                self._note_end(release, event, on_trial=trial is not None)
        except BaseException as error:
            # A note for support must not take the place of the app's own exit status.
            if interrupts(error):
                raise
        return Launched(TerminalOutcome.APP_ENDED, event.exit_code, release)

    def _held_database(self) -> str:
        try:
            return self.till.held_database()
        except BaseException as error:
            if interrupts(error):
                raise
            return ""

    def _count_end(self, release: Release, trial: Trial, event: AppEvent, *, spoils: bool) -> Trial | None:
        """Record how the app of a trial ended, and return the trial; `spoils`: whether this machine was the cause.

        If that cannot be written, the launch stays counted as one that did not confirm, as after a crash.
        """
        try:
            with terminal_locked(self.till):
                current = self.till.read_trial(trial.trial_id)
                if current is not None and current.verdict is Verdict.OPEN:
                    if spoils:
                        current = spoilt(current)
                    else:
                        current = ended(current, exit_code=event.exit_code, seconds=event.seconds, words=event.words)
                    self.till.write_trial(current)
        except BaseException as error:
            if interrupts(error):
                raise
            self._tell_error(wrapped(error), release, done="how the app ended was not recorded")
            return self.till.read_trial(trial.trial_id)
        return current

    def _note_end(self, release: Release, event: AppEvent, *, on_trial: bool) -> None:
        failed = event.exit_code != 0 and (on_trial or event.seconds < QUICK_FAILURE_SECONDS)
        count = self.till.note_start(release, failed=failed)
        if failed and count == self.limits.failed_starts_count:
            last = f"; the last time it printed: {event.words}" if event.words else ""
            cause = f"it ended with code {event.exit_code}, {count} times, one after another{last}"
            self.till.tell(Report(TerminalOutcome.RELEASE_FAILS, release, ReportPhase.START, cause=cause))

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
            self._tell(
                Report(outcome, phase=ReportPhase.LAUNCH, cause=cause, done="nothing was started", opens=False)
            )  # fmt: skip
        return Launched(outcome, outcome.exit_status, cause=cause)
