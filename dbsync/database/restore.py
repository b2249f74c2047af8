"""Goes back: sets the database aside, carries data back or restores a backup, and records the intent."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from dbsync.backups import catalog, restore, restore_intents, snapshot
from dbsync.backups.check_beside import ReadBeside
from dbsync.database import preflight
from dbsync.database.shared import Shared, known_migrations
from dbsync.downgrade import carry_back
from dbsync.errors import BackupUnusable, Damaged, DiskFull, DiskProblem, TillkeeperError, wrapped
from dbsync.model import Backup, BackupKind, Carried, Intent, Migration, State
from dbsync.progress import WorkPhase
from dbsync.storage import files, temporary_files
from dbsync.upgrade.outcome_record import FlightEvent


class Restoring(Shared):
    """The effects that replace the live database by another one."""

    def check_replaceable(self, base: Path, *, carries: bool) -> None:
        preflight.check_writable(self.database.parent, like=self.database)
        preflight.check_writable(self.backups, like=self.database)
        self.clear()
        raises = not carries and self.would_raise(base)
        preflight.check_space_to_go_back(
            database=self.database, base=base, backups=self.backups, carries=carries, raises=raises
        )
        if carries:
            preflight.check_temporary(database=self.database, backups=self.backups, operation="go back")
        if self.look().state not in (State.MISSING, State.EMPTY):
            restore.check_format(self.database)
            try:
                preflight.check_not_in_use(self.database)
            except Damaged as error:
                raise self._confirmed(error) from error

    def copy_aside(self, kind: BackupKind) -> Backup | None:
        facts = self.look()
        if facts.state is State.MISSING and not facts.had_data:
            return None
        preflight.check_writable(self.database.parent, like=self.database)
        self.clear()
        final = self.name_aside(kind)
        if facts.state in (State.MISSING, State.EMPTY):
            self._keep_side_files(final)
        if facts.state is State.MISSING:
            return None
        kept = self._facts(final, kind, facts.version, datetime.now(UTC))
        told, self._copied_aside = self._meter.phase(WorkPhase.PUT_ASIDE), final
        try:
            part = restore.copy_aside(kept, database=self.database, final=final, told=told, watch=self._watch)
        except Damaged as error:
            raise self._confirmed(error) from error
        self._checking = ReadBeside(lambda opened: restore.inspected(part, opened))
        return part

    def keep_aside(self, part: Backup) -> Backup:
        checking, self._checking = self._checking, None
        assert checking is not None, "it was begun with the copy"
        try:
            return snapshot.keep_part(checking.result())
        except BaseException:
            self._watch.close()
            snapshot.drop_part(part.path)
            raise

    def name_aside(self, kind: BackupKind) -> Path:
        name = catalog.beside_name(self.database, kind, datetime.now(UTC))
        return catalog.free_name(self.database.parent, name)

    def move_aside(self, path: Path, kind: BackupKind) -> Backup:
        facts = self._facts(path, kind, self.look().version, datetime.now(UTC))
        self._watch.close()
        return restore.move_aside(facts, database=self.database)

    def kept_at(self, path: Path) -> Backup | None:
        found = catalog.find(path)
        return catalog.read(found) if files.is_there(found) else None

    def base_of(self, backup: Path) -> Backup | None:
        wanted = self.kept_at(backup)
        if wanted is None or wanted.kind == BackupKind.MIGRATION:
            return wanted
        listed = catalog.list_backups(backups=self.backups, database=self.database)
        return next(
            (
                kept
                for kept in listed
                if kept.kind == BackupKind.MIGRATION and kept.verified and kept.version == wanted.version
            ),
            None,
        )

    def reserve(self, source: Path) -> None:
        size_bytes = restore.journal_bytes(live=self.database, source=catalog.find(source))
        kept = catalog.read(catalog.find(source))
        # A compressed backup is unpacked before it is restored.
        try:
            self._reserve.hold(size_bytes + 2 * kept.content_size_bytes)
        except DiskFull as full:
            required, available = size_bytes / 1e6, files.free_bytes(self.database.parent) / 1e6
            cause = f"Replacing the database takes up to {required:.1f} MB, available {available:.1f}"
            raise DiskFull(operation="reserve space", path=self.database.parent, cause=cause) from full

    def release_reserve(self) -> None:
        try:
            self._reserve.free()
        except TillkeeperError:
            # It only takes space; the next run clears it.
            return

    def _keep_side_files(self, final: Path) -> None:
        moved = snapshot.move_side_files(database=self.database, final=final)
        if moved:
            kept = ", ".join(path.name for path in moved)
            self.record(FlightEvent.SIDE_FILES_KEPT, kept=kept)

    def carry_back(self, migrations: tuple[Migration, ...], *, base: Backup, aside: Backup) -> Carried:
        into, reports = self._scratch("carried"), self._reports / f"carried-{_final_of(aside.path).stem}"
        return self._carried(aside.path, base, migrations, into, reports)

    def try_carrying(self, base: Backup, migrations: tuple[Migration, ...], *, reports: Path | None = None) -> Carried:
        now, into, scratch = self._scratch("now"), self._scratch("carried"), self._scratch("reports")
        try:
            told = self._meter.phase(WorkPhase.COPY)
            snapshot.copy_database(source=self.database, target=now, told=told, opened=self.opened)
            carried = self._carried(now, base, migrations, into, reports or scratch)
            # Files in a folder that is removed again must not be named.
            return carried if reports else carried._replace(parked=None, export=None)
        except DiskFull:
            snapshot.drop_part(now)
            snapshot.drop_part(into)
            # With numbers, if it is the space for the return itself that is short.
            preflight.check_space_to_go_back(database=self.database, base=base.path, backups=self.backups, carries=True)
            raise
        finally:
            snapshot.drop_part(now)
            snapshot.drop_part(into)
            snapshot.drop_folder(scratch)

    def _carried(
        self, now: Path, base: Backup, migrations: tuple[Migration, ...], into: Path, reports: Path
    ) -> Carried:
        try:
            known = known_migrations(base, migrations)
            told = self._meter.phase(WorkPhase.CARRY_BACK)
            return carry_back.carry_back(known, now=now, backup=base.path, into=into, reports=reports, told=told)
        except (TillkeeperError, OSError) as error:
            self.record(FlightEvent.NOT_CARRIED, cause=str(error))
            if isinstance(error, Damaged) and restore.is_sound(now):
                # Damage of a scratch file says nothing about the database.
                raise DiskProblem(operation="carry back", path=error.path, cause=error.cause) from error
            raise wrapped(error) from error

    def discard(self, path: Path) -> None:
        checking, self._checking = self._checking, None
        if checking is not None:
            checking.cancel()
        if _final_of(path) == self._copied_aside:
            # The database is not replaced after all.
            self._watch.close()
        try:
            if path.is_dir():
                # The explanation of something that was not done.
                snapshot.drop_folder(path)
            else:
                snapshot.drop_part(path) if temporary_files.is_part(path) else catalog.remove(path)
        except TillkeeperError:
            # It only takes space, and is as true as any other copy.
            return

    def keep_carried(self, carried: Carried, base: Backup) -> Backup:
        now = datetime.now(UTC)
        name = f"{self._prefix}-backup-{BackupKind.CARRIED}-v{base.version}-{files.utc_stamp(now)}.db"
        final = catalog.free_name(self.backups, name)
        part = temporary_files.part_of(final, temporary_files.owner_of(self.database))
        try:
            files.rename_durably(source=carried.path, target=part)
            facts = self._facts(part, BackupKind.CARRIED, base.version, now)
            # Carrying back has checked it.
            return snapshot.keep_part(snapshot.measure_part(facts))
        except BaseException:
            snapshot.drop_part(part)
            raise

    def check_usable(self, backup: Path) -> None:
        self._meter.phase(WorkPhase.CHECK_BACKUP)
        if backup.resolve() == self.database.resolve():
            # Reading the file would drop this process's locks on it (sqlite.org/howtocorrupt.html, 2.2).
            raise BackupUnusable(operation="use the backup", path=backup, cause="it is the database itself")
        restore.check_backup_file(backup, self.thoroughness)

    def restore(self, backup: Path) -> None:
        # A crash from here on leaves nothing that is not in the intent: the next run reserves again.
        self._reserve.free()
        if self.look().state in (State.MISSING, State.EMPTY):
            # SQLite would replay a log that was left over into the restored database.
            self._keep_side_files(self.name_aside(BackupKind.BEFORE_RESTORE))
        restore.restore_over(
            source=backup,
            database=self.database,
            told=self._meter.phase(WorkPhase.RESTORE),
            watch=self._watch,
            thoroughness=self.thoroughness,
        )
        if temporary_files.is_part(backup):
            # The carried-back copy is no longer needed; a crash before this leaves it for the next run to clear.
            snapshot.drop_part(backup)

    def read_intent(self, intent_id: str) -> Intent | None:
        return restore_intents.read(self.backups, intent_id)

    def write_intent(self, intent: Intent) -> None:
        owner = temporary_files.owner_of(self.database)
        restore_intents.write(self.backups, intent, owner=owner, like=self.database)

    def remove_intent(self, intent_id: str) -> None:
        restore_intents.remove(self.backups, intent_id)


def _final_of(path: Path) -> Path:
    """Return the path that a copy has, or will have."""
    return temporary_files.final_of(path) if temporary_files.is_part(path) else path
