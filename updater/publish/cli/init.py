"""`updater publish init`: make a repository."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from updater.cli.shared import FOLDER, in_words
from updater.publish import repository
from updater.publish.cli.shared import passwords_from, with_password_file, with_repository
from updater.publish.signing import ROLES


@click.command("init")
@with_repository
@click.option("--app", required=True, help="The app's name: letters, digits, - and _.")
@click.option("--public", type=FOLDER, required=True, help="The folder that the web server serves.")
@click.option("--keys", type=FOLDER, help="Folder of the private keys (default: in the repository).")
@click.option("--expires", multiple=True, metavar="ROLE=DAYS", help="How long a role's signature is good.")
@with_password_file
def command(
    folder: Path, app: str, public: Path, keys: Path | None, expires: tuple[str, ...], password_file: Path | None
) -> None:
    """Make a repository: keys with passwords, four roles, the public folder."""
    with in_words():
        config = repository.init(
            folder=folder,
            app=app,
            public=public,
            keys=keys,
            passwords=passwords_from(password_file, new=True),
            expiration_days=_days(expires),
        )
    click.echo(f"The repository of {app} is in {folder}.")
    click.echo(f"Keys: {config.keys} (keep root's away from this machine)")
    click.echo(f"Public folder: {config.public}; terminals trust {config.public / 'metadata' / '1.root.json'}")


def _days(values: Iterable[str]) -> dict[str, int]:
    found = {}
    for value in values:
        role, _, days = value.partition("=")
        if role not in ROLES or not days.isdigit() or not int(days):
            raise click.BadParameter(f"{value} is not ROLE=DAYS with one of {', '.join(ROLES)}", param_hint="--expires")
        found[role] = int(days)
    return found
