"""Errors of the product, grouped by what the caller should do about them.

`TryLater`: nothing was changed, the same call may succeed later. `Refused`: nothing was changed, and the same call
fails again until a person or a newer release changes something. `Failed`: a step failed and its effects were undone.
Each has the operation, its object, the cause, and a hint for people. `updater.errors` adds the errors of a terminal.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path, PurePath
from typing import ClassVar, Final

from dbsync.outcomes import ExitStatus, Group, NamedOutcome, OutcomeName

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SHOWN_LIMIT: Final = 2000
"""Characters of a foreign text that are shown: a report and a person need its beginning."""
PLACES_LIMIT: Final = 3
"""Lines of code that are named for an exception that nothing expected."""


class TillkeeperError(Exception):
    """Base class of every error that the product raises on purpose.

    Attributes:
        operation: the step that failed, a verb ("write", "back up").
        path: the file or folder that it failed on, if any.
        cause: why it failed, in plain words.
        hint: what a person should do; may be empty.
        migration: the migration that failed, as `0002_name`; empty where that is not known.
    """

    migration: str = ""
    hint_by_default: ClassVar[str] = ""
    group: ClassVar[Group] = Group.REFUSED
    """The action that the caller should take."""
    outcome: ClassVar[NamedOutcome | None] = None
    """The outcome that this error leads to; None: the phase in which it was raised decides."""

    def __init__(self, *, operation: str, cause: str, path: Path | None = None, hint: str = "") -> None:
        self.operation = operation
        self.path = path
        self.cause = cause = encodable(cause if path is None else cause.removeprefix(f"{path}: "))
        self.hint = hint or self.hint_by_default
        where = f" {path}" if path is not None else ""
        super().__init__(encodable(f"could not {operation}{where}: {cause}"))

    @property
    def exit_status(self) -> ExitStatus:
        """The exit status of a command that ends with this error."""
        return self.outcome.exit_status if self.outcome is not None else self.group.exit_status

    @property
    def located(self) -> str:
        """The cause with its path in front, for a record or an outcome that has no other place for it."""
        where = "" if self.path is None else encodable(str(self.path))
        return self.cause if where in self.cause else f"{where}: {self.cause}"

    @property
    def in_words(self) -> str:
        """The error and its hint, as people read them."""
        return f"{self}. {self.hint}".strip()


class TryLater(TillkeeperError):
    """An error after which nothing was changed; the same call may succeed later."""

    group = Group.LATER


class Refused(TillkeeperError):
    """An error after which nothing was changed; the same call fails again until something else changes."""

    group = Group.REFUSED


class Failed(TillkeeperError):
    """The failure of a step, all effects of which were undone."""

    group = Group.FAILED


class DiskProblem(TryLater):
    """The failure of a file operation."""

    hint_by_default = "Check that the folder exists, is on a sound disk and may be written by this user."


class DiskFull(DiskProblem):
    """A lack of disk space."""

    hint_by_default = "Free some disk space; nothing needs to be repaired."
    outcome = OutcomeName.NO_SPACE


class RehearsalSkipped(TryLater):
    """A rehearsal, or a part of it, that this machine has no space or no time for now; the release is not to blame."""

    hint_by_default = "Free some disk space; the rehearsal is tried again the next time."
    outcome = OutcomeName.REHEARSAL_SKIPPED


class ReadOnly(DiskProblem):
    """A database or folder that cannot be written."""

    hint_by_default = "Make the data folder and the database writable for this user."
    outcome = OutcomeName.READ_ONLY


class NoMemory(TryLater):
    """A lack of memory."""

    hint_by_default = "Close other programs, or restart this machine; nothing needs to be repaired."


class Locked(TryLater):
    """A database that another process holds."""

    hint_by_default = "Close the app and every tool that has the database open, then try again."
    outcome = OutcomeName.LOCKED


class UnreadableFile(Refused):
    """A file of ours that exists and has unexpected content."""


class UnsupportedSystem(Refused):
    """An operating system that the product does not support."""


class NotAgreed(Refused):
    """The lack of a confirmation: a person was asked and did not confirm, or there was no terminal to ask at."""

    hint_by_default = "Nothing was changed. Pass --yes to proceed without being asked."


class Missing(Refused):
    """A database that does not exist, or is empty although there was data in it."""

    hint_by_default = (
        "Check the path. Nothing was made. `dbsync backups` lists the backups; `dbsync restore BACKUP` restores one."
    )
    outcome = OutcomeName.MISSING


class Damaged(Refused):
    """A damaged database, or a file that is not a SQLite database."""

    hint_by_default = (
        "Nothing was changed. `dbsync backups` lists the backups; `dbsync restore BACKUP --accept-loss` restores one"
        " and keeps the damaged file. What was recorded since that backup: `dbsync repair --into NEW`."
    )
    outcome = OutcomeName.DAMAGED


class Unparsed(Refused):
    """A schema with an object that this SQLite cannot parse. The pages of the database may all be sound."""

    hint_by_default = OutcomeName.SCHEMA_NOT_PARSED.hint
    outcome = OutcomeName.SCHEMA_NOT_PARSED


class NetworkDrive(Refused):
    """A database on a network file system, whose locks are not reliable (sqlite.org/howtocorrupt.html, 2.1)."""

    hint_by_default = "Move the database to a disk of this machine."
    outcome = OutcomeName.NETWORK_DRIVE


class BackupUnusable(Refused):
    """A backup that does not match its facts, or cannot be opened."""

    hint_by_default = "Choose another backup; `dbsync backups` lists them."
    outcome = OutcomeName.BACKUP_UNUSABLE


class BadMigrations(Refused):
    """A folder of migrations with gaps, duplicates, or files that cannot be parsed."""

    hint_by_default = "The release is wrong; nothing on this terminal can fix it."
    outcome = OutcomeName.BAD_MIGRATIONS


class Untracked(Refused):
    """A database whose schema number cannot be determined, or need not be."""

    outcome = OutcomeName.UNTRACKED


class MigrationFailed(Failed):
    """The failure of a migration; the whole transaction was undone."""

    outcome = OutcomeName.MIGRATION_FAILED


class MissingTool(MigrationFailed):
    """The lack of a module or program that a migration uses, in the Python or on the machine that runs it now."""


class VerificationFailed(Failed):
    """A migrated database that did not pass verification; the whole transaction was undone."""

    outcome = OutcomeName.VERIFICATION_FAILED


class CommitFailed(Failed):
    """A database that was found damaged when it was read back from the disk after COMMIT."""

    outcome = OutcomeName.COMMIT_FAILED


class Unexpected(Failed):
    """An exception that nothing expected: a fault of ours, of a library, or of a migration."""

    hint_by_default = "Send this message and the record of the run to the vendor."


def disk_problem(operation: str, path: Path, cause: OSError) -> DiskProblem:
    """Return the error for a failed file operation: `DiskFull` if space ran out, else `DiskProblem`."""
    kind = disk_problem_kind(cause)
    return kind(operation=operation, path=path, cause=shown(cause.strerror or cause) or described(cause))


def disk_problem_kind(cause: OSError) -> type[DiskProblem]:
    """Return our class for a failed file operation."""
    if cause.errno in _FULL:
        return DiskFull
    return ReadOnly if cause.errno == errno.EROFS else DiskProblem


def place_of(cause: OSError, otherwise: Path) -> Path:
    """Return the file that a call failed on, as the system names it; `otherwise` if it names none."""
    name: object = cause.filename
    if not isinstance(name, str | bytes) or not name:
        return otherwise
    try:
        return Path(os.fsdecode(name))
    except ValueError:
        # Windows decodes strictly, and code of a vendor may put any bytes there.
        return Path(repr(name))


def interrupts(error: BaseException) -> bool:
    """Return whether an exception is a person's Ctrl-C, or a group that holds one; every other one is a failure.

    A boundary catches `BaseException`, because code of a vendor raises any type, and raises these again.
    """
    waiting = [error]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, KeyboardInterrupt):
            return True
        if isinstance(inner, BaseExceptionGroup):
            waiting += inner.exceptions
    return False


def wrapped(error: BaseException) -> TillkeeperError:
    """Return an error of ours unchanged, what lies in this machine as such, any other exception as `Unexpected`.

    For the last boundaries: an exception that no effect has put in words must not stop the till. It raises nothing
    itself, whatever the exception is made of.
    """
    if isinstance(error, TillkeeperError) and isinstance(getattr(error, "cause", None), str):
        return error
    if isinstance(error, MemoryError):
        return NoMemory(operation="finish", cause="there is not enough memory" + _place_of(error))
    if isinstance(error, OSError):
        return disk_problem("use", place_of(error, Path("a file")), error)
    return Unexpected(operation="finish", cause=described(error) + _place_of(error))


def described(error: BaseException) -> str:
    """Return the kind and the text of an exception, also of one whose text cannot be made or cannot be written."""
    return encodable(f"{type(error).__name__}: {shown(error)}")


def shown(value: object) -> str:
    """Return the text of a value for people; one that cannot be made, or is very long, has words instead."""
    try:
        # A subclass of str may override anything: its own characters are copied.
        text = str.__str__(str(value))
    except BaseException as error:
        # This is the end of the line: the text is only for people.
        if interrupts(error):
            raise
        text = "it has no text that can be shown"
    cut = text if len(text) <= SHOWN_LIMIT else f"{text[:SHOWN_LIMIT]} … ({len(text)} characters)"
    return encodable(cut)


def _place_of(error: BaseException) -> str:
    """Return the lines of code at which an exception was raised, innermost last; an empty string if there are none."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        file = PurePath(trace.tb_frame.f_code.co_filename)
        places.append("/".join([*file.parts[-2:-1], f"{file.name}:{trace.tb_lineno}"]))
        trace = trace.tb_next
    return f" (at {', '.join(places[-PLACES_LIMIT:])})" if places else ""


def encodable(text: str) -> str:
    """Return a string that every file and console takes: what is not a character becomes its escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
