"""The launcher's work on the database: prepare it for a release, undo a given-up trial, finish a person's rollback.

The caller holds the database lock. Results go into the trial file, each time under the terminal lock.
"""

from __future__ import annotations

from pathlib import Path

from dbsync import losses
from dbsync.errors import DiskProblem, TillkeeperError
from dbsync.model import Backup, Migration, Outcome, Returned, RunPhase
from dbsync.outcomes import OutcomeName
from dbsync.upgrade import coordinator, restore_decision
from dbsync.upgrade.effects import Recorder
from updater.flows.effects import Till, terminal_locked
from updater.model import Act, Rejection, Release, Report, ReportPhase, Sha256, Trial, TrialId, Verdict
from updater.outcomes import TerminalOutcome, done_sentence


class TrialRecorder(Recorder):
    """Recorder that writes the coordinator's results into the trial file, each under the terminal lock for a moment."""

    def __init__(self, till: Till, trial_id: TrialId) -> None:
        self._till = till
        self._trial_id = trial_id

    def backup_made(self, backup: Backup) -> None:
        """Record the backup; after a crash before this, the trial id in the facts beside the backup identifies it."""
        self._change(backup=str(backup.path))

    def content_noted(self, sha256: Sha256) -> None:
        """Record the content; after a crash before this, the database counts as changed until compared row by row."""
        self._change(content_sha256=sha256)

    def _change(self, **values: str) -> None:
        with terminal_locked(self._till):
            trial = self._till.read_trial(self._trial_id)
            if trial is not None:
                self._till.write_trial(trial._replace(**values))  # type: ignore[arg-type]


def prepare(till: Till, release: Release, trial: Trial | None) -> Outcome:
    """Bring the database to the schema of a release; on trial, a failure gives the trial up.

    The attempt of a trial was counted before. What the older version of the app left running knows the older
    schema, so it is ended first; where it does not end, the update waits, and nothing is counted.
    """
    left = _left_running(till)
    if left is not None:
        if trial is not None:
            _give_attempt_back(till, trial.trial_id)
        _tell_not_ready(till, release, trial, left)
        return left
    try:
        outcome = coordinator.upgrade(
            till.database(),
            migrations=till.migrations(release),
            trial_id=trial.trial_id if trial else None,
            release_id=release.release_id,
            release_version=release.version,
            earlier_backup=till.backup_of(trial) if trial else None,
            recorder=TrialRecorder(till, trial.trial_id) if trial else None,
        )
    except TillkeeperError as error:
        # The coordinator raises nothing: this is the release's folder, or the catalog of backups.
        name = error.outcome or (OutcomeName.MACHINE_PROBLEM if isinstance(error, DiskProblem) else None)
        if not isinstance(name, OutcomeName):
            raise
        outcome = Outcome(name, phase=RunPhase.PREFLIGHT, cause=error.located, hint=error.hint)
    if trial is not None:
        _end_attempt(till, trial.trial_id, outcome)
    if not outcome.ready:
        _tell_not_ready(till, release, trial, outcome)
    return outcome


def _tell_not_ready(till: Till, release: Release, trial: Trial | None, outcome: Outcome) -> None:
    # On trial the good release opens: the database is as it was when that one worked on it.
    committed = outcome.name is OutcomeName.COMMIT_FAILED
    done = "the database was migrated, and is not proven" if committed else "the database was left as it was"
    done += f"; {trial.good.version} starts" if trial else ""
    report = _report(outcome, release, done=done, trial_id=trial.trial_id if trial else None)
    till.tell(report._replace(opens=trial is not None))


def _left_running(till: Till) -> Outcome | None:
    """End what the app before left running; return why nothing may be changed beside it if it does not end."""
    if till.end_left():
        return None
    cause = "a program that the app left running does not end"
    return Outcome(OutcomeName.LOCKED, phase=RunPhase.PREFLIGHT, cause=cause, hint="Restart this terminal.")


def _give_attempt_back(till: Till, trial_id: TrialId) -> None:
    with terminal_locked(till):
        trial = till.read_trial(trial_id)
        if trial is not None and trial.verdict is Verdict.OPEN:
            till.write_trial(trial._replace(attempts_count=trial.attempts_count - 1, act=Act.NONE))


