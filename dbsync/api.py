"""dbsync from Python (requirements S74 to S82). Paths in, values out.

import dbsync
if not dbsync.initialize_versioning(database="data/shop.db", folder="migrations"):
    ...                       # the database is as it was; dbsync.run_migrations tells why
"""

from __future__ import annotations

from contextlib import closing
from os import PathLike
from pathlib import Path
from typing import Any

from dbsync.commands import adopt, empty_and_import
from dbsync.database import flight_recorder, timeline
from dbsync.database.live import LiveEffects
from dbsync.errors import Damaged, Locked
from dbsync.migrations import folder as migration_folder
from dbsync.model import NO_SCHEMA, Backup, Facts, Migration, Outcome, SchemaNumber, State
from dbsync.progress import Progress, quiet
from dbsync.storage import connections
from dbsync.storage.locks import locked
from dbsync.upgrade import coordinator

StrPath = str | PathLike[str]


def initialize_versioning(*, database: StrPath, folder: StrPath, progress: Progress = quiet) -> bool:
    """Bring a database to the newest migration; whether the app may start on it."""
    return run_migrations(database=database, folder=folder, progress=progress).ready


def run_migrations(
    *,
    database: StrPath,
    folder: StrPath,
    backups: StrPath | None = None,
    progress: Progress = quiet,
    again: bool = False,
) -> Outcome:
    """Bring a database to the newest migration, all or nothing, and tells how it ended.

    Args:
        database: its path; there need not be one yet.
        folder: the migrations.
        backups: where backups go; beside the database by default.
        progress: told of everything that happens.
        again: a person wants it tried once more, although it failed twice in the same way.

    Raises:
        BadMigrations: the folder cannot be read as migrations; nothing was touched.
        Locked: another process of dbsync has the database.
    """
    found = migration_folder.load(Path(folder))
    with locked(Path(database)):
        return coordinator.upgrade(_effects(Path(database), backups, progress), migrations=found, again=again)


def get_current_version(database: StrPath) -> SchemaNumber:
    """Return the schema number; 0 where there is no database yet, or one without a history of ours.

    Raises:
        Damaged: it cannot be read.
        Locked: another program writes it.
    """
    return _looked(Path(database)).version


def get_latest_version(folder: StrPath) -> SchemaNumber:
    """Return the highest number in a folder of migrations."""
    found = migration_folder.load(Path(folder))
    return found[-1].number if found else NO_SCHEMA


def get_pending_migrations(folder: StrPath, current_version: int) -> tuple[Migration, ...]:
    """Return the migrations that a database of that version has not had."""
    return tuple(one for one in migration_folder.load(Path(folder)) if one.number > current_version)


def get_migration_by_version(folder: StrPath, version: int) -> Migration | None:
    """Return one migration; None if there is none of that number."""
    return next((one for one in migration_folder.load(Path(folder)) if one.number == version), None)


def create_backup(*, database: StrPath, to: StrPath | None = None, backups: StrPath | None = None) -> Path:
    """Make a checked backup, among the others or at a place of choice; rotation never removes it."""
    with locked(Path(database)):
        return _effects(Path(database), backups, quiet).make_backup(Path(to) if to is not None else None).path


def verify_integrity(database: StrPath) -> bool:
    """Return whether there is a database and SQLite finds it sound.

    Raises:
        Locked: another program writes it, so that nobody can tell.
    """
    path = Path(database)
    try:
        if _looked(path).state not in (State.OK, State.UNTRACKED):
            return False
    except Damaged:
        return False
    with connections.translated("check", path), closing(connections.open_reading(path)) as connection:
        return connections.check_soundness(connection) is None


def get_migration_history(*, database: StrPath, backups: StrPath | None = None) -> dict[str, Any]:
    """Return what was applied, by the database; and every run that was tried, by the record beside it."""
    found = timeline.past_of(_effects(Path(database), backups, quiet))
    runs = flight_recorder.ended(found.lines)
    state = str(found.facts.state)
    return {"state": state, "current_version": found.facts.version, "applied": found.applied, "runs": runs}


def empty_database(*, database: StrPath, folder: StrPath) -> Backup | None:
    """Start anew with the newest schema; what was there is kept beside it (requirement S91)."""
    found = migration_folder.load(Path(folder))
    with locked(Path(database)):
        return empty_and_import.empty(_effects(Path(database), None, quiet), found)


def import_database(*, database: StrPath, file: StrPath, folder: StrPath) -> empty_and_import.Imported:
    """Put another database in place, checked and up to date; what was there is kept beside it (requirement S92)."""
    found = migration_folder.load(Path(folder))
    with locked(Path(database)):
        return empty_and_import.import_file(_effects(Path(database), None, quiet), Path(file).absolute(), found)


def adopt_database(*, database: StrPath, folder: StrPath, at: int | None = None) -> SchemaNumber:
    """Take over a database without a history of ours, where its schema is beyond doubt; returns the schema number.

    Raises:
        Untracked: it cannot be told; nothing was changed.
    """
    found = migration_folder.load(Path(folder))
    schema = SchemaNumber(at) if at is not None else None
    with locked(Path(database)):
        return adopt.baseline(_effects(Path(database), None, quiet), found, at=schema, dry_run=False)


def _looked(database: Path) -> Facts:
    facts = _effects(database, None, quiet).look()
    if facts.state is State.LOCKED:
        raise Locked(operation="look at", path=database, cause=facts.detail)
    if facts.state is State.UNREADABLE:
        raise Damaged(operation="look at", path=database, cause=facts.detail)
    return facts


def _effects(database: Path, backups: StrPath | None, progress: Progress) -> LiveEffects:
    folder = Path(backups) if backups is not None else database.parent / "backups"
    return LiveEffects(database.absolute(), backups=folder.absolute(), progress=progress)
