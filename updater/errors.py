"""Errors of a terminal, in the tree of `dbsync.errors`: grouped by what the caller should do about them."""

from __future__ import annotations

from dbsync.errors import Refused, TryLater
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
