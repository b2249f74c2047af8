"""Looks at the database: its state, its history, the evidence for its schema, and whether a run would fail."""

from __future__ import annotations

from dbsync.backups import catalog
from dbsync.database import measurements, preflight
from dbsync.database.shared import Shared
from dbsync.errors import TillkeeperError
from dbsync.migrations import history
from dbsync.model import Applied, Facts, Migration, Recognised, State
from dbsync.storage import connections


class Looking(Shared):
    """The effects that look at the database, and check that a run has what it needs; nothing in it changes."""

    _cleared = False
    """Whether the remains of interrupted runs have been removed, as far as possible."""

    def look(self) -> Facts:
        return connections.look(self.database, had_data=self.traces)

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
            return history.applied(live)

    def recognise(self, migrations: tuple[Migration, ...]) -> Recognised:
        from dbsync.database import recognition

        with self._reading("recognise") as live:
            return recognition.recognise(live, migrations)

    def clear(self) -> None:
        # Only once: files begun since may be of this process.
        if self._cleared:
            return
        self._cleared = True
        try:
            catalog.clear_parts(backups=self.backups, database=self.database, prefix=self._prefix)
            measurements.clear(backups=self.backups, database=self.database)
        except (TillkeeperError, OSError):
            return

    def preflight(self, pending: tuple[Migration, ...]) -> None:
        self._pending = pending
        preflight.check_local(self.database)
        preflight.check_writable(self.database.parent)
        preflight.check_writable(self.backups)
        self.clear()
        if pending:
            self._measured = measurements.measured(self._flight.lines(), pending, preflight.size_of(self.database))
            preflight.check_space(
                database=self.database,
                backups=self.backups,
                least_free_bytes=self._least_free_bytes,
                measured=self._measured,
            )
        if self.look().state is State.OK:
            preflight.check_alone(self.database)
