"""`updater publish pause`: stop all updates of the app for now."""

from __future__ import annotations

from pathlib import Path

import click

from updater.cli.shared import in_words
from updater.publish import steering
from updater.publish.cli.shared import passwords_from, show_steering, with_password_file, with_repository


@click.command("pause")
@with_repository
@click.option("--reason", default="", help="One line that every terminal shows.")
@with_password_file
def command(folder: Path, reason: str, password_file: Path | None) -> None:
    """Pause all updates: no download, no swap; swaps that have not begun are taken back. `resume` ends it."""
    with in_words():
        steering.pause(folder, reason=reason, passwords=passwords_from(password_file))
        show_steering(folder)
