"""dbsync from Python (requirements S74 to S82). Paths in, values out.

import dbsync
if not dbsync.initialize_versioning(database="data/shop.db", folder="migrations"):
    ...                       # the database is unchanged; dbsync.run_migrations returns the cause
"""

from __future__ import annotations

from contextlib import closing
from os import PathLike
from pathlib import Path
from typing import Any

from dbsync.commands import adopt, empty_and_import
from dbsync.database import flight_recorder, timeline
from dbsync.database.live import LiveEffects
from dbsync.errors import Damaged, DiskProblem, Locked
from dbsync.migrations import folder as migration_folder
from dbsync.model import NO_SCHEMA, Backup, Facts, Migration, Outcome, SchemaNumber, State
from dbsync.progress import Progress, quiet
from dbsync.storage import connections
from dbsync.storage.connections import Thoroughness
from dbsync.storage.locks import locked
from dbsync.upgrade import coordinator

StrPath = str | PathLike[str]


def initialize_versioning(*, database: StrPath, folder: StrPath, progress: Progress = quiet) -> bool:
    """Bring a database to the newest migration and return whether the app may start on it."""
    return run_migrations(database=database, folder=folder, progress=progress).ready


def run_migrations(
    *,
    database: StrPath,
    folder: StrPath,
    backups: StrPath | None = None,
    progress: Progress = quiet,
    again: bool = False,
) -> Outcome:
    """Bring a database to the newest migration, all or nothing, and return how the run ended.

    Args:
        database: its path; the file need not exist yet.
        folder: the migrations.
        backups: where backups go; beside the database by default.
        progress: gets an event for everything that happens.
        again: retry a migration that was blocked after failing twice with the same error.

    Raises:
        BadMigrations: the folder cannot be read as migrations; nothing was changed.
        Locked: another process of dbsync holds the database's lock.
    """
    found = migration_folder.load(Path(folder))
    with locked(Path(database)):
        effects = _effects(Path(database), backups, progress, thoroughness=Thoroughness.QUICK)
        return coordinator.upgrade(effects, migrations=found, again=again)


def get_current_version(database: StrPath) -> SchemaNumber:
    """Return the schema number; 0 if there is no database yet, or it has no history of ours.

    Raises:
        Damaged: the database cannot be read.
        Locked: another program is writing to it.
    """
    return _looked(Path(database)).version


def get_latest_version(folder: StrPath) -> SchemaNumber:
    """Return the highest number in a folder of migrations."""
    found = migration_folder.load(Path(folder))
    return found[-1].number if found else NO_SCHEMA


def get_pending_migrations(folder: StrPath, current_version: int) -> tuple[Migration, ...]:
    """Return the migrations of a folder that are pending on a database of that version."""
    return tuple(migration for migration in migration_folder.load(Path(folder)) if migration.number > current_version)


def get_migration_by_version(folder: StrPath, version: int) -> Migration | None:
    """Return the migration of that number; None if there is none."""
    found = migration_folder.load(Path(folder))
    return next((migration for migration in found if migration.number == version), None)


def create_backup(*, database: StrPath, to: StrPath | None = None, backups: StrPath | None = None) -> Path:
    """Make a verified backup, among the others or at `to`, and return its path; rotation never removes it."""
    with locked(Path(database)):
        return _effects(Path(database), backups, quiet).make_backup(Path(to) if to is not None else None).path


def verify_integrity(database: StrPath) -> bool:
    """Return whether there is a database and SQLite's `integrity_check` finds no fault in it.

    Raises:
        Locked: another program is writing to it, so that it cannot be checked.
    """
    path = Path(database)
    try:
        if _looked(path).state not in (State.OK, State.UNTRACKED):
            return False
    except Damaged:
        return False
    with connections.translated("check", path), closing(connections.open_reading(path)) as connection:
        return connections.check_soundness(connection, Thoroughness.FULL) is None


def get_migration_history(*, database: StrPath, backups: StrPath | None = None) -> dict[str, Any]:
    """Return the migrations in the database's history, and every run in the flight record beside it."""
    found = timeline.past_of(_effects(Path(database), backups, quiet))
    runs = flight_recorder.ended(found.lines)
    state = str(found.facts.state)
    return {"state": state, "current_version": found.facts.version, "applied": found.applied, "runs": runs}


def empty_database(*, database: StrPath, folder: StrPath) -> Backup | None:
    """Replace a database by an empty one of the newest schema; the old one is kept as a backup (requirement S91)."""
    found = migration_folder.load(Path(folder))
    with locked(Path(database)):
        return empty_and_import.empty(_effects(Path(database), None, quiet), found).kept


def import_database(*, database: StrPath, file: StrPath, folder: StrPath) -> empty_and_import.Imported:
    """Replace a database by `file`, verified and migrated; the old one is kept as a backup (requirement S92)."""
    found = migration_folder.load(Path(folder))
    with locked(Path(database)):
        return empty_and_import.import_file(_effects(Path(database), None, quiet), Path(file).absolute(), found)


def adopt_database(*, database: StrPath, folder: StrPath, at: int | None = None) -> SchemaNumber:
    """Adopt a database without a history of ours and return its schema number, if that is certain.

    Raises:
        Untracked: the schema number cannot be determined; nothing was changed.
    """
    found = migration_folder.load(Path(folder))
    schema = SchemaNumber(at) if at is not None else None
    with locked(Path(database)):
        return adopt.baseline(_effects(Path(database), None, quiet), found, at=schema, dry_run=False)


def _looked(database: Path) -> Facts:
    facts = _effects(database, None, quiet).look()
    if facts.state is State.LOCKED:
        raise Locked(operation="look at", path=database, cause=facts.detail)
    if facts.state is State.UNAVAILABLE:
        raise DiskProblem(operation="look at", path=database, cause=facts.detail)
    if facts.state is State.UNREADABLE:
        raise Damaged(operation="look at", path=database, cause=facts.detail)
    return facts


def _effects(
    database: Path,
    backups: StrPath | None,
    progress: Progress,
    *,
    thoroughness: Thoroughness = Thoroughness.FULL,
) -> LiveEffects:
    folder = Path(backups) if backups is not None else database.parent / "backups"
    return LiveEffects(database.absolute(), backups=folder.absolute(), progress=progress, thoroughness=thoroughness)
