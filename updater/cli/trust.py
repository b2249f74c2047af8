"""`updater trust`: show whom this terminal trusts, and begin again from a root that was handed over."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dbsync.cli.output import tell
from updater.cli.cycle import ready_agent
from updater.cli.shared import FILE, as_json, with_settings
from updater.settings import Settings


@click.group("trust")
def command() -> None:
    """Show the vendor's keys that this terminal trusts, or trust a root again."""


@command.command()
@as_json
@with_settings
def show(settings: Settings, *, as_json: bool) -> None:
    """Show the trusted root, the versions that were seen, expiries and the time floor."""
    from updater.terminal import rights, trusting

    rights.refuse_clerk(settings, "trust show")
    found = trusting.shown(settings)
    if as_json:
        tell(json.dumps(found, indent=1), exactly=True)
        return
    for line in trusting.in_words(found):
        tell(line)


@command.command()
@click.option("--root", type=FILE, required=True, help="The vendor's root.json, handed over on a way you trust.")
@with_settings
def reset(settings: Settings, root: Path) -> None:
    """Trust the root in FILE and forget which metadata was seen; the repository must pass with it."""
    from updater.terminal import trusting

    settings = ready_agent(settings, "trust reset")
    tell(f"Done: {trusting.reset(settings, root)}.")
