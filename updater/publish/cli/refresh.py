"""`updater publish refresh`: sign anew what expires."""

from __future__ import annotations

from pathlib import Path

import click

from dbsync.outcomes import ExitStatus
from updater.cli.shared import in_words
from updater.publish import expiry, repository
from updater.publish.cli.expiry import warn, with_within
from updater.publish.cli.shared import passwords_from, with_password_file, with_repository


@click.command("refresh")
@with_repository
@with_within
@with_password_file
@click.pass_context
def command(context: click.Context, folder: Path, within_days: float, password_file: Path | None) -> None:
    """Sign anew what expires, with the keys that are here: timestamp's is enough. Run it daily.

    Exit 5: done, and a role whose keys are not here ends soon.
    """
    with in_words():
        done = repository.refresh(folder, passwords=passwords_from(password_file), within_days=within_days)
        roles = tuple(role for role in expiry.WARNED if role in done.not_here)
        late = expiry.soon(expiry.public_ends(folder), within_days=within_days, roles=roles)
    click.echo(f"refreshed: {done.files_placed} files are new in the public files")
    if late:
        warn(late)
        context.exit(ExitStatus.NEEDS_PERSON)
