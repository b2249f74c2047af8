"""Looks at the database: its state, its history, the evidence for its schema, and whether a run would fail."""

from __future__ import annotations

from dbsync.database import evidence, leftovers, measurements, preflight
from dbsync.database.flight_recorder import ran_out_of_space
from dbsync.database.shared import Shared, timestamp
from dbsync.migrations import history
from dbsync.model import Applied, Facts, Migration, MigrationKind, Recognised, State
from dbsync.progress import Event, EventKind
from dbsync.storage import connections
from dbsync.storage.introspection import needs_of
from dbsync.upgrade.outcome_record import FlightEvent


class Looking(Shared):
    """The effects that look at the database, and check that a run has what it needs; nothing in it changes."""

    _log_seen = False
    _cleared = False
    """Whether the remains of interrupted runs have been removed, as far as possible."""

    def look(self) -> Facts:
        if not (self._log_seen or self._reads_only or self._begun is not None):
            self._log_seen = True
            evidence.keep_log(
                database=self.database,
                backups=self.backups,
                prefix=self._prefix,
                least_free_bytes=self._least_free_bytes,
                told=lambda text: self._tell(Event(EventKind.LOG_DAMAGED, text=text)),
            )
        return connections.look(self.database, had_data=self.traces, opened=self.opened)

    def traces(self) -> str:
        """Return the evidence, in a sentence, that there was a database with data here; empty if there is none."""
        return evidence.traces(database=self.database, backups=self.backups)

    def history(self) -> tuple[Applied, ...]:
        with self._reading("read the history") as live:
            connections.tolerate(live)
            return history.applied(live)

    def recognise(self, migrations: tuple[Migration, ...]) -> Recognised:
        from dbsync.database import recognition

        with self._reading("recognise") as live:
            return recognition.recognise(live, migrations)

    def clear(self) -> None:
        # Only once: files begun since may be of this process.
        if self._cleared or self._reads_only:
            return
        self._cleared = True
        leftovers.clear(database=self.database, backups=self.backups, prefix=self._prefix, reports=self._reports)

    def preflight(self, pending: tuple[Migration, ...]) -> None:
        self._pending = pending
        preflight.check_local(self.database)
        preflight.check_writable(self.database.parent, like=self.database)
        preflight.check_writable(self.backups, like=self.database)
        self.clear()
        if pending:
            self._measured = measurements.measured(self._flight.lines(), pending, preflight.size_of(self.database))
            preflight.check_space(
                database=self.database,
                backups=self.backups,
                least_free_bytes=self._least_free_bytes,
                measured=self._measured,
            )
            preflight.check_temporary(
                database=self.database,
                backups=self.backups,
                least_free_bytes=self._least_free_bytes,
                short_before=ran_out_of_space(self._flight.lines()),
            )
        if any(migration.kind is MigrationKind.PYTHON for migration in pending):
            from dbsync.migrations import code_process

            code_process.check_available()
        if self.look().state is State.OK:
            preflight.check_alone(self.database)
            if pending:
                self._tell_needs()

    def _tell_needs(self) -> None:
        """Record and show which parts of the database cannot be evaluated here; what is untouched stops nothing."""
        with self._reading("look at") as live:
            needs = needs_of(live)
        if needs:
            self._flight.record({"event": FlightEvent.NOT_EVALUATED, "at": timestamp(), "needs": list(needs)})
        for need in needs:
            self._tell(Event(EventKind.LOG, text=f"not evaluated here: {need}"))
