"""The events of the flight record, which lies outside the database because a restore rewinds the database."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbsync.model import Outcome
    from dbsync.upgrade.effects import Effects


class FlightEvent(StrEnum):
    """The events in the flight record of a database."""

    LOOKED = "looked"
    STARTED = "started"
    NOTHING_TO_BACK_UP = "nothing_to_back_up"
    ADOPTED = "adopted"
    NOT_CARRIED = "not_carried"
    NOT_NOTED = "not_noted"
    ENDED = "ended"
    PUT_BACK = "put_back"
    """Rows that an older schema could not hold were put back; those that could not be are still kept."""
    REHEARSED = "rehearsed"
    ROTATED = "rotated"
    BACKUP_ROTTEN = "backup_rotten"
    """A scheduled backup was not what was written any more when it was read again."""
    SECOND_PLACE_AWAY = "second_place_away"
    """The second place of scheduled backups is not complete: it is away, full, or cannot be written."""
    SIDE_FILES_KEPT = "side_files_kept"
    """Side files with data, of a database that was missing or empty, were moved aside before another took its place."""
    NOT_EVALUATED = "not_evaluated"
    """Functions, collations and modules of the app that a table needs are not there: what needs them is not judged."""
    LOG_DAMAGED = "log_damaged"
    """Committed transactions may be lost in a damaged `-wal`, of which a copy was kept if there was space."""
    COUNTERS_RAISED = "counters_raised"
    """A database took the place of another one, with counters raised to what they had been."""
    MARKS_DAMAGED = "marks_damaged"
    """The file of the counters' marks could not be read and was kept under another name."""
    MARK_NOT_BELIEVED = "mark_not_believed"
    """The mark of a counter outside the database was too high to be true, and was not used."""
    MARK_FORGOTTEN = "mark_forgotten"
    """A person gave the mark of a counter up."""


def record_end(effects: Effects, outcome: Outcome, run: str | None = None) -> None:
    """Record an outcome, with the name of its run; a record that cannot be written changes nothing."""
    try:
        effects.record(
            FlightEvent.ENDED,
            outcome=outcome.name,
            before=outcome.version_before,
            after=outcome.version_after,
            phase=outcome.phase,
            migration=outcome.migration,
            cause=outcome.cause,
            seconds=round(outcome.duration_seconds, 3),
            run=run,
        )
    except Exception:  # noqa: BLE001
        # The record is for people; the outcome is returned all the same.
        return
