"""`updater check`: run one cycle of the agent now."""

from __future__ import annotations

import json
import sys

import click

from dbsync.cli.output import tell
from updater.cli.shared import as_json, ready_agent, terminal_of, with_settings
from updater.model import ProcessKind
from updater.settings import Settings


@click.command("check")
@as_json
@with_settings
def command(settings: Settings, *, as_json: bool) -> None:
    """Run one cycle now: look, download, stage and swap if allowed; report each decision and why."""
    from updater.cli import progress_bar
    from updater.flows.agent import cycle

    settings = ready_agent(settings, "check")

    with progress_bar.download_bar(quiet=as_json) as progress:
        ended = cycle(terminal_of(settings, ProcessKind.AGENT, progress=progress))
    if as_json:
        tell(json.dumps(ended._asdict()), exactly=True)
    else:
        for line in ended.done:
            tell(f"done: {line}")
        tell(f"{ended.outcome}: {ended.reason}")
    sys.exit(ended.outcome.exit_status)
