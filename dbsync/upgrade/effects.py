"""Every effect the coordinator has: one method each.

`database.live` does them for real, the tests' simulator in memory.

The plug may be pulled between any two of them. Until `commit` returns nothing has changed; after it the database is the
new one in one step. All raise `TillkeeperError` and nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from dbsync.model import Applied, Backup, Carried, Change, Facts, Intent, Loss, Migration, Recognised, Tried


class Recorder(Protocol):
    """Where the caller keeps what a later run has to know."""

    def backup_made(self, backup: Backup) -> None:
        """A backup is complete under its final name."""

    def content_noted(self, sha256: str) -> None:
        """The SHA-256 of the database file as of COMMIT."""


class Effects(Protocol):
    """The coordinator's hands. The caller holds the database lock."""

    # looking
    def look(self) -> Facts:
        """One cheap look at the database; creates and changes nothing."""

    def history(self) -> tuple[Applied, ...]:
        """The migrations the database says it has, by number; from the readable history where there is no other."""

    def clear(self) -> None:
        """Removes what cut runs left, as far as that can be done: it takes space that is needed. Never raises."""

    def recognise(self, migrations: tuple[Migration, ...]) -> Recognised:
        """What shows how far a database without our history has come."""

    def tried(self, run: str) -> Tried:
        """How earlier runs of that name ended, by the flight recorder."""

    def preflight(self, pending: tuple[Migration, ...]) -> None:
        """Refuses what would fail: no space, a foreign lock, a folder that cannot be written, damage."""

    # one transaction
    def begin(self) -> None:
        """Opens the write transaction: from here on the database stands still."""

    def check_now(self) -> None:
        """Checks a database of which there is no backup to check, because it is new."""

    def equals(self, backup: Path) -> bool:
        """Whether schema and content of the live database equal those of a backup."""

    def copy_backup(self, version: int, trial_id: str | None) -> Backup:
        """Copies the database, as it stands still, to a temporary name."""

    def check_backup(self, part: Backup) -> Backup:
        """Opens the copy and checks it; returns its facts."""

    def keep_backup(self, part: Backup) -> Backup:
        """Gives the checked copy its final name, durably."""

    def apply(self, migration: Migration, trial_id: str | None, release: tuple[str | None, str | None]) -> None:
        """Runs one migration in a savepoint, with its history rows. `release` is id and version."""

    def note_history(self, kept: tuple[Migration, ...], blessed: tuple[Migration, ...]) -> None:
        """Writes history rows for migrations that the database has already: adopted ones, and mended ones."""

    def adopt(self, migrations: tuple[Migration, ...]) -> None:
        """Writes that the database has had these all along; makes the history where there is none."""

    def mark_trial(self, trial_id: str, release: tuple[str | None, str | None]) -> None:
        """Writes the trial's row."""

    def verify(self, migrations: tuple[Migration, ...], backup: Backup | None) -> None:
        """Checks what the transaction would commit."""

    def commit(self) -> None:
        """Makes it so, in one step."""

    def rollback(self) -> None:
        """Undoes what is open; nothing happens if nothing is."""

    def check_committed(self) -> None:
        """Opens the database anew and checks it, read from the disk."""

    def content_digest(self) -> str | None:
        """SHA-256 of the database file with nothing left outside of it; None if something is."""

    def keep_damaged(self) -> Path | None:
        """Copies a damaged database aside, once, as not verified; None if it cannot. Never raises."""

    def rotate_backups(self, pinned: tuple[Path, ...]) -> None:
        """Removes the oldest migration backups over the limit, never a pinned one."""

    # going back
    def changed_since_commit(
        self, content_sha256: str | None, backup: Backup | None, migrations: tuple[Migration, ...]
    ) -> Change:
        """Whether people wrote since the trial's COMMIT, and for a part at least what."""

    def lost_since_commit(self, backup: Backup, migrations: tuple[Migration, ...]) -> tuple[Loss, ...]:
        """All that people did since COMMIT, per table; empty as well if it cannot be told. Never raises."""

    def changed_since(self, backup: Path) -> Change:
        """What people did since a backup was made, as far as the two schemas can be compared."""

    def put_aside(self, reason: str) -> Backup | None:
        """Copies the live database to a pinned, synced file beside it; a damaged one is moved, with its journals."""

    def carry_back(self, base: Backup, aside: Backup, migrations: tuple[Migration, ...]) -> Carried:
        """Makes the older database with what people did since, with a proof of what it holds.

        Raises:
            TillkeeperError: it cannot be made; on record, and nothing is left of it.
        """

    def try_carrying(self, base: Backup, migrations: tuple[Migration, ...]) -> Carried:
        """As `carry_back`, on copies that are removed again: what the result would hold."""

    def discard(self, path: Path) -> None:
        """Removes a copy that nobody needs: what was carried, or was put aside, and came to nothing. Never raises."""

    def keep_carried(self, carried: Carried, base: Backup) -> Backup:
        """Gives what was carried back a final name among the backups, durably."""

    def export_loss(self, base: Backup, migrations: tuple[Migration, ...], aside: Backup) -> Path | None:
        """Writes what would not be in the restored database as CSV and SQL."""

    def check_usable(self, backup: Path) -> None:
        """Refuses a backup that is not what its facts say."""

    def restore(self, backup: Path) -> None:
        """Puts a backup over the live database in one transaction."""

    def read_intent(self, intent_id: str) -> Intent | None:
        """A person's restore that was begun."""

    def write_intent(self, intent: Intent) -> None:
        """Writes it durably."""

    # telling
    def record(self, event: str, **facts: str | float | None) -> None:
        """Appends to the flight recorder, outside the database, and tells whoever watches."""

    def seconds(self) -> float:
        """A monotonic clock, for durations only."""
