"""`updater install`: make this machine a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from updater.cli.shared import FILE, FOLDER, in_words
from updater.settings import ACCEPTABLE_DISKS

ACCEPT_HELP = "Install on a disk that looks as if it did not keep files; may be repeated."


@click.command("install")
@click.option("--root", type=FILE, required=True, help="The vendor's root.json, handed over on a way you trust.")
@click.option("--url", required=True, help="Where the vendor's public folder is served, or a folder.")
@click.option("--app", help="The app's name (default: the only one in the repository).")
@click.option("--channel", help="The vendor's channel to follow, such as beta (default: stable).")
@click.option("--bundle", type=FOLDER, help="A folder with the first version, instead of downloading it.")
@click.option("--settings", "settings_path", type=FILE, help="Where to write the settings.")
@click.option("--program", type=FOLDER, help="Folder of the program's versions.")
@click.option("--state", type=FOLDER, help="Folder of the updater's own state.")
@click.option("--data", type=FOLDER, help="Folder of the app's data.")
@click.option("--database", type=FILE, help="The app's database (default: pos_system.db in the data folder).")
@click.option("--backup-prefix", help="First part of backup names (default: the database's name).")
@click.option("--mirror", "mirrors", multiple=True, help="A further place to fetch from; may be repeated.")
@click.option("--proxy", help="HOST:PORT, or none (default: what the environment or the system says).")
@click.option("--ca-file", type=FILE, help="PEM file of a certificate authority beside the system's.")
@click.option("--machine", is_flag=True, help="Use the places of this machine instead of this account's.")
@click.option("--till-user", metavar="NAME", help="The account that runs the app; needs the administrator's rights.")
@click.option("--till-group", metavar="NAME", help="The group of several accounts that run the app.")
@click.option("--accept-disk", "accepted_disks", multiple=True, type=click.Choice(ACCEPTABLE_DISKS), help=ACCEPT_HELP)
@click.option("--stable-path", metavar="PATH", help="A link that leads to the version that runs, or none.")
@click.option("--change", is_flag=True, help="Replace installed settings by the options that differ.")
@click.option("--interpreter", "roles", multiple=True, metavar="ROLE=PATH", help="E.g. python=/usr/bin/python3.")
def command(
    root: Path, url: str, app: str | None, roles: tuple[str, ...], settings_path: Path | None, **values: Any
) -> None:
    """Make this machine a terminal: trusted root, settings, terminal id, first version. May be repeated.

    Nothing is installed unless it succeeds. A repeat with other options is refused; --change replaces the settings.
    """
    from updater.terminal.installation import Wish, install

    interpreters = tuple(_role(role) for role in roles)
    with in_words():
        settings, journal = install(
            Wish(app=app, url=url, root=root, settings=settings_path, interpreters=interpreters, **values)
        )
    click.echo(f"{settings.app} {journal.good.version} is installed as {settings.terminal_id}.")
    click.echo(f"Settings: {settings.path}")
    if settings.till_user:
        click.echo(f"The app runs as {settings.till_user}; the agent runs as this account: updater run")
    click.echo(f"Start it with: updater launch --settings {settings.path}")


def _role(text: str) -> tuple[str, str]:
    role, separator, path = text.partition("=")
    if not (role and separator and path):
        raise click.BadParameter(f"{text} is not ROLE=PATH", param_hint="--interpreter")
    return role, path
