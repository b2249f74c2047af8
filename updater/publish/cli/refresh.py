"""`updater publish refresh`: sign anew what expires."""

from __future__ import annotations

from pathlib import Path

import click

from updater.cli.shared import in_words
from updater.publish import repository
from updater.publish.cli.shared import passwords_from, with_password_file, with_repository


@click.command("refresh")
@with_repository
@with_password_file
def command(folder: Path, password_file: Path | None) -> None:
    """Sign anew what expires. Run it daily."""
    with in_words():
        placed = repository.refresh(folder, passwords=passwords_from(password_file))
    click.echo(f"refreshed: {placed} files are new in the public folder")
