"""`updater publish brake`: stop at once, with the timestamp key alone."""

from __future__ import annotations

from pathlib import Path

import click

from updater.cli.shared import in_words
from updater.publish import steering
from updater.publish.cli.shared import passwords_from, show_steering, with_password_file, with_repository


@click.command("brake")
@with_repository
@click.argument("position", type=click.Choice(["on", "off"]))
@click.option("--recall", "recalled", multiple=True, metavar="VERSION", help="Recall this release instead of pausing.")
@with_password_file
def command(folder: Path, position: str, recalled: tuple[str, ...], password_file: Path | None) -> None:
    """Pull the brake (on), or lift all of it (off). Needs the timestamp key alone; a refresh keeps it."""
    if recalled and position == "off":
        raise click.UsageError("off lifts the whole brake: leave --recall out")
    with in_words():
        steering.brake(folder, on=position == "on", recalled=recalled, passwords=passwords_from(password_file))
        show_steering(folder)
