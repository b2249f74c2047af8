"""Brings a database to the release that is about to start, or back: look, decide, perform, until ready or undone.

The caller holds the database lock. Nothing here touches a file or SQLite: every effect is a method of `Effects`.
"""

from __future__ import annotations

from pathlib import Path

from dbsync import plan
from dbsync.effects import Effects, Recorder
from dbsync.errors import DbsyncError, Failed
from dbsync.model import Back, Backup, Change, Intent, Loss, Migration, Outcome, OutcomeName, Returned, State

_FALLBACK = {
    "preflight": OutcomeName.READ_ONLY,
    "backup": OutcomeName.CANNOT_BACK_UP,
    "migrate": OutcomeName.MIGRATION_FAILED,
    "verify": OutcomeName.VERIFICATION_FAILED,
    "commit": OutcomeName.COMMIT_FAILED,
}
"""What a problem without a name of its own means, by the phase in which it came."""


def upgrade(
    effects: Effects,
    *,
    migrations: tuple[Migration, ...],
    trial_id: str | None = None,
    release_id: str | None = None,
    release_version: str | None = None,
    earlier_backup: Backup | None = None,
    recorder: Recorder | None = None,
) -> Outcome:
    """Brings the database to the newest migration, all or nothing.

    Args:
        effects: the database.
        migrations: all that the release has, by number.
        trial_id: the trial in which this happens; its row is written with the migrations.
        release_id: identity of the release, for the history.
        release_version: its version, for the history.
        earlier_backup: what an earlier attempt of the same trial took; used only if it equals the database now.
        recorder: told of the backup and of the content as of COMMIT.

    Returns:
        The outcome; never an exception of ours. Anything but `ready` means that the database is as it was.
    """
    return _Upgrade(effects, migrations, trial_id, (release_id, release_version), earlier_backup, recorder).run()


