"""The coordinator's effects on a real database: one transaction on it, copies beside it, the record of both."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from dbsync.backups import bundled_migrations, catalog, compression, snapshot
from dbsync.database import measurements, preflight
from dbsync.database.restore import GoingBack, timestamp
from dbsync.database.transaction import InPlace, OnCopy, Work, reading
from dbsync.errors import (
    BackupUnusable,
    CommitFailed,
    Damaged,
    MigrationFailed,
    Missing,
    TillkeeperError,
    VerificationFailed,
)
from dbsync.migrations import history, runner
from dbsync.migrations.engines import registry
from dbsync.migrations.write_log import Written, together
from dbsync.model import Backup, Migration, State
from dbsync.progress import Event
from dbsync.storage import connections, files, temporary_files
from dbsync.verification import checks, conservation, table_diff

Release = tuple[str | None, str | None]


class LiveEffects(GoingBack):
    """All effects on one database file. The caller holds the database lock; nothing is opened before it is needed."""

    _work: Work | None = None
    _written: Written | None = frozenset()
    _on_copy = False
    _pending: tuple[Migration, ...] = ()
    _measured: measurements.Measured | None = None

    def preflight(self, pending: tuple[Migration, ...]) -> None:
        self._pending = pending
        self._on_copy = any(one.kind == "command" for one in pending)
        preflight.check_local(self.database)
        preflight.check_writable(self.database.parent)
        preflight.check_writable(self.backups)
        self.clear()
        if pending:
            self._measured = measurements.measured(self._flight.lines(), pending, preflight.size_of(self.database))
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
        with connections.translated("open", self.database):
            self._work = OnCopy(self.database, self._scratch("command")) if self._on_copy else InPlace(self.database)
            self._written = frozenset()

    def check_now(self) -> None:
        self._meter.phase("check")
        with connections.translated("check", self.database):
            problem = connections.check_soundness(self._open)
        if problem is not None:
            raise VerificationFailed(operation="check", path=self.database, cause=problem)
        self._tell(Event("integrity"))

    def equals(self, path: Path) -> bool:
        kept = catalog.find(path)
        # A run works with its backup until COMMIT: for one that was compressed since, it makes a new one.
        if not kept.is_file() or (self._work is not None and kept.suffix == catalog.COMPRESSED):
            return False
        with (
            compression.plain(path) as plain,
            connections.translated("compare with", path),
            reading(self._work, self.database) as live,
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

    def copy_backup(self, version: int, trial_id: str | None) -> Backup:
        now = datetime.now(UTC)
        final = catalog.free_name(self.backups, catalog.migration_name(self._prefix, version, now))
        facts = self._facts(final, "migration", version, now)._replace(trial_id=trial_id)
        live = self._work.live if self._work is not None else None
        writer = self._work.connection if isinstance(self._work, InPlace) else None
        told = self._meter.phase("backup")
        return snapshot.copy_to_part(self.database, final, facts, told=told, live=live, writer=writer)

    def check_backup(self, part: Backup) -> Backup:
        self._meter.phase("check backup")
        return snapshot.check_part(part)

    def keep_backup(self, part: Backup) -> Backup:
        if part.kind == "migration" and self._pending:
            bundled_migrations.keep(temporary_files.final_of(part.path), self._pending, owner=part.database)
        kept = snapshot.keep_part(part)
        self._tell(Event("backup", text=str(kept.path)))
        self._tell(Event("integrity"))
        return kept

    def make_backup(self, to: Path | None = None) -> Backup:
        """A person's backup, checked, to a place of choice or among the others (spec S101, S188).

        Raises:
            TillkeeperError: by meaning; nothing is left of it.
        """
        self.clear()
        now = datetime.now(UTC)
        facts = self.look()
        if facts.had_data or facts.state is State.MISSING:
            raise Missing(operation="back up", path=self.database, cause=facts.gone)
        version = facts.version
        name = f"{self._prefix}-backup-manual-v{version}-{files.utc_stamp(now)}.db"
        final = catalog.free_name(self.backups, name) if to is None else to.absolute()
        preflight.check_writable(final.parent)
        if files.is_there(final):
            hint = "Choose another name: nothing is written over."
            cause = "there is a file of that name already"
            raise BackupUnusable(operation="back up", path=final, cause=cause, hint=hint)
        part_facts = self._facts(final, "manual", version, now)
        part = snapshot.copy_to_part(self.database, final, part_facts, told=self._meter.phase("backup"))
        return self.keep_backup(self.check_backup(part))

    def apply(self, migration: Migration, trial_id: str | None, release: Release) -> None:
        number, name = migration.number, migration.name
        self._tell(Event("migration", number=number, name=name, text=migration.description))
        with connections.translated("migrate", self.database, otherwise=MigrationFailed):
            applied = runner.apply(
                self._open,
                migration,
                trial_id=trial_id,
                release=release,
                at=timestamp(),
                milliseconds=lambda: int(self.seconds() * 1000),
                log=lambda text: self._tell(Event("log", text=text)),
                told=self._meter.phase("migrate", text=f"v{number} {name}"),
            )
        self._written = together(self._written, applied.written)
        self._tell(Event("version", number=number))
        self._tell(Event("migrated", number=number, name=name, seconds=applied.milliseconds / 1000))

    def note_history(self, kept: tuple[Migration, ...], blessed: tuple[Migration, ...]) -> None:
        self._write_history(kept, kind="adopted")
        self._write_history(blessed, kind="blessed")

    def adopt(self, migrations: tuple[Migration, ...], *, kind: str = "adopted") -> None:
        self._refuse_unsound()
        self._write_history(migrations, kind=kind)
        with connections.translated("write the history", self.database):
            self._open.execute(f"PRAGMA user_version={migrations[-1].number if migrations else 0}")
            if migrations and migrations[0].engine != registry.OWN:
                self._tell_its_tool(migrations)

    def _refuse_unsound(self) -> None:
        """Writing into a database whose list of free pages is damaged can make its file as large as any number says."""
        try:
            with connections.translated("check", self.database, otherwise=VerificationFailed):
                problem = connections.check_soundness(self._open)
        except VerificationFailed:
            # For want of a collation of the app's own nobody can tell; the backup before a migration is refused then.
            return
        if problem is not None:
            hint = "Nothing was changed. `dbsync repair` reads into a new file what can be read of it."
            raise Damaged(operation="adopt", path=self.database, cause=problem, hint=hint)

    def _tell_its_tool(self, migrations: tuple[Migration, ...]) -> None:
        """What another tool has on record already is left alone; the rest it would run once more."""
        engine = registry.named(migrations[0].engine)
        said = engine.recorded(self._open, migrations)
        for one in migrations:
            if said is None or one.name not in said.names:
                engine.note(self._open, one)

    def _write_history(self, migrations: tuple[Migration, ...], *, kind: str) -> None:
        with connections.translated("write the history", self.database):
            history.make_tables(self._open)
            for one in migrations:
                history.add_migration(
                    self._open, one, kind=kind, trial_id=None, release=(None, None), at=timestamp(), duration_ms=0
                )

    def mark_trial(self, trial_id: str, release: Release) -> None:
        with connections.translated("mark the trial", self.database):
            history.add_trial(self._open, trial_id=trial_id, release=release, at=timestamp())

    def verify(self, migrations: tuple[Migration, ...], before: Backup | None) -> None:
        with connections.translated("verify", self.database, otherwise=VerificationFailed):
            if before is not None:
                connections.attach_copy(self._open, before.path, conservation.OLD)
            told = self._meter.phase("verify")
            checks.verify(checks.Case(self._open, migrations, before is not None, self._written, told), checks.CHECKS)
        self._tell(Event("integrity"))

    def commit(self) -> None:
        self._meter.phase("commit")
        with connections.translated("commit", self.database, otherwise=CommitFailed):
            assert self._work is not None
            self._work.commit()
            self._work = None

    def rollback(self) -> None:
        work, self._work = self._work, None
        if work is None:
            return
        try:
            with connections.translated("undo", self.database):
                work.rollback()
        finally:
            work.close()

    def check_committed(self) -> None:
        self._meter.phase("check")
        try:
            with (
                connections.translated("check", self.database),
                closing(connections.open_reading(self.database)) as live,
            ):
                problem = connections.check_soundness(live)
        except TillkeeperError as error:
            raise CommitFailed(operation="check", path=self.database, cause=error.cause) from error
        if problem is not None:
            raise CommitFailed(operation="check", path=self.database, cause=problem)

    def rotate_backups(self, pinned: tuple[Path, ...]) -> None:
        for path in catalog.rotate(self.backups, self.database, keep_count=self._kept_count, pinned=pinned):
            self._flight.record({"event": "rotated", "at": timestamp(), "removed": path.name})

    # -----------------------------------------------------------------------------------------------------------------

    @property
    def _open(self) -> connections.Connection:
        assert self._work is not None, "only between begin and commit"
        return self._work.connection
