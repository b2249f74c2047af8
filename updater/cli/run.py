"""`updater run`: run the agent as a service."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from dbsync.cli.lines import say
from dbsync.errors import TryLater
from updater.cli.cycle import ready_agent, terminal_of
from updater.cli.shared import with_settings
from updater.model import ProcessKind
from updater.settings import Settings

if TYPE_CHECKING:
    from updater.flows.agent import Cycle


@click.command("run")
@with_settings
@click.option("--service", default="", hidden=True, help="Set by the service manager of Windows: the service's name.")
def command(settings: Settings, *, service: str) -> None:
    """Check for updates at every interval until stopped. `updater service install` lets the system run it."""
    from updater.host import this_host

    this_host().serve(lambda wait: _agent(settings, wait), service=service)


def _agent(settings: Settings, wait: Callable[[], None]) -> None:
    """Run the agent until it is asked to end, and return while no state file is being written."""
    from updater.flows.agent import run as ring
    from updater.flows.self_update import is_on_trial
    from updater.host import stub
    from updater.network.record import next_time
    from updater.terminal import kit_use

    kit_use.hold()
    if os.environ.pop(stub.PIPE, ""):
        threading.Thread(target=_end_with_input, daemon=True).start()
    if not is_on_trial(terminal_of(settings, ProcessKind.STATUS)):
        # An agent on trial changes nothing; it is started anew once it has confirmed.
        settings = ready_agent(settings, "run")
    ring(
        terminal_of(settings, ProcessKind.AGENT),
        interval_seconds=settings.interval_seconds,
        jitter_seconds=settings.jitter_seconds,
        told=_told,
        said=_say,
        again=lambda: next_time(settings.addresses, now=datetime.now(UTC)),
        wait=wait,
    )
    # Held until this process ends: the cycle records nothing more. What it downloads or unpacks is resumed.
    with suppress(TryLater):
        terminal_of(settings, ProcessKind.AGENT).take_terminal_lock()
    _say("The agent ends.")


def _told(ended: Cycle) -> None:
    """Print how a cycle ended; end this agent if another one is to start: its service manager starts it."""
    from updater.flows.self_update import ENDS
    from updater.host import this_host

    _say(f"{ended.outcome}: {ended.reason}")
    if ended.outcome in ENDS:
        this_host().end_self()


def _end_with_input() -> None:
    """End this agent when its standard input does: the program that started it was asked to end, or was killed."""
    from updater.host import this_host

    # Not through a buffer, whose lock this thread would hold while the interpreter ends.
    while os.read(0, 1024):
        pass
    this_host().end_self()


def _say(line: str) -> None:
    """Print what was done; a log that cannot be written ends no agent."""
    with suppress(OSError, ValueError):
        if sys.stdout is not None:
            say(line, sys.stdout)