class _Upgrade:
    def __init__(
        self,
        effects: Effects,
        migrations: tuple[Migration, ...],
        trial_id: str | None,
        release: tuple[str | None, str | None],
        earlier_backup: Backup | None,
        recorder: Recorder | None,
    ) -> None:
        self.effects = effects
        self.migrations = migrations
        self.trial_id = trial_id
        self.release = release
        self.earlier_backup = earlier_backup
        self.recorder = recorder
        self.phase = "preflight"
        self.migration: Migration | None = None
        self.backup: Backup | None = None
        self.version: int | None = None
        self.began_seconds = effects.seconds()

    def run(self) -> Outcome:
        try:
            return self._run()
        except DbsyncError as error:
            self._undo()
            name = OutcomeName(error.outcome) if error.outcome else _FALLBACK[self.phase]
            return self._ended(name, cause=error.cause, hint=error.hint)

    def _run(self) -> Outcome:
        effects = self.effects
        facts = effects.look()
        self.version = facts.version if facts.state is State.OK else 0
        latest = self.migrations[-1].number if self.migrations else 0
        effects.record("looked", version=self.version, latest=latest)
        history = effects.history() if facts.state is State.OK else ()
        step = plan.decide_upgrade(facts, history, self.migrations, self.trial_id)
        if isinstance(step, plan.Refuse):
            return self._ended(step.name, cause=step.cause, hint=step.hint)
        if isinstance(step, plan.Nothing):
            return self._ended(OutcomeName.UP_TO_DATE)
        effects.preflight(step.pending)
        effects.begin()
        self.phase = "backup"
        if step.pending:
            effects.record("started", count=len(step.pending))
        if step.backs_up:
            self._back_up()
        elif step.fresh:
            effects.record("nothing_to_back_up")
            effects.check_now()
        self.phase = "migrate"
        if step.adopted or step.blessed:
            effects.note_history(step.adopted, step.blessed)
        for migration in step.pending:
            self.migration = migration
            effects.apply(migration, self.trial_id, self.release)
        self.migration = None
        if self.trial_id is not None:
            effects.mark_trial(self.trial_id, self.release)
        if step.pending:
            self.phase = "verify"
            effects.verify(self.migrations, self.backup)
        self.phase = "commit"
        # Commit point: before this line the database is the old one, after it the new one, whatever happens.
        effects.commit()
        return self._committed(step)

    def _back_up(self) -> None:
        earlier = self.earlier_backup
        if earlier is not None and self.effects.equals(earlier.path):
            self.backup = earlier
            return
        part = self.effects.copy_backup(self.version or 0, self.trial_id)
        self.backup = self.effects.keep_backup(self.effects.check_backup(part))
        if self.recorder is not None:
            # A crash before this: the backup is there under its name, with the trial in its facts.
            self.recorder.backup_made(self.backup)

    def _committed(self, step: plan.Migrate) -> Outcome:
        self.effects.check_committed()
        digest = self.effects.content_digest()
        if digest is not None and self.recorder is not None:
            self.recorder.content_noted(digest)
        if self.backup is not None:
            self.effects.rotate_backups((self.backup.path,))
        if not step.pending:
            return self._ended(OutcomeName.UP_TO_DATE, digest=digest)
        return self._ended(OutcomeName.CREATED if step.fresh else OutcomeName.MIGRATED, digest=digest)

    def _undo(self) -> None:
        try:
            self.effects.rollback()
        except DbsyncError:
            # Closing the connection undoes it as well, and if this process dies SQLite does at the next opening.
            return

    def _ended(self, name: OutcomeName, *, cause: str = "", hint: str = "", digest: str | None = None) -> Outcome:
        migrated = name in (OutcomeName.MIGRATED, OutcomeName.CREATED)
        named = f"v{self.migration.number} {self.migration.name}" if self.migration else None
        outcome = Outcome(
            name=name,
            version_before=self.version,
            version_after=self.migrations[-1].number if migrated else self.version,
            phase=self.phase if name != OutcomeName.UP_TO_DATE else "",
            migration=named,
            cause=cause,
            hint=hint,
            backup=self.backup,
            content_sha256=digest,
            duration_seconds=self.effects.seconds() - self.began_seconds,
        )
        _record_end(self.effects, outcome)
        return outcome


def _record_end(effects: Effects, outcome: Outcome) -> None:
    try:
        effects.record(
            "ended",
            outcome=outcome.name,
            before=outcome.version_before,
            after=outcome.version_after,
            phase=outcome.phase,
            migration=outcome.migration,
            cause=outcome.cause,
            seconds=round(outcome.duration_seconds, 3),
        )
    except DbsyncError:
        # The record is for people; the outcome that it would have told is returned all the same.
        return


def go_back(
    effects: Effects,
    *,
    trial_id: str,
    backup: Backup | None,
    content_sha256: str | None,
    older_schema: int,
    ever_confirmed: bool,
    migrations: tuple[Migration, ...],
) -> Returned:
    """Settles the database of a trial that was given up.

    Guarded by the trial's row in the database: where it is not the newest, there is nothing to take back, so a repeat
    does nothing and what was sold in between is safe.
    """
    try:
        return _go_back(effects, trial_id, backup, content_sha256, older_schema, ever_confirmed, migrations)
    except DbsyncError as error:
        return _not_returned(effects, error)


