"""`updater publish resume`: resume updates that are paused."""

from __future__ import annotations

from pathlib import Path

import click

from updater.cli.shared import in_words
from updater.publish import steering
from updater.publish.cli.shared import passwords_from, show_steering, with_password_file, with_repository


@click.command("resume")
@with_repository
@with_password_file
def command(folder: Path, password_file: Path | None) -> None:
    """Resume paused updates. A brake stays: `brake off` lifts it."""
    with in_words():
        steering.resume(folder, passwords=passwords_from(password_file))
        show_steering(folder)
