"""The coordinator's Effects in memory: one database, its backups, one open transaction."""

from __future__ import annotations

from pathlib import Path

from dbsync.database.flight_recorder import tried_by
from dbsync.errors import Locked, MigrationFailed, TillkeeperError
from dbsync.model import (
    Applied,
    BackupKind,
    Carried,
    Change,
    Facts,
    Intent,
    Loss,
    Migration,
    MigrationKind,
    Raised,
    Recognised,
    ReleaseId,
    SchemaNumber,
    Sha256,
    TrialId,
    Tried,
)
from dbsync.model import Backup as Facts_of_backup
from dbsync.upgrade.effects import Effects
from dbsync.upgrade.outcome_record import FlightEvent
from tests.simulators.world import Backup, Database, World


class SimulatedEffects(Effects):
    """One process's view of the database."""

    def __init__(self, world: World, process: str) -> None:
        self.world = world
        self.process = process
        self._verified_against: Facts_of_backup | None = None

    def _tick(self, what: str) -> None:
        self.world.tick(self.process, what)

    def _holds_lock(self) -> None:
        if self.world.database_lock != self.process:
            raise self.world.violated(f"{self.process} changes the database without its lock")
        if self.world.app is not None:
            raise self.world.violated(f"{self.process} changes the database while the app runs")

    def _alone(self) -> None:
        # A person's rollback may be root's, who ends no process that a claim of the till's account names.
        if self.world.helper and self.process.startswith("launcher"):
            raise self.world.violated(f"{self.process} changes the database beside what an app left running")

    @property
    def _open(self) -> Database:
        assert self.world.transaction is not None
        owner, content = self.world.transaction
        self.world.need(owner == self.process, f"{self.process} works in a transaction of {owner}")
        return content

    def _change(self, content: Database) -> None:
        self.world.transaction = (self.process, content)

    # looking -------------------------------------------------------------------------------------------------------

    def look(self) -> Facts:
        self._tick("look at the database")
        return self.world.database.facts()

    def history(self) -> tuple[Applied, ...]:
        self._tick("read the history")
        content = self.world.database
        return tuple(
            Applied(
                SchemaNumber(number),
                f"m{number}",
                Sha256(f"sha{number}"),
                content.migrated_by if number == content.version else content.created_by if number == 1 else None,
            )
            for number in range(1, content.version + 1)
        )

    def recognise(self, migrations: tuple[Migration, ...]) -> Recognised:
        raise self.world.violated("the simulated database is tracked")

    def tried(self, run: str) -> Tried:
        self._tick("read the flight record")
        return tried_by(self.world.flight, run)

    def clear(self) -> None:
        """What cut runs left has no name here."""

    def preflight(self, pending: tuple[Migration, ...]) -> None:
        self._tick("preflight")
        if self.world.transaction is not None:
            raise Locked(operation="open", cause="somebody writes")

    # one transaction -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        self._tick("begin")
        self._holds_lock()
        self._alone()
        self._change(self.world.database)

    def check_now(self) -> None:
        self._tick("check the new database")

    def equals(self, backup: Path) -> bool:
        self._tick("compare with a backup")
        kept = self.world.backups.get(backup.name)
        return kept is not None and kept.content == self.world.database

    def copy_backup(self, version: SchemaNumber, trial_id: TrialId | None) -> Facts_of_backup:
        self._tick("copy the backup")
        name = f"backup{len(self.world.backups)}"
        self.world.backups[name] = Backup(self.world.database, BackupKind.MIGRATION, trial_id)
        return self._facts(name)

    def begin_check(self, part: Facts_of_backup) -> bool:
        self._tick("begin to check the backup")
        return True

    def check_backup(self, part: Facts_of_backup) -> Facts_of_backup:
        self._tick("check the backup")
        return part

    def keep_backup(self, part: Facts_of_backup) -> Facts_of_backup:
        self._tick("rename the backup")
        self.world.backups[part.path.name].final = True
        self._tick("sync the backup's folder")
        self.world.backups[part.path.name].durable = True
        return part

    def apply(
        self,
        migration: Migration,
        among: tuple[Migration, ...],
        trial_id: TrialId | None,
        release: tuple[ReleaseId | None, str | None],
    ) -> None:
        self._tick(f"migrate to {migration.number}")
        if migration.number in self.world.broken_migrations:
            raise MigrationFailed(operation="migrate", cause="this shop's data does not allow it")
        oldest = self.world.readable_from.get(migration.number)
        made_by = self._open.created_by if self._open.exists else trial_id
        self._change(
            self._open.copy(
                version=migration.number, readable_from=oldest, exists=True, migrated_by=trial_id, created_by=made_by
            )
        )

    def note_history(self, *, kept: tuple[Migration, ...], blessed: tuple[Migration, ...]) -> None:
        self._tick("note history")

    def adopt(self, migrations: tuple[Migration, ...]) -> None:
        raise self.world.violated("the simulated database is tracked")

    def mark_trial(self, trial_id: TrialId, release: tuple[ReleaseId | None, str | None]) -> None:
        self._tick("mark the trial")
        self._change(self._open.copy(trial_id=trial_id, release_id=release[0]))

    def verify(self, migrations: tuple[Migration, ...], backup: Facts_of_backup | None) -> None:
        self._tick("verify")
        self._verified_against = backup
        if backup is not None and self.world.backups[backup.path.name].content != self.world.database:
            raise self.world.violated("the backup is not the state before the migration")

    def put_back(self, pending: tuple[Migration, ...]) -> None:
        self._tick("put back")

    def commit(self) -> None:
        self._tick("commit")
        self._holds_lock()
        if self._open.version != self.world.database.version and self.world.database.version:
            against = self._verified_against
            if against is None or not self.world.backups[against.path.name].durable:
                raise self.world.violated("committed without a durable backup")
        self.world.database = self._open
        self.world.transaction = None

    def rollback(self) -> None:
        if self.world.transaction is not None and self.world.transaction[0] == self.process:
            self.world.transaction = None

    def check_committed(self) -> None:
        self._tick("check what was committed")

    def content_digest(self) -> Sha256 | None:
        self._tick("digest")
        return _digest(self.world.database)

    def keep_damaged(self) -> Path | None:
        raise self.world.violated("the simulated database is sound")

    def rotate_backups(self, pinned: tuple[Path, ...]) -> None:
        self._tick("rotate backups")

    # counters ------------------------------------------------------------------------------------------------------

    def note_counters(self, migrations: tuple[Migration, ...]) -> None:
        self._tick("read the counters")
        if self.world.database.number > self.world.visible().get("marks", 0):
            self.world.write(self.process, "marks", self.world.database.number)

    def would_raise(self, backup: Path) -> bool:
        self._tick("compare counters")
        return bool(self.world.backups[backup.name].content.number < self.world.visible().get("marks", 0))

    def raise_counters(
        self, *, source: Path, backup: Path, kept: Path | None, migrations: tuple[Migration, ...], operation: str
    ) -> Raised | None:
        self.note_counters(migrations)
        mark, found = self.world.visible().get("marks", 0), self.world.backups[source.name]
        if found.content.number >= mark:
            return None
        self._tick("copy with raised counters")
        name = f"raised{len(self.world.backups)}"
        raised = Backup(found.content.copy(number=mark), found.kind, None, final=True)
        self.world.backups[name] = raised
        self._tick("sync the copy with raised counters")
        raised.durable = True
        return Raised(Path(name), (), None)

    def counters_raised(self, raised: Intent) -> None:
        self._tick("record that counters were raised")

    # going back ----------------------------------------------------------------------------------------------------

    def changed_since_commit(
        self,
        content_sha256: Sha256 | None,
        backup: Facts_of_backup | None,
        migrations: tuple[Migration, ...],
    ) -> Change:
        self._tick("compare since commit")
        if content_sha256 == _digest(self.world.database):
            return Change(known=True)
        if backup is None:
            return Change(known=False)
        return self._change_since(self.world.backups[backup.path.name].content)

    def lost_since_commit(self, backup: Facts_of_backup, migrations: tuple[Migration, ...]) -> tuple[Loss, ...]:
        self._tick("count what would be lost")
        return self._change_since(self.world.backups[backup.path.name].content).losses

    def changed_since(self, backup: Path) -> Change:
        self._tick("compare with the backup")
        return self._change_since(self.world.backups[backup.name].content)

    def _change_since(self, base: Database) -> Change:
        added = len(self.world.database.sales - base.sales)
        return Change(known=True, losses=(Loss("sales", added, 0, 0),) if added else ())

    def copy_aside(self, kind: BackupKind) -> Facts_of_backup | None:
        self._tick("put aside")
        if not self.world.database.exists:
            return None
        name = f"aside{len(self.world.backups)}"
        self.world.backups[name] = Backup(self.world.database, kind, None)
        return self._facts(name)

    def keep_aside(self, part: Facts_of_backup) -> Facts_of_backup:
        self._tick("sync what was put aside")
        self.world.backups[part.path.name].durable = True
        self._tick("keep what was put aside")
        self.world.backups[part.path.name].final = True
        return self._facts(part.path.name)

    def carry_back(
        self, migrations: tuple[Migration, ...], *, base: Facts_of_backup, aside: Facts_of_backup
    ) -> Carried:
        self._tick("carry back")
        before, now = self.world.backups[base.path.name].content, self.world.backups[aside.path.name].content
        new = now.sales - before.sales
        kept = new if self.world.carries else frozenset(sorted(new)[1:])
        name = f"carried{len(self.world.backups)}"
        self.world.backups[name] = Backup(before.copy(sales=before.sales | kept), BackupKind.CARRIED, None)
        lost = len(new - kept)
        return Carried(Path(name), (Loss("sales", lost, 0, 0),) if lost else ())

    def try_carrying(self, base: Facts_of_backup, migrations: tuple[Migration, ...]) -> Carried:
        self._tick("try carrying back")
        lost = () if self.world.carries else (Loss("sales", 1, 0, 0),)
        return Carried(Path("tried"), lost)

    def discard(self, path: Path) -> None:
        self._tick("discard a copy")
        self.world.backups.pop(path.name, None)

    def keep_carried(self, carried: Carried, base: Facts_of_backup) -> Facts_of_backup:
        self._tick("keep what was carried back")
        kept = self.world.backups[carried.path.name]
        kept.final = True
        self._tick("sync what was carried back")
        kept.durable = True
        return self._facts(carried.path.name)

    def export_loss(
        self, migrations: tuple[Migration, ...], *, base: Facts_of_backup, aside: Facts_of_backup
    ) -> Path | None:
        self._tick("export the loss")
        return Path("loss")

    def check_usable(self, backup: Path) -> None:
        self._tick("check the backup")
        if backup.name not in self.world.backups:
            raise TillkeeperError(operation="restore", cause="there is no such backup")

    def check_replaceable(self, base: Path, *, carries: bool) -> None:
        self._tick("check that the database can be replaced")

    def name_aside(self, kind: BackupKind) -> Path:
        raise self.world.violated("the simulated database is sound")

    def kept_at(self, path: Path) -> Facts_of_backup | None:
        self._tick("look at a copy")
        kept = self.world.backups.get(path.name)
        return self._facts(path.name) if kept is not None and kept.final else None

    def base_of(self, backup: Path) -> Facts_of_backup | None:
        self._tick("look for a migration backup")
        kept = self.world.backups.get(backup.name)
        found = [
            name
            for name, one in self.world.backups.items()
            if kept and one.final and one.kind == BackupKind.MIGRATION and one.content.version == kept.content.version
        ]
        return self._facts(found[-1]) if found else None

    def reserve(self, source: Path) -> None:
        self._tick("reserve space")

    def release_reserve(self) -> None:
        self._tick("release the space")

    def move_aside(self, path: Path, kind: BackupKind) -> Facts_of_backup:
        raise self.world.violated("the simulated database is sound")

    def restore(self, backup: Path) -> None:
        self._tick("restore")
        self._holds_lock()
        self._alone()
        self.world.database = self.world.backups[backup.name].content
        self.world.need(self.world.database.number >= self.world.highest_number, "a counter is lower than it was seen")

    def remove_intent(self, intent_id: str) -> None:
        self.world.write(self.process, f"intent/{intent_id}", None)

    def read_intent(self, intent_id: str) -> Intent | None:
        found = self.world.visible().get(f"intent/{intent_id}")
        assert found is None or isinstance(found, Intent)
        return found

    def write_intent(self, intent: Intent) -> None:
        if intent.set_aside is not None and not intent.moves and not intent.done:
            kept = self.world.backups.get(Path(intent.set_aside).name)
            self.world.need(
                kept is not None and kept.final and kept.durable, "a return was decided before the copy was durable"
            )
        self.world.write(self.process, f"intent/{intent.intent_id}", intent)

    def record(self, event: FlightEvent, **facts: str | float | None) -> None:
        self._tick(f"record {event}")
        self.world.flight.append({"event": event, **facts})

    def seconds(self) -> float:
        return self.world.clock_seconds

    # for the till --------------------------------------------------------------------------------------------------

    def migrations_up_to(self, number: SchemaNumber) -> tuple[Migration, ...]:
        """The release's migrations."""
        return tuple(
            Migration(
                SchemaNumber(one),
                f"m{one}",
                "",
                Sha256(f"sha{one}"),
                (),
                self.world.readable_from.get(one),
                (),
                MigrationKind.SQL,
                Path("m"),
            )
            for one in range(1, number + 1)
        )

    def backup_for(self, trial_id: TrialId) -> Facts_of_backup | None:
        """The newest complete backup that names a trial."""
        found = [name for name, one in self.world.backups.items() if one.final and one.trial_id == trial_id]
        return self._facts(found[-1]) if found else None

    def backups_newest_first(self) -> list[Facts_of_backup]:
        """All complete backups."""
        return [self._facts(name) for name, one in reversed(self.world.backups.items()) if one.final]

    def _facts(self, name: str) -> Facts_of_backup:
        kept = self.world.backups[name]
        return Facts_of_backup(Path(name), kept.kind, kept.content.version, Sha256(""), 1, 1, "", kept.trial_id)


def _digest(content: Database) -> Sha256:
    return Sha256(repr((content.version, sorted(content.sales), content.trial_id)))
