"""Takes a database back, after a give-up or for a person; data that was recorded since is never silently lost.

The caller holds the database lock. Nothing here touches a file or SQLite: every effect is a method of `Effects`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, assert_never

from dbsync.errors import TillkeeperError, interrupts, wrapped
from dbsync.model import (
    Back,
    Backup,
    BackupKind,
    Carried,
    Change,
    Intent,
    Loss,
    Migration,
    Outcome,
    Returned,
    RunPhase,
    SchemaNumber,
    Sha256,
    State,
    TrialId,
)
from dbsync.outcomes import OutcomeName
from dbsync.upgrade import decisions
from dbsync.upgrade.effects import Effects
from dbsync.upgrade.outcome_record import record_end

Params = ParamSpec("Params")


def _settled(
    going: Callable[Concatenate[Effects, Params], Returned],
) -> Callable[Concatenate[Effects, Params], Returned]:
    """Make a function raise nothing: it records and returns why nothing was restored."""

    @wraps(going)
    def settled(effects: Effects, /, *args: Params.args, **kwargs: Params.kwargs) -> Returned:
        try:
            return going(effects, *args, **kwargs)
        except BaseException as error:
            # Whatever an effect raises, what is owed is told.
            if interrupts(error):
                raise
            return _not_returned(effects, wrapped(error))

    return settled


@_settled
def go_back(
    effects: Effects,
    *,
    trial_id: TrialId,
    backup: Backup | None,
    content_sha256: Sha256 | None,
    older_schema: SchemaNumber,
    ever_confirmed: bool,
    migrations: tuple[Migration, ...],
) -> Returned:
    """Settle the database of a trial that was given up.

    Guarded by the trial's row in the database: if it is not the newest, there is nothing to take back. A repeat thus
    does nothing, and sales in between are safe.
    """
    facts = effects.look()
    damaged = facts.state is State.UNREADABLE
    if not damaged and facts.trial_id != trial_id:
        return Returned(None, Outcome(OutcomeName.NOTHING_TO_RESTORE))
    migrated = damaged or any(applied.trial_id == trial_id for applied in effects.history())
    change = Change(known=False)
    if migrated and not damaged:
        change = effects.changed_since_commit(content_sha256, backup, migrations)
    step = decisions.decide_return(
        facts,
        change,
        migrated=migrated,
        has_backup=backup is not None,
        older_schema=older_schema,
        ever_confirmed=ever_confirmed,
    )
    match step:
        case decisions.Keep():
            return _returned(effects, Back.KEPT, OutcomeName.KEPT, facts.version)
        case decisions.Stay():
            return _returned(effects, Back.STAYS, OutcomeName.STAYS, facts.version, losses=change.losses)
        case decisions.Refuse():
            refused = Outcome(step.name, facts.version, cause=step.cause, hint=step.hint, phase=RunPhase.GOING_BACK)
            return Returned(None, refused)
        case decisions.CarryBack():
            assert backup is not None
            return _carry_back(effects, backup, migrations, facts.version, ever_confirmed)
        case decisions.Restore():
            assert backup is not None
            return _restore(effects, backup, change, puts_aside=step.aside)
        case _:
            assert_never(step)


def _restore(effects: Effects, backup: Backup, change: Change, *, puts_aside: bool) -> Returned:
    effects.check_usable(backup.path)
    aside = effects.put_aside(BackupKind.BEFORE_RESTORE) if puts_aside else None
    # Commit point: one transaction on the live file. A crash before it repeats all of this; after it the row is gone.
    effects.restore(backup.path)
    return _returned(effects, Back.DONE, OutcomeName.RESTORED, backup.version, aside=aside, losses=change.losses)


def _carry_back(
    effects: Effects,
    backup: Backup,
    migrations: tuple[Migration, ...],
    version: SchemaNumber,
    ever_confirmed: bool,
) -> Returned:
    """Carry back what people wrote since COMMIT; the newer database is set aside, durably, before that is tried."""
    effects.check_usable(backup.path)
    aside = effects.put_aside(BackupKind.BEFORE_RESTORE)
    carried, why_not = None, ""
    try:
        carried = effects.carry_back(migrations, base=backup, aside=aside) if aside is not None else None
    except TillkeeperError as error:
        why_not = f"what was recorded since is not in it: {error.cause}"
    # A database so ruined that it could only be moved cannot stay, even if its candidate was confirmed.
    stays = ever_confirmed and effects.look().state is not State.MISSING
    step = decisions.decide_carried(carried, ever_confirmed=stays)
    match step:
        case decisions.RestoreCarried():
            assert carried is not None
            name = OutcomeName.RESTORED if carried.losses else OutcomeName.CARRIED_BACK
            # Commit point, as in `_restore`: the row of the trial is not in what was carried back.
            effects.restore(carried.path)
            return _returned(
                effects, Back.DONE, name, backup.version, aside=aside, losses=carried.losses, export=carried.export,
                parked=carried.parked,
            )  # fmt: skip
        case decisions.Stay():
            losses = _lost(effects, backup, migrations, carried)
            return _returned(effects, Back.STAYS, OutcomeName.STAYS, version, cause=why_not, aside=aside, losses=losses)
        case decisions.Restore():
            losses = _lost(effects, backup, migrations, carried)
            export = effects.export_loss(migrations, base=backup, aside=aside) if aside is not None else None
            effects.restore(backup.path)
            return _returned(
                effects, Back.DONE, OutcomeName.RESTORED, backup.version, cause=why_not, aside=aside, losses=losses,
                export=export,
            )  # fmt: skip
        case _:
            assert_never(step)


def _lost(
    effects: Effects, backup: Backup, migrations: tuple[Migration, ...], carried: Carried | None
) -> tuple[Loss, ...]:
    """Return the changes since COMMIT, after removing the copy that was carried back in vain."""
    if carried is not None:
        effects.discard(carried.path)
    return effects.lost_since_commit(backup, migrations)


def _returned(
    effects: Effects,
    back: Back,
    name: OutcomeName,
    version: SchemaNumber,
    *,
    cause: str = "",
    aside: Backup | None = None,
    losses: tuple[Loss, ...] = (),
    export: Path | None = None,
    parked: Path | None = None,
) -> Returned:
    outcome = Outcome(name, version_after=version, phase=RunPhase.GOING_BACK, cause=cause)
    record_end(effects, outcome)
    return Returned(back, outcome, aside, losses, export, parked)


def _not_returned(effects: Effects, error: TillkeeperError) -> Returned:
    unusable = error.outcome is OutcomeName.BACKUP_UNUSABLE
    name = OutcomeName.BACKUP_UNUSABLE if unusable else OutcomeName.RESTORE_PENDING
    outcome = Outcome(name, phase=RunPhase.GOING_BACK, cause=error.cause, hint=error.hint)
    record_end(effects, outcome)
    return Returned(None, outcome)


@_settled
def restore(effects: Effects, *, backup: Path, intent_id: str) -> Returned:
    """Restore a backup for a person: set the live database aside, then replace it by the backup.

    Repeatable under the same `intent_id`: it resumes where it was cut, and a database that was written since is set
    aside again before it is replaced.
    """
    intent = effects.read_intent(intent_id)
    if intent is not None and intent.done:
        return Returned(None, Outcome(OutcomeName.NOTHING_TO_RESTORE))
    effects.check_usable(backup)
    step = decisions.decide_restore(
        intent,
        equals_backup=intent is not None and effects.equals(backup),
        equals_aside=intent is not None and intent.set_aside is not None and effects.equals(Path(intent.set_aside)),
    )
    aside: Backup | None = None
    losses: tuple[Loss, ...] = ()
    match step:
        case decisions.PutAside():
            losses = effects.changed_since(backup).losses
            aside = effects.put_aside(BackupKind.BEFORE_RESTORE)
            # A crash before this line leaves a copy too many; after it, a repeat knows what it finds.
            intent = Intent(intent_id, str(backup), str(aside.path) if aside else None)
            effects.write_intent(intent)
            _overwrite(effects, backup)
        case decisions.Overwrite():
            _overwrite(effects, backup)
        case decisions.Finished():
            pass
        case _:
            assert_never(step)
    assert intent is not None
    effects.write_intent(intent._replace(done=True))
    return _returned(effects, Back.DONE, OutcomeName.RESTORED, effects.look().version, aside=aside, losses=losses)


def _overwrite(effects: Effects, backup: Path) -> None:
    effects.restore(backup)
    effects.check_committed()


def what_would_be_lost(effects: Effects, *, backup: Path) -> Change:
    """Return the changes since a backup was made, per table, or why they cannot be determined; changes nothing.

    Raises:
        BackupUnusable: the backup does not match its facts.
        TryLater: the database cannot be read now.
    """
    effects.check_usable(backup)
    return effects.changed_since(backup)
