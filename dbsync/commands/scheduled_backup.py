"""Backups on a schedule: made, read back, kept by a policy, copied to a second place, and looked at again.

They have their own names and their own rotation: a migration backup is the way back of a release, these are for the day
the database is lost.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from dbsync.backups import catalog, compaction, compression, retention, second_place
from dbsync.backups.description import backup_json
from dbsync.backups.retention import Policy
from dbsync.database.live import LiveEffects
from dbsync.errors import BackupUnusable, TillkeeperError
from dbsync.model import Backup, BackupKind
from dbsync.storage import files
from dbsync.upgrade.outcome_record import FlightEvent

DAMAGED_COUNT: Final = 3
"""Rotten backups that are left for support."""


class Done(NamedTuple):
    """The end of a run."""

    made: Backup | None
    """None: none was due."""
    removed: tuple[Path, ...] = ()
    rotten: tuple[Path, ...] = ()
    """Backups that were not what was written any more, and for which there was no good copy."""
    replaced: tuple[Path, ...] = ()
    """Such backups that were replaced by their copy in the second place."""
    copied: tuple[Path, ...] = ()
    """Copies that the second place got."""
    away: str = ""
    """Why the second place is not complete; empty if it is, or if there is none."""

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        told = {name: [str(path) for path in value] for name, value in self._asdict().items() if type(value) is tuple}
        return {"made": backup_json(self.made) if self.made is not None else None, **told, "away": self.away}


def run(
    effects: LiveEffects, policy: Policy, *, second: Path | None, if_due: bool, now: datetime | None = None
) -> Done:
    """Make a backup, read it back, look at an older one again, complete the second place, and remove the surplus.

    Nothing is removed before the new backup is good. A crash at any point leaves every older backup.

    Raises:
        TillkeeperError: no backup could be made; the older ones are untouched.
    """
    now = now if now is not None else datetime.now(UTC)
    listed = scheduled(effects)
    made = None
    if not if_due or retention.is_due(listed, policy, now):
        made = _made(effects, now, second)
        listed = [made, *listed]
    rotten, replaced = _looked_at(effects, listed, second, now)
    if rotten:
        # There is one good backup fewer: a new one takes its part.
        made = made or _made(effects, now, second)
    copied, away = _complete(effects, second) if second is not None else ((), "")
    removed = _rotate(scheduled(effects), policy)
    if second is not None and not away:
        there = catalog.list_backups(backups=second, database=effects.database)
        _rotate([backup for backup in there if _is_scheduled(backup) and backup.path.parent == second], policy)
    return Done(made, tuple(removed), tuple(rotten), tuple(replaced), tuple(copied), away)


def scheduled(effects: LiveEffects) -> list[Backup]:
    """Return the scheduled backups of a database, newest first."""
    listed = catalog.list_backups(backups=effects.backups, database=effects.database)
    return [backup for backup in listed if _is_scheduled(backup)]


def _is_scheduled(backup: Backup) -> bool:
    return backup.kind == BackupKind.SCHEDULED


def _made(effects: LiveEffects, now: datetime, second: Path | None) -> Backup:
    """Make a backup that was opened, checked in full, and read back; small where there is zstd.

    A block that goes bad is bad in all copies that share it. So what shares blocks is compressed, which makes a copy of
    its own, or has a copy in a second place.
    """
    packs = compression.is_there()
    made = effects.make_scheduled(now, shares=packs or second is not None)
    if packs:
        # It is expanded and compared before the plain one goes; without space for both, the plain one stays.
        with suppress(TillkeeperError):
            made = catalog.read(compaction.pack(made).path)
    catalog.check_file(made.path)
    return _noted(made, now)


def _noted(backup: Backup, now: datetime) -> Backup:
    noted = backup._replace(read_back_at=files.utc_text(now))
    catalog.write_facts(noted)
    return noted


def _looked_at(
    effects: LiveEffects, listed: list[Backup], second: Path | None, now: datetime
) -> tuple[list[Path], list[Path]]:
    """Read the backup back that was not looked at for the longest time; return what rotted, and what was replaced."""
    good = [backup for backup in listed if backup.verified]
    if not good:
        return [], []
    oldest = min(good, key=lambda backup: (backup.read_back_at, backup.sequence))
    try:
        catalog.check_file(oldest.path)
    except BackupUnusable as error:
        path, owner = oldest.path, oldest.database
        if second is not None and second_place.take_back(path=path, second=second, owner=owner):
            effects.record(FlightEvent.BACKUP_ROTTEN, text=f"{oldest.path}: {error.cause}; replaced by its copy")
            return [], [oldest.path]
        # Its facts tell it from then on: it counts for no slot, and no command takes it for good.
        catalog.write_facts(oldest._replace(verified=False))
        effects.record(FlightEvent.BACKUP_ROTTEN, text=f"{oldest.path}: {error.cause}")
        return [oldest.path], []
    _noted(oldest, now)
    return [], []


def _complete(effects: LiveEffects, second: Path) -> tuple[list[Path], str]:
    """Copy to the second place what it lacks; return the copies, and why it is not complete."""
    copied: list[Path] = []
    try:
        here = scheduled(effects)
        owner = next((backup.database for backup in here), "")
        second_place.check_there(backups=effects.backups, second=second, owner=owner)
        copied += [second_place.copy(backup, second) for backup in second_place.missing(here, second)]
    except TillkeeperError as error:
        effects.record(FlightEvent.SECOND_PLACE_AWAY, text=error.located)
        return copied, error.located
    return copied, ""


def _rotate(listed: list[Backup], policy: Policy) -> list[Path]:
    needed = retention.needed(listed, policy)
    damaged = [backup.path for backup in listed if not backup.verified]
    surplus = [backup.path for backup in listed if backup.verified and backup.path not in needed]
    surplus += damaged[DAMAGED_COUNT:]
    for path in surplus:
        catalog.remove(path)
    return surplus
