"""Evidence beside the database of what it held: its log, its backups, the record of its runs; small, for every look.

An agent looks several times in each cycle, and needs no migration, no comparison and no backup for it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbsync.errors import TillkeeperError
from dbsync.storage import files

if TYPE_CHECKING:
    from dbsync.storage.wal import Summary

MOST_LOG_BYTES: Final = 64_000_000
"""A larger log is not examined while a till waits: it takes about two seconds for so many bytes."""


def traces(*, database: Path, backups: Path) -> str:
    """Return the evidence, in a sentence, that there was a database with data here; empty if there is none."""
    from dbsync.backups import catalog
    from dbsync.database.flight_recorder import FlightRecorder

    kept = [backup for backup in catalog.list_backups(backups=backups, database=database) if backup.version > 0]
    if kept:
        return f"{kept[0].path} is a backup of schema {kept[0].version}"
    flight = FlightRecorder(backups, database)
    last_schema = flight.last_schema()
    return f"{flight.path} has it at schema {last_schema}" if last_schema is not None else ""


def keep_log(*, database: Path, backups: Path, prefix: str, least_free_bytes: int, told: Callable[[str], None]) -> None:
    """Record a damaged `-wal` and copy it aside, before the first opening: closing the database removes it.

    Args:
        database: the file; nobody in this process has it open.
        backups: the folder of the copy and of the record.
        prefix: first part of the copy's name.
        least_free_bytes: free space that must be left.
        told: receives a sentence for people.
    """
    try:
        if files.size_of(Path(f"{database}-wal")) == 0:
            # The usual case at a start, which loads no more for it.
            return
        from dbsync.storage import notes

        summary = notes.broken_log(database, size_limit_bytes=MOST_LOG_BYTES)
        if summary is not None:
            text = _kept(summary, database=database, backups=backups, prefix=prefix, least_free_bytes=least_free_bytes)
            if text:
                told(text)
    except TillkeeperError:
        # A till must start: what is wrong with the database is found by the look that follows.
        return


def _kept(summary: Summary, *, database: Path, backups: Path, prefix: str, least_free_bytes: int) -> str:
    from dbsync.backups import quarantine
    from dbsync.database.flight_recorder import FlightRecorder
    from dbsync.upgrade.outcome_record import FlightEvent

    found = quarantine.keep_log(
        summary, database=database, folder=backups, prefix=prefix, least_free_bytes=least_free_bytes
    )
    if found is None:
        return ""
    cause, kept = found
    line = {"cause": cause, "kept": kept.name if kept is not None else ""}
    now = files.utc_text(datetime.now(UTC))
    FlightRecorder(backups, database).record({"event": FlightEvent.LOG_DAMAGED, "at": now, **line})
    return f"{cause}; {f'a copy is kept: {kept}' if kept is not None else 'there was no space for a copy'}"
