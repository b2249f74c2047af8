"""The launcher: selects the version, has the database prepared, counts, starts the app, watches it until it confirmed.

It loops: look, decide, record, perform, and after every wait, kill or give-up it looks again from the top. It never
writes the journal or the program folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from dbsync import coordinator
from dbsync.model import Backup, Outcome, Returned
from updater import outcomes, plan
from updater.confirm import CONFIRMED, confirm
from updater.model import Journal, Limits, Rejection, Release, Report, Trial, Verdict, View
from updater.rebuild import rebuild
from updater.till import AppEvent, Till, terminal_locked

STEPS_LIMIT: Final = 60
"""A launch that decides more often than this goes round in circles: it ends with a name instead."""
PAUSE_SECONDS: Final = 0.1
QUICK_FAILURE_SECONDS: Final = 60.0
"""An app that ends with a code other than 0 within this time counts as a start that failed."""


class Launched(NamedTuple):
    """How a launch ended."""

    outcome: str
    exit_code: int
    release: Release | None = None
    cause: str = ""


class TrialRecorder:
    """Takes what the coordinator learns into the trial file, each time under the terminal lock for a moment."""

    def __init__(self, till: Till, trial_id: str) -> None:
        self._till = till
        self._trial_id = trial_id

    def backup_made(self, backup: Backup) -> None:
        """A crash before this: the backup is found by the trial id in the facts beside it."""
        self._change(backup=str(backup.path))

    def content_noted(self, sha256: str) -> None:
        """A crash before this: the database counts as changed until it is compared row by row."""
        self._change(content_sha256=sha256)

    def _change(self, **values: str) -> None:
        with terminal_locked(self._till):
            trial = self._till.read_trial(self._trial_id)
            if trial is not None:
                self._till.write_trial(trial._replace(**values))  # type: ignore[arg-type]


def launch(till: Till, limits: Limits) -> Launched:
    """Starts the right version of the app and stays until it has ended; in words and with a code if none can start."""
    run = _Run(till, limits)
    for _ in range(STEPS_LIMIT):
        launched = run.step()
        if launched is not None:
            return launched
    return run.refuse("GOES_IN_CIRCLES", f"no end after {STEPS_LIMIT} steps")


def journal_of(view: View, *, now: str) -> Journal | None:
    """The journal, or what a rebuild makes of the other files; in memory, for those who may not write it."""
    return view.journal if view.journal is not None else rebuild(view, now=now).journal


class _Run:
    """One launch: the loop's memory is what it refused, what it told the clerk, and how long it waited."""

    def __init__(self, till: Till, limits: Limits) -> None:
        self.till = till
        self.limits = limits
        self.refused: str | None = None
        self.last: Outcome | None = None
        self.notice = ""
        self.waited_seconds = 0.0

    def step(self) -> Launched | None:
        """One turn: look and decide under both locks, record, then perform what may take long under one or none."""
        with terminal_locked(self.till):
            self.till.sync()
            view = self.till.look()
            if view.running is None and not self.till.try_database_lock():
                step: plan.LaunchStep | None = None
            else:
                step = self._decide_and_record(view)
        if step is None:
            return self._wait("BUSY", "the database is being updated")
        if isinstance(step, plan.Attach):
            return self._attach(step)
        if isinstance(step, plan.Start):
            return self._watch(step.release, step.trial)
        try:
            return self._perform(step)
        finally:
            self.till.release_database_lock()

    def _decide_and_record(self, view: View) -> plan.LaunchStep:
        """Under the terminal lock, and under the database lock unless an app runs: nothing changes while this looks."""
        if view.running is None:
            view = self.till.look()
        try:
            step = plan.decide_launch(view, journal_of(view, now=self.till.now()), self.limits, refused=self.refused)
            if isinstance(step, plan.Prepare) and step.trial is not None:
                # Counted before the act: a crash from here on is an attempt that did not end.
                self.till.write_trial(plan.counted(step.trial, "attempt", view.boot_id))
            elif isinstance(step, plan.GiveUp):
                self._give_up(step.trial, step.outcome, step.reason)
            elif isinstance(step, plan.Start):
                self._start(step, view.boot_id)
        except BaseException:
            self.till.release_database_lock()
            raise
        if isinstance(step, plan.Attach | plan.Start):
            # The app holds the app lock by now, so nobody begins anything with the database.
            self.till.release_database_lock()
        return step

    def _perform(self, step: plan.LaunchStep) -> Launched | None:
        """What is done under the database lock alone."""
        if isinstance(step, plan.Prepare):
            return self._prepare(step.release, step.trial)
        if isinstance(step, plan.GoBack):
            return self._go_back(step.trial)
        if isinstance(step, plan.FinishRollback):
            return self._finish_rollback(step.rejection)
        if isinstance(step, plan.Refuse):
            if step.outcome == "LOCKED" and self.waited_seconds < self.limits.busy_seconds:
                return self._wait("LOCKED", step.cause)
            return self.refuse(step.outcome, step.cause)
        return None

    # ------------------------------------------------------------------------------------------------- database

    def _prepare(self, release: Release, trial: Trial | None) -> Launched | None:
        outcome = coordinator.upgrade(
            self.till.database(),
            migrations=self.till.migrations(release),
            trial_id=trial.trial_id if trial else None,
            release_id=release.release_id,
            release_version=release.version,
            earlier_backup=self.till.backup_of(trial) if trial else None,
            recorder=TrialRecorder(self.till, trial.trial_id) if trial else None,
        )
        self.last = outcome
        if trial is not None:
            self._end_attempt(trial.trial_id, outcome)
        if outcome.ready:
            return None
        self.notice = outcomes.clerk_sentence(outcome.name)
        done = "the database was left as it was" + (f"; {trial.good.version} starts" if trial else "")
        self.till.tell(_report(outcome, release, done=done, trial_id=trial.trial_id if trial else None))
        if trial is None:
            return self.refuse(outcome.name, outcome.cause, told=True)
        self.refused = None if outcome.failed else release.release_id
        return None

    def _end_attempt(self, trial_id: str, outcome: Outcome) -> None:
        with terminal_locked(self.till):
            trial = self.till.read_trial(trial_id)
            if trial is None or trial.verdict is not Verdict.OPEN:
                return
            if outcome.failed:
                trial = trial._replace(verdict=Verdict.GIVEN_UP, outcome=outcome.name, reason=outcome.cause)
            self.till.write_trial(trial._replace(act=""))

    def _give_up(self, trial: Trial, outcome: str, reason: str) -> None:
        """Under both locks, with no app running: a confirm that came first has been seen by the look above."""
        self.till.write_trial(trial._replace(verdict=Verdict.GIVEN_UP, act="", outcome=outcome, reason=reason))
        self.notice = outcomes.clerk_sentence(outcome)
        self.till.tell(Report(outcome, trial.candidate, "trial", cause=reason, trial_id=trial.trial_id))

    def _go_back(self, trial: Trial) -> Launched | None:
        view = self.till.look()
        ever = any(proof.release.release_id == trial.candidate.release_id for proof in view.proofs)
        returned = coordinator.go_back(
            self.till.database(),
            trial_id=trial.trial_id,
            backup=self.till.backup_of(trial),
            content_sha256=trial.content_sha256,
            older_schema=trial.good.schema,
            ever_confirmed=ever,
            migrations=self.till.migrations(trial.candidate),
        )
        if returned.outcome.refused or returned.outcome.failed:
            self.till.tell(
                _report(returned.outcome, trial.candidate, done="nothing was changed", trial_id=trial.trial_id)
            )
            return self.refuse(returned.outcome.name, returned.outcome.cause, told=True)
        if returned.back is not None:
            with terminal_locked(self.till):
                current = self.till.read_trial(trial.trial_id) or trial
                self.till.write_trial(current._replace(back=returned.back))
            self._tell_return(trial, returned)
        return None

    def _tell_return(self, trial: Trial, returned: Returned) -> None:
        lost = tuple((one.table, one.added, one.changed, one.removed) for one in returned.losses)
        outcome = "RESTORED_WITH_LOSS" if lost else returned.outcome.name
        self.till.tell(
            Report(
                outcome=outcome,
                release=trial.candidate,
                phase="going back",
                cause=f"{trial.outcome}: {trial.reason}",
                done=outcomes.done_sentence(outcome, trial.good.version),
                backup=trial.backup,
                kept=str(returned.set_aside.path) if returned.set_aside else None,
                losses=lost,
                export=str(returned.export) if returned.export else None,
                trial_id=trial.trial_id,
            )
        )

    def _finish_rollback(self, rejection: Rejection) -> Launched | None:
        assert rejection.backup is not None
        returned = coordinator.restore(
            self.till.database(), backup=Path(rejection.backup), intent_id=rejection.intent_id
        )
        if returned.outcome.refused or returned.outcome.failed:
            return self.refuse(returned.outcome.name, returned.outcome.cause)
        kept = str(returned.set_aside.path) if returned.set_aside else None
        self.till.tell(Report("ROLLED_BACK", rejection.to, "rollback", backup=rejection.backup, kept=kept))
        return None

    # ------------------------------------------------------------------------------------------------------ app

    def _start(self, step: plan.Start, boot_id: str) -> None:
        if step.trial is not None:
            # Counted before the act: a crash from here on is a launch that did not confirm.
            self.till.write_trial(plan.counted(step.trial, "launch", boot_id))
        trial_id = step.trial.trial_id if step.trial else None
        self.till.start_app(step.release, trial_id=trial_id, notice=self.notice)

    def _attach(self, step: plan.Attach) -> Launched | None:
        trial_id = step.running.trial_id
        if trial_id is None:
            return Launched("ALREADY_RUNNING", outcomes.exit_code("ALREADY_RUNNING"))
        if self.till.asks_confirm(trial_id):
            # Its launcher died between the confirm and the answer, and the app still waits.
            self.till.answer_confirm(trial_id, confirm(self.till, trial_id))
        trial = self.till.read_trial(trial_id)
        if trial is None or trial.verdict is Verdict.CONFIRMED:
            return Launched("ALREADY_RUNNING", outcomes.exit_code("ALREADY_RUNNING"))
        self.till.attach_app()
        return self._watch(trial.candidate, trial)

    def _watch(self, release: Release, trial: Trial | None) -> Launched | None:
        watched = trial.trial_id if trial else None
        limit_seconds = self.limits.confirm_seconds - trial.running_seconds if trial else None
        while True:
            event = self.till.await_app(trial_id=watched, limit_seconds=limit_seconds)
            if event.kind == "asks" and watched is not None:
                answer = confirm(self.till, watched)
                self.till.answer_confirm(watched, answer)
                watched = None if answer == CONFIRMED else watched
            elif event.kind == "confirmed":
                watched = None
            elif event.kind == "overdue":
                # A tree that will not end is left alone: nothing is recorded that is not so, and the next look
                # attaches to it again.
                if not self.till.end_app():
                    return self.refuse("APP_WILL_NOT_END", "the app was asked to end and did not")
                return self._ended(release, trial, event._replace(exit_code=-1))
            else:
                return self._ended(release, trial, event)

    def _ended(self, release: Release, trial: Trial | None, event: AppEvent) -> Launched | None:
        if trial is not None:
            with terminal_locked(self.till):
                current = self.till.read_trial(trial.trial_id)
                if current is not None and current.verdict is Verdict.OPEN:
                    current = plan.ended(current, exit_code=event.exit_code, seconds=event.seconds)
                    self.till.write_trial(current)
            if current is not None and current.verdict is not Verdict.CONFIRMED:
                closed = event.exit_code == 0 and current.verdict is Verdict.OPEN
                return Launched("CLOSED_UNCONFIRMED", 0, release) if closed else None
        failed = event.exit_code != 0 and (trial is not None or event.seconds < QUICK_FAILURE_SECONDS)
        count = self.till.note_start(release, failed=failed)
        if failed and count == self.limits.failed_starts_count:
            cause = f"it ended with code {event.exit_code}, {count} times, one after another"
            self.till.tell(Report("RELEASE_FAILS", release, "start", cause=cause))
        return Launched("APP_ENDED", event.exit_code, release)

    # --------------------------------------------------------------------------------------------------- ending

    def _wait(self, outcome: str, cause: str) -> Launched | None:
        if self.waited_seconds >= self.limits.busy_seconds:
            return self.refuse(outcome, cause)
        self.till.pause(PAUSE_SECONDS)
        self.waited_seconds += PAUSE_SECONDS
        return None

    def refuse(self, outcome: str, cause: str, *, told: bool = False) -> Launched:
        """Ends the launch without an app; the first cause in this run is the one that people should read."""
        if self.last is not None and not self.last.ready and outcome == "NOT_PREPARED":
            outcome, cause, told = self.last.name, self.last.cause, True
        if not told:
            self.till.tell(Report(outcome, phase="launch", cause=cause, done="nothing was started"))
        return Launched(outcome, outcomes.exit_code(outcome), cause=cause)


def _report(outcome: Outcome, release: Release, *, done: str, trial_id: str | None) -> Report:
    return Report(
        outcome=outcome.name,
        release=release,
        phase=outcome.phase,
        migration=outcome.migration,
        cause=outcome.cause,
        done=done,
        backup=str(outcome.backup.path) if outcome.backup else None,
        trial_id=trial_id,
    )
