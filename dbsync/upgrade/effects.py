"""The effects of the coordinator: one method each.

`database.live` implements them for real, with a module for each group of them; the tests' simulator does in memory.

Power may fail between any two of them. Until `commit` returns nothing has changed; after it the database is the new one
in one step. All raise `TillkeeperError` and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from dbsync.model import (
    Applied,
    Backup,
    BackupKind,
    Carried,
    Change,
    Facts,
    Intent,
    Loss,
    Migration,
    Raised,
    Recognised,
    ReleaseId,
    SchemaNumber,
    Sha256,
    TrialId,
    Tried,
)

if TYPE_CHECKING:
    # Not imported during a launch.
    from dbsync.upgrade.outcome_record import FlightEvent


class Recorder(ABC):
    """The memory of the caller for a later run."""

    @abstractmethod
    def backup_made(self, backup: Backup) -> None:
        """Record a backup that is complete under its final name."""

    @abstractmethod
    def content_noted(self, sha256: Sha256) -> None:
        """Record the SHA-256 of the database file as of COMMIT."""


class Effects(ABC):
    """The effects on one database. The caller holds the database lock."""

    # looking
    @abstractmethod
    def look(self) -> Facts:
        """Look at the database, cheaply; nothing is created or changed."""

    @abstractmethod
    def history(self) -> tuple[Applied, ...]:
        """Return the migrations on record in the database, by number; without a history, from the readable one."""

    @abstractmethod
    def clear(self) -> None:
        """Remove the remains of interrupted runs, as far as possible: they take needed space. Never raises."""

    @abstractmethod
    def recognise(self, migrations: tuple[Migration, ...]) -> Recognised:
        """Return the evidence for how far a database without our history has come."""

    @abstractmethod
    def preflight(self, pending: tuple[Migration, ...]) -> None:
        """Refuse a run that would fail: no space, another program's lock, a folder that cannot be written, damage."""

    # backing up
    @abstractmethod
    def equals(self, backup: Path) -> bool:
        """Return whether schema and content of the live database equal those of a backup."""

    @abstractmethod
    def copy_backup(self, version: SchemaNumber, trial_id: TrialId | None) -> Backup:
        """Copy the database, as it stands still, to a temporary name."""

    @abstractmethod
    def begin_check(self, part: Backup) -> bool:
        """Begin to check the copy beside the migration and return True; False: it must be checked before.

        It is checked before where a ROLLBACK does not undo everything that a migration does.
        """

    @abstractmethod
    def check_backup(self, part: Backup) -> Backup:
        """Open the copy, check it, and return its facts; wait for a check that has begun.

        Raises:
            Damaged: it is not sound, and neither is the database. Nothing is left of the copy.
        """

    @abstractmethod
    def keep_backup(self, part: Backup) -> Backup:
        """Give the checked copy its final name, durably."""

    @abstractmethod
    def keep_damaged(self) -> Path | None:
        """Copy a damaged database aside, once, as not verified; None if that is impossible. Never raises."""

    @abstractmethod
    def rotate_backups(self, pinned: tuple[Path, ...]) -> None:
        """Remove the oldest migration backups over the limit, never a pinned one."""

    # the one write transaction
    @abstractmethod
    def begin(self) -> None:
        """Open the write transaction: from here on the database stands still."""

    @abstractmethod
    def check_now(self) -> None:
        """Check a new database, of which there is no backup to check."""

    @abstractmethod
    def apply(
        self,
        migration: Migration,
        among: tuple[Migration, ...],
        trial_id: TrialId | None,
        release: tuple[ReleaseId | None, str | None],
    ) -> None:
        """Run one migration in a savepoint, with its history rows.

        Args:
            migration: the migration.
            among: all migrations of the release: what none of their schemas has is kept.
            trial_id: the trial in which this happens.
            release: id and version.
        """

    @abstractmethod
    def note_history(self, *, kept: tuple[Migration, ...], blessed: tuple[Migration, ...]) -> None:
        """Write history rows for migrations that the database has already: adopted ones, and fixed ones."""

    @abstractmethod
    def adopt(self, migrations: tuple[Migration, ...]) -> None:
        """Record that the database has had these migrations all along; create the history if there is none."""

    @abstractmethod
    def mark_trial(self, trial_id: TrialId, release: tuple[ReleaseId | None, str | None]) -> None:
        """Write the trial's row."""

    @abstractmethod
    def verify(self, migrations: tuple[Migration, ...], backup: Backup | None) -> None:
        """Verify the content that the transaction would commit, against the backup, which may still be a part."""

    @abstractmethod
    def put_back(self, pending: tuple[Migration, ...]) -> None:
        """Put back what the database has kept for the schemas that it came to; conflicts are recorded, and stay."""

    @abstractmethod
    def commit(self) -> None:
        """Commit the transaction, in one step."""

    @abstractmethod
    def rollback(self) -> None:
        """Undo the open transaction, if there is one."""

    @abstractmethod
    def check_committed(self) -> None:
        """Open the database anew and check it as read from the disk."""

    @abstractmethod
    def content_digest(self) -> Sha256 | None:
        """Return the SHA-256 of the database file; None while a journal holds a part of the database."""

    # counters
    @abstractmethod
    def note_counters(self, migrations: tuple[Migration, ...]) -> None:
        """Record outside the database how high its counters are, and what the release declares; do nothing without one.

        Raises:
            BadMigrations: the declaration cannot be read.
            TillkeeperError: the numbers cannot be read or written now.
        """

    @abstractmethod
    def would_raise(self, backup: Path) -> bool:
        """Return whether a restore of a backup, as it is, needs a copy of it with raised counters.

        Raises:
            TillkeeperError: that cannot be read now.
        """

    @abstractmethod
    def raise_counters(
        self, *, source: Path, backup: Path, kept: Path | None, migrations: tuple[Migration, ...], operation: str
    ) -> Raised | None:
        """Make a copy of a database that will be restored, in which no counter is lower than it was ever seen.

        Before that, the numbers of the database that is replaced are recorded. Nothing is copied if no counter is
        lower: None. A scratch file is raised in its place.

        Args:
            source: the finished file that will take the place of the database.
            backup: the backup that it is, or was made of, for the explanation.
            kept: the path at which the replaced database is kept, or will be; None if no copy is kept.
            migrations: of the newer release; empty: what is known of earlier ones counts.
            operation: the operation, in words, for the explanation.

        Raises:
            TillkeeperError: it cannot be made; nothing is left of it.
        """

    @abstractmethod
    def counters_raised(self, raised: Intent) -> None:
        """Record that a restore of raised counters is done; repeatable. Never raises."""

    # comparing
    @abstractmethod
    def changed_since_commit(
        self, content_sha256: Sha256 | None, backup: Backup | None, migrations: tuple[Migration, ...]
    ) -> Change:
        """Return whether people wrote since the trial's COMMIT, and at least a part of what they wrote."""

    @abstractmethod
    def lost_since_commit(self, backup: Backup, migrations: tuple[Migration, ...]) -> tuple[Loss, ...]:
        """Return all changes since COMMIT, per table; empty as well if they cannot be determined. Never raises."""

    @abstractmethod
    def changed_since(self, backup: Path) -> Change:
        """Return the changes since a backup was made, as far as the two schemas can be compared."""

    @abstractmethod
    def export_loss(self, migrations: tuple[Migration, ...], *, base: Backup, aside: Backup) -> Path | None:
        """Write the rows that would be missing from the restored database as CSV and SQL."""

    # the means of a restore, made before anything is decided
    @abstractmethod
    def check_usable(self, backup: Path) -> None:
        """Refuse a backup that does not match its facts."""

    @abstractmethod
    def check_replaceable(self, base: Path, *, carries: bool) -> None:
        """Refuse a restore for which another program is in the way, a folder cannot be written, or space is short.

        Raises:
            Damaged: SQLite cannot read the live database; it can only be moved.
            TryLater: by meaning; nothing was changed.
        """

    @abstractmethod
    def copy_aside(self, kind: BackupKind) -> Backup | None:
        """Copy the live database to a temporary name beside it, and begin to sync and check the copy; None without one.

        The copy is complete: it can be read at once.

        Raises:
            Damaged: SQLite cannot read the live database; it can only be moved.
            TryLater: the copy cannot be made now; nothing is left of it.
        """

    @abstractmethod
    def keep_aside(self, part: Backup) -> Backup:
        """Wait until the copy is synced and checked, and give it its final, pinned name, durably; sound or not.

        Raises:
            TryLater: it is not durable; nothing is left of it.
        """

    @abstractmethod
    def name_aside(self, kind: BackupKind) -> Path:
        """Return a free path beside the live database, at which a ruined one can be kept."""

    @abstractmethod
    def kept_at(self, path: Path) -> Backup | None:
        """Return the facts of the backup or set-aside copy of that path; None if there is no such file."""

    @abstractmethod
    def base_of(self, backup: Path) -> Backup | None:
        """Return the migration backup from which changes can be carried back to the schema of `backup`."""

    @abstractmethod
    def reserve(self, source: Path) -> None:
        """Hold the disk space that `restore` of that file takes, until `restore` begins or `release_reserve`.

        Raises:
            DiskFull: there is not so much; nothing is held.
        """

    @abstractmethod
    def release_reserve(self) -> None:
        """Give back the space that is held, if any. Never raises."""

    @abstractmethod
    def carry_back(self, migrations: tuple[Migration, ...], *, base: Backup, aside: Backup) -> Carried:
        """Make the older database with the changes since, and a proof of what it holds.

        Raises:
            TillkeeperError: it cannot be made; the failure is on record, and nothing is left of the attempt.
        """

    @abstractmethod
    def try_carrying(self, base: Backup, migrations: tuple[Migration, ...]) -> Carried:
        """Do as `carry_back` on copies that are removed again, and return what the result would hold."""

    @abstractmethod
    def keep_carried(self, carried: Carried, base: Backup) -> Backup:
        """Give a database that was carried back a final name among the backups, durably."""

    @abstractmethod
    def discard(self, path: Path) -> None:
        """Remove a copy that is not needed: one that was carried back or set aside in vain. Never raises."""

    # the restore itself
    @abstractmethod
    def move_aside(self, path: Path, kind: BackupKind) -> Backup:
        """Move a ruined database, with its journals, to the path that `name_aside` returned; repeatable."""

    @abstractmethod
    def restore(self, backup: Path) -> None:
        """Put a backup over the live database in one transaction, with the space that is held for it, and check it.

        Raises:
            TillkeeperError: it was not put there, or what is on the disk is not sound; both can be repeated.
        """

    @abstractmethod
    def read_intent(self, intent_id: str) -> Intent | None:
        """Return the intent of a person's restore, if one was begun."""

    @abstractmethod
    def write_intent(self, intent: Intent) -> None:
        """Write an intent durably."""

    @abstractmethod
    def remove_intent(self, intent_id: str) -> None:
        """Remove the intent of a restore that was not begun. Never raises."""

    # recording
    @abstractmethod
    def tried(self, run: str) -> Tried:
        """Return how earlier runs of that name ended, by the flight recorder."""

    @abstractmethod
    def record(self, event: FlightEvent, **facts: str | float | None) -> None:
        """Append to the flight recorder, outside the database, and send the event to observers."""

    @abstractmethod
    def seconds(self) -> float:
        """Return the time of a monotonic clock, for durations only."""
