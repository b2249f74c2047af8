"""Takes a database back, after a give-up or for a person; data that was recorded since is never silently lost.

The caller holds the database lock. Nothing here touches a file or SQLite: every effect is a method of `Effects`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, assert_never

from dbsync.errors import TillkeeperError, interrupts, wrapped
from dbsync.model import (
    Back,
    Backup,
    BackupKind,
    Carried,
    Change,
    Facts,
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
from dbsync.upgrade import decisions, preparation
from dbsync.upgrade.effects import Effects
from dbsync.upgrade.outcome_record import record_end
from dbsync.upgrade.preparation import Prepared, Wish

Params = ParamSpec("Params")
FINISH: Final = "restore that was interrupted"
TRIAL: Final = "return of a trial that was given up"
DRY_RUN: Final = (
    "`updater rollback --dry-run` shows what would be lost. `updater rollback --accept-loss` goes back all the same."
)
ACCEPT_LOSS: Final = (
    "Nothing was changed. Pass --accept-loss to restore the backup all the same; the current database is kept."
)


def _settled(
    going: Callable[Concatenate[Effects, Params], Returned],
) -> Callable[Concatenate[Effects, Params], Returned]:
    """Make a function raise nothing: it records and returns why nothing was restored."""

    @wraps(going)
    def settled(effects: Effects, /, *args: Params.args, **kwargs: Params.kwargs) -> Returned:
        try:
            return going(effects, *args, **kwargs)
        except BaseException as error:
            # An effect may raise any exception; the outcome names the return that is owed.
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
    does nothing, and sales in between are safe. A ruined database has no row: it is moved under an intent.
    """
    facts = preparation.seen(effects)
    damaged = facts.state is State.UNREADABLE
    if facts.state in (State.MISSING, State.EMPTY):
        return _without_database(effects, facts, trial_id)
    if not damaged and facts.trial_id != trial_id:
        return Returned(None, Outcome(OutcomeName.NOTHING_TO_RESTORE))
    applied = () if damaged else effects.history()
    migrated = damaged or any(migration.trial_id == trial_id for migration in applied)
    change = Change(known=False)
    if migrated and not damaged:
        change = effects.changed_since_commit(content_sha256, backup, migrations)
    step = decisions.decide_return(
        facts,
        change,
        migrated=migrated,
        created=bool(applied) and applied[0].trial_id == trial_id,
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
            return _carry_back(effects, Wish(trial_id, backup, carries=True, migrations=migrations), ever_confirmed)
        case decisions.Restore():
            assert backup is not None
            if step.aside:
                return _restore_anyway(effects, Wish(trial_id, backup, carries=False), cause="")
            return _restore(effects, Wish(trial_id, backup, carries=False, migrations=migrations))
        case _:
            assert_never(step)


def _restore(effects: Effects, wish: Wish) -> Returned:
    """Restore a trial's backup over a database in which nothing was recorded since; it is not kept."""
    backup = wish.base
    effects.check_usable(backup.path)
    effects.check_replaceable(backup.path, carries=False)
    before = effects.read_intent(wish.intent_id)
    intent = preparation.with_raised_counters(
        effects, Intent(wish.intent_id, str(backup.path)), backup.path, migrations=wish.migrations, operation=TRIAL
    )
    try:
        effects.reserve(Path(intent.backup))
        if intent.raised_from is not None:
            # The migrations gave out numbers: a repeat finds the copy by this, and removes it.
            effects.write_intent(intent)
            preparation.forget(effects, before, intent)
    except BaseException:
        preparation.remove(effects, preparation.made_for(intent))
        raise
    # Commit point: one transaction on the live file. A crash before it repeats all of this; after it the row of the
    # trial is gone.
    effects.restore(Path(intent.backup))
    if intent.raised_from is not None:
        preparation.end(effects, intent)
        effects.remove_intent(intent.intent_id)
    returned = _returned(effects, Back.DONE, OutcomeName.RESTORED, backup.version)
    return returned._replace(gaps=_gaps_of(intent))


def _gaps_of(intent: Intent) -> Path | None:
    return Path(intent.gaps) if intent.gaps is not None else None


def _carry_back(effects: Effects, wish: Wish, ever_confirmed: bool) -> Returned:
    """Carry back what people wrote since COMMIT; the newer database is set aside, durably, before that is tried.

    An attempt that could not be made now leaves everything as it is: it permits nothing.
    """
    try:
        prepared = preparation.prepare(effects, wish)
    except preparation.CannotCarry as error:
        # A ruined database cannot stay, even if its candidate was confirmed.
        stays = ever_confirmed and not isinstance(error, preparation.Ruined)
        return _uncarried(effects, wish, None, f"what was recorded since is not in it: {error.cause}", stays)
    step = decisions.decide_carried(prepared.carried, ever_confirmed=ever_confirmed)
    match step:
        case decisions.RestoreCarried():
            _complete_once(effects, prepared.intent)
            return _restored(effects, prepared.intent, wish.base, aside=prepared.aside, carried=prepared.carried)
        case decisions.Stay():
            return _uncarried(effects, wish, prepared, "", ever_confirmed)
        case decisions.Restore():
            raise AssertionError("only without a carried-back database")
        case _:
            assert_never(step)


def _uncarried(effects: Effects, wish: Wish, prepared: Prepared | None, cause: str, ever_confirmed: bool) -> Returned:
    """Settle a database whose changes cannot be carried back: it stays, or the till must start without them."""
    if prepared is None and not ever_confirmed:
        return _restore_anyway(effects, wish._replace(carries=False), cause=cause)
    losses = effects.lost_since_commit(wish.base, wish.migrations)
    if prepared is not None:
        losses = losses or prepared.intent.losses
        preparation.abandon(effects, prepared)
    version = effects.look().version
    return _returned(effects, Back.STAYS, OutcomeName.STAYS, version, cause=cause, losses=losses)


def _restore_anyway(effects: Effects, wish: Wish, *, cause: str) -> Returned:
    """Restore the backup as it is: the till must start, and what the database held is kept and exported."""
    losses = effects.lost_since_commit(wish.base, wish.migrations)
    prepared = preparation.prepare(effects, wish)
    export = None
    if prepared.aside is not None:
        export = effects.export_loss(wish.migrations, base=wish.base, aside=prepared.aside)
    losses = losses or prepared.intent.losses
    not_known = "" if losses else prepared.intent.not_known or cause or "the database cannot be compared"
    intent = prepared.intent._replace(losses=losses, not_known=not_known)
    aside = _complete_once(effects, intent)
    return _restored(effects, intent, wish.base, aside=aside, cause=cause, export=export)


def _complete_once(effects: Effects, intent: Intent) -> Backup | None:
    """Complete the return of a trial: its row is gone from the database, and its intent is not read again."""
    aside = preparation.complete(effects, intent)
    effects.remove_intent(intent.intent_id)
    return aside


def _without_database(effects: Effects, facts: Facts, trial_id: TrialId) -> Returned:
    """Complete a return that was cut after its database was moved aside; without one, there is nothing to take back."""
    begun = effects.read_intent(trial_id)
    if begun is None or begun.done:
        name = OutcomeName.MISSING if facts.had_data else OutcomeName.NOTHING_TO_RESTORE
        return Returned(None, Outcome(name, phase=RunPhase.GOING_BACK, cause=facts.gone))
    returned = _completed(effects, begun)
    effects.remove_intent(trial_id)
    return returned


def _restored(
    effects: Effects,
    intent: Intent,
    base: Backup | None,
    *,
    aside: Backup | None,
    carried: Carried | None = None,
    cause: str = "",
    export: Path | None = None,
) -> Returned:
    """Return the end of a restore that is done, by what it lost."""
    loses = bool(intent.losses or intent.not_known)
    name = OutcomeName.RESTORED_WITH_LOSS if loses else OutcomeName.RESTORED
    if intent.base is not None and not loses:
        name = OutcomeName.CARRIED_BACK
    returned = _returned(
        effects,
        Back.DONE,
        name,
        base.version if base is not None else effects.look().version,
        cause=cause,
        aside=aside,
        losses=intent.losses,
        export=carried.export if carried is not None else export,
        parked=carried.parked if carried is not None else None,
    )
    return returned._replace(not_known=intent.not_known, gaps=_gaps_of(intent))


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
def finish(effects: Effects, *, intent_id: str, backup: Path, migrations: tuple[Migration, ...] = ()) -> Returned:
    """Finish a return that was decided, with the promise under which it was decided.

    Repeatable under the same `intent_id`. A database that was written since it was set aside is prepared for anew, so
    that these changes are carried back too; if that would lose more than a person has agreed to, nothing is restored.

    Args:
        effects: on the database.
        intent_id: the name of the return.
        backup: the file to restore, as the decision names it.
        migrations: of the newer release; empty: those that are kept beside the backup.
    """
    intent = effects.read_intent(intent_id)
    return _resumed(effects, intent) or _finish_anew(effects, intent_id, intent, backup, migrations)


@_settled
def restore(effects: Effects, *, backup: Path, intent_id: str, accept_loss: bool = False) -> Returned:
    """Restore a backup as it is, for a person.

    Repeatable under the same `intent_id`: it resumes where it was cut.

    Args:
        effects: on the database.
        backup: the file.
        intent_id: the name of this restore.
        accept_loss: whether it is restored although the database has changes since, or they cannot be determined.
    """
    resumed = _resumed(effects, effects.read_intent(intent_id))
    if resumed is not None:
        return resumed
    effects.check_usable(backup)
    base = effects.kept_at(backup)
    assert base is not None, "a usable backup is there"
    prepared = preparation.prepare(effects, Wish(intent_id, base, carries=False))
    if not prepared.change.unchanged and not accept_loss:
        preparation.abandon(effects, prepared)
        cause = prepared.intent.not_known or "what was recorded since the backup would be lost"
        returned = _stays(effects, prepared.intent.losses, cause, hint=ACCEPT_LOSS)
        return returned._replace(not_known=prepared.intent.not_known)
    prepared = preparation.accepted(effects, prepared)
    aside = preparation.complete(effects, prepared.intent)
    return _restored(effects, prepared.intent, base, aside=aside)


def _resumed(effects: Effects, intent: Intent | None) -> Returned | None:
    """Resume a restore that is on record; return None if it must be prepared anew."""
    if intent is not None and intent.done:
        return Returned(None, Outcome(OutcomeName.NOTHING_TO_RESTORE))
    facts = preparation.seen(effects)
    step = _next_step(effects, facts, intent)
    match step:
        case decisions.Anew():
            return None
        case decisions.Overwrite():
            assert intent is not None
            return _completed(effects, intent)
        case decisions.MoveAside():
            assert intent is not None
            if not intent.moves:
                # It was copied when it was sound, and has been ruined since: it is kept under a name of its own.
                place = effects.name_aside(BackupKind.BEFORE_RESTORE)
                cause = "the database was ruined after it was set aside"
                intent = intent._replace(set_aside=str(place), moves=True, not_known=cause)
                effects.write_intent(intent)
            return _completed(effects, intent)
        case decisions.Finished():
            assert intent is not None
            base = effects.kept_at(Path(intent.backup))
            preparation.end(effects, intent)
            aside = effects.kept_at(Path(intent.set_aside)) if intent.set_aside is not None else None
            return _restored(effects, intent, base, aside=aside)
        case _:
            assert_never(step)


def _completed(effects: Effects, intent: Intent) -> Returned:
    """Complete a restore that was cut; nothing was recorded since its database was set aside."""
    effects.check_usable(Path(intent.backup))
    earlier = intent
    intent = preparation.with_raised_counters(
        effects, intent, Path(intent.raised_from or intent.base or intent.backup), migrations=(), operation=FINISH
    )
    if intent != earlier:
        # A version that raised no counters prepared it.
        effects.write_intent(intent)
        preparation.drop_unraised(effects, earlier.made, intent)
    effects.reserve(Path(intent.backup))
    base = effects.kept_at(Path(intent.backup))
    aside = preparation.complete(effects, intent)
    return _restored(effects, intent, base, aside=aside)


def _next_step(effects: Effects, facts: Facts, intent: Intent | None) -> decisions.RestoreStep:
    source = effects.kept_at(Path(intent.backup)) if intent is not None else None
    if intent is None or source is None:
        return decisions.Anew()
    if (intent.losses or intent.not_known) and not intent.accepts_loss:
        # It was cut before anybody was asked.
        return decisions.Anew()
    sound = facts.state in (State.OK, State.UNTRACKED)
    before = effects.kept_at(Path(intent.set_aside)) if intent.set_aside is not None else None
    went = intent.base is not None or source.kind == BackupKind.CARRIED
    went = went or (before is not None and before.version > source.version)
    return decisions.decide_restore(
        facts,
        intent,
        went_back=went and facts.state is State.OK and facts.version <= source.version,
        equals_backup=sound and effects.equals(source.path),
        equals_aside=sound and intent.set_aside is not None and effects.equals(Path(intent.set_aside)),
        has_aside=before is not None,
    )


def _finish_anew(
    effects: Effects, intent_id: str, intent: Intent | None, backup: Path, migrations: tuple[Migration, ...]
) -> Returned:
    base, carries = preparation.base_and_way(effects, backup, intent)
    if effects.look().version <= base.version:
        carries = False
    try:
        prepared = preparation.prepare(effects, Wish(intent_id, base, carries, migrations))
    except preparation.CannotCarry as error:
        return _stays(effects, (), error.cause)
    if prepared.change.unchanged:
        aside = preparation.complete(effects, prepared.intent)
        return _restored(effects, prepared.intent, base, aside=aside, carried=prepared.carried)
    # What a person agreed to was another loss: these changes came later, or are not the same.
    preparation.abandon(effects, prepared)
    # The next attempt starts from the same backup.
    effects.write_intent(Intent(intent_id, str(base.path), base=str(base.path) if carries else None))
    cause = prepared.intent.not_known or "something recorded since would be lost"
    return _stays(effects, prepared.intent.losses, cause)


def _stays(effects: Effects, losses: tuple[Loss, ...], cause: str, *, hint: str = DRY_RUN) -> Returned:
    """Return that nothing was restored, because a person must agree to a loss first."""
    outcome = Outcome(OutcomeName.STAYS, phase=RunPhase.GOING_BACK, cause=cause, hint=hint)
    record_end(effects, outcome)
    return Returned(None, outcome, losses=losses)


def what_would_be_lost(effects: Effects, *, backup: Path) -> Change:
    """Return the changes since a backup was made, per table, or why they cannot be determined; changes nothing.

    Raises:
        BackupUnusable: the backup does not match its facts.
        TryLater: the database cannot be read now.
    """
    effects.check_usable(backup)
    return effects.changed_since(backup)
