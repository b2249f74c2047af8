"""Errors of the product, grouped by what the caller should do about them.

`TryLater`: nothing was changed, the same call may succeed later. `Refused`: nothing was changed, and the same call
fails again until a person or a newer release changes something. `Failed`: a step failed and what it did was undone.
Each carries the operation, its object, the cause, and a hint for people. `updater.errors` adds those of a terminal.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import ClassVar, Final

from dbsync.outcomes import ExitStatus, Group, NamedOutcome, OutcomeName

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class TillkeeperError(Exception):
    """Anything that the product raises on purpose.

    Attributes:
        operation: what was being done, a verb ("write", "back up").
        path: the file or folder it was done to, if any.
        cause: why it did not work, in plain words.
        hint: what a person can do about it; may be empty.
    """

    hint_by_default: ClassVar[str] = ""
    group: ClassVar[Group] = Group.REFUSED
    """What the caller should do about it."""
    outcome: ClassVar[NamedOutcome | None] = None
    """The outcome that this error leads to; None: the phase in which it came decides."""

    def __init__(self, *, operation: str, cause: str, path: Path | None = None, hint: str = "") -> None:
        self.operation = operation
        self.path = path
        self.cause = cause
        self.hint = hint or self.hint_by_default
        where = f" {path}" if path is not None else ""
        super().__init__(f"could not {operation}{where}: {cause}")

    @property
    def exit_status(self) -> ExitStatus:
        """The exit status of a command that ends with this error."""
        return self.outcome.exit_status if self.outcome is not None else self.group.exit_status

    @property
    def in_words(self) -> str:
        """The error and its hint, as people read them."""
        return f"{self}. {self.hint}".strip()


class TryLater(TillkeeperError):
    """Nothing was changed; the same call may succeed later."""

    group = Group.LATER


class Refused(TillkeeperError):
    """Nothing was changed; the same call fails again until something else changes."""

    group = Group.REFUSED


class Failed(TillkeeperError):
    """A step failed and everything it did was undone."""

    group = Group.FAILED


class DiskProblem(TryLater):
    """A file operation failed."""

    hint_by_default = "Check that the folder exists, is on a sound disk and may be written by this user."


class DiskFull(DiskProblem):
    """There is not enough space."""

    hint_by_default = "Free some disk space; nothing needs to be repaired."
    outcome = OutcomeName.NO_SPACE


class ReadOnly(DiskProblem):
    """The database or its folder cannot be written."""

    hint_by_default = "Make the data folder and the database writable for this user."
    outcome = OutcomeName.READ_ONLY


class Locked(TryLater):
    """Another process has the database."""

    hint_by_default = "Close the app and every tool that has the database open, then try again."
    outcome = OutcomeName.LOCKED


class UnreadableFile(Refused):
    """A file of ours is there but is not what it should be."""


class UnsupportedSystem(Refused):
    """The operating system that this runs on is none of those that the product knows."""


class NotAgreed(Refused):
    """A person was asked and did not say yes, or there was nobody to ask."""

    hint_by_default = "Nothing was changed. Say --yes to do it without being asked."


class Missing(Refused):
    """There is no database, or nothing in it where there was something."""

    hint_by_default = "Check the path. Nothing was made; `dbsync backups` lists what can be restored."
    outcome = OutcomeName.MISSING


class Damaged(Refused):
    """The database is not a sound SQLite database."""

    hint_by_default = "Nothing was changed. `dbsync backups` lists what can be restored."
    outcome = OutcomeName.DAMAGED


class NetworkDrive(Refused):
    """It lies on a network file system, whose locks cannot be relied on (sqlite.org/howtocorrupt.html, 2.1)."""

    hint_by_default = "Move the database to a disk of this machine."
    outcome = OutcomeName.NETWORK_DRIVE


class BackupUnusable(Refused):
    """A backup is not what its facts say, or cannot be opened."""

    hint_by_default = "Choose another backup; `dbsync backups` lists them."
    outcome = OutcomeName.BACKUP_UNUSABLE


class BadMigrations(Refused):
    """The folder of migrations has gaps, duplicates, or files that cannot be understood."""

    hint_by_default = "The release is wrong; nothing on this terminal can mend it."
    outcome = OutcomeName.BAD_MIGRATIONS


class Untracked(Refused):
    """Which schema a database has cannot be told, or need not be."""

    outcome = OutcomeName.UNTRACKED


class MigrationFailed(Failed):
    """A migration failed; the whole transaction was undone."""

    outcome = OutcomeName.MIGRATION_FAILED


class VerificationFailed(Failed):
    """What the migrations left did not pass verification; the whole transaction was undone."""

    outcome = OutcomeName.VERIFICATION_FAILED


class CommitFailed(Failed):
    """The database did not come back sound from the disk after COMMIT."""

    outcome = OutcomeName.COMMIT_FAILED


def disk_problem(operation: str, path: Path, cause: OSError) -> DiskProblem:
    """Return the error for a failed file operation: `DiskFull` where space ran out, else `DiskProblem`."""
    kind = DiskFull if cause.errno in _FULL else DiskProblem
    return kind(operation=operation, path=path, cause=cause.strerror or str(cause))


def wrapped(error: TillkeeperError | OSError) -> TillkeeperError:
    """Return an error of ours as it is, an unexpected `OSError` as a `DiskProblem`: it must not stop the till."""
    if isinstance(error, TillkeeperError):
        return error
    return disk_problem("use", Path(os.fsdecode(error.filename or "a file")), error)
