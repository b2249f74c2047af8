"""`updater publish media`: a stick for shops without internet."""

from __future__ import annotations

import re
from pathlib import Path

import click

from updater.cli.shared import FOLDER, in_words
from updater.publish import media
from updater.publish.cli.shared import passwords_from, with_password_file, with_repository


@click.command("media")
@with_repository
@click.argument("target", metavar="DIR", type=FOLDER)
@click.option("--valid", default="60d", show_default=True, metavar="DAYS", help="How long terminals take it.")
@click.option("--releases", type=click.IntRange(min=1), default=1, show_default=True, help="How many of the newest.")
@click.option("--from", "since", multiple=True, metavar="VERSION", help="Terminals that it is for; default: all.")
@with_password_file
def command(
    folder: Path, target: Path, valid: str, releases: int, since: tuple[str, ...], password_file: Path | None
) -> None:
    """Write what a shop without internet needs into DIR, a USB stick. The public timestamp is signed anew."""
    match = re.fullmatch(r"(\d{1,4})d?", valid)
    if match is None:
        raise click.BadParameter(f"{valid} is no number of days, such as 60d", param_hint="--valid")
    with in_words():
        done = media.write(
            folder=folder,
            target=target.absolute(),
            valid_days=int(match[1]),
            releases_count=releases,
            since=frozenset(since),
            passwords=passwords_from(password_file),
        )
    click.echo(
        f"{target} has {', '.join(done.versions) or 'no release'}, {done.size_bytes / 1e6:.2f} MB, and is good until"
        f" {done.expires}; {done.files_count} files were written"
    )
