"""Errors of a terminal, in the tree of `dbsync.errors`: grouped by what the caller should do about them."""

from __future__ import annotations

from dbsync.errors import DiskProblem, Refused, TillkeeperError, TryLater
from dbsync.outcomes import NamedOutcome
from updater.outcomes import TerminalOutcome


class AppAlreadyRunning(TryLater):
    """The app lock is held: the app, or a process that it started, is running."""

    hint_by_default = "Close the app first."


class Busy(TryLater):
    """Another process of the product holds the terminal or its database."""

    outcome = TerminalOutcome.BUSY


class SettingsError(Refused):
    """The settings file is missing, unreadable or invalid."""

    hint_by_default = "Fix the settings file, or run `updater install` again."
    outcome = TerminalOutcome.BAD_SETTINGS


def outcome_of(error: TillkeeperError) -> NamedOutcome:
    """Return the outcome of a launch or a confirm that ended with an error."""
    if isinstance(error, DiskProblem):
        return TerminalOutcome.STATE_NOT_WRITABLE
    if error.outcome is not None:
        return error.outcome
    return TerminalOutcome.BUSY if isinstance(error, TryLater) else TerminalOutcome.CANNOT_START
