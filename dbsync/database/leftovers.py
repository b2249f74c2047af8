"""Removal of what runs that were cut have left: beside the database, among its backups, among the reports.

The agent does it at each cycle, so it loads nothing of a migration.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from dbsync.backups import catalog
from dbsync.database import measurements
from dbsync.errors import TillkeeperError
from dbsync.storage import temporary_files


def clear(*, database: Path, backups: Path, prefix: str, reports: Path) -> None:
    """Remove the remains of interrupted runs on a database, as far as possible; the caller holds its lock."""
    with suppress(TillkeeperError, OSError):
        catalog.clear_parts(backups=backups, database=database, prefix=prefix)
        measurements.clear(backups=backups, database=database)
        temporary_files.clear(reports, temporary_files.owner_of(database))
