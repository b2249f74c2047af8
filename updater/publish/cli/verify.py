"""`updater publish verify`: let scratch terminals take a bundle, and publish nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from updater.cli.shared import FOLDER, in_words
from updater.model import STABLE
from updater.publish import repository, verify
from updater.publish.cli.shared import (
    EXISTING_FILE,
    passwords_from,
    with_far_version,
    with_password_file,
    with_repository,
)
from updater.publish.cli.verification import with_verification


@click.command("verify")
@with_repository
@click.argument("bundle", type=FOLDER)
@click.option("--version", help="The release's version (default: from tillkeeper.toml).")
@click.option(
    "--config", "config_file", type=EXISTING_FILE, help="The bundle's description (default: tillkeeper.toml in it)."
)
@click.option("--channel", default=STABLE, show_default=True, help="The channel that would lead to it.")
@click.option("--version-jump", is_flag=True, help="The version is far from the last one, and meant so.")
@with_verification
@with_password_file
def command(
    folder: Path,
    bundle: Path,
    version: str | None,
    config_file: Path | None,
    channel: str,
    version_jump: bool,
    password_file: Path | None,
    wish: verify.Wish,
) -> None:
    """Let scratch terminals of every living version take BUNDLE, as `release` does; nothing is published."""
    passwords = passwords_from(password_file)
    # A copy that is made while somebody else publishes would be of two states.
    with in_words(), repository.locked(folder), repository.copied(folder) as copy:
        publish = partial(
            repository.release,
            folder=copy,
            bundle=bundle,
            version=version,
            config_file=config_file,
            passwords=passwords,
            channel=channel,
        )
        done = with_far_version(lambda accepts: publish(accepts_jump=accepts), accepts=version_jump)
        verify.verify(copy, done.version, passwords=passwords, wish=wish)
    click.echo(f"{done.version} can be published: every terminal that was tried takes it")