def _go_back(
    effects: Effects,
    trial_id: str,
    backup: Backup | None,
    content_sha256: str | None,
    older_schema: int,
    ever_confirmed: bool,
    migrations: tuple[Migration, ...],
) -> Returned:
    facts = effects.look()
    damaged = facts.state is State.UNREADABLE
    if not damaged and facts.trial_id != trial_id:
        return Returned(None, Outcome(OutcomeName.NOTHING_TO_RESTORE))
    migrated = damaged or any(one.trial_id == trial_id for one in effects.history())
    change = Change(known=False)
    if migrated and not damaged:
        change = effects.changed_since_commit(content_sha256, backup, migrations)
    step = plan.decide_return(
        facts,
        change,
        migrated=migrated,
        has_backup=backup is not None,
        older_schema=older_schema,
        ever_confirmed=ever_confirmed,
    )
    if isinstance(step, plan.Keep):
        return _returned(effects, Back.KEPT, OutcomeName.KEPT, facts.version)
    if isinstance(step, plan.Stay):
        return _returned(effects, Back.STAYS, OutcomeName.STAYS, facts.version, losses=change.losses)
    if isinstance(step, plan.Refuse):
        return Returned(None, Outcome(step.name, facts.version, cause=step.cause, hint=step.hint, phase="going back"))
    assert backup is not None
    effects.check_usable(backup.path)
    aside = effects.put_aside("restore") if step.aside else None
    export = None
    if aside is not None and not damaged:
        export = effects.export_loss(backup, migrations, aside)
    # Commit point: one transaction on the live file. A crash before it repeats all of this; after it the row is gone.
    effects.restore(backup.path)
    return _returned(
        effects, Back.DONE, OutcomeName.RESTORED, backup.version, aside=aside, losses=change.losses, export=export
    )


def _returned(
    effects: Effects,
    back: Back,
    name: OutcomeName,
    version: int,
    *,
    aside: Backup | None = None,
    losses: tuple[Loss, ...] = (),
    export: Path | None = None,
) -> Returned:
    outcome = Outcome(name, version_after=version, phase="going back")
    _record_end(effects, outcome)
    return Returned(back, outcome, aside, losses, export)


def _not_returned(effects: Effects, error: DbsyncError) -> Returned:
    name = OutcomeName(error.outcome) if error.outcome == "BACKUP_UNUSABLE" else OutcomeName.RESTORE_PENDING
    outcome = Outcome(name, phase="going back", cause=error.cause, hint=error.hint)
    _record_end(effects, outcome)
    return Returned(None, outcome)


def restore(effects: Effects, *, backup: Path, intent_id: str) -> Returned:
    """A person's restore: the live database is put aside, then the backup takes its place.

    Repeatable under the same `intent_id`: it goes on where it was cut, and a database in which somebody wrote since is
    put aside again before it is replaced.
    """
    try:
        return _restore(effects, backup, intent_id)
    except DbsyncError as error:
        return _not_returned(effects, error)


def _restore(effects: Effects, backup: Path, intent_id: str) -> Returned:
    intent = effects.read_intent(intent_id)
    if intent is not None and intent.done:
        return Returned(None, Outcome(OutcomeName.NOTHING_TO_RESTORE))
    effects.check_usable(backup)
    step = plan.decide_restore(
        intent,
        equals_backup=intent is not None and effects.equals(backup),
        equals_aside=intent is not None and intent.set_aside is not None and effects.equals(Path(intent.set_aside)),
    )
    aside: Backup | None = None
    losses: tuple[Loss, ...] = ()
    if isinstance(step, plan.PutAside):
        losses = _losses(effects, backup)
        aside = effects.put_aside("restore")
        # A crash before this line leaves a copy too many; after it, a repeat knows what it finds.
        intent = Intent(intent_id, str(backup), str(aside.path) if aside else None)
        effects.write_intent(intent)
    assert intent is not None
    if not isinstance(step, plan.Finished):
        effects.restore(backup)
        effects.check_committed()
    effects.write_intent(intent._replace(done=True))
    return _returned(effects, Back.DONE, OutcomeName.RESTORED, effects.look().version, aside=aside, losses=losses)


def _losses(effects: Effects, backup: Path) -> tuple[Loss, ...]:
    try:
        return effects.changed_since(backup).losses
    except Failed:
        return ()


def what_would_be_lost(effects: Effects, *, backup: Path) -> tuple[Loss, ...]:
    """What people did since a backup was made, per table; changes nothing.

    Raises:
        BackupUnusable: the backup is not what its facts say.
        TryLater: the database cannot be read now.
    """
    effects.check_usable(backup)
    return effects.changed_since(backup).losses
