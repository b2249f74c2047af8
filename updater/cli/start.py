"""`updater launch` and `updater confirm`, which tills run at every start, without the CLI library."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dbsync.outcomes import ExitStatus, NamedOutcome
from updater.outcomes import TerminalOutcome

if TYPE_CHECKING:
    from dbsync.errors import TillkeeperError
    from dbsync.progress import Event, Progress
    from updater.settings import Settings

_VIEWS: list[Progress] = []


def launch(words: list[str]) -> int:
    """Run `updater launch [--settings FILE] [-- ARGUMENTS]`, the command of the till's shortcut."""
    if "--help" in words[:1]:
        print("Usage: updater launch [--settings FILE] [-- ARGUMENTS for the app]")
        return 0
    from dbsync.errors import TillkeeperError
    from updater.flows.launch import launch as run

    try:
        settings, rest = _settings(words)
        from updater.model import ProcessKind
        from updater.terminal.live import Terminal

        terminal = Terminal(
            settings, kind=ProcessKind.LAUNCHER, database_progress=_transcript, app_arguments=_after_dashes(rest)
        )
        launched = run(terminal, settings.limits)
    except TillkeeperError as error:
        # A durable write that failed ends the command before any step that depends on it.
        return _say(_outcome_of(error), str(error), error.hint)
    if launched.outcome in (TerminalOutcome.APP_ENDED, TerminalOutcome.CLOSED_UNCONFIRMED):
        return launched.exit_code
    return _say(launched.outcome, launched.cause, launched.outcome.hint)


def _outcome_of(error: TillkeeperError) -> NamedOutcome:
    """Return the outcome of a launch or a confirm that ended with an error."""
    from dbsync.errors import DiskProblem, TryLater

    if isinstance(error, DiskProblem):
        return TerminalOutcome.STATE_NOT_WRITABLE
    if error.outcome is not None:
        return error.outcome
    return TerminalOutcome.BUSY if isinstance(error, TryLater) else TerminalOutcome.CANNOT_START


def confirm(words: list[str]) -> int:
    """Run `updater confirm` and return 0 (continue and sell) or 3 (the trial is over; close without selling)."""
    if "--help" in words[:1]:
        print("Usage: updater confirm [--settings FILE]   (0: go on; 3: given up, close without selling)")
        return 0
    trial_id = os.environ.get("TILLKEEPER_TRIAL_ID")
    if not trial_id:
        return 0
    from dbsync.errors import TillkeeperError
    from updater.flows.confirm import ConfirmAnswer, confirm

    try:
        settings, _ = _settings(words)
        from updater.model import ProcessKind, TrialId
        from updater.terminal.live import Terminal

        confirmed = confirm(Terminal(settings, kind=ProcessKind.CONFIRM), TrialId(trial_id)) is ConfirmAnswer.CONFIRMED
    except TillkeeperError as error:
        # A confirm that is not durable does not count: the app asks again or closes; the launcher counts it.
        return _say(_outcome_of(error), str(error), error.hint)
    return ExitStatus.DONE if confirmed else ExitStatus.GIVEN_UP


def _settings(words: list[str]) -> tuple[Settings, list[str]]:
    from updater import settings

    path: Path | None = None
    if words[:1] == ["--settings"] and len(words) > 1:
        path, words = Path(words[1]), words[2:]
    return settings.load(settings.find(path)), words


def _transcript(event: Event) -> None:
    """Print dbsync's events; the console is loaded with the first event, which most starts never have."""
    if not _VIEWS:
        from dbsync.cli.console import Transcript

        # One transcript for all events: it must remove a bar before it prints the next line.
        _VIEWS.append(Transcript())
    _VIEWS[0](event)


def _after_dashes(words: list[str]) -> tuple[str, ...]:
    return tuple(words[1:] if words[:1] == ["--"] else words)


def _say(outcome: NamedOutcome, cause: str, hint: str) -> int:
    """Print at most two lines: the clerk's sentence, and the cause for support. A console that fails is no failure."""
    lines = [outcome.clerk_sentence] if outcome.sentence else []
    lines += [f"{outcome}: {cause}. {hint}".strip()] if cause else []
    try:
        for line in lines:
            print(line, file=sys.stderr)
    except (OSError, ValueError):
        pass
    return outcome.exit_status
