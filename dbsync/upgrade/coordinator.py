"""Brings a database to the release that is about to start: observe, decide, act, until ready or undone.

The caller holds the database lock. Nothing here touches a file or SQLite: every effect is a method of `Effects`.
"""

from __future__ import annotations

from typing import assert_never

from dbsync.errors import BadMigrations, TillkeeperError, interrupts, wrapped
from dbsync.model import (
    NO_SCHEMA,
    Backup,
    Facts,
    Migration,
    Outcome,
    ReleaseId,
    RunPhase,
    SchemaNumber,
    Sha256,
    State,
    TrialId,
)
from dbsync.outcomes import Group, OutcomeName
from dbsync.upgrade import adoption_decision, decisions
from dbsync.upgrade.effects import Effects, Recorder
from dbsync.upgrade.outcome_record import FlightEvent, record_end

_FALLBACK = {
    RunPhase.PREFLIGHT: OutcomeName.READ_ONLY,
    RunPhase.BACKUP: OutcomeName.CANNOT_BACK_UP,
    RunPhase.MIGRATE: OutcomeName.MIGRATION_FAILED,
    RunPhase.VERIFY: OutcomeName.VERIFICATION_FAILED,
    RunPhase.COMMIT: OutcomeName.COMMIT_FAILED,
}
"""The outcome of an error that has none of its own, by the phase in which it was raised."""


def upgrade(
    effects: Effects,
    *,
    migrations: tuple[Migration, ...],
    trial_id: TrialId | None = None,
    release_id: ReleaseId | None = None,
    release_version: str | None = None,
    earlier_backup: Backup | None = None,
    recorder: Recorder | None = None,
    again: bool = False,
) -> Outcome:
    """Bring the database to the newest migration, all or nothing.

    Args:
        effects: the database.
        migrations: all migrations of the release, by number.
        trial_id: the trial in which this happens; its row is written with the migrations.
        release_id: identity of the release, for the history.
        release_version: its version, for the history.
        earlier_backup: the backup of an earlier attempt of the same trial; used only if it equals the database now.
        recorder: receives the backup and the digest of the content as of COMMIT.
        again: whether a person wants a retry, however often it failed before.

    Returns:
        The outcome; never an exception of ours. Anything but `ready` means that the database is unchanged; one
        without our history may have one now, and is otherwise unchanged.
    """
    release = (release_id, release_version)
    return _Upgrade(effects, migrations, trial_id, release, earlier_backup, recorder, again).run()


