"""`updater uninstall`: remove this terminal, and keep the data."""

from __future__ import annotations

import click

from dbsync.outcomes import ExitStatus
from updater.cli.shared import Failure, with_settings
from updater.host import this_host
from updater.settings import Settings


@click.command("uninstall")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_settings
def command(settings: Settings, *, yes: bool) -> None:
    """Remove program, state and settings of this terminal. Data, backups and reports are kept. May be repeated."""
    from updater.terminal.rights import refuse_clerk
    from updater.terminal.uninstalling import uninstall

    refuse_clerk(settings, "uninstall")
    click.echo(f"{settings.app} on {settings.terminal_id} will be removed: {settings.program}, {settings.state},")
    click.echo(f"{settings.path}. The data stays: {settings.data}")
    if not yes and not (this_host().can_ask() and click.confirm("Remove it?")):
        raise Failure("Nothing was removed. Pass --yes to proceed.", ExitStatus.REFUSED)
    for line in uninstall(settings):
        click.echo(line)
