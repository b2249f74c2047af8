"""A person's downgrade with the data recorded since: what people did, what would be lost, and doing it, with proof."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from dbsync.database.live import LiveEffects
from dbsync.errors import TillkeeperError, interrupts, wrapped
from dbsync.model import Back, Backup, Carried, Loss, Migration, Outcome, Returned, RunPhase, State
from dbsync.outcomes import OutcomeName
from dbsync.storage import files
from dbsync.upgrade import decisions, preparation
from dbsync.upgrade.effects import Effects
from dbsync.upgrade.outcome_record import FlightEvent
from dbsync.upgrade.preparation import Wish

_ACCEPT: Final = "`dbsync diff` shows what would be lost; --accept-loss goes back all the same, and keeps it."
_AS_IT_IS: Final = (
    "`dbsync restore BACKUP --accept-loss` restores the backup as it is, without what was recorded since, and keeps the"
    " current database."
)


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

    Repeatable: a cut before the restore leaves copies that are not needed, a cut after it leaves the older database.
    """
    intent_id = f"dbsync-{files.random_name()}"
    try:
        migrations = _had(effects, migrations)
        if effects.look().state is State.MISSING:
            return _stays("there is no database to go back from")
        try:
            prepared = preparation.prepare(effects, Wish(intent_id, base, carries=True, migrations=migrations))
        except preparation.CannotCarry as error:
            return _stays(f"it cannot be carried back: {_why_not(effects, migrations, error)}", _AS_IT_IS)
        carried = prepared.carried
        assert carried is not None, "it was to be carried back"
        if not carried.lossless and not accept_loss:
            preparation.abandon(effects, prepared)
            cause = carried.unproven or "something would be lost"
            return _stays(cause, _ACCEPT)._replace(losses=carried.losses, export=carried.export)
        preparation.complete(effects, prepared.intent)
        # Nobody repeats this downgrade by its name.
        effects.remove_intent(intent_id)
    except BaseException as raised:
        # Whatever an effect raises, the outcome has a name.
        if interrupts(raised):
            raise
        last = wrapped(raised)
        if isinstance(last, preparation.NeedsTool):
            raise last from raised
        return Returned(
            None, Outcome(OutcomeName.RESTORE_PENDING, phase=RunPhase.GOING_BACK, cause=last.located, hint=last.hint)
        )
    name = OutcomeName.CARRIED_BACK if carried.lossless else OutcomeName.RESTORED_WITH_LOSS
    outcome = Outcome(name, version_after=base.version, phase=RunPhase.GOING_BACK)
    effects.record(FlightEvent.ENDED, outcome=name, after=base.version, phase=RunPhase.GOING_BACK)
    gaps = Path(prepared.intent.gaps) if prepared.intent.gaps is not None else None
    returned = Returned(Back.DONE, outcome, prepared.aside, carried.losses, carried.export, carried.parked)
    return returned._replace(not_known=carried.unproven, gaps=gaps)


def _stays(cause: str, hint: str = "") -> Returned:
    return Returned(None, Outcome(OutcomeName.STAYS, phase=RunPhase.GOING_BACK, cause=cause, hint=hint))


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
