"""`updater publish status`: show what the public says about channels, pauses and recalls."""

from __future__ import annotations

import json
from pathlib import Path

import click

from updater.cli.shared import as_json, in_words
from updater.publish import steering
from updater.publish.cli.shared import with_repository


@click.command("status")
@as_json
@with_repository
def command(folder: Path, *, as_json: bool) -> None:
    """Show channels, pause, withdrawn releases and brake, as the newest signatures say them."""
    with in_words():
        found = steering.status(folder)
    if as_json:
        click.echo(json.dumps(steering.as_json(found), indent=1))
        return
    for line in steering.in_words(found):
        click.echo(line)
