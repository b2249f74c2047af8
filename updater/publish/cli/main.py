"""Table of the commands of the vendor."""

from __future__ import annotations

from typing import Final

import click

from dbsync.cli.table import TableGroup
from updater.repository import key_services

COMMANDS: Final = {
    "agent": "updater.publish.cli.agent",
    "brake": "updater.publish.cli.brake",
    "init": "updater.publish.cli.init",
    "kit": "updater.publish.cli.kit",
    "pause": "updater.publish.cli.pause",
    "promote": "updater.publish.cli.promote",
    "refresh": "updater.publish.cli.refresh",
    "release": "updater.publish.cli.release",
    "resume": "updater.publish.cli.resume",
    "serve": "updater.publish.cli.serve",
    "expiry": "updater.publish.cli.expiry",
    "keys": "updater.publish.cli.keys",
    "media": "updater.publish.cli.media",
    "rebuild": "updater.publish.cli.rebuild",
    "sign": "updater.publish.cli.sign",
    "status": "updater.publish.cli.status",
    "verify": "updater.publish.cli.verify",
    "withdraw": "updater.publish.cli.withdraw",
}


class Table(TableGroup):
    """Group of the commands in the table."""

    modules = COMMANDS

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, importing its module, and with it the library of signatures.

        What a bucket needs is loaded when one is asked.
        """
        with key_services.hidden():
            return super().get_command(ctx, cmd_name)


@click.group("publish", cls=Table)
def command() -> None:
    """The vendor's side: sign releases into a static folder for any web server."""
