"""One cycle of the agent as a command, without the CLI library: what it needs first, and what it prints.

`updater check` in its usual forms comes here at once (`cli.start`): loading the library would be a third of a cycle
that finds nothing new.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbsync.cli.lines import say
from updater.model import ProcessKind
from updater.settings import Settings

if TYPE_CHECKING:
    from updater.terminal.live import Terminal


def ready_agent(settings: Settings, command: str) -> Settings:
    """Check that the agent may act on this terminal, before it does; return its settings, which may have a new id.

    A terminal that may not be trusted, and one that is a copy of another one, are reported.

    Raises:
        Refused: this account is not the agent's; or another account can replace what the agent trusts.
        SettingsError: an address or the proxy cannot be one.
    """
    from updater.errors import UnsafeRights
    from updater.model import Report, ReportPhase
    from updater.outcomes import TerminalOutcome
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


def terminal_of(
    settings: Settings, kind: ProcessKind, *, progress: Callable[[int, int], None] | None = None
) -> Terminal:
    """Return the terminal of these settings; its events are recorded under that kind of process."""
    from updater.terminal.live import Terminal

    return Terminal(settings, kind=kind, download_progress=progress)


def check(settings: Settings, *, as_json: bool, tell: Callable[[str], None]) -> int:
    """Run one cycle, tell each decision and why, and return the exit status."""
    from updater.cli import progress_bar
    from updater.flows.agent import cycle

    settings = ready_agent(settings, "check")
    with progress_bar.download_bar(quiet=as_json) as progress:
        ended = cycle(terminal_of(settings, ProcessKind.AGENT, progress=progress))
    if as_json:
        tell(json.dumps(ended._asdict()))
    else:
        for line in ended.done:
            tell(f"done: {line}")
        tell(f"{ended.outcome}: {ended.reason}")
    return ended.outcome.exit_status


def print_result(line: str, *, as_json: bool) -> None:
    """Print a line of a result; the work stays done, with its own exit status, if it cannot be printed."""
    try:
        if sys.stdout is not None:
            say(line, sys.stdout, exactly=as_json)
    except (OSError, ValueError):
        return
