"""`updater publish rebuild`: a workshop from what is public and the keys."""

from __future__ import annotations

from pathlib import Path

import click

from updater.cli.shared import FOLDER, in_words
from updater.publish import rebuild
from updater.publish.cli.shared import EXISTING_FILE, with_expires, with_repository
from updater.publish.storage import public_of


@click.command("rebuild")
@with_repository
@click.option("--app", help="The app's name (default: the workshop's).")
@click.option(
    "--public", metavar="PLACE", help="Folder or s3://BUCKET/PREFIX of the public files (default: the workshop's)."
)
@click.option("--endpoint", default="", help="Address of an S3 server other than Amazon's.")
@click.option("--keys", type=FOLDER, help="Folder of the private keys (default: the workshop's).")
@click.option("--root", type=EXISTING_FILE, help="A root that you trust, such as the terminals' 1.root.json.")
@with_expires
@click.option("--metadata-only", is_flag=True, help="Fetch no files of releases: for a machine that only refreshes.")
def command(
    folder: Path,
    app: str | None,
    public: str | None,
    endpoint: str,
    keys: Path | None,
    root: Path | None,
    expires: dict[str, int],
    metadata_only: bool,
) -> None:
    """Make a workshop, or bring an old one forward, from what is public. Nothing public changes."""
    with in_words():
        done = rebuild.rebuild(
            folder=folder,
            app=app,
            public=public_of(public, endpoint) if public is not None else None,
            keys_folder=keys,
            root=root,
            metadata_only=metadata_only,
            expiration_days=expires,
        )
    versions = ", ".join(f"{role} {version}" for role, version in done.versions.items())
    if done.ahead:
        click.echo("The workshop is ahead of what is public: repeat the publish that was cut. Nothing was taken.")
        return
    click.echo(f"The workshop is as what is public: {versions}; {done.files_count} files were fetched")
    days = ", ".join(f"{role} {count}" for role, count in done.expiration_days.items())
    click.echo(f"Signatures are good for so many days: {days}; --expires changes them")
    if done.without_keys:
        click.echo(f"The keys of {', '.join(done.without_keys)} are not here.")
