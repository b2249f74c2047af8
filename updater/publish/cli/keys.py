"""`updater publish keys`: which keys sign which role, and how many of them must."""

from __future__ import annotations

from pathlib import Path

import click

from dbsync.cli.table import TableGroup
from updater.cli.shared import in_words
from updater.publish import ceremony, keys, tokens
from updater.publish.cli.shared import passwords_from, with_password_file, with_repository
from updater.publish.keys import ROLES

ROLE = click.argument("role", type=click.Choice(ROLES))
PUBLIC = click.option(
    "--public", type=click.Path(path_type=Path, dir_okay=False), help="Key of another machine: its .pub."
)


@click.group("keys", cls=TableGroup)
def command() -> None:
    """Say which keys sign which role; every change is a new root, signed by the keys of the old and the new one."""


@command.command("list")
@with_repository
def list_keys(folder: Path) -> None:
    """List the roles with their keys, thresholds and ends."""
    with in_words():
        for line in ceremony.listed(folder):
            words = f"{line.role} {line.version}: {line.threshold} of {len(line.keys)}, until {line.expires:%Y-%m-%d}"
            click.echo(words + (f"; {line.waits}" if line.waits else ""))
            for key in line.keys:
                click.echo(f"  {key.name}  {key.keyid[:12]}  {_where(key)}")


def _where(key: ceremony.KeyLine) -> str:
    if key.token:
        return f"on the token {key.token}"
    return "here" if key.is_here else "on another machine"


@command.command("make")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@with_password_file
def make(file: Path, password_file: Path | None) -> None:
    """Make the key pair FILE and FILE.pub, on any machine. FILE.pub is what the other machines get."""
    with in_words():
        keys.make(file.absolute(), passwords_from(password_file, new=True))
    click.echo(f"{file} is the key, {file}.pub its public half")


@command.command("token")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--label", help="The token's label, if more than one is in.")
@click.option("--serial", help="The token's serial number, if more than one has that label.")
@click.option(
    "--id", "key_id", type=click.IntRange(0, 255), default=tokens.DEFAULT_ID, show_default=True,
    help="The key's id on the token; 2 is slot 9c of a PIV token.",
)  # fmt: skip
@click.option("--ecdsa", is_flag=True, help="Take a key that only terminals with the library cryptography can verify.")
def token(file: Path, label: str | None, serial: str | None, key_id: int, ecdsa: bool) -> None:
    """Write FILE.token and FILE.pub for a key on a PKCS#11 token, on any machine. FILE.pub is what others get."""
    fields = {name: value for name, value in (("label", label), ("serialNumber", serial)) if value is not None}
    with in_words():
        place = keys.take_from_token(file.absolute(), tokens.Place(key_id, fields), accepts_ecdsa=ecdsa)
    click.echo(f"{file}.token says where the key is: id {key_id} on the token {place.label}")
    click.echo(f"{file}.pub is its public half")


@command.command("add")
@with_repository
@ROLE
@click.option("--name", help="Make a key of that name here, or take the one that is.")
@PUBLIC
@with_password_file
def add(folder: Path, role: str, name: str | None, public: Path | None, password_file: Path | None) -> None:
    """Let one more key sign a role."""
    with in_words():
        found = _named(folder, name, public)
        placed = ceremony.change_keys(
            folder, ceremony.adding(role, found), passwords=passwords_from(password_file), new_key=name or ""
        )
    click.echo(f"{found} signs {role}: {placed} files are new in the public files")


@command.command("remove")
@with_repository
@ROLE
@click.argument("key")
@with_password_file
def remove(folder: Path, role: str, key: str, password_file: Path | None) -> None:
    """Let KEY, a name or the beginning of an id, sign a role no more."""
    with in_words():
        placed = ceremony.change_keys(folder, ceremony.removing(role, key), passwords=passwords_from(password_file))
    click.echo(f"{key} signs {role} no more: {placed} files are new in the public files")


@command.command("rotate")
@with_repository
@ROLE
@click.argument("old")
@click.option("--name", help="Make the new key here, with that name, or take the one that is.")
@PUBLIC
@with_password_file
def rotate(
    folder: Path, role: str, old: str, name: str | None, public: Path | None, password_file: Path | None
) -> None:
    """Put a new key in the place of OLD, a name or the beginning of an id."""
    with in_words():
        found = _named(folder, name, public)
        placed = ceremony.change_keys(
            folder, ceremony.rotating(role, old, found), passwords=passwords_from(password_file), new_key=name or ""
        )
    click.echo(f"{found} signs {role} in place of {old}: {placed} files are new in the public files")


@command.command("threshold")
@with_repository
@ROLE
@click.argument("count", type=click.IntRange(min=1))
@with_password_file
def threshold(folder: Path, role: str, count: int, password_file: Path | None) -> None:
    """Let a role need COUNT signatures."""
    with in_words():
        placed = ceremony.change_keys(
            folder, ceremony.with_threshold(role, count), passwords=passwords_from(password_file)
        )
    click.echo(f"{role} needs {count} signatures: {placed} files are new in the public files")


def _named(folder: Path, name: str | None, public: Path | None) -> str:
    """Return the name of the key that a command is about: made here, or of another machine."""
    if (name is None) == (public is None):
        raise click.UsageError("give --name NAME for a key that is made here, or --public FILE.pub")
    return name if name is not None else ceremony.adopt(folder=folder, public=Path(str(public)))
