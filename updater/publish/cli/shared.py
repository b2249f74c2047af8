"""Options of the vendor's commands, and the source of passwords."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import click

from updater.cli.shared import FOLDER
from updater.host import this_host
from updater.publish import steering
from updater.publish.errors import FarVersion
from updater.publish.keys import ROLES, Passwords
from updater.publish.repository import Published
from updater.publish.tokens import VARIABLE, PinOf, variable_of

NUMBER_LIMIT: Final = 36_500
"""Of days, which are a hundred years, and of signatures."""
EXISTING_FILE: Final = click.Path(path_type=Path, dir_okay=False, exists=True)

with_repository = click.option(
    "--repository", "folder", type=FOLDER, required=True, envvar="TILLKEEPER_REPOSITORY", help="The workshop's folder."
)
with_password_file = click.option(
    "--password-file",
    type=click.Path(path_type=Path, exists=True),
    help=f"File with the keys' password, or folder with a file for each key (else {VARIABLE}, or …_KEY, or it is asked"
    " for).",
)


def numbers_of_roles(values: Iterable[str], option: str) -> dict[str, int]:
    """Return the values of an option `ROLE=NUMBER`."""
    found = {}
    for value in values:
        role, _, number = value.partition("=")
        if role not in ROLES or not number.isdecimal() or not 0 < int(number) <= NUMBER_LIMIT:
            cause = f"{value} is not ROLE=NUMBER with one of {', '.join(ROLES)} and at most {NUMBER_LIMIT}"
            raise click.BadParameter(cause, param_hint=option)
        found[role] = int(number)
    return found


with_expires = click.option(
    "--expires",
    multiple=True,
    metavar="ROLE=DAYS",
    callback=lambda _, __, values: numbers_of_roles(values, "--expires"),
    help="How long a role's signature is good.",
)


def with_public(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where the public files are."""
    endpoint = click.option("--endpoint", default="", help="Address of an S3 server other than Amazon's.")
    public = click.option(
        "--public", required=True, metavar="PLACE", help="Folder of a web server, or s3://BUCKET/PREFIX."
    )
    return public(endpoint(command))


def passwords_from(file: Path | None, *, new: bool = False) -> Passwords:
    """Return the source of passwords: the file or folder, the environment or, at a terminal, a prompt for each key."""
    asked: dict[str, str] = {}
    pins: dict[str, str] = {}

    def password(key: str) -> str | None:
        # A token locks after a few wrong PINs: a password that is meant for all keys is none of its.
        is_pin = isinstance(key, PinOf)
        if file is not None and (file.is_dir() or not is_pin):
            path = file / key if file.is_dir() else file
            return path.read_text(encoding="utf-8").strip() if path.exists() else None
        own = os.environ.get(variable_of(key))
        found = own or (None if is_pin else os.environ.get(VARIABLE))
        if found or not this_host().can_ask():
            return found
        if is_pin:
            if key not in pins:
                pins[key] = click.prompt(f"PIN of the token with the key {key}", hide_input=True)
            return pins[key]
        if key not in asked:
            last = next(reversed(asked.values()), None)
            asked[key] = click.prompt(
                f"Password of the key {key}" + (" (Enter: as before)" if last else ""),
                default=last, show_default=False, hide_input=True, confirmation_prompt=new and not last,
            )  # fmt: skip
        return asked[key]

    return password


def with_far_version(publish: Callable[[bool], Published], *, accepts: bool) -> Published:
    """Publish, or try to, and ask about a version that is far from the last one where somebody can answer.

    Args:
        publish: is told whether such a version is accepted.
        accepts: whether it was accepted beforehand.
    """
    try:
        return publish(accepts)
    except FarVersion as error:
        if not this_host().can_ask() or not click.confirm(f"{error.cause}. Is it meant so?", err=True):
            raise
    return publish(True)


def show_steering(folder: Path) -> None:
    """Print what the public says of channels, pauses and recalls."""
    for line in steering.in_words(steering.status(folder)):
        click.echo(line)
