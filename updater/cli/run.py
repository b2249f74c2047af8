"""`updater run`: run the agent as a service."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from dbsync.cli.console import say
from updater.cli.shared import terminal_of, with_settings
from updater.model import ProcessKind
from updater.settings import Settings

if TYPE_CHECKING:
    from updater.flows.agent import Cycle


@click.command("run")
@with_settings
def command(settings: Settings) -> None:
    """Check for updates at every interval until stopped. Install it as a service."""
    from updater.flows.agent import run as ring

    ring(
        terminal_of(settings, ProcessKind.AGENT),
        interval_seconds=settings.interval_seconds,
        jitter_seconds=settings.jitter_seconds,
        told=_tell,
    )


def _tell(ended: Cycle) -> None:
    """Print how a cycle ended; a log that cannot be written ends no agent."""
    with suppress(OSError, ValueError):
        if sys.stdout is not None:
            say(f"{ended.outcome}: {ended.reason}", sys.stdout)
