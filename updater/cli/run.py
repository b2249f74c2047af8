"""`updater run`: run the agent as a service."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import UTC, datetime

import click

from dbsync.cli.console import say
from updater.cli.shared import ready_agent, terminal_of, with_settings
from updater.model import ProcessKind
from updater.settings import Settings


@click.command("run")
@with_settings
def command(settings: Settings) -> None:
    """Check for updates at every interval until stopped. Install it as a service."""
    from updater.flows.agent import run as ring
    from updater.network.record import next_time

    settings = ready_agent(settings, "run")

    ring(
        terminal_of(settings, ProcessKind.AGENT),
        interval_seconds=settings.interval_seconds,
        jitter_seconds=settings.jitter_seconds,
        told=lambda ended: _say(f"{ended.outcome}: {ended.reason}"),
        said=_say,
        again=lambda: next_time(settings.addresses, now=datetime.now(UTC)),
    )


def _say(line: str) -> None:
    """Print what was done; a log that cannot be written ends no agent."""
    with suppress(OSError, ValueError):
        if sys.stdout is not None:
            say(line, sys.stdout)