class _Upgrade:
    def __init__(
        self,
        effects: Effects,
        migrations: tuple[Migration, ...],
        trial_id: TrialId | None,
        release: tuple[ReleaseId | None, str | None],
        earlier_backup: Backup | None,
        recorder: Recorder | None,
        again: bool,
    ) -> None:
        self.effects = effects
        self.migrations = migrations
        self.trial_id = trial_id
        self.release = release
        self.earlier_backup = earlier_backup
        self.recorder = recorder
        self.again = again
        self.run_name: str | None = None
        self.phase = RunPhase.PREFLIGHT
        self.migration: Migration | None = None
        self.backup: Backup | None = None
        self.unchecked: Backup | None = None
        """The copy that is checked beside the migration."""
        self.version: SchemaNumber | None = None
        self.unparsed = ""
        self.began_seconds = effects.seconds()

    def run(self) -> Outcome:
        try:
            return self._run()
        except BaseException as raised:
            # Whatever an effect raises, the transaction goes first and the run ends with a named outcome. Only a
            # person's Ctrl-C, or the end of the process, has none.
            self._undo()
            if interrupts(raised):
                self._drop_unchecked()
                raise
            error = self._found_beside() or wrapped(raised)
            self._rotate()
            name = error.outcome if isinstance(error.outcome, OutcomeName) else self._named(error)
            # Causes of failures are compared from run to run, and a scratch file has another name in each.
            return self._ended(name, cause=error.cause if name.failed else error.located, hint=error.hint)

    def _run(self) -> Outcome:
        effects = self.effects
        facts = effects.look()
        refused = None
        if facts.state is State.UNTRACKED:
            refused = self._adopt()
            facts = effects.look() if refused is None else facts
        self.version = facts.version if facts.state is State.OK else NO_SCHEMA
        self.unparsed = facts.unparsed
        latest = self.migrations[-1].number if self.migrations else NO_SCHEMA
        effects.record(FlightEvent.LOOKED, version=self.version, latest=latest)
        step = refused or self._decide(facts)
        match step:
            case decisions.Refuse():
                return self._ended(step.name, cause=step.cause, hint=step.hint)
            case decisions.Nothing():
                effects.clear()
                return self._ended(OutcomeName.UP_TO_DATE, cause=self.unparsed)
            case decisions.Migrate():
                return self._migrate(step)
            case _:
                assert_never(step)

    def _migrate(self, step: decisions.Migrate) -> Outcome:
        effects = self.effects
        effects.preflight(step.pending)
        if step.pending:
            self._note_counters()
        effects.begin()
        self.phase = RunPhase.BACKUP
        if step.pending:
            self.run_name = decisions.name_of_run(self.version or NO_SCHEMA, step.pending, self.trial_id)
            effects.record(FlightEvent.STARTED, count=len(step.pending), run=self.run_name)
        if step.backs_up:
            self._back_up(beside=bool(step.pending))
        elif step.fresh:
            effects.record(FlightEvent.NOTHING_TO_BACK_UP)
            effects.check_now()
        self.phase = RunPhase.MIGRATE
        if step.adopted or step.blessed:
            effects.note_history(kept=step.adopted, blessed=step.blessed)
        for migration in step.pending:
            self.migration = migration
            effects.apply(migration, self.migrations, self.trial_id, self.release)
        self.migration = None
        if self.trial_id is not None:
            effects.mark_trial(self.trial_id, self.release)
        if step.pending:
            self.phase = RunPhase.VERIFY
            effects.verify(self.migrations, self.backup or self.unchecked)
            effects.put_back(step.pending)
            self._join_check()
        self.phase = RunPhase.COMMIT
        # Commit point: before this line the database is the old one, after it the new one, whatever happens.
        effects.commit()
        return self._committed(step)

    def _note_counters(self) -> None:
        """Record how high the counters are. A failure stops no migration: it replaces no database by an older one."""
        try:
            self.effects.note_counters(self.migrations)
        except BadMigrations:
            raise
        except TillkeeperError as error:
            self.effects.record(FlightEvent.NOT_NOTED, cause=str(error))

    def _decide(self, facts: Facts) -> decisions.UpgradeStep:
        history = self.effects.history() if facts.state is State.OK else ()
        step = decisions.decide_upgrade(facts, history, self.migrations, self.trial_id)
        match step:
            case decisions.Migrate() if step.pending and not self.again:
                name = decisions.name_of_run(self.version or NO_SCHEMA, step.pending, self.trial_id)
                return decisions.decide_again(self.effects.tried(name)) or step
            case decisions.Migrate() | decisions.Nothing() | decisions.Refuse():
                return step
            case _:
                assert_never(step)

    def _adopt(self) -> decisions.Refuse | None:
        """Record which schema the database has, in a step of its own, so that every backup shows it; or return why not.

        A crash after it, or a failure of a later step, leaves the app's own tables as they were.
        """
        step = adoption_decision.decide_adoption(self.effects.recognise(self.migrations), self.migrations)
        match step:
            case decisions.Refuse():
                return step
            case adoption_decision.Adopt():
                self.effects.preflight(())
                self.effects.begin()
                self.effects.adopt(self.migrations[: step.version])
                self.effects.commit()
                self.effects.record(FlightEvent.ADOPTED, version=step.version)
                return None
            case _:
                assert_never(step)

    def _back_up(self, *, beside: bool) -> None:
        earlier = self.earlier_backup
        if earlier is not None and self.effects.equals(earlier.path):
            self.backup = earlier
            return
        part = self.effects.copy_backup(self.version or NO_SCHEMA, self.trial_id)
        if beside and self.effects.begin_check(part):
            self.unchecked = part
        else:
            self._keep(part)

    def _join_check(self) -> None:
        """Wait for the check beside the migration: nothing is committed without a sound, durable, named backup."""
        if self.unchecked is None:
            return
        part, self.unchecked, self.phase = self.unchecked, None, RunPhase.BACKUP
        try:
            self._keep(part)
        except BaseException as raised:
            if interrupts(raised):
                self.effects.discard(part.path)
            raise

    def _keep(self, part: Backup) -> None:
        self.backup = self.effects.keep_backup(self.effects.check_backup(part))
        if self.recorder is not None:
            # A crash before this leaves the backup under its name, with the trial in its facts.
            self.recorder.backup_made(self.backup)

    def _found_beside(self) -> TillkeeperError | None:
        """Return the finding on the backup of a run that has failed: it explains the failure.

        A migration on a damaged database can fail in any way, and before the check finds the damage.
        """
        phase = self.phase
        try:
            self._join_check()
        except BaseException as raised:
            if interrupts(raised):
                raise
            self.migration = None
            return wrapped(raised)
        self.phase = phase
        return None

    def _drop_unchecked(self) -> None:
        if self.unchecked is not None:
            self.effects.discard(self.unchecked.path)

    def _committed(self, step: decisions.Migrate) -> Outcome:
        self.effects.check_committed()
        digest = self._noted()
        if not step.pending:
            return self._ended(OutcomeName.UP_TO_DATE, cause=self.unparsed, digest=digest)
        return self._ended(OutcomeName.CREATED if step.fresh else OutcomeName.MIGRATED, digest=digest)

    def _noted(self) -> Sha256 | None:
        """Record and return the digest of a database that is committed and sound; a failure here does not change that.

        Without the digest, going back compares row by row. A backup over the limit is removed the next time.
        """
        digest = None
        try:
            digest = self.effects.content_digest()
            if digest is not None and self.recorder is not None:
                self.recorder.content_noted(digest)
            self.effects.note_counters(self.migrations)
            if self.backup is not None:
                self.effects.rotate_backups((self.backup.path,))
        except Exception as error:  # noqa: BLE001 - the database is committed and sound: nothing undoes that
            self.effects.record(FlightEvent.NOT_NOTED, cause=str(wrapped(error)))
        return digest

    def _named(self, error: TillkeeperError) -> OutcomeName:
        """Return the outcome of an error that has none of its own.

        From the backup on, what may succeed later lies in this machine: it is not held against the release. An error of
        COMMIT may come after the database is the new one, which then nothing has checked.
        """
        later = error.group is Group.LATER and self.phase is not RunPhase.PREFLIGHT
        if not later or (self.phase is RunPhase.COMMIT and not self._is_as_before()):
            return _FALLBACK[self.phase]
        return OutcomeName.MACHINE_PROBLEM

    def _is_as_before(self) -> bool:
        """Return whether the database provably has neither the new schema nor the trial's row."""
        try:
            facts = self.effects.look()
        except Exception:  # noqa: BLE001 - it is not known then
            return False
        is_old = facts.state in (State.MISSING, State.EMPTY) if not self.version else facts.version == self.version
        return is_old and (self.trial_id is None or facts.trial_id != self.trial_id)

    def _undo(self) -> None:
        try:
            self.effects.rollback()
        except Exception:  # noqa: BLE001 - the cause of the run's end is known already
            # Closing the connection undoes it as well; if this process dies, SQLite does at the next opening.
            return

    def _rotate(self) -> None:
        """Remove the oldest backups over the limit: a run that fails at every start makes one each time."""
        if self.backup is None:
            return
        try:
            self.effects.rotate_backups((self.backup.path,))
        except Exception:  # noqa: BLE001 - the cause of the run's end is known already
            return

    def _ended(self, name: OutcomeName, *, cause: str = "", hint: str = "", digest: Sha256 | None = None) -> Outcome:
        migrated = name in (OutcomeName.MIGRATED, OutcomeName.CREATED)
        kept = self.effects.keep_damaged() if name == OutcomeName.DAMAGED else None
        if kept is not None:
            hint = f"{hint} It is kept as it is, not verified ({kept.name})."
        named = f"v{self.migration.number} {self.migration.name}" if self.migration else None
        outcome = Outcome(
            name=name,
            version_before=self.version,
            version_after=self.migrations[-1].number if migrated else self.version,
            phase=self.phase if name != OutcomeName.UP_TO_DATE else RunPhase.NONE,
            migration=named,
            cause=cause,
            hint=hint,
            backup=self.backup,
            content_sha256=digest,
            duration_seconds=self.effects.seconds() - self.began_seconds,
        )
        record_end(self.effects, outcome, self.run_name)
        return outcome
