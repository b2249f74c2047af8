"""The coordinator's effects on a real database: one transaction on it, copies beside it, the record of both."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from dbsync import backup, compare, conservation, copies, disk, history, migrate, preflight, rehearsals, sqlite, verify
from dbsync.errors import BackupUnusable, CommitFailed, DbsyncError, MigrationFailed, VerificationFailed
from dbsync.live_back import GoingBack, timestamp
from dbsync.model import Backup, Migration, State
from dbsync.progress import Event

Release = tuple[str | None, str | None]


class LiveEffects(GoingBack):
    """All effects on one database file. The caller holds the database lock; nothing is opened before it is needed."""

    _connection: sqlite.Connection | None = None
    _written: frozenset[str] = frozenset()
    _measured: rehearsals.Measured | None = None

    def preflight(self, pending: tuple[Migration, ...]) -> None:
        preflight.check_local(self.database)
        preflight.check_writable(self.database.parent)
        preflight.check_writable(self.backups)
        backup.clear_parts(self.backups, self.database)
        rehearsals.clear(self.backups)
        if pending:
            self._measured = rehearsals.measured(self._flight.lines(), pending, preflight.size_of(self.database))
            preflight.check_space(
                self.database, self.backups, least_free_bytes=self._least_free_bytes, measured=self._measured
            )
        if self.look().state is State.OK:
            preflight.check_alone(self.database)

    def record(self, event: str, **facts: str | float | None) -> None:
        if event == "started" and self._measured is not None:
            facts["expected_seconds"] = round(self._measured.expected_seconds, 3)
        super().record(event, **facts)

    # one transaction -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        with sqlite.translated("open", self.database):
            self._connection = sqlite.open_writing(self.database, create=True)
            self._connection.execute("BEGIN IMMEDIATE")
            self._written = frozenset()

    def check_now(self) -> None:
        self._meter.phase("check")
        with sqlite.translated("check", self.database):
            problem = sqlite.check_soundness(self._open)
        if problem is not None:
            raise VerificationFailed(operation="check", path=self.database, cause=problem)
        self._tell(Event("integrity"))

    def equals(self, path: Path) -> bool:
        if not path.is_file():
            return False
        with sqlite.translated("compare with", path), closing(sqlite.open_reading(self.database)) as live:
            sqlite.attach_copy(live, path, "kept")
            return compare.same(live, "kept")

    def copy_backup(self, version: int, trial_id: str | None) -> Backup:
        now = datetime.now(UTC)
        final = backup.free_name(self.backups, backup.migration_name(self._prefix, version, now))
        facts = self._facts(final, "migration", version, now)._replace(trial_id=trial_id)
        return copies.copy_to_part(self.database, final, facts, told=self._meter.phase("backup"))

    def check_backup(self, part: Backup) -> Backup:
        self._meter.phase("check backup")
        return copies.check_part(part)

    def keep_backup(self, part: Backup) -> Backup:
        kept = copies.keep_part(part)
        self._tell(Event("backup", text=str(kept.path)))
        self._tell(Event("integrity"))
        return kept

    def make_backup(self, to: Path | None = None) -> Backup:
        """A person's backup, checked, to a place of choice or among the others (spec S101, S188).

        Raises:
            DbsyncError: by meaning; nothing is left of it.
        """
        now = datetime.now(UTC)
        version = self.look().version
        name = f"{self._prefix}-backup-manual-v{version}-{disk.utc_stamp(now)}.db"
        final = backup.free_name(self.backups, name) if to is None else to.absolute()
        preflight.check_writable(final.parent)
        if final.exists():
            raise BackupUnusable(operation="back up", path=final, cause="there is a file of that name already")
        facts = self._facts(final, "manual", version, now)
        part = copies.copy_to_part(self.database, final, facts, told=self._meter.phase("backup"))
        return self.keep_backup(self.check_backup(part))

    def apply(self, migration: Migration, trial_id: str | None, release: Release) -> None:
        number, name = migration.number, migration.name
        self._tell(Event("migration", number=number, name=name, text=migration.description))
        with sqlite.translated("migrate", self.database, otherwise=MigrationFailed):
            applied = migrate.apply(
                self._open,
                migration,
                trial_id=trial_id,
                release=release,
                at=timestamp(),
                milliseconds=lambda: int(self.seconds() * 1000),
                log=lambda text: self._tell(Event("log", text=text)),
                told=self._meter.phase("migrate", text=f"v{number} {name}"),
            )
        self._written |= applied.written
        self._tell(Event("version", number=number))
        self._tell(Event("migrated", number=number, name=name, seconds=applied.milliseconds / 1000))

    def note_history(self, kept: tuple[Migration, ...], blessed: tuple[Migration, ...]) -> None:
        with sqlite.translated("write the history", self.database):
            history.make_tables(self._open)
            for kind, migrations in (("adopted", kept), ("blessed", blessed)):
                for one in migrations:
                    history.add_migration(
                        self._open, one, kind=kind, trial_id=None, release=(None, None), at=timestamp(), duration_ms=0
                    )

    def mark_trial(self, trial_id: str, release: Release) -> None:
        with sqlite.translated("mark the trial", self.database):
            history.add_trial(self._open, trial_id=trial_id, release=release, at=timestamp())

    def verify(self, migrations: tuple[Migration, ...], before: Backup | None) -> None:
        with sqlite.translated("verify", self.database, otherwise=VerificationFailed):
            if before is not None:
                sqlite.attach_copy(self._open, before.path, conservation.OLD)
            told = self._meter.phase("verify")
            verify.verify(verify.Case(self._open, migrations, before is not None, self._written, told), verify.CHECKS)
        self._tell(Event("integrity"))

    def commit(self) -> None:
        self._meter.phase("commit")
        with sqlite.translated("commit", self.database, otherwise=CommitFailed):
            self._open.execute("COMMIT")
            # The last connection takes the WAL into the file as it closes.
            self._close()

    def rollback(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            with sqlite.translated("undo", self.database):
                # "Disk full" in WAL mode has undone the transaction by itself already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if sqlite.is_wal(connection):
                    # A WAL grown to its full size would go on holding the space whose lack was the trouble.
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            self._close()

    def check_committed(self) -> None:
        self._meter.phase("check")
        try:
            with sqlite.translated("check", self.database), closing(sqlite.open_reading(self.database)) as live:
                problem = sqlite.check_soundness(live)
        except DbsyncError as error:
            raise CommitFailed(operation="check", path=self.database, cause=error.cause) from error
        if problem is not None:
            raise CommitFailed(operation="check", path=self.database, cause=problem)

    def rotate_backups(self, pinned: tuple[Path, ...]) -> None:
        for path in backup.rotate(self.backups, self.database, keep_count=self._kept_count, pinned=pinned):
            self._flight.record({"event": "rotated", "at": timestamp(), "removed": path.name})

    # -----------------------------------------------------------------------------------------------------------------

    @property
    def _open(self) -> sqlite.Connection:
        assert self._connection is not None, "only between begin and commit"
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
