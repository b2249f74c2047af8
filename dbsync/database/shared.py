"""The state that all effects on one database share: its places, the open transaction, and the record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbsync.backups import bundled_migrations, catalog
from dbsync.backups.concurrent_writes import Watch
from dbsync.database import measurements, preflight
from dbsync.database.flight_recorder import FlightRecorder
from dbsync.database.open_transaction import OpenTransaction
from dbsync.errors import Damaged, DiskProblem, TillkeeperError
from dbsync.model import NO_SHA256, Backup, BackupKind, Migration, SchemaNumber
from dbsync.progress import Meter, Progress, quiet, safe
from dbsync.storage import connections, files, temporary_files
from dbsync.storage.reserve import Reserve
from dbsync.upgrade.effects import Effects

if TYPE_CHECKING:
    from dbsync.backups.check_beside import ReadBeside

PROCESS: Final = files.random_name()
"""A part of scratch file names: a program that outlives a killed run must not write into the next run's copy."""


class Shared(Effects):
    """One database file and the state of the run on it.

    The base of each part: a part implements some of the effects, and calls the others by the protocol.

    Args:
        database: the file; need not exist.
        backups: the folder of migration backups and of the flight record.
        prefix: first part of the names of migration backups.
        progress: receives every event; an error that it raises is ignored.
        reports: the folder of loss reports; beside the backups by default.
        backups_kept_count: how many migration backups rotation leaves.
        least_free_bytes: free space below which nothing is migrated.
        thoroughness: how well databases and backups are checked: fully wherever no till waits.
        reads_only: for commands that change nothing on the disk: the database is opened so that no file beside it
            changes, nothing is recorded, and remains are left where they are. For processes that do not have the
            database open otherwise.
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
        thoroughness: connections.Thoroughness = connections.Thoroughness.QUICK,
        reads_only: bool = False,
    ) -> None:
        self.database: Final = database
        self.backups: Final = backups
        self.thoroughness: Final = thoroughness
        self.opened: Final = connections.open_undisturbed if reads_only else connections.open_reading
        """Opens the database for reading."""
        self._reads_only: Final = reads_only
        self._prefix: Final = prefix or database.stem
        self._tell: Final = safe(progress)
        self._meter: Final = Meter(self._tell, self.seconds)
        self._reports: Final = reports or backups / "reports"
        self._kept_count: Final = backups_kept_count
        self._least_free_bytes: Final = least_free_bytes
        self._flight: Final = FlightRecorder(backups, database)
        self._watch: Final = Watch(database)
        self._copied_aside: Path | None = None
        """The copy of the database that is watched, by its final name."""
        self._reserve: Final = Reserve(
            temporary_files.scratch_of(database.parent, temporary_files.owner_of(database), "reserve"), like=database
        )
        self._begun: OpenTransaction | None = None
        """The open transaction."""
        self._pending: tuple[Migration, ...] = ()
        """The migrations of this run, as of `preflight`."""
        self._checking: ReadBeside[Backup] | None = None
        """The check of a copy that runs beside the work that it is for."""
        self._measured: measurements.Measured | None = None
        """The measurement of a rehearsal of exactly these migrations, if there is one."""

    def _facts(self, path: Path, kind: BackupKind, version: SchemaNumber, now: datetime) -> Backup:
        """Return the facts of a backup that is about to be made, without size and checksum."""
        sequence = catalog.next_sequence(backups=self.backups, database=self.database)
        made_at = files.utc_text(now)
        owner = temporary_files.owner_of(self.database)
        return Backup(
            path, kind, version, NO_SHA256, size_bytes=0, sequence=sequence, made_at=made_at, database=owner
        )  # fmt: skip

    def _scratch(self, what: str) -> Path:
        """Return the path of a scratch file; an interrupted run leaves it to the `clear` of the next one."""
        return temporary_files.scratch_of(self.backups, temporary_files.owner_of(self.database), f"{PROCESS}-{what}")

    @contextmanager
    def _reading(self, operation: str) -> Iterator[connections.Connection]:
        """The live database, open for reading; an error of SQLite is raised as one of this operation."""
        with (
            connections.translated(operation, self.database),
            closing(self.opened(self.database)) as live,
        ):
            yield live

    def _confirmed(self, error: Damaged) -> TillkeeperError:
        """Return the error if the live database is damaged indeed, else one that says to try later.

        SQLite also calls a file damaged of which one page could not be read once.
        """
        try:
            with self._reading("check") as live:
                problem = connections.check_soundness(live)
        except TillkeeperError as again:
            return again
        if problem is not None:
            return error
        return DiskProblem(operation=error.operation, path=self.database, cause="a part of it could not be read once")

    @property
    def _open(self) -> connections.Connection:
        """The connection that has the open transaction."""
        assert self._begun is not None, "only between begin and commit"
        return self._begun.connection


def known_migrations(base: Backup, migrations: tuple[Migration, ...]) -> tuple[Migration, ...]:
    """Return the migrations; those beside the backup if the release that has them is gone."""
    return migrations or bundled_migrations.beside(base.path)


def timestamp() -> str:
    """Return the time now, UTC, as it stands in records."""
    return files.utc_text(datetime.now(UTC))
