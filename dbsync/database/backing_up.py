"""Backs the database up: before a migration, for a person, and a damaged one as it is."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from dbsync.backups import bundled_migrations, catalog, compression, snapshot
from dbsync.database import preflight
from dbsync.database.open_transaction import InPlace, reading
from dbsync.database.shared import Shared, timestamp
from dbsync.errors import BackupUnusable, Missing, TillkeeperError
from dbsync.model import Backup, BackupKind, SchemaNumber, State, TrialId
from dbsync.progress import Event, EventKind, WorkPhase
from dbsync.storage import connections, files, temporary_files
from dbsync.storage.platform import this_platform
from dbsync.upgrade.outcome_record import FlightEvent
from dbsync.verification import table_diff


class BackingUp(Shared):
    """The effects that make backups and remove the oldest."""

    def equals(self, backup: Path) -> bool:
        kept = catalog.find(backup)
        # A run works with its backup until COMMIT: instead of a compressed one it makes a new one.
        if not kept.is_file() or (self._begun is not None and kept.suffix == catalog.COMPRESSED):
            return False
        with (
            compression.plain(backup) as plain,
            connections.translated("compare with", backup),
            reading(self._begun, self.database) as live,
        ):
            try:
                connections.attach_copy(live, plain, "kept")
            except sqlite3.OperationalError as error:
                if "text encoding" in str(error):
                    return False
                raise
            try:
                return table_diff.same(live, "kept")
            finally:
                live.execute("DETACH kept")

    def copy_backup(self, version: SchemaNumber, trial_id: TrialId | None) -> Backup:
        now = datetime.now(UTC)
        final = catalog.free_name(self.backups, catalog.migration_name(self._prefix, version, now))
        facts = self._facts(final, BackupKind.MIGRATION, version, now)._replace(trial_id=trial_id)
        live = self._begun.live if self._begun is not None else None
        writer = self._begun.connection if isinstance(self._begun, InPlace) else None
        told = self._meter.phase(WorkPhase.BACKUP)
        part = snapshot.copy_to_part(facts, source=self.database, final=final, told=told, live=live, writer=writer)
        self._tell(Event(EventKind.BACKUP, text=str(final)))
        return part

    def begin_check(self, part: Backup) -> bool:
        # Where the backup is all that undoes a run, it is checked first. Other migrations are undone by ROLLBACK.
        if not isinstance(self._begun, InPlace) or not this_platform().renames_open_files:
            return False
        # Not loaded at a start with nothing pending.
        from dbsync.backups.check_beside import ReadBeside

        # Damage of the copy is that of the database: a migration on it can take long, or fail in odd ways.
        self._checking = ReadBeside(
            lambda opened: snapshot.check_part(part, self.thoroughness, opened=opened),
            failed=self._begun.connection.interrupt,
        )
        return True

    def check_backup(self, part: Backup) -> Backup:
        self._meter.phase(WorkPhase.CHECK_BACKUP)
        checking, self._checking = self._checking, None
        return checking.result() if checking is not None else snapshot.check_part(part, self.thoroughness)

    def keep_backup(self, part: Backup) -> Backup:
        if part.kind == BackupKind.MIGRATION and self._pending:
            bundled_migrations.keep(
                temporary_files.final_of(part.path), self._pending, owner=part.database, like=part.path
            )
        kept = snapshot.keep_part(part)
        self._tell(Event(EventKind.INTEGRITY, name=kept.checked))
        return kept

    def make_backup(self, to: Path | None = None) -> Backup:
        """Make a checked backup for a person, at a given path or among the others (requirements S101, S188).

        Raises:
            TillkeeperError: by meaning; nothing is left of the backup.
        """
        self.clear()
        now = datetime.now(UTC)
        facts = self.look()
        if facts.had_data or facts.state is State.MISSING:
            raise Missing(operation="back up", path=self.database, cause=facts.gone)
        version = facts.version
        name = f"{self._prefix}-backup-{BackupKind.MANUAL}-v{version}-{files.utc_stamp(now)}.db"
        final = catalog.free_name(self.backups, name) if to is None else to.absolute()
        preflight.check_writable(final.parent, like=self.database)
        if files.is_there(final):
            hint = "Choose another name: nothing is written over."
            cause = "there is a file of that name already"
            raise BackupUnusable(operation="back up", path=final, cause=cause, hint=hint)
        part_facts = self._facts(final, BackupKind.MANUAL, version, now)
        part = snapshot.copy_to_part(
            part_facts, source=self.database, final=final, told=self._meter.phase(WorkPhase.BACKUP)
        )
        self._meter.phase(WorkPhase.CHECK_BACKUP)
        kept = self._kept_in_full(part)
        # The backup is good without it.
        with suppress(TillkeeperError):
            self.note_counters(())
        return kept

    def make_scheduled(self, now: datetime, *, shares: bool = False) -> Backup:
        """Make a backup on a schedule, checked in full, of a database that may be in use.

        Args:
            now: its time.
            shares: whether it may share its blocks with the database, where the file system can (decision 52).

        Raises:
            TillkeeperError: by meaning; nothing is left of the backup.
        """
        self.clear()
        facts = self.look()
        if facts.had_data or facts.state is State.MISSING:
            raise Missing(operation="back up", path=self.database, cause=facts.gone)
        preflight.check_writable(self.backups, like=self.database)
        preflight.check_space_for_backup(
            database=self.database, backups=self.backups, least_free_bytes=self._least_free_bytes
        )
        name = f"{self._prefix}-backup-{BackupKind.SCHEDULED}-v{facts.version}-{files.utc_stamp(now)}.db"
        final = catalog.free_name(self.backups, name)
        part = snapshot.copy_to_part(
            self._facts(final, BackupKind.SCHEDULED, facts.version, now),
            source=self.database,
            final=final,
            told=self._meter.phase(WorkPhase.BACKUP),
            in_use=shares,
        )
        self._meter.phase(WorkPhase.CHECK_BACKUP)
        return self._kept_in_full(part)

    def _kept_in_full(self, part: Backup) -> Backup:
        kept = snapshot.keep_part(snapshot.check_part(part, connections.Thoroughness.FULL))
        self._tell(Event(EventKind.BACKUP, text=str(kept.path)))
        self._tell(Event(EventKind.INTEGRITY, name=kept.checked))
        return kept

    def keep_damaged(self) -> Path | None:
        from dbsync.backups import quarantine

        try:
            facts = self._facts(
                self.backups / self.database.name, BackupKind.DAMAGED, self.look().version, datetime.now(UTC)
            )
        except TillkeeperError:
            return None
        return quarantine.keep(
            self.database,
            facts,
            prefix=self._prefix,
            least_free_bytes=self._least_free_bytes,
            told=self._meter.phase(WorkPhase.COPY),
        )

    def rotate_backups(self, pinned: tuple[Path, ...]) -> None:
        for path in catalog.rotate(
            backups=self.backups, database=self.database, keep_count=self._kept_count, pinned=pinned
        ):
            self._flight.record({"event": FlightEvent.ROTATED, "at": timestamp(), "removed": path.name})
