"""A person's downgrade with the data recorded since: what people did, what would be lost, and doing it, with proof."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from dbsync.database.live import LiveEffects
from dbsync.errors import TillkeeperError, interrupts, wrapped
from dbsync.model import Back, Backup, BackupKind, Carried, Loss, Migration, Outcome, Returned, RunPhase, State
from dbsync.outcomes import OutcomeName
from dbsync.upgrade import decisions
from dbsync.upgrade.effects import Effects
from dbsync.upgrade.outcome_record import FlightEvent

_ACCEPT: Final = "`dbsync diff` shows what; --accept-loss goes back all the same, and keeps it."
_AS_IT_IS: Final = "`dbsync restore` puts the backup in its place as it is, and keeps the database of now."


class Found(NamedTuple):
    """The changes that people made since a backup, and how much of them the older schema can hold."""

    done: tuple[Loss, ...]
    carried: Carried | None
    why_not: str
    """Why it could not be carried back; empty where it could."""


def diff(effects: LiveEffects, base: Backup, migrations: tuple[Migration, ...], *, export: Path | None) -> Found:
    """Try a downgrade on copies, which are removed again, and return its result; the live database is not touched.

    Raises:
        BackupUnusable: the backup does not match its facts.
        TillkeeperError: the database cannot be read or copied now.
    """
    effects.check_usable(base.path)
    migrations = _had(effects, migrations)
    done = effects.lost_since_commit(base, migrations)
    try:
        return Found(done, effects.try_carrying(base, migrations, reports=export), "")
    except TillkeeperError as error:
        return Found(done, None, _why_not(effects, migrations, error))


def downgrade(effects: LiveEffects, base: Backup, migrations: tuple[Migration, ...], *, accept_loss: bool) -> Returned:
    """Put the database aside, then restore the older one with everything that people did since.

    Repeatable: a cut before the restore leaves a copy that is not needed, a cut after it leaves the older database.
    """
    try:
        effects.check_usable(base.path)
        migrations = _had(effects, migrations)
        # Copied, never moved: the steps that follow may decide to leave the database where it is.
        aside = effects.put_aside(BackupKind.BEFORE_RESTORE, moves=False)
        if aside is None:
            cause = "there is no database to go back from"
            return Returned(None, Outcome(OutcomeName.STAYS, phase=RunPhase.GOING_BACK, cause=cause))
        try:
            carried = effects.carry_back(migrations, base=base, aside=aside)
        except TillkeeperError as error:
            why = f"it cannot be carried back: {_why_not(effects, migrations, error)}"
            effects.discard(aside.path)
            return Returned(None, Outcome(OutcomeName.STAYS, phase=RunPhase.GOING_BACK, cause=why, hint=_AS_IT_IS))
        if carried.losses and not accept_loss:
            # The database is where it was, so its copy, which is as large, is not needed.
            effects.discard(carried.path)
            effects.discard(aside.path)
            refused = Outcome(
                OutcomeName.STAYS, phase=RunPhase.GOING_BACK, cause="something would be lost", hint=_ACCEPT
            )
            return Returned(None, refused, None, carried.losses, carried.export)
        # Read back and checked by the restore itself.
        effects.restore(carried.path)
    except BaseException as raised:
        # Whatever an effect raises, the outcome has a name.
        if interrupts(raised):
            raise
        last = wrapped(raised)
        return Returned(
            None, Outcome(OutcomeName.RESTORE_PENDING, phase=RunPhase.GOING_BACK, cause=last.cause, hint=last.hint)
        )
    name = OutcomeName.RESTORED if carried.losses else OutcomeName.CARRIED_BACK
    outcome = Outcome(name, version_after=base.version, phase=RunPhase.GOING_BACK)
    effects.record(FlightEvent.ENDED, outcome=name, after=base.version, phase=RunPhase.GOING_BACK)
    return Returned(Back.DONE, outcome, aside, carried.losses, carried.export, carried.parked)


def _why_not(effects: Effects, migrations: tuple[Migration, ...], error: TillkeeperError) -> str:
    """Return the cause; if these are not the migrations that the database has had, that comes before it."""
    facts = effects.look()
    other = decisions.differing(facts.version, effects.history(), migrations) if facts.state is State.OK else None
    return f"{other}; {error.cause}" if other is not None else error.cause


def _had(effects: Effects, migrations: tuple[Migration, ...]) -> tuple[Migration, ...]:
    """Return the migrations that the database has had: a release may have more, to which it was never brought."""
    facts = effects.look()
    if facts.state is not State.OK:
        return migrations
    return tuple(migration for migration in migrations if migration.number <= facts.version)
