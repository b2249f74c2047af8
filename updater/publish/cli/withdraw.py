"""`updater publish withdraw`: take a release back from the fleet."""

from __future__ import annotations

from pathlib import Path

import click

from updater.cli.shared import in_words
from updater.publish import steering
from updater.publish.cli.shared import passwords_from, show_steering, with_password_file, with_repository


@click.command("withdraw")
@with_repository
@click.argument("version")
@click.option("--reason", default="", help="One line that every terminal shows.")
@with_password_file
def command(folder: Path, version: str, reason: str, password_file: Path | None) -> None:
    """Withdraw VERSION: it is installed nowhere any more, and terminals where it is not confirmed take it back."""
    with in_words():
        steering.withdraw(folder, version, reason=reason, passwords=passwords_from(password_file))
        show_steering(folder)
