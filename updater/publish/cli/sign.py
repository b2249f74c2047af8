"""`updater publish sign`: signatures of keys that are on other machines."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from dbsync.cli.table import TableGroup
from dbsync.errors import NotAgreed
from updater.cli.shared import in_words
from updater.publish import ceremony, keys, signing_requests, verify
from updater.publish.cli.shared import EXISTING_FILE, passwords_from, with_password_file, with_repository
from updater.publish.cli.verification import with_verification
from updater.publish.keys import ROLES
from updater.publish.signing_requests import Request

FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group("sign", cls=TableGroup)
def command() -> None:
    """Carry what waits for signatures to the machines of the keys, and the signatures back."""


@command.command("export")
@with_repository
@FILE
def export(folder: Path, file: Path) -> None:
    """Write FILE with what waits for signatures."""
    with in_words():
        requests = ceremony.export(folder=folder, target=file)
    _show(requests)
    click.echo(f"{file} is to be signed: `updater publish sign add {file} --key KEY` on the machine of a key")


@command.command("add")
@click.argument("file", type=EXISTING_FILE)
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The private key; its .pub is beside it.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_password_file
def add(file: Path, key: Path, yes: bool, password_file: Path | None) -> None:
    """Sign what is in FILE with a key of this machine; no workshop and no network are needed."""
    with in_words():
        app, requests = signing_requests.read(file)
        click.echo(f"app {app}")
        _show(requests)
        if not yes and not _agreed():
            raise NotAgreed(operation="sign", path=file, cause="it was not confirmed")
        signed, titles = signing_requests.signed_with(requests, keys.read_public(key), passwords_from(password_file))
        signing_requests.write(file, app, signed)
    click.echo(f"signed: {', '.join(titles) or 'nothing, this key had signed all of it'}")


@command.command("import")
@with_repository
@click.argument("file", type=EXISTING_FILE)
@with_verification
@click.option("--unverified", is_flag=True, help="Publish without letting scratch terminals take it first.")
@with_password_file
def import_file(folder: Path, file: Path, unverified: bool, wish: verify.Wish, password_file: Path | None) -> None:
    """Take the signatures in FILE; what is complete is tried by scratch terminals and published."""
    passwords = passwords_from(password_file)
    with in_words():
        placed = ceremony.import_signatures(
            folder=folder,
            path=file,
            passwords=passwords,
            verify=None if unverified else partial(verify.verify, passwords=passwords, wish=wish),
        )
    click.echo(f"all signatures are there: {placed} files are new in the public files")


@command.command("renew")
@with_repository
@click.argument("role", type=click.Choice(ROLES))
@with_password_file
def renew(folder: Path, role: str, password_file: Path | None) -> None:
    """Sign ROLE anew before it ends; what keys of other machines must sign waits."""
    with in_words():
        placed = ceremony.renew(folder, role, passwords=passwords_from(password_file))
    click.echo(f"{role} is signed anew: {placed} files are new in the public files")


@command.command("discard")
@with_repository
def discard(folder: Path) -> None:
    """Give up what waits for signatures; what is public stays."""
    with in_words():
        count = ceremony.discard(folder)
    click.echo(f"{count} roles wait no more")


def _show(requests: list[Request]) -> None:
    for request in requests:
        click.echo(f"{request.title}, SHA-256 {request.sha256}")
        for word in request.words():
            click.echo(f"  {word}")


def _agreed() -> bool:
    try:
        return click.confirm("Sign it?")
    except click.Abort:
        return False
