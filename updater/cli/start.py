"""`updater launch`, `updater confirm` and the usual forms of `updater check`, without the CLI library.

Tills run the first two at every start, and what an agent costs is the third with nothing new.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from dbsync.outcomes import ExitStatus, Group, NamedOutcome
from updater.outcomes import TerminalOutcome

if TYPE_CHECKING:
    from dbsync.progress import Event, Progress
    from updater.settings import Settings

_VIEWS: list[Progress] = []


def launch(words: list[str]) -> int:
    """Run `updater launch [--settings FILE] [-- ARGUMENTS]`, the command of the till's shortcut."""
    if "--help" in words[:1]:
        _print("Usage: updater launch [--settings FILE] [-- ARGUMENTS for the app]", sys.stdout)
        return 0
    return _bounded(_launch, words)


def _launch(words: list[str]) -> int:
    _open_streams()
    from updater.flows.launch import launch as run

    settings, rest = _settings(words)
    from updater.model import ProcessKind
    from updater.terminal import kit_use, launch_count
    from updater.terminal.live import Terminal

    kit_use.hold()
    terminal = Terminal(
        settings, kind=ProcessKind.LAUNCHER, database_progress=_transcript, app_arguments=_after_dashes(rest)
    )
    launched = run(terminal, settings.limits)
    if launched.outcome.group in (Group.DONE, Group.LATER):
        # Such as a till that is open already: nothing is wrong with this launcher.
        launch_count.reached()
    if launched.outcome in (TerminalOutcome.APP_ENDED, TerminalOutcome.CLOSED_UNCONFIRMED):
        return launched.exit_code
    return _say(launched.outcome, launched.cause, launched.outcome.hint)


def _bounded(command: Callable[[list[str]], int], words: list[str]) -> int:
    """Run a command; whatever it raises, and whatever happens to its output, becomes an exit status."""
    from dbsync.errors import interrupts, wrapped

    try:
        return command(words)
    except BaseException as raised:  # noqa: BLE001 - of any type: the last boundary
        if interrupts(raised):
            _print("Interrupted: the database is as it was, or finished.", sys.stderr)
            return ExitStatus.INTERRUPTED
        # A durable write that failed ends the command before any step that depends on it.
        from updater.errors import outcome_of

        error = wrapped(raised)
        return _say(outcome_of(error), str(error), error.hint)
    finally:
        _settle_streams()


def confirm(words: list[str]) -> int:
    """Run `updater confirm` and return 0 (continue and sell) or 3 (the trial is over; close without selling)."""
    if "--help" in words[:1]:
        _print("Usage: updater confirm [--settings FILE]   (0: go on; 3: given up, close without selling)", sys.stdout)
        return 0
    if not os.environ.get("TILLKEEPER_TRIAL_ID"):
        return 0
    # A confirm that is not durable does not count: the app asks again or closes; the launcher counts it.
    return _bounded(_confirm, words)


def _confirm(words: list[str]) -> int:
    from updater.flows.confirm import ConfirmAnswer, confirm

    settings, _ = _settings(words)
    from updater.model import ProcessKind, TrialId
    from updater.terminal.live import Terminal

    terminal = Terminal(settings, kind=ProcessKind.CONFIRM)
    confirmed = confirm(terminal, TrialId(os.environ["TILLKEEPER_TRIAL_ID"])) is ConfirmAnswer.CONFIRMED
    return ExitStatus.DONE if confirmed else ExitStatus.GIVEN_UP


def check(words: list[str]) -> int | None:
    """Run `updater check [--json] [--settings FILE]` and return the exit status; None for words that the library reads.

    Errors are those of the library's command: a sentence on stderr, and an exit status.
    """
    as_json = "--json" in words
    rest = [word for word in words if word != "--json"]
    if rest and (len(rest) != 2 or rest[0] != "--settings" or Path(rest[1]).is_dir()):
        return None
    from dbsync.cli.lines import printable, say
    from dbsync.errors import interrupts, wrapped

    try:
        from updater import settings
        from updater.cli import cycle

        found = settings.load(settings.find(Path(rest[1]) if rest else None))
        return cycle.check(found, as_json=as_json, tell=lambda line: cycle.print_result(line, as_json=as_json))
    except BaseException as raised:  # noqa: BLE001 - of any type: the last boundary
        error = wrapped(raised)
        text, status = error.in_words, error.exit_status
        if interrupts(raised):
            text, status = "interrupted: everything is as it was, or finished", ExitStatus.INTERRUPTED
        if sys.stderr is not None:
            say(f"Error: {printable(text)}", sys.stderr)
        return status
    finally:
        _settle_streams()


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
    """Print at most two lines, the clerk's sentence and the cause for support, and return the exit status."""
    _print(outcome.when_shut, sys.stderr)
    if cause:
        _print(f"{outcome}: {cause}. {hint}".strip(), sys.stderr)
    return outcome.exit_status


def _print(line: str, stream: TextIO | None) -> None:
    """Print a line, if there is one and a stream takes it: a console that fails is no failure."""
    try:
        if line and stream is not None:
            print(line, file=stream, flush=True)
    except (OSError, ValueError):
        return


def _open_streams() -> None:
    """Open the standard streams that this process was started without.

    Their numbers would go to the next files that are opened, here and in the app: a lock or a database under number 1
    or 2 is written over by what a program prints.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _settle_streams() -> None:
    """Drop what a stream cannot take, so that the end of this process does not fail on it.

    Python writes the rest of the buffers as it ends, and a failure of that replaces the exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            try:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
            except (OSError, ValueError):
                continue
