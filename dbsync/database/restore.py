"""Looking at a real database, going back from what it is, and telling; the transaction itself is `live`'s."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from dbsync.backups import catalog, compression, restore_intents, snapshot
from dbsync.backups.concurrent_writes import Watch
from dbsync.database import measurements, preflight
from dbsync.database.flight_recorder import FlightRecorder
from dbsync.downgrade import carry_back, row_replay
from dbsync.errors import BackupUnusable, Locked, TillkeeperError
from dbsync.migrations import history
from dbsync.model import Applied, Backup, Carried, Change, Facts, Intent, Loss, Migration, Recognised, State, Tried
from dbsync.progress import Event, Meter, Progress, quiet, safe
from dbsync.storage import connections, files, temporary_files
from dbsync.verification import checks, table_diff

PROCESS: Final = files.random_name()
"""In the names of scratch files: a program that outlives a killed run must not write into the next one's copy."""


class GoingBack:
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
        backups_kept_count: int = catalog.KEPT_COUNT,
        least_free_bytes: int = preflight.LEAST_FREE_BYTES,
    ) -> None:
        self.database: Final = database
        self.backups: Final = backups
        self._prefix: Final = prefix or database.stem
        self._tell: Final = safe(progress)
        self._meter: Final = Meter(self._tell, self.seconds)
        self._reports: Final = reports or backups / "reports"
        self._kept_count: Final = backups_kept_count
        self._least_free_bytes: Final = least_free_bytes
        self._cleared = False
        self._flight: Final = FlightRecorder(backups, database)
        self._watch: Final = Watch(database)

    # looking -------------------------------------------------------------------------------------------------------

    def look(self) -> Facts:
        return connections.look(self.database, had_data=self.traces)

    def traces(self) -> str:
        """Words about what shows that there was a database with data here; empty if nothing does."""
        kept = [one for one in catalog.list_backups(self.backups, self.database) if one.version > 0]
        if kept:
            return f"{kept[0].path} is a backup of schema {kept[0].version}"
        ended = [line for line in self._flight.lines() if line.get("event") == "ended" and line.get("after")]
        return f"{self._flight.path} has it at schema {ended[-1]['after']}" if ended else ""

    def history(self) -> tuple[Applied, ...]:
        with (
            connections.translated("read the history", self.database),
            closing(connections.open_reading(self.database)) as live,
        ):
            return history.applied(live)

    def recognise(self, migrations: tuple[Migration, ...]) -> Recognised:
        from dbsync.database import recognition

        with (
            connections.translated("recognise", self.database),
            closing(connections.open_reading(self.database)) as live,
        ):
            return recognition.recognise(live, migrations)

    def clear(self) -> None:
        # Once: what this process has begun since is its own.
        if self._cleared:
            return
        self._cleared = True
        try:
            catalog.clear_parts(self.backups, self.database, prefix=self._prefix)
            measurements.clear(self.backups, self.database)
        except (TillkeeperError, OSError):
            return

    def tried(self, run: str) -> Tried:
        return self._flight.tried(run)

    # going back ----------------------------------------------------------------------------------------------------

    def content_digest(self) -> str | None:
        if files.size_of(*snapshot.sidecars(self.database)):
            return None
        return files.sha256_of(self.database)

    def changed_since_commit(
        self, content_sha256: str | None, base: Backup | None, migrations: tuple[Migration, ...]
    ) -> Change:
        try:
            if content_sha256 is not None and self.content_digest() == content_sha256:
                return Change(known=True)
            if base is None:
                return Change(known=False)
            known = _known(base, migrations)
            return self._first_written(base, known) or self._compared(self._migrated(base, known))
        except TillkeeperError:
            # A database or a backup that cannot be compared counts as changed; what follows puts it aside first.
            return Change(known=False)
        finally:
            snapshot.drop_part(self._scratch("base"))

    def lost_since_commit(self, base: Backup, migrations: tuple[Migration, ...]) -> tuple[Loss, ...]:
        try:
            return self._compared(self._migrated(base, _known(base, migrations))).losses
        except TillkeeperError:
            return ()
        finally:
            snapshot.drop_part(self._scratch("base"))

    def changed_since(self, path: Path) -> Change:
        facts = self.look()
        if facts.state in (State.MISSING, State.EMPTY):
            return Change(known=True)
        if facts.state is not State.OK:
            return Change(known=False, cause=facts.detail)
        try:
            return self._compared(path)
        except TillkeeperError as error:
            if isinstance(error, Locked):
                raise
            # Another text encoding, a collation of the app's own: what cannot be counted may still be put in place.
            return Change(known=False, cause=error.cause)

    def put_aside(self, reason: str, *, moves: bool = True) -> Backup | None:
        """Copies the live database beside it; a ruined one is moved, if `moves`: where another takes its place."""
        facts = self.look()
        if facts.state is State.MISSING:
            return None
        preflight.check_writable(self.database.parent)
        self.clear()
        now = datetime.now(UTC)
        final = catalog.free_name(self.database.parent, catalog.beside_name(self.database, f"before-{reason}", now))
        kept = self._facts(final, f"before-{reason}", facts.version, now)
        told = self._meter.phase("put aside")
        return snapshot.put_aside(self.database, final, kept, told=told, watch=self._watch, moves=moves)

    def keep_damaged(self) -> Path | None:
        from dbsync.backups import quarantine

        try:
            facts = self._facts(
                self.backups / self.database.name, quarantine.KIND, self.look().version, datetime.now(UTC)
            )
        except TillkeeperError:
            return None
        return quarantine.keep(
            self.database,
            facts,
            prefix=self._prefix,
            least_free_bytes=self._least_free_bytes,
            told=self._meter.phase("copy"),
        )

    def carry_back(self, base: Backup, aside: Backup, migrations: tuple[Migration, ...]) -> Carried:
        into, reports = self._scratch("carried"), self._reports / f"carried-{aside.path.stem}"
        return self._carried(aside.path, base, migrations, into, reports)

    def try_carrying(self, base: Backup, migrations: tuple[Migration, ...], *, reports: Path | None = None) -> Carried:
        now, into, scratch = self._scratch("now"), self._scratch("carried"), self._scratch("reports")
        try:
            snapshot.snapshot(self.database, now, told=self._meter.phase("copy"))
            carried = self._carried(now, base, migrations, into, reports or scratch)
            # What was written into a folder that goes again is not there to be named.
            return carried if reports else carried._replace(parked=None, export=None)
        finally:
            snapshot.drop_part(now)
            snapshot.drop_part(into)
            snapshot.drop_folder(scratch)

    def _carried(
        self, now: Path, base: Backup, migrations: tuple[Migration, ...], into: Path, reports: Path
    ) -> Carried:
        try:
            known = _known(base, migrations)
            told = self._meter.phase("carry back")
            return carry_back.carry_back(now, base.path, known, into=into, reports=reports, told=told)
        except (TillkeeperError, OSError) as error:
            self.record("not_carried", cause=str(error))
            raise files.ours(error) from error

    def discard(self, path: Path) -> None:
        try:
            snapshot.drop_part(path) if temporary_files.is_part(path) else catalog.remove(path)
        except TillkeeperError:
            # It takes space, and is as true as any other copy.
            return

    def keep_carried(self, carried: Carried, base: Backup) -> Backup:
        now = datetime.now(UTC)
        name = f"{self._prefix}-backup-carried-v{base.version}-{files.utc_stamp(now)}.db"
        final = catalog.free_name(self.backups, name)
        part = temporary_files.part_of(final, temporary_files.owner_of(self.database))
        files.rename_durably(carried.path, part)
        facts = self._facts(part, "carried", base.version, now)
        return snapshot.keep_part(snapshot.check_part(facts))

    def export_loss(self, base: Backup, migrations: tuple[Migration, ...], aside: Backup) -> Path | None:
        folder = self._reports / f"loss-{aside.path.stem}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            scratch = self._migrated(base, _known(base, migrations))
            with connections.translated("export", aside.path), closing(connections.open_copy(aside.path)) as kept:
                connections.attach_copy(kept, scratch, "base")
                written = table_diff.export(kept, "base", table_diff.differences(kept, "base"), folder)
            files.sync_tree(folder)
            return folder if written else None
        except (TillkeeperError, OSError):
            # What was put aside is complete and durable; the export is a convenience made of it, and can be made later.
            return None
        finally:
            snapshot.drop_part(self._scratch("base"))

    def check_usable(self, path: Path) -> None:
        self._meter.phase("check backup")
        if path.resolve() == self.database.resolve():
            # Reading the file would drop this process's locks on it (sqlite.org/howtocorrupt.html, 2.2).
            raise BackupUnusable(operation="use the backup", path=path, cause="it is the database itself")
        snapshot.check_backup_file(path)

    def restore(self, path: Path) -> None:
        snapshot.restore_over(self.database, path, told=self._meter.phase("restore"), watch=self._watch)
        if temporary_files.is_part(path):
            # What was carried back has served; a crash before this leaves it for the next run to clear.
            snapshot.drop_part(path)

    def read_intent(self, intent_id: str) -> Intent | None:
        return restore_intents.read(self.backups, intent_id)

    def write_intent(self, intent: Intent) -> None:
        restore_intents.write(self.backups, intent)

    # telling -------------------------------------------------------------------------------------------------------

    def record(self, event: str, **facts: str | float | None) -> None:
        self._tell(Event.of(event, facts))
        # What came before a run is not its own: a process may do several.
        spent = self._meter.take_spent() if event in ("looked", "ended") else {}
        phases = {"phases": spent} if event == "ended" and spent else {}
        try:
            self._flight.record({"event": event, "at": timestamp(), **facts, **phases})
        except (TillkeeperError, OSError):
            # A record that cannot be written must not decide what becomes of a till's database.
            return

    def seconds(self) -> float:
        return time.monotonic()

    # -----------------------------------------------------------------------------------------------------------------

    def _facts(self, path: Path, kind: str, version: int, now: datetime) -> Backup:
        sequence = catalog.next_sequence(self.backups, self.database)
        made_at = files.utc_text(now)
        owner = temporary_files.owner_of(self.database)
        return Backup(path, kind, version, sha256="", size_bytes=0, sequence=sequence, made_at=made_at, database=owner)

    def _scratch(self, what: str) -> Path:
        return temporary_files.scratch_of(self.backups, temporary_files.owner_of(self.database), f"{PROCESS}-{what}")

    def _migrated(self, base: Backup, migrations: tuple[Migration, ...]) -> Path:
        """A scratch copy of a backup, migrated: what the database was at COMMIT, before people wrote."""
        snapshot.check_backup_file(base.path)
        scratch = self._scratch("base")
        snapshot.scratch_copy(base.path, scratch, told=self._meter.phase("compare"))
        checks.migrate_up(scratch, migrations)
        return scratch

    def _first_written(self, base: Backup, migrations: tuple[Migration, ...]) -> Change | None:
        """Where the migrations left every value in its place, the backup shows it without a copy that goes up first."""
        if not row_replay.conserves(tuple(one for one in migrations if one.number > base.version)):
            return None
        with self._beside(base.path) as live:
            found = table_diff.first_written(live, "base")
        return Change(known=True, losses=(found,)) if found is not None else None

    def _compared(self, path: Path) -> Change:
        with self._beside(path) as live:
            return Change(known=True, losses=table_diff.differences(live, "base"))

    @contextmanager
    def _beside(self, path: Path) -> Iterator[connections.Connection]:
        """The live database, for reading, with another one attached as `base`."""
        with (
            compression.plain(path) as plain,
            connections.translated("compare with", path),
            closing(connections.open_reading(self.database)) as live,
        ):
            connections.attach_copy(live, plain, "base")
            yield live


def _known(base: Backup, migrations: tuple[Migration, ...]) -> tuple[Migration, ...]:
    """Those that lie beside the backup, where the release that has them is gone."""
    from dbsync.backups import bundled_migrations

    return migrations or bundled_migrations.beside(base.path)


def timestamp() -> str:
    """Now, UTC, as it stands in records."""
    return files.utc_text(datetime.now(UTC))
