"""`updater publish promote`: lead a channel to a release that is signed."""

from __future__ import annotations

from pathlib import Path

import click

from updater.cli.shared import in_words
from updater.model import STABLE
from updater.publish import steering
from updater.publish.cli.shared import passwords_from, show_steering, with_password_file, with_repository


@click.command("promote")
@with_repository
@click.argument("version")
@click.option("--channel", default=STABLE, show_default=True, help="The channel that leads to it from now on.")
@with_password_file
def command(folder: Path, version: str, channel: str, password_file: Path | None) -> None:
    """Lead a channel to VERSION, which is signed already, such as one that was tried on beta."""
    with in_words():
        steering.promote(folder, version, channel=channel, passwords=passwords_from(password_file))
        show_steering(folder)
