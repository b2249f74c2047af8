"""Rehearsal: the migration runs on a copy of the database while the app runs, and back; only a record is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, assert_never

from dbsync import losses
from dbsync.backups import snapshot
from dbsync.database import measurements, preflight, recognition
from dbsync.database.flight_recorder import FlightRecorder
from dbsync.errors import (
    Damaged,
    Locked,
    MigrationFailed,
    RehearsalSkipped,
    TillkeeperError,
    TryLater,
    VerificationFailed,
)
from dbsync.migrations import code_process, runner
from dbsync.migrations.write_log import tables_in
from dbsync.model import NO_SHA256, Backup, BackupKind, Loss, Migration
from dbsync.progress import Meter, Progress, WorkPhase, quiet, safe
from dbsync.rehearsal.way_back import WayBack, try_back
from dbsync.schema.fingerprint import Structure, differences, structure_of
from dbsync.storage import files
from dbsync.storage.children import NoPython
from dbsync.storage.connections import (
    Connection,
    Thoroughness,
    attach_copy,
    check_soundness,
    is_wal,
    open_copy,
    open_reading,
    open_writing,
    translated,
)
from dbsync.storage.introspection import version_of
from dbsync.upgrade import decisions
from dbsync.upgrade.outcome_record import FlightEvent
from dbsync.verification import checks, table_diff
from dbsync.verification.conservation import OLD

Issued = Callable[[Migration, str], None]
BASE: Final = "base.db"
"""The copy as it was, in the folder of a rehearsal."""
MIGRATED: Final = "rehearsal.db"
"""The copy that is migrated."""


class Attempt(NamedTuple):
    """The result of migrating and verifying a copy."""

    pending: tuple[Migration, ...]
    cause: str
    """Why it would fail; empty if it would not."""
    seconds: float
    """The time for migrating and verifying."""
    journal_bytes: int = 0
    """The journal beside the copy at its largest."""
    changes: tuple[Loss, ...] = ()
    """Rows that differ, per table, in the columns that were there before."""
    objects: tuple[str, ...] = ()
    """The definitions that the structure gains (+) and loses (-)."""


class Rehearsed(NamedTuple):
    """The result of a rehearsal."""

    good: bool
    cause: str
    """Why it would fail; empty if it would not."""
    migrations: tuple[str, ...]
    """The migrations that would run."""
    seconds: float
    """The duration of the whole rehearsal."""
    expected_seconds: float
    """How long the till would be closed: backing up, migrating, verifying, checking."""
    migrate_seconds: float
    """The part of it for migrating and verifying."""
    size_bytes: int
    """The size of the database now, its journal included."""
    after_bytes: int
    peak_bytes: int
    """The most disk space that the way forward used: the copy, its baseline and journal."""
    needed_bytes: int
    """The disk space that the migration itself would need: the peak without the database that is there already."""
    changes: tuple[Loss, ...]
    objects: tuple[str, ...]
    way_back: WayBack | None = None
    """How going back went after made-up trade on the copy; None: the migration failed, or there is nothing to run."""

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        back = self.way_back.as_json() if self.way_back is not None else None
        return {**self._asdict(), "changes": losses.as_json(self.changes), "way_back": back}


@code_process.kept()
def rehearse(
    found: tuple[Migration, ...],
    *,
    database: Path,
    backups: Path,
    progress: Progress = quiet,
    least_free_bytes: int = preflight.LEAST_FREE_BYTES,
) -> Rehearsed:
    """Take an online copy; check, migrate, verify it, go back once and remove it; record the result and return it.

    A way back that cannot be tried, or is impossible, is recorded; it does not make the rehearsal fail.

    Raises:
        RehearsalSkipped: the rehearsal could take the space that the app needs to keep selling, or this machine could
            not finish it.
        Locked: a rehearsal is under way already.
        TillkeeperError: the database cannot be copied now, or is not sound.
    """
    preflight.check_writable(backups, like=database)
    lock = measurements.lock_of(backups=backups, database=database)
    folder = measurements.place(backups=backups, database=database)
    if not lock.try_take():
        raise Locked(operation="rehearse", path=database, cause="another rehearsal is under way", hint="Wait for it.")
    with lock:
        # Killed here or later, the next rehearsal or run clears the folder.
        snapshot.drop_folder(folder)
        preflight.check_rehearsal_space(database=database, folder=backups, least_free_bytes=least_free_bytes)
        preflight.check_temporary(
            database=database, backups=backups, least_free_bytes=least_free_bytes, operation="rehearse"
        )
        files.make_folder(folder, like=database)
        meter = Meter(safe(progress))
        try:
            with translated("look at", database), closing(open_reading(database)) as connection:
                writes_ahead = is_wal(connection)
            done, pending = try_out(found, meter, database=database, folder=folder, writes_ahead=writes_ahead)
            if done.good and pending:
                back = try_back(
                    found,
                    backup=folder / BASE,
                    migrated=folder / MIGRATED,
                    folder=folder,
                    told=meter.phase(WorkPhase.CARRY_BACK),
                    least_free_bytes=least_free_bytes,
                )
                done = done._replace(way_back=back)
        finally:
            snapshot.drop_folder(folder)
    line = {**done.as_json(), "way_back": done.way_back.as_record() if done.way_back is not None else None}
    identity = measurements.identity_of(pending)
    at = files.utc_text(datetime.now(UTC))
    FlightRecorder(backups, database).record({"event": FlightEvent.REHEARSED, "at": at, "pending": identity, **line})
    return done


def try_out(
    found: tuple[Migration, ...],
    meter: Meter,
    *,
    database: Path,
    folder: Path,
    writes_ahead: bool,
    opened: Callable[[Path], Connection] = open_reading,
    issued: Issued = lambda _migration, _sql: None,
) -> tuple[Rehearsed, tuple[Migration, ...]]:
    """Copy a database twice into a folder and migrate there; return the result and the pending migrations.

    Args:
        database: the file.
        folder: an empty folder, which the caller removes.
        found: all migrations of the release.
        meter: receives the phases.
        writes_ahead: whether the database uses a WAL, so that the journal grows as it would.
        opened: opens the database.
        issued: receives each statement before it runs.
    """
    began = time.monotonic()
    base, scratch = folder / BASE, folder / MIGRATED
    size_bytes = preflight.size_of(database)
    snapshot.copy_database(source=database, target=base, told=meter.phase(WorkPhase.COPY), opened=opened)
    meter.phase(WorkPhase.CHECK_COPY)
    checking = time.monotonic()
    base_bytes = _checked(base).size_bytes
    # Committed data is read back from the disk and checked like the copy, so that time counts twice.
    backup_seconds, check_seconds = time.monotonic() - began, time.monotonic() - checking
    # Not timed: the till will wait for the quick check only.
    problem = _unsound(base)
    if problem is not None:
        raise Damaged(operation="rehearse", path=database, cause=problem)
    recognition.adopt_copy(base, found)
    snapshot.scratch_copy(source=base, target=scratch, told=meter.phase(WorkPhase.COPY))
    tried = _attempt(scratch, base, found, writes_ahead=writes_ahead, meter=meter, issued=issued)
    if not tried.cause and (problem := _unsound(scratch)) is not None:
        tried = tried._replace(cause=f"the database would not be sound: {problem}")
    after_bytes = scratch.stat().st_size
    needed_bytes = max(base_bytes, after_bytes) + tried.journal_bytes
    return Rehearsed(
        good=not tried.cause,
        cause=tried.cause,
        migrations=tuple(f"v{migration.number} {migration.name}" for migration in tried.pending),
        seconds=round(time.monotonic() - began, 3),
        expected_seconds=round(backup_seconds + tried.seconds + check_seconds, 3),
        migrate_seconds=round(tried.seconds, 3),
        size_bytes=size_bytes,
        after_bytes=after_bytes,
        peak_bytes=needed_bytes + base_bytes,
        needed_bytes=needed_bytes,
        changes=tried.changes,
        objects=tried.objects,
    ), tried.pending


def _attempt(
    scratch: Path, base: Path, found: tuple[Migration, ...], *, writes_ahead: bool, meter: Meter, issued: Issued
) -> Attempt:
    """Migrate as a run will: the decision, one transaction with its journal, every check, the baseline attached."""
    step = recognition.decided_on_copy(base, found)
    match step:
        case decisions.Refuse():
            return Attempt((), f"{step.name}: {step.cause}", 0.0)
        case decisions.Nothing():
            pending: tuple[Migration, ...] = ()
        case decisions.Migrate():
            pending = step.pending
        case _:
            assert_never(step)
    began = time.monotonic()
    try:
        with translated("rehearse", scratch, otherwise=MigrationFailed), closing(open_writing(scratch)) as connection:
            connection.execute(f"PRAGMA journal_mode={'WAL' if writes_ahead else 'DELETE'}").fetchall()
            connection.execute("BEGIN IMMEDIATE")
            touched = runner.apply_all(
                connection, pending, among=found, told=meter.phase(WorkPhase.MIGRATE), issued=issued
            )
            with translated("rehearse", scratch, otherwise=VerificationFailed):
                attach_copy(connection, base, OLD)
                case = checks.Case(connection, found, has_old=True, touched=touched, told=meter.phase(WorkPhase.VERIFY))
                checks.verify(case, checks.CHECKS)
            meter.phase(WorkPhase.COMPARE)
            comparing = time.monotonic()
            changes = table_diff.differences(connection, OLD, only=None if touched is None else tables_in(touched))
            objects = _objects(structure_of(connection, OLD), structure_of(connection))
            # The comparison is for the reader of the result; the till does not wait for it.
            began += time.monotonic() - comparing
            journal_bytes = _journal_bytes(scratch)
            connection.execute("COMMIT")
            journal_bytes = max(journal_bytes, _journal_bytes(scratch))
    except (TryLater, NoPython) as error:
        # It lies in this machine: the release may be good.
        raise RehearsalSkipped(operation="rehearse", path=error.path, cause=error.cause, hint=error.hint) from error
    except TillkeeperError as error:
        return Attempt(pending, error.cause, time.monotonic() - began)
    seconds = time.monotonic() - began
    return Attempt(pending, "", seconds, journal_bytes, changes, objects)


def _objects(before: Structure, after: Structure) -> tuple[str, ...]:
    """Return the changes of the structure: `+` made, `-` gone; first what was made."""
    signs = {"with": "+", "without": "-"}
    changed = (difference.partition(" ") for difference in differences(after, before))
    return tuple(sorted(f"{signs[sign]} {part}" for sign, _, part in changed))


def _checked(base: Path) -> Backup:
    with translated("look at the copy", base), closing(open_copy(base)) as connection:
        version = version_of(connection)
    return snapshot.check_part(
        Backup(base, BackupKind.REHEARSAL, version, NO_SHA256, size_bytes=0, sequence=0, made_at="")
    )


def _unsound(copy: Path) -> str | None:
    """Return the finding of the full check; None if there is none."""
    with translated("check the copy", copy), closing(open_copy(copy)) as connection:
        return check_soundness(connection, Thoroughness.FULL)


def _journal_bytes(path: Path) -> int:
    return files.size_of(*snapshot.sidecars(path))
