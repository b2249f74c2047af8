"""What rehearsals leave: a record that tells a run what it will take, and the scratch files of one that was killed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from dbsync.backups import snapshot
from dbsync.model import Migration
from dbsync.storage import files, temporary_files
from dbsync.storage.locks import Lock
from dbsync.upgrade.outcome_record import FlightEvent

LIKE_PART: Final = 0.2
"""A database of up to this much more or less than the rehearsed one takes as much."""
RESERVE_FACTOR: Final = 1.25
"""On top of what was measured: the database may have grown, and SQLite sorts in files that are not seen."""


class Measured(NamedTuple):
    """What a rehearsal of the same migrations on a database of like size took."""

    expected_seconds: float
    """From the first byte of the backup to COMMIT, for the size of now."""
    needed_bytes: int
    """Of the disk, for the backup, the journal, and what the database grows by."""
    by: str
    """What has measured it, for people."""


def place(*, backups: Path, database: Path) -> Path:
    """Return the folder that a rehearsal works in; the name says that it is nobody's backup."""
    return backups / f".rehearsal-{temporary_files.owner_of(database)}"


def lock_of(*, backups: Path, database: Path) -> Lock:
    """Held while somebody rehearses."""
    return Lock(backups / f".rehearsal-{temporary_files.owner_of(database)}.lock")


def clear(*, backups: Path, database: Path) -> None:
    """Remove what a killed rehearsal left; one that is under way is left alone."""
    folder = place(backups=backups, database=database)
    if not files.is_there(folder):
        return
    lock = lock_of(backups=backups, database=database)
    if lock.try_take():
        with lock:
            snapshot.drop_folder(folder)


def identity_of(pending: tuple[Migration, ...]) -> list[str]:
    """Return migrations as a record names them: number, name and the hash of the text."""
    return [f"{one.number:04d}_{one.name} {one.sha256}" for one in pending]


def measured(lines: Iterable[Mapping[str, Any]], pending: tuple[Migration, ...], size_bytes: int) -> Measured | None:
    """What the newest rehearsal of exactly these migrations has measured; None if it failed or was on another size."""
    wanted = identity_of(pending)
    found = [one for one in lines if one.get("event") == FlightEvent.REHEARSED and one.get("pending") == wanted]
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
