"""A rehearsal: the migration runs on a copy of this database, with the app running; nothing is left of it."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from dbsync import backup, copies, verify
from dbsync.conservation import OLD
from dbsync.errors import DbsyncError, MigrationFailed, VerificationFailed
from dbsync.model import Migration
from dbsync.progress import Meter, Progress, quiet, safe
from dbsync.sqlite import attach_copy, open_writing, translated, version_of


class Rehearsed(NamedTuple):
    """How it would go."""

    good: bool
    cause: str
    """Why it would fail; empty if it would not."""
    migrations: tuple[str, ...]
    """What would run."""
    seconds: float
    """Copying, migrating and verifying."""
    migrate_seconds: float
    """How long the till would be closed for it: migrating and verifying."""
    size_bytes: int
    """The database now, its journal included."""
    after_bytes: int
    peak_bytes: int
    """What the rehearsal took of the disk at most: copy, its baseline and journal."""


def rehearse(database: Path, backups: Path, found: tuple[Migration, ...], *, progress: Progress = quiet) -> Rehearsed:
    """Takes an online copy, migrates and verifies it, and removes it.

    Raises:
        DbsyncError: the database cannot be copied now.
    """
    scratch, base = backups / f"{backup.PART}rehearsal", backups / f"{backup.PART}rehearsal-base"
    backups.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    peak = [0]

    meter = Meter(safe(progress))
    try:
        copies.snapshot(database, base, told=meter.phase("copy"))
        copies.scratch_copy(base, scratch, told=meter.phase("copy"))
        pending, cause, seconds = _try(scratch, base, found, peak)
        return Rehearsed(
            good=not cause,
            cause=cause,
            migrations=tuple(f"v{one.number} {one.name}" for one in pending),
            seconds=time.monotonic() - began,
            migrate_seconds=seconds,
            size_bytes=_size(database),
            after_bytes=_size(scratch),
            peak_bytes=max(peak[0], _size(scratch) + _size(base)),
        )
    finally:
        copies.drop_part(scratch)
        copies.drop_part(base)


def _try(
    scratch: Path, base: Path, found: tuple[Migration, ...], peak: list[int]
) -> tuple[tuple[Migration, ...], str, float]:
    """As it will be: one transaction with its journal, every check, the baseline attached."""
    began = time.monotonic()
    pending: tuple[Migration, ...] = ()
    try:
        with translated("rehearse", scratch, otherwise=MigrationFailed), closing(open_writing(scratch)) as connection:
            pending = tuple(one for one in found if one.number > version_of(connection))
            connection.execute("BEGIN IMMEDIATE")
            touched = verify.apply_all(connection, pending)
            with translated("rehearse", scratch, otherwise=VerificationFailed):
                attach_copy(connection, base, OLD)
                verify.verify(verify.Case(connection, found, has_old=True, touched=touched), verify.CHECKS)
            peak[0] = _size(scratch) + _size(base)
            connection.execute("COMMIT")
    except DbsyncError as error:
        return pending, error.cause, time.monotonic() - began
    return pending, "", time.monotonic() - began


def _size(path: Path) -> int:
    return sum(one.stat().st_size for one in (path, *copies.sidecars(path)) if one.exists())
