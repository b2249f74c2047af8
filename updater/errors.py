"""Errors of a terminal, in the tree of `dbsync.errors`: grouped by what the caller should do about them."""

from __future__ import annotations

from dbsync.errors import DiskProblem, NoMemory, Refused, TillkeeperError, TryLater
from dbsync.outcomes import Group, NamedOutcome, OutcomeName
from updater.outcomes import TerminalOutcome


class AppAlreadyRunning(TryLater):
    """The app is running, or another process starts it."""

    hint_by_default = "Close the app first."


class Busy(TryLater):
    """Another process of the product holds the terminal or its database."""

    outcome = TerminalOutcome.BUSY


class LockHeld(Busy):
    """A process keeps the terminal lock for longer than any step of ours takes."""

    outcome = TerminalOutcome.LOCK_HELD


class PackUnusable(Refused):
    """A pack or a delta from which the release cannot be made here; the release itself is not to blame."""


class WouldLose(Refused):
    """A rollback after which the live database would lack something, to which nobody has agreed."""

    group = Group.PERSON
    outcome = OutcomeName.STAYS
    hint_by_default = (
        "Nothing was changed. Pass --accept-loss to go back all the same: what the older database lacks is kept, and"
        " exported if it can be read."
    )


class Owed(TryLater):
    """A rollback that is decided and whose restore is not finished."""

    outcome = OutcomeName.RESTORE_PENDING
    hint_by_default = (
        "The rollback is decided and not finished. Nothing that was recorded is discarded. The next start of the till"
        " finishes it; `updater status` names it until then."
    )


class SettingsError(Refused):
    """The settings file is missing, unreadable or invalid."""

    hint_by_default = "Fix the settings file, or run `updater install` again."
    outcome = TerminalOutcome.BAD_SETTINGS


class UnsafeRights(Refused):
    """Another account could have replaced what the agent trusts."""

    outcome = TerminalOutcome.UNSAFE_RIGHTS


class UnfitPlace(Refused):
    """A folder in which a terminal would not keep its promises, or whose name this system cannot hold."""

    outcome = TerminalOutcome.UNFIT_PLACE


def outcome_of(error: TillkeeperError) -> NamedOutcome:
    """Return the outcome of a launch or a confirm that ended with an error."""
    if isinstance(error, DiskProblem):
        return TerminalOutcome.STATE_NOT_WRITABLE
    if error.outcome is not None:
        return error.outcome
    if isinstance(error, NoMemory):
        # Not a lock that somebody holds: something smaller may still start.
        return TerminalOutcome.CANNOT_START
    return TerminalOutcome.BUSY if isinstance(error, TryLater) else TerminalOutcome.CANNOT_START
