"""The coordinator's effects on a real database: one transaction on it, copies beside it, the record of both."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from dbsync import backup, compare, conservation, copies, disk, history, intents, migrate, preflight, sqlite, verify
from dbsync.errors import BackupUnusable, CommitFailed, DbsyncError, MigrationFailed, VerificationFailed
from dbsync.flight import FlightRecorder
from dbsync.model import Applied, Backup, Change, Facts, Intent, Migration, State
from dbsync.progress import Event, Progress, quiet, safe

Release = tuple[str | None, str | None]


class LiveEffects:
    """Effects on one database file. The caller holds the database lock; nothing is opened before it is needed.

    Args:
        database: the file; need not exist.
        backups: the folder of migration backups and of the flight record.
        prefix: first part of migration backups' names.
        progress: told of every event; whatever it raises is swallowed.
        reports: where loss reports go; beside the backups by default.
        backups_kept_count: how many migration backups rotation leaves.
        least_free_bytes: below this much free space nothing is migrated.
    """

    def __init__(
        self,
        database: Path,
        *,
        backups: Path,
        prefix: str | None = None,
        progress: Progress = quiet,
        reports: Path | None = None,
        backups_kept_count: int = backup.KEPT_COUNT,
        least_free_bytes: int = preflight.LEAST_FREE_BYTES,
    ) -> None:
        self.database: Final = database
        self.backups: Final = backups
        self._prefix: Final = prefix or database.stem
        self._tell: Final = safe(progress)
        self._reports: Final = reports or backups / "reports"
        self._kept_count: Final = backups_kept_count
        self._least_free_bytes: Final = least_free_bytes
        self._flight: Final = FlightRecorder(backups)
        self._connection: sqlite.Connection | None = None
        self._written: frozenset[str] = frozenset()

    # looking -------------------------------------------------------------------------------------------------------

    def look(self) -> Facts:
        return sqlite.look(self.database, had_data=self.traces)

    def traces(self) -> str:
        """Words about what shows that there was a database with data here; empty if nothing does."""
        kept = [one for one in backup.list_backups(self.backups, self.database) if one.version > 0]
        if kept:
            return f"{kept[0].path} is a backup of schema {kept[0].version}"
        ended = [line for line in self._flight.lines() if line.get("event") == "ended" and line.get("after")]
        return f"{self._flight.path} has it at schema {ended[-1]['after']}" if ended else ""

    def history(self) -> tuple[Applied, ...]:
        with sqlite.translated("read the history", self.database), closing(sqlite.open_reading(self.database)) as live:
            return history.applied(live)

    def preflight(self, pending: tuple[Migration, ...]) -> None:
        preflight.check_writable(self.database.parent)
        preflight.check_writable(self.backups)
        backup.clear_parts(self.backups, self.database)
        if pending:
            preflight.check_space(self.database, self.backups, least_free_bytes=self._least_free_bytes)
        if self.look().state is State.OK:
            preflight.check_alone(self.database)

    # one transaction -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        with sqlite.translated("open", self.database):
            self._connection = sqlite.open_writing(self.database, create=True)
            self._connection.execute("BEGIN IMMEDIATE")
            self._written = frozenset()

    def check_now(self) -> None:
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
        return copies.copy_to_part(self.database, final, facts, told=self._pages("backup"))

    def check_backup(self, part: Backup) -> Backup:
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
        return self.keep_backup(
            copies.check_part(copies.copy_to_part(self.database, final, facts, told=self._pages("backup")))
        )

    def apply(self, migration: Migration, trial_id: str | None, release: Release) -> None:
        number, name = migration.number, migration.name
        self._tell(Event("migration", number=number, name=name, text=migration.description))
        with sqlite.translated("migrate", self.database, otherwise=MigrationFailed):
            applied = migrate.apply(
                self._open,
                migration,
                trial_id=trial_id,
                release=release,
                at=_now(),
                milliseconds=lambda: int(self.seconds() * 1000),
                log=lambda text: self._tell(Event("log", text=text)),
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
                        self._open, one, kind=kind, trial_id=None, release=(None, None), at=_now(), duration_ms=0
                    )

    def mark_trial(self, trial_id: str, release: Release) -> None:
        with sqlite.translated("mark the trial", self.database):
            history.add_trial(self._open, trial_id=trial_id, release=release, at=_now())

    def verify(self, migrations: tuple[Migration, ...], before: Backup | None) -> None:
        with sqlite.translated("verify", self.database, otherwise=VerificationFailed):
            if before is not None:
                sqlite.attach_copy(self._open, before.path, conservation.OLD)
            verify.verify(verify.Case(self._open, migrations, before is not None, self._written), verify.CHECKS)
        self._tell(Event("integrity"))

    def commit(self) -> None:
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
        try:
            with sqlite.translated("check", self.database), closing(sqlite.open_reading(self.database)) as live:
                problem = sqlite.check_soundness(live)
        except DbsyncError as error:
            raise CommitFailed(operation="check", path=self.database, cause=error.cause) from error
        if problem is not None:
            raise CommitFailed(operation="check", path=self.database, cause=problem)

    def content_digest(self) -> str | None:
        if any(one.exists() and one.stat().st_size for one in copies.sidecars(self.database)):
            return None
        return disk.sha256_of(self.database)

    def rotate_backups(self, pinned: tuple[Path, ...]) -> None:
        for path in backup.rotate(self.backups, self.database, keep_count=self._kept_count, pinned=pinned):
            self._flight.record({"event": "rotated", "at": _now(), "removed": path.name})

    # going back ----------------------------------------------------------------------------------------------------

    def changed_since_commit(
        self, content_sha256: str | None, base: Backup | None, migrations: tuple[Migration, ...]
    ) -> Change:
        try:
            if content_sha256 is not None and self.content_digest() == content_sha256:
                return Change(known=True)
            if base is None:
                return Change(known=False)
            return self._compared(self._migrated(base, migrations))
        except DbsyncError:
            # A database or a backup that cannot be compared counts as changed; what follows puts it aside first.
            return Change(known=False)
        finally:
            copies.drop_part(self._scratch_path)

    def changed_since(self, path: Path) -> Change:
        if self.look().state is not State.OK:
            return Change(known=False)
        return self._compared(path)

    def put_aside(self, reason: str) -> Backup | None:
        facts = self.look()
        if facts.state is State.MISSING:
            return None
        preflight.check_writable(self.database.parent)
        now = datetime.now(UTC)
        final = backup.free_name(self.database.parent, backup.beside_name(self.database, f"before-{reason}", now))
        kept = self._facts(final, f"before-{reason}", facts.version, now)
        return copies.put_aside(self.database, final, kept, told=self._pages("put aside"))

    def export_loss(self, base: Backup, migrations: tuple[Migration, ...], aside: Backup) -> Path | None:
        folder = self._reports / f"loss-{aside.path.stem}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            scratch = self._migrated(base, migrations)
            with sqlite.translated("export", aside.path), closing(sqlite.open_copy(aside.path)) as kept:
                sqlite.attach_copy(kept, scratch, "base")
                written = compare.export(kept, "base", compare.differences(kept, "base"), folder)
            disk.sync_tree(folder)
            return folder if written else None
        except (DbsyncError, OSError):
            # What was put aside is complete and durable; the export is a convenience made of it, and can be made later.
            return None
        finally:
            copies.drop_part(self._scratch_path)

    def check_usable(self, path: Path) -> None:
        copies.check_backup_file(path)

    def restore(self, path: Path) -> None:
        copies.restore_over(self.database, path, told=self._pages("restore"))

    def read_intent(self, intent_id: str) -> Intent | None:
        return intents.read(self.backups, intent_id)

    def write_intent(self, intent: Intent) -> None:
        intents.write(self.backups, intent)

    # telling -------------------------------------------------------------------------------------------------------

    def record(self, event: str, **facts: str | float | None) -> None:
        self._tell(Event.of(event, facts))
        try:
            self._flight.record({"event": event, "at": _now(), **facts})
        except (DbsyncError, OSError):
            # A record that cannot be written must not decide what becomes of a till's database.
            return

    def seconds(self) -> float:
        return time.monotonic()

    # -----------------------------------------------------------------------------------------------------------------

    @property
    def _open(self) -> sqlite.Connection:
        assert self._connection is not None, "only between begin and commit"
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _facts(self, path: Path, kind: str, version: int, now: datetime) -> Backup:
        sequence = backup.next_sequence(self.backups, self.database)
        made_at = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return Backup(path, kind, version, sha256="", size_bytes=0, sequence=sequence, made_at=made_at)

    @property
    def _scratch_path(self) -> Path:
        return self.backups / f"{backup.PART}scratch"

    def _migrated(self, base: Backup, migrations: tuple[Migration, ...]) -> Path:
        """A scratch copy of a backup, migrated: what the database was at COMMIT, before people wrote."""
        copies.check_backup_file(base.path)
        scratch = self._scratch_path
        copies.scratch_copy(base.path, scratch, told=self._pages("compare"))
        with sqlite.translated("migrate a copy", scratch, otherwise=MigrationFailed):
            connection = sqlite.open_scratch(scratch)
            with closing(connection):
                verify.run_all(connection, tuple(one for one in migrations if one.number > base.version))
        return scratch

    def _compared(self, path: Path) -> Change:
        with sqlite.translated("compare with", path), closing(sqlite.open_reading(self.database)) as live:
            sqlite.attach_copy(live, path, "base")
            return Change(known=True, losses=compare.differences(live, "base"))

    def _pages(self, phase: str) -> copies.Told:
        return lambda done, total: self._tell(Event("progress", name=phase, done=done, total=total))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
