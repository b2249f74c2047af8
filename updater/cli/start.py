"""`updater launch` and `updater confirm`: what tills run at every start, without the CLI library."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbsync.progress import Event, Progress
    from updater.settings import Settings

_VIEWS: list[Progress] = []


def launch(words: list[str]) -> int:
    """`updater launch [--settings FILE] [-- ARGUMENTS]`: what the till's shortcut starts."""
    if "--help" in words[:1]:
        print("Usage: updater launch [--settings FILE] [-- ARGUMENTS for the app]")
        return 0
    import gc

    # Nothing that a start makes is garbage: collecting would cost a tenth of it (`scripts/bench launch`).
    gc.disable()
    from dbsync.errors import DbsyncError
    from updater.errors import SettingsError, UpdaterError
    from updater.flows.launch import launch as run

    try:
        settings, rest = _settings(words)
        from updater.terminal.live import Terminal

        terminal = Terminal(settings, kind="launcher", database_progress=_transcript, app_arguments=_after_dashes(rest))
        launched = run(terminal, settings.limits)
    except SettingsError as error:
        return _say("BAD_SETTINGS", str(error), error.hint)
    except (UpdaterError, DbsyncError) as error:
        # A durable write that failed ends the command: nothing that needed it was done.
        outcome = "CANNOT_START" if isinstance(error, UpdaterError) else "STATE_NOT_WRITABLE"
        return _say(outcome, str(error), error.hint)
    if launched.outcome not in ("APP_ENDED", "CLOSED_UNCONFIRMED"):
        from updater import outcomes

        return _say(launched.outcome, launched.cause, outcomes.meaning(launched.outcome).next_step)
    return launched.exit_code


def confirm(words: list[str]) -> int:
    """`updater confirm`: 0 go on and sell; 3 the trial is over, close without selling."""
    if "--help" in words[:1]:
        print("Usage: updater confirm [--settings FILE]   (0: go on; 3: given up, close without selling)")
        return 0
    trial_id = os.environ.get("TILLKEEPER_TRIAL_ID")
    if not trial_id:
        return 0
    from dbsync.errors import DbsyncError
    from updater.errors import UpdaterError
    from updater.flows.confirm import CONFIRMED, confirm

    try:
        settings, _ = _settings(words)
        from updater.terminal.live import Terminal

        return 0 if confirm(Terminal(settings, kind="confirm"), trial_id) == CONFIRMED else 3
    except (UpdaterError, DbsyncError) as error:
        # Not durable is not confirmed: the app asks again or closes; the launcher counts it.
        return _say("STATE_NOT_WRITABLE", str(error), error.hint)


def _settings(words: list[str]) -> tuple[Settings, list[str]]:
    from updater import settings

    path: Path | None = None
    if words[:1] == ["--settings"] and len(words) > 1:
        path, words = Path(words[1]), words[2:]
    return settings.load(settings.find(path)), words


def _transcript(event: Event) -> None:
    """Prints dbsync's events; the console is loaded with the first one, which most starts never see."""
    if not _VIEWS:
        from dbsync.cli.console import Transcript

        # One for all events: a bar has to be taken away before the next line.
        _VIEWS.append(Transcript())
    _VIEWS[0](event)


def _after_dashes(words: list[str]) -> tuple[str, ...]:
    return tuple(words[1:] if words[:1] == ["--"] else words)


def _say(outcome: str, cause: str, hint: str) -> int:
    """Two lines at most: the clerk's sentence, and the cause for whoever looks. A console that fails is no failure."""
    from updater import outcomes

    sentence = outcomes.clerk_sentence(outcome)
    lines = [sentence] if sentence else []
    lines += [f"{outcome}: {cause}. {hint}".strip()] if cause else []
    try:
        for line in lines:
            print(line, file=sys.stderr)
    except (OSError, ValueError):
        pass
    return outcomes.exit_code(outcome)
