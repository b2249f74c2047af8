"""A person goes back with what was recorded since: what people did, what would be lost, and doing it, with proof."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from dbsync.effects import Effects
from dbsync.errors import DbsyncError
from dbsync.live import LiveEffects
from dbsync.model import Back, Backup, Carried, Loss, Migration, Outcome, OutcomeName, Returned, State


class Found(NamedTuple):
    """What people did since a backup, and what of it the older schema can hold."""

    done: tuple[Loss, ...]
    carried: Carried | None
    """None: it could not be tried."""
    why_not: str


def diff(effects: LiveEffects, base: Backup, migrations: tuple[Migration, ...], *, export: Path | None) -> Found:
    """Tries it out on copies, which are removed again; the live database is not touched.

    Raises:
        BackupUnusable: the backup is not what its facts say.
        DbsyncError: the database cannot be read or copied now.
    """
    effects.check_usable(base.path)
    migrations = _had(effects, migrations)
    done = effects.lost_since_commit(base, migrations)
    carried = effects.try_carrying(base, migrations, reports=export)
    return Found(done, carried, "" if carried else "the record says why: `dbsync history`")


def downgrade(effects: LiveEffects, base: Backup, migrations: tuple[Migration, ...], *, accept_loss: bool) -> Returned:
    """Puts the database aside, then the older one with everything that people did since in its place.

    Repeatable: a cut before the restore leaves a copy too many, a cut after it the older database.
    """
    try:
        effects.check_usable(base.path)
        migrations = _had(effects, migrations)
        # Copied, never moved: what follows may come to leave the database where it is.
        aside = effects.put_aside("restore", moves=False)
        carried = effects.carry_back(base, aside, migrations) if aside is not None else None
        if carried is None or (carried.losses and not accept_loss):
            why = "it cannot be carried back" if carried is None else "something would be lost"
            hint = "`dbsync diff` shows what; --accept-loss goes back all the same, and keeps it."
            losses = carried.losses if carried is not None else ()
            refused = Outcome(OutcomeName.STAYS, phase="going back", cause=why, hint=hint)
            return Returned(None, refused, aside, losses, carried.export if carried else None)
        # Read back and checked by the restore itself.
        effects.restore(carried.path)
    except DbsyncError as error:
        return Returned(
            None, Outcome(OutcomeName.RESTORE_PENDING, phase="going back", cause=error.cause, hint=error.hint)
        )
    name = OutcomeName.RESTORED if carried.losses else OutcomeName.CARRIED_BACK
    outcome = Outcome(name, version_after=base.version, phase="going back")
    effects.record("ended", outcome=name, after=base.version, phase="going back")
    return Returned(Back.DONE, outcome, aside, carried.losses, carried.export, carried.parked)


def _had(effects: Effects, migrations: tuple[Migration, ...]) -> tuple[Migration, ...]:
    """Those that the database has had: a release may have more, to which it was never brought."""
    facts = effects.look()
    if facts.state is not State.OK:
        return migrations
    return tuple(one for one in migrations if one.number <= facts.version)
