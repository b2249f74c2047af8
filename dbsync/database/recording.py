"""Records a run: the flight record, the events for observers, and how earlier runs ended."""

from __future__ import annotations

import time

from dbsync.database.shared import Shared, timestamp
from dbsync.model import Tried
from dbsync.progress import Event
from dbsync.upgrade.outcome_record import FlightEvent


class Recording(Shared):
    """The effects that record and report what happens."""

    def tried(self, run: str) -> Tried:
        return self._flight.tried(run)

    def record(self, event: FlightEvent, **facts: str | float | None) -> None:
        if event is FlightEvent.STARTED and self._measured is not None:
            facts["expected_seconds"] = round(self._measured.expected_seconds, 3)
        self._tell(Event.of(event, facts))
        # Time spent before a run is not its own: a process may do several runs.
        spent = self._meter.take_spent() if event in (FlightEvent.LOOKED, FlightEvent.ENDED) else {}
        if self._reads_only:
            return
        phases = {"phases": spent} if event is FlightEvent.ENDED and spent else {}
        try:
            self._flight.record({"event": event, "at": timestamp(), **facts, **phases})
        except Exception:  # noqa: BLE001 - of any type: JSON does not take every value
            # A record that cannot be written must not decide what becomes of a till's database.
            return

    def seconds(self) -> float:
        return time.monotonic()
