"""`updater publish release`: sign a bundle as a new release, and make it public."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from updater.cli.progress_bar import steps_bar
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
from updater.publish.forms import DELTAS_COUNT, Forms


@click.command("release")
@with_repository
@click.argument("bundle", type=FOLDER)
@click.option("--version", help="The release's version (default: from tillkeeper.toml).")
@click.option(
    "--config", "config_file", type=EXISTING_FILE, help="The bundle's description (default: tillkeeper.toml in it)."
)
@click.option(
    "--deltas",
    "deltas_count",
    type=click.IntRange(0, 100),
    default=DELTAS_COUNT,
    show_default=True,
    help="Make deltas from so many of the last releases.",
)
@click.option("--pack/--no-pack", default=True, show_default=True, help="Make a zstd pack beside tufup's archive.")
@click.option("--channel", default=STABLE, show_default=True, help="The channel that leads to it from now on.")
@with_verification
@click.option("--unverified", is_flag=True, help="Publish without letting scratch terminals take it first.")
@click.option("--version-jump", is_flag=True, help="The version is far from the last one, and meant so.")
@with_password_file
def command(
    folder: Path, bundle: Path, version: str | None, config_file: Path | None, deltas_count: int, pack: bool,
    channel: str, version_jump: bool, unverified: bool, wish: verify.Wish, password_file: Path | None,
) -> None:  # fmt: skip
    """Publish the folder BUNDLE as a new release. Repeating a publish that was cut finishes it."""
    passwords = passwords_from(password_file)
    with in_words(), steps_bar() as progress:
        publish = partial(
            repository.release,
            folder=folder,
            bundle=bundle,
            version=version,
            config_file=config_file,
            passwords=passwords,
            forms=Forms(pack=pack, deltas_count=deltas_count),
            progress=progress,
            channel=channel,
            verify=None if unverified else partial(verify.verify, passwords=passwords, wish=wish),
        )
        done = with_far_version(lambda accepts: publish(accepts_jump=accepts), accepts=version_jump)
    word = "was published already" if done.already and not done.files_placed else "is published"
    click.echo(f"{done.version} {word}: schema {done.schema}, {done.archive_size_bytes / 1e6:.2f} MB")
    for name, size_bytes in done.forms:
        click.echo(f"{name}: {size_bytes / 1e6:.2f} MB")
    click.echo(f"release id {done.release_id}")
    if not done.leads:
        click.echo(
            f"The channel {channel} does not lead to it: `updater publish promote {done.version} --channel {channel}`.",
            err=True,
        )
