"""Measurements of rehearsals, which tell a run its time and space; and the scratch files of a killed rehearsal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dbsync.storage import files, temporary_files
from dbsync.storage.locks import Lock
from dbsync.upgrade.outcome_record import FlightEvent

if TYPE_CHECKING:
    from dbsync.model import Migration

LIKE_PART: Final = 0.2
"""A measurement holds for a database that is larger or smaller than the rehearsed one by up to this part."""
RESERVE_FACTOR: Final = 1.25
"""Reserve on the measured space: the database may have grown, and SQLite sorts in files that are not seen."""


class Measured(NamedTuple):
    """The time and space that a rehearsal of the same migrations took on a database of similar size."""

    expected_seconds: float
    """From the first byte of the backup to COMMIT, for the present size."""
    needed_bytes: int
    """Disk space for the backup, the journal, and the growth of the database."""
    by: str
    """The source of the measurement, for people."""


def place(*, backups: Path, database: Path) -> Path:
    """Return the folder that a rehearsal works in; its name shows that it holds no backup."""
    return backups / f".rehearsal-{temporary_files.owner_of(database)}"


def lock_of(*, backups: Path, database: Path) -> Lock:
    """Return the lock that is held during a rehearsal."""
    return Lock(backups / f".rehearsal-{temporary_files.owner_of(database)}.lock", like=database)


def clear(*, backups: Path, database: Path) -> None:
    """Remove the remains of a killed rehearsal; one that is under way is left alone."""
    folder = place(backups=backups, database=database)
    if not files.is_there(folder):
        return
    lock = lock_of(backups=backups, database=database)
    if lock.try_take():
        # Here, because the agent asks this in every cycle.
        from dbsync.backups import snapshot

        with lock:
            snapshot.drop_folder(folder)


def identity_of(pending: tuple[Migration, ...]) -> list[str]:
    """Return migrations as a record names them: number, name and the hash of the text."""
    return [f"{migration.number:04d}_{migration.name} {migration.sha256}" for migration in pending]


def measured(lines: Iterable[Mapping[str, Any]], pending: tuple[Migration, ...], size_bytes: int) -> Measured | None:
    """Return the newest rehearsal's measurement of exactly these migrations; None if it failed or the size differs."""
    wanted = identity_of(pending)
    found = [line for line in lines if line.get("event") == FlightEvent.REHEARSED and line.get("pending") == wanted]
    if not found or not pending:
        return None
    last = found[-1]
    try:
        before, seconds, needed = int(last["size_bytes"]), float(last["expected_seconds"]), int(last["needed_bytes"])
        good, at = bool(last["good"]), str(last["at"])
    except (KeyError, TypeError, ValueError):
        return None
    if not good or before <= 0 or abs(size_bytes - before) > LIKE_PART * before:
        return None
    return Measured(seconds * size_bytes / before, needed, f"the rehearsal of {at}")


class WayBackTried(NamedTuple):
    """The newest rehearsal on record that went back, or was to."""

    at: str
    """UTC."""
    migrations: tuple[str, ...]
    """The migrations that it ran forward and went back over."""
    result: str
    """A value of `dbsync.rehearsal.way_back.WayBackResult`."""
    summary: str
    """The result in one sentence."""

    @property
    def in_words(self) -> str:
        """The result with its time, as one sentence."""
        return f"the way back of {', '.join(self.migrations)} was rehearsed at {self.at}: {self.summary}"


def way_back_tried(lines: Iterable[Mapping[str, Any]]) -> WayBackTried | None:
    """Return how going back went in the newest rehearsal that has it on record; None if none has."""
    rehearsals = [line for line in lines if line.get("event") == FlightEvent.REHEARSED]
    for line in reversed(rehearsals):
        found, names = line.get("way_back"), line.get("migrations")
        if isinstance(found, dict) and isinstance(names, list):
            named = tuple(str(name) for name in names)
            return WayBackTried(str(line.get("at")), named, str(found.get("result")), str(found.get("summary")))
    return None
