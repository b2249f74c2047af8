"""`updater publish …`: commands of the release engineer."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import click

from updater.cli.shared import in_words
from updater.publish import repository
from updater.publish.serve import make_server
from updater.publish.signing import ROLES, Passwords

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
VARIABLE = "TILLKEEPER_KEY_PASSWORD"

repository_option = click.option(
    "--repository", "folder", type=_FOLDER, required=True, envvar="TILLKEEPER_REPOSITORY", help="The workshop's folder."
)
password_option = click.option(
    "--password-file",
    type=_FILE,
    help=f"File with the keys' password (else {VARIABLE}, or …_ROLE, or it is asked for).",
)


@click.group("publish")
def command() -> None:
    """The vendor's side: sign releases into a static folder for any web server."""


@command.command()
@repository_option
@click.option("--app", required=True, help="The app's name: letters, digits, - and _.")
@click.option("--public", type=_FOLDER, required=True, help="The folder that the web server serves.")
@click.option("--keys", type=_FOLDER, help="Folder of the private keys (default: in the repository).")
@click.option("--expires", multiple=True, metavar="ROLE=DAYS", help="How long a role's signature is good.")
@password_option
def init(
    folder: Path, app: str, public: Path, keys: Path | None, expires: tuple[str, ...], password_file: Path | None
) -> None:
    """Make a repository: keys with passwords, four roles, the public folder."""
    with in_words():
        config = repository.init(
            folder=folder,
            app=app,
            public=public,
            keys=keys,
            passwords=_passwords(password_file, new=True),
            expiration_days=_days(expires),
        )
    click.echo(f"The repository of {app} is in {folder}.")
    click.echo(f"Keys: {config.keys} (keep root's away from this machine)")
    click.echo(f"Public folder: {config.public}; terminals trust {config.public / 'metadata' / '1.root.json'}")


@command.command()
@repository_option
@click.argument("bundle", type=_FOLDER)
@click.option("--version", help="The release's version (default: from tillkeeper.toml).")
@click.option("--config", "config_file", type=_FILE, help="The bundle's description (default: tillkeeper.toml in it).")
@password_option
def release(
    folder: Path, bundle: Path, version: str | None, config_file: Path | None, password_file: Path | None
) -> None:
    """Publish the folder BUNDLE as a new release. Repeating a publish that was cut finishes it."""
    with in_words():
        done = repository.release(
            folder=folder, bundle=bundle, version=version, config_file=config_file, passwords=_passwords(password_file)
        )
    word = "was published already" if done.already and not done.files_placed else "is published"
    click.echo(f"{done.version} {word}: schema {done.schema}, {done.archive_size_bytes / 1e6:.2f} MB")
    click.echo(f"release id {done.release_id}")


@command.command()
@repository_option
@password_option
def refresh(folder: Path, password_file: Path | None) -> None:
    """Sign anew what expires. Run it daily."""
    with in_words():
        placed = repository.refresh(folder, passwords=_passwords(password_file))
    click.echo(f"refreshed: {placed} files are new in the public folder")


@command.command()
@click.argument("public", type=_FOLDER)
@click.option("--port", type=int, default=8000, show_default=True, help="0 takes a free one.")
def serve(public: Path, port: int) -> None:
    """Serve the folder PUBLIC on this machine, for development only."""
    server = make_server(public, port=port, told=lambda line: click.echo(line, err=True))
    click.echo(f"http://127.0.0.1:{server.server_port}")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


def _days(values: Iterable[str]) -> dict[str, int]:
    found = {}
    for value in values:
        role, _, days = value.partition("=")
        if role not in ROLES or not days.isdigit() or not int(days):
            raise click.BadParameter(f"{value} is not ROLE=DAYS with one of {', '.join(ROLES)}", param_hint="--expires")
        found[role] = int(days)
    return found


def _passwords(file: Path | None, *, new: bool = False) -> Passwords:
    """Return the source of passwords: the file, the environment or, at a terminal, one prompt."""
    asked: dict[str, str] = {}

    def password(role: str) -> str | None:
        found = os.environ.get(f"{VARIABLE}_{role.upper()}") or os.environ.get(VARIABLE)
        if file is not None:
            found = file.read_text(encoding="utf-8").strip()
        if found or not os.isatty(0):
            return found
        if "all" not in asked:
            asked["all"] = click.prompt("Password of the keys", hide_input=True, confirmation_prompt=new)
        return asked["all"]

    return password
