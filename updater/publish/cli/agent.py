"""`updater publish agent`: sign the folder of a kit as a release of the agent."""

from __future__ import annotations

from pathlib import Path

import click

from updater.cli.shared import FOLDER, in_words
from updater.publish.cli.shared import passwords_from, with_password_file, with_repository


@click.command("agent")
@with_repository
@click.argument("payload", metavar="KIT", type=FOLDER, required=False)
@click.option("--withdraw", metavar="VERSION", help="Withdraw this release of the agent instead.")
@with_password_file
def command(folder: Path, payload: Path | None, withdraw: str | None, password_file: Path | None) -> None:
    """Publish the folder KIT, made by `updater publish kit --payload`, as a release of the agent of its platform."""
    from updater.publish import agents

    if (payload is None) == (withdraw is None):
        raise click.UsageError("Name the folder of a kit, or a version with --withdraw.")
    passwords = passwords_from(password_file)
    if payload is None:
        assert withdraw is not None
        with in_words():
            names = agents.withdraw(folder, withdraw, passwords=passwords)
        click.echo(f"{withdraw} is withdrawn: {', '.join(names)}")
        return
    with in_words():
        done = agents.release(folder=folder, payload=payload, passwords=passwords)
    word = "was published already" if done.already else "is published"
    click.echo(f"{done.name} {done.version} {word}: kit {done.kit_id}, {done.size_bytes / 1e6:.1f} MB")
