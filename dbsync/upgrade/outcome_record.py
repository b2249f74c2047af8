"""How a run ended, put on record: outside the database, because a restore rewinds the inside."""

from __future__ import annotations

from dbsync.errors import TillkeeperError
from dbsync.model import Outcome
from dbsync.upgrade.effects import Effects


def record_end(effects: Effects, outcome: Outcome, run: str | None = None) -> None:
    """Records an outcome, of a run by its name; a record that cannot be written changes nothing."""
    try:
        effects.record(
            "ended",
            outcome=outcome.name,
            before=outcome.version_before,
            after=outcome.version_after,
            phase=outcome.phase,
            migration=outcome.migration,
            cause=outcome.cause,
            seconds=round(outcome.duration_seconds, 3),
            run=run,
        )
    except TillkeeperError:
        # The record is for people; the outcome that it would have told is returned all the same.
        return
