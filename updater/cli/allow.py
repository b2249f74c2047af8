"""`updater allow`: lift the rejection of a release."""

from __future__ import annotations

import click

from updater.cli.cycle import terminal_of
from updater.cli.shared import with_settings
from updater.model import ProcessKind
from updater.settings import Settings


@click.command("allow")
@click.argument("release")
@with_settings
def command(settings: Settings, *, release: str) -> None:
    """Lift a rejection: RELEASE is a version, also of the agent, or the beginning of a release id."""
    from updater.flows.rollback import allow as lift
    from updater.terminal.rights import refuse_clerk

    refuse_clerk(settings, f"allow {release}")

    lifted = lift(terminal_of(settings, ProcessKind.ALLOW), release)
    click.echo(f"{lifted.version} ({lifted.release_id[:12]}) may be tried again.")
