"""Compares the database with a backup: the changes since, and which of them a restore would lose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from dbsync.backups import bundled_migrations, catalog, compression, restore, snapshot
from dbsync.database.shared import Shared, known_migrations
from dbsync.downgrade import row_translation
from dbsync.errors import Damaged, DiskProblem, Locked, TillkeeperError, TryLater, VerificationFailed
from dbsync.migrations import runner
from dbsync.model import Backup, Change, Facts, Loss, Migration, Sha256, State
from dbsync.progress import WorkPhase
from dbsync.storage import connections, file_calls, files
from dbsync.verification import table_diff


class Comparing(Shared):
    """The effects that find the changes since a backup or since COMMIT."""

    def changed_since_commit(
        self, content_sha256: Sha256 | None, backup: Backup | None, migrations: tuple[Migration, ...]
    ) -> Change:
        try:
            if content_sha256 is not None and self.content_digest() == content_sha256:
                return Change(known=True)
            if backup is None:
                return Change(known=False)
            known = known_migrations(backup, migrations)
            if (found := self._first_written(backup, known)) is not None:
                return found
            with self._as_committed(backup, known) as scratch:
                return self._compared(scratch)
        except TillkeeperError:
            # A database or a backup that cannot be compared counts as changed; the next step sets it aside first.
            return Change(known=False)

    def lost_since_commit(self, backup: Backup, migrations: tuple[Migration, ...]) -> tuple[Loss, ...]:
        try:
            with self._as_committed(backup, known_migrations(backup, migrations)) as scratch:
                return self._compared(scratch).losses
        except TillkeeperError:
            return ()

    def changed_since(self, backup: Path) -> Change:
        facts = self.look()
        if facts.state in (State.MISSING, State.EMPTY):
            return self._change_without(backup, facts)
        if facts.state is State.LOCKED:
            raise Locked(operation="compare", path=self.database, cause=facts.detail)
        if facts.state is State.UNAVAILABLE:
            raise DiskProblem(operation="read", path=self.database, cause=facts.detail)
        if facts.state is not State.OK:
            return Change(known=False, cause=facts.detail)
        try:
            return self._recorded_since(backup, facts) or self._compared(backup)
        except TillkeeperError as error:
            cause = self._confirmed(error) if isinstance(error, Damaged) else error
            if isinstance(cause, TryLater):
                # It cannot be read now, which says nothing about what was recorded.
                raise cause from error
            # Another text encoding, or a collation of the app: a backup that cannot be compared may still be restored.
            return Change(known=False, cause=cause.cause)

    def _recorded_since(self, backup: Path, facts: Facts) -> Change | None:
        """Return the changes since a backup of an older schema, without those of the migrations beside it.

        None if they cannot be told apart here; the direct comparison then counts both, which hides no change.
        """
        kept = catalog.read(catalog.find(backup))
        try:
            known = tuple(
                migration for migration in bundled_migrations.beside(kept.path) if migration.number <= facts.version
            )
            if kept.version >= facts.version or not known or known[-1].number != facts.version:
                return None
            if not self._reads_only:
                with self._as_committed(kept, known) as scratch:
                    return self._compared(scratch)
            # Nothing changes in the folder of backups, not even its time.
            with (
                file_calls.temporary_folder() as folder,
                self._as_committed(kept, known, into=Path(folder, "base.db")) as scratch,
            ):
                return self._compared(scratch)
        except (TillkeeperError, OSError):
            return None

    def _change_without(self, backup: Path, facts: Facts) -> Change:
        """Return the change of a database that is not there: unknown if a later copy of it is kept."""
        sequence = catalog.read(catalog.find(backup)).sequence
        listed = catalog.list_backups(backups=self.backups, database=self.database)
        later = next((kept for kept in listed if kept.sequence > sequence), None)
        if later is None:
            return Change(known=True, cause=facts.gone)
        return Change(known=False, cause=f"{facts.gone}; {later.path} is a later copy of it")

    def export_loss(self, migrations: tuple[Migration, ...], *, base: Backup, aside: Backup) -> Path | None:
        folder = self._reports / f"loss-{aside.path.stem}"
        try:
            files.make_folder(folder, like=aside.path)
            with (
                self._as_committed(base, known_migrations(base, migrations)) as scratch,
                connections.translated("export", aside.path),
                closing(connections.open_copy(aside.path)) as kept,
            ):
                connections.attach_copy(kept, scratch, "base")
                written = table_diff.export(kept, "base", table_diff.differences(kept, "base"), folder)
            files.sync_tree(folder)
            if not written:
                snapshot.drop_folder(folder)
            return folder if written else None
        except (TillkeeperError, OSError):
            # The set-aside copy is complete and durable; the export is derived from it, and can be made later.
            return None

    @contextmanager
    def _as_committed(
        self, base: Backup, migrations: tuple[Migration, ...], *, into: Path | None = None
    ) -> Iterator[Path]:
        """A migrated scratch copy of a backup: the database as it was at COMMIT, before people wrote."""
        restore.check_backup_file(base.path)
        scratch = into or self._scratch("base")
        try:
            snapshot.scratch_copy(
                source=base.path, target=scratch, told=self._meter.phase(WorkPhase.COMPARE), like=self.database
            )
            runner.migrate_up(scratch, migrations)
            yield scratch
        finally:
            snapshot.drop_part(scratch)

    def _first_written(self, base: Backup, migrations: tuple[Migration, ...]) -> Change | None:
        """Return the first change, if the backup shows one without being migrated.

        It does if the migrations left every value in its place.
        """
        if not row_translation.conserves(
            tuple(migration for migration in migrations if migration.number > base.version)
        ):
            return None
        with self._beside(base.path) as live:
            found = table_diff.first_written(live, "base")
        return Change(known=True, losses=(found,)) if found is not None else None

    def _compared(self, path: Path) -> Change:
        with self._beside(path) as live:
            return Change(known=True, losses=table_diff.differences(live, "base"))

    @contextmanager
    def _beside(self, path: Path) -> Iterator[connections.Connection]:
        """The live database, open for reading, with another one attached as `base`."""
        with (
            compression.plain(path) as plain,
            # An error without a code of its own, such as a collation of the app, is not the disk's.
            connections.translated("compare with", path, otherwise=VerificationFailed),
            closing(self.opened(self.database)) as live,
        ):
            connections.attach_copy(live, plain, "base")
            yield live
