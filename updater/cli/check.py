"""`updater check`: run one cycle of the agent now."""

from __future__ import annotations

import sys

import click

from dbsync.cli.output import tell
from updater.cli import cycle
from updater.cli.shared import as_json, with_settings
from updater.settings import Settings


@click.command("check")
@as_json
@with_settings
def command(settings: Settings, *, as_json: bool) -> None:
    """Run one cycle now: look, download, stage and swap if allowed; report each decision and why."""
    sys.exit(cycle.check(settings, as_json=as_json, tell=lambda line: tell(line, exactly=as_json)))
