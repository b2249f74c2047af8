"""Errors of the updater, grouped by what the caller should do about them.

`TryLater`: nothing was changed, the same call may succeed later. `Refused`: this input will never do; nothing was
changed. `Failed`: a step was undone. `NeedsPerson`: the terminal must not go on by itself. Each carries what was being
done, on what, why it did not work, and a hint for people.
"""

from __future__ import annotations

from pathlib import Path


class UpdaterError(Exception):
    """Anything the updater raises on purpose.

    Attributes:
        operation: what was being done, a verb ("download", "swap").
        path: the file or folder it was done to, if any.
        cause: why it did not work, in plain words.
        hint: what a person can do about it; may be empty.
    """

    hint_by_default = ""

    def __init__(self, *, operation: str, cause: str, path: Path | None = None, hint: str = "") -> None:
        self.operation = operation
        self.path = path
        self.cause = cause
        self.hint = hint or self.hint_by_default
        where = f" {path}" if path is not None else ""
        super().__init__(f"could not {operation}{where}: {cause}")


class TryLater(UpdaterError):
    """Nothing was changed; the same call may succeed later."""


class Refused(UpdaterError):
    """Nothing was changed; the same call fails again until something else changes."""


class Failed(UpdaterError):
    """A step failed and everything it did was undone."""


class NeedsPerson(UpdaterError):
    """Nothing that the terminal may do by itself is right; a person must decide."""


class NoSpace(TryLater):
    """There is not enough space."""

    hint_by_default = "Free some disk space; nothing needs to be repaired."


class AppAlreadyRunning(TryLater):
    """The app lock is held: the app, or something it started, is running."""

    hint_by_default = "Close the app first."


class SettingsError(Refused):
    """The settings file is missing, unreadable, or says something that cannot be."""

    hint_by_default = "Mend the settings file, or run `updater install` again."
