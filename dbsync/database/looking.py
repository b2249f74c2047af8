"""Looks at the database: its state, its history, the evidence for its schema, and whether a run would fail."""

from __future__ import annotations

from dbsync.backups import catalog
from dbsync.database import leftovers, measurements, preflight
from dbsync.database.flight_recorder import ran_out_of_space
from dbsync.database.shared import Shared, timestamp
from dbsync.errors import TillkeeperError
from dbsync.migrations import history
from dbsync.model import Applied, Facts, Migration, MigrationKind, Recognised, State
from dbsync.progress import Event, EventKind
from dbsync.storage import connections, files, side_files
from dbsync.storage.introspection import needs_of
from dbsync.upgrade.outcome_record import FlightEvent


class Looking(Shared):
    """The effects that look at the database, and check that a run has what it needs; nothing in it changes."""

    _log_seen = False
    _cleared = False
    """Whether the remains of interrupted runs have been removed, as far as possible."""

    def look(self) -> Facts:
        self._keep_log()
        return connections.look(self.database, had_data=self.traces, opened=self.opened)

    def _keep_log(self) -> None:
        """Record a damaged `-wal` and copy it aside, before the first opening: closing the database removes it."""
        if self._log_seen or self._reads_only or self._begun is not None:
            return
        self._log_seen = True
        log = side_files.side_file(self.database, side_files.WAL)
        try:
            if files.size_of(log) <= side_files.WAL_HEADER_BYTES:
                return
            from dbsync.backups import quarantine

            found = quarantine.keep_log(
                database=self.database,
                folder=self.backups,
                prefix=self._prefix,
                least_free_bytes=self._least_free_bytes,
            )
            if found is not None:
                cause, kept = found
                line = {"cause": cause, "kept": kept.name if kept is not None else ""}
                self._flight.record({"event": FlightEvent.LOG_DAMAGED, "at": timestamp(), **line})
                text = f"{cause}; {f'a copy is kept: {kept}' if kept is not None else 'there was no space for a copy'}"
                self._tell(Event(EventKind.LOG_DAMAGED, text=text))
        except TillkeeperError:
            # A till must start: what is wrong with the database is found by the look that follows.
            return

    def traces(self) -> str:
        """Return the evidence, in a sentence, that there was a database with data here; empty if there is none."""
        kept = [
            backup
            for backup in catalog.list_backups(backups=self.backups, database=self.database)
            if backup.version > 0
        ]
        if kept:
            return f"{kept[0].path} is a backup of schema {kept[0].version}"
        last_schema = self._flight.last_schema()
        return f"{self._flight.path} has it at schema {last_schema}" if last_schema is not None else ""

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