def _end_attempt(till: Till, trial_id: TrialId, outcome: Outcome) -> None:
    with terminal_locked(till):
        trial = till.read_trial(trial_id)
        if trial is None or trial.verdict is not Verdict.OPEN:
            return
        if outcome.refused:
            # Nothing was tried, so no attempt is used up; but a trial that can never begin must not stay open forever.
            attempts, refusals = trial.attempts_count - 1, trial.refusals_count + 1
            trial = trial._replace(attempts_count=attempts, refusals_count=refusals)
        if outcome.failed:
            trial = trial._replace(verdict=Verdict.GIVEN_UP, outcome=outcome.name, reason=outcome.cause)
        till.write_trial(trial._replace(act=Act.NONE))


def go_back(till: Till, trial: Trial) -> Returned:
    """Undo the changes of a given-up trial to the database, or leave them where that is right."""
    left = _left_running(till)
    if left is not None:
        return Returned(None, left)
    view = till.look()
    returned = restore_decision.go_back(
        till.database(),
        trial_id=trial.trial_id,
        backup=till.backup_of(trial),
        content_sha256=trial.content_sha256,
        older_schema=trial.good.schema,
        ever_confirmed=any(proof.release.release_id == trial.candidate.release_id for proof in view.proofs),
        migrations=migrations_of(till, trial.candidate),
    )
    if returned.back is not None:
        with terminal_locked(till):
            current = till.read_trial(trial.trial_id) or trial
            till.write_trial(current._replace(back=returned.back))
        _tell_return(till, trial, returned)
    return returned


def migrations_of(till: Till, release: Release) -> tuple[Migration, ...]:
    """Return the migrations of a release; none if its folder is spoilt: copies of them lie beside the backup."""
    try:
        return till.migrations(release)
    except TillkeeperError:
        return ()


def _tell_return(till: Till, trial: Trial, returned: Returned) -> None:
    outcome = returned.outcome.name
    till.tell(
        Report(
            outcome=outcome,
            release=trial.candidate,
            phase=RunPhase.GOING_BACK,
            cause=f"{trial.outcome}: {trial.reason}",
            done=done_sentence(outcome, good_version=trial.good.version),
            backup=trial.backup,
            kept=str(returned.set_aside.path) if returned.set_aside else None,
            losses=returned.losses,
            export=str(returned.export) if returned.export else None,
            gaps=str(returned.gaps) if returned.gaps else None,
            trial_id=trial.trial_id,
        )
    )


def finish_rollback(till: Till, rejection: Rejection) -> Returned:
    """Finish the restore of a person's rollback that was interrupted after its commit point."""
    assert rejection.backup is not None
    left = _left_running(till)
    if left is not None:
        return Returned(None, left)
    returned = restore_decision.finish(
        till.database(),
        intent_id=rejection.intent_id,
        backup=Path(rejection.backup),
        migrations=migrations_of(till, rejection.release),
    )
    if returned.back is None:
        return returned
    loses = bool(returned.losses or returned.not_known)
    kept = returned.set_aside.path if returned.set_aside is not None else None
    till.tell(
        Report(
            TerminalOutcome.ROLLED_BACK_WITH_LOSS if loses else TerminalOutcome.ROLLED_BACK,
            rejection.to,
            ReportPhase.ROLLBACK,
            cause=losses.lost(returned.losses, not_known=returned.not_known, kept=kept) if loses else "",
            done=f"{rejection.release.version} was rejected"
            + (f"; {rejection.to.version} starts" if rejection.to is not None else ""),
            backup=rejection.backup,
            kept=str(kept) if kept is not None else None,
            losses=returned.losses,
            export=str(returned.export) if returned.export is not None else None,
            gaps=str(returned.gaps) if returned.gaps is not None else None,
        )
    )
    return returned


def pending(returned: Returned, release: Release, trial_id: TrialId | None, *, opens: bool) -> Report:
    """Return the report of a return that is owed and could not be done; `opens`: whether an app starts meanwhile."""
    report = _report(returned.outcome, release, done="nothing was changed; it is tried again", trial_id=trial_id)
    return report._replace(opens=opens, losses=returned.losses)


def _report(outcome: Outcome, release: Release, *, done: str, trial_id: TrialId | None) -> Report:
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
