"""Helpers of the commands: error messages, the settings of a command, and the terminal that they describe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from dbsync.cli.table import Sentence
from dbsync.errors import TillkeeperError, wrapped
from updater import settings as settings_file
from updater.model import ProcessKind
from updater.outcomes import TerminalOutcome
from updater.settings import Settings

if TYPE_CHECKING:
    from updater.terminal.live import Terminal

Command = Callable[..., None]
FILE: Final = click.Path(path_type=Path, dir_okay=False)
FOLDER: Final = click.Path(path_type=Path, file_okay=False)


class Failure(Sentence):
    """Error as people read it: the operation that failed, the cause, and a hint."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code: int = exit_code  # type: ignore[misc]


@contextmanager
def in_words() -> Iterator[None]:
    """Context that turns our errors and those of files into a message and an exit status.

    All others are left to the group.
    """
    try:
        yield
    except (TillkeeperError, OSError) as raised:
        error = wrapped(raised)
        raise Failure(error.in_words, error.exit_status) from raised


def with_settings(command: Command) -> Command:
    """Add --settings to a command and pass it the loaded settings."""

    @click.option("--settings", "settings_path", type=FILE, help="The terminal's settings file.")
    @wraps(command)
    def wrapped(settings_path: Path | None, **values: Any) -> None:
        with in_words():
            command(settings_file.load(settings_file.find(settings_path)), **values)

    return wrapped


def ready_agent(settings: Settings, command: str) -> Settings:
    """Check that the agent may act on this terminal, before it does; return its settings, which may have a new id.

    A terminal that may not be trusted, and one that is a copy of another one, are reported.

    Raises:
        Refused: this account is not the agent's; or another account can replace what the agent trusts.
        SettingsError: an address or the proxy cannot be one.
    """
    from updater.errors import UnsafeRights
    from updater.model import Report, ReportPhase
    from updater.repository import manner
    from updater.terminal import identity, layout, rights

    rights.refuse_clerk(settings, command)
    manner.check(settings)
    try:
        rights.refuse_unsafe(settings)
    except UnsafeRights as error:
        outcome, done = TerminalOutcome.UNSAFE_RIGHTS, "nothing was done"
        terminal_of(settings, ProcessKind.AGENT).tell(
            Report(outcome, None, ReportPhase.CYCLE, None, error.located, done)
        )
        raise
    # It moves the files of an earlier release into their folders, if that may be.
    moved = terminal_of(settings, ProcessKind.AGENT).settings
    copied = identity.settle(moved) if not layout.is_first(moved) else None
    if copied is None:
        return settings
    settings = settings._replace(terminal_id=copied.after)
    report = Report(
        TerminalOutcome.NEW_TERMINAL_ID, phase=ReportPhase.CYCLE, cause=copied.cause, done=f"its id is {copied.after}"
    )
    terminal_of(settings, ProcessKind.AGENT).tell(report)
    return settings


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def terminal_of(
    settings: Settings, kind: ProcessKind, *, progress: Callable[[int, int], None] | None = None
) -> Terminal:
    """Return the terminal of these settings; its events are recorded under that kind of process."""
    from updater.terminal.live import Terminal

    return Terminal(settings, kind=kind, download_progress=progress)
