"""`updater publish init`: make a repository."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from updater.cli.shared import FOLDER, in_words
from updater.publish import repository
from updater.publish.cli.shared import (
    numbers_of_roles,
    passwords_from,
    with_expires,
    with_password_file,
    with_public,
    with_repository,
)
from updater.publish.keys import ROLES
from updater.publish.storage import public_of


@click.command("init")
@with_repository
@click.option("--app", required=True, help="The app's name: letters, digits, - and _.")
@with_public
@click.option("--keys", type=FOLDER, help="Folder of the private keys (default: in the repository).")
@with_expires
@click.option("--key", "keys_of_roles", multiple=True, metavar="ROLE=FILE", help="A key of another machine: its .pub.")
@click.option("--threshold", multiple=True, metavar="ROLE=N", help="Signatures that a role needs (default: 1).")
@with_password_file
def command(
    folder: Path,
    app: str,
    public: str,
    endpoint: str,
    keys: Path | None,
    expires: dict[str, int],
    keys_of_roles: tuple[str, ...],
    threshold: tuple[str, ...],
    password_file: Path | None,
) -> None:
    """Make a repository: keys with passwords, four roles, the public folder."""
    with in_words():
        config = repository.init(
            folder=folder,
            app=app,
            public=public_of(public, endpoint),
            keys=keys,
            passwords=passwords_from(password_file, new=True),
            expiration_days=expires,
            role_public=_files(keys_of_roles),
            thresholds=numbers_of_roles(threshold, "--threshold"),
        )
    click.echo(f"The repository of {app} is in {folder}.")
    click.echo(f"Keys: {config.keys} (keep root's away from this machine)")
    click.echo(f"Public files: {config.public}; terminals trust {folder / 'workshop' / 'metadata' / '1.root.json'}")


def _files(values: Iterable[str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for value in values:
        role, _, path = value.partition("=")
        if role not in ROLES or not path:
            raise click.BadParameter(f"{value} is not ROLE=FILE with one of {', '.join(ROLES)}", param_hint="--key")
        found.setdefault(role, []).append(Path(path))
    return found
