"""`updater run`: run the agent as a service."""

from __future__ import annotations

import click

from updater.cli.shared import terminal_of, with_settings
from updater.model import ProcessKind
from updater.settings import Settings


@click.command("run")
@with_settings
def command(settings: Settings) -> None:
    """Check for updates at every interval until stopped. Install it as a service."""
    from updater.flows.agent import run as ring

    ring(
        terminal_of(settings, ProcessKind.AGENT),
        interval_seconds=settings.interval_seconds,
        jitter_seconds=settings.jitter_seconds,
        told=lambda ended: click.echo(f"{ended.outcome}: {ended.reason}"),
    )
