"""Table of the commands of a terminal and of its vendor."""

from __future__ import annotations

from typing import Final

import click

from dbsync.cli.table import TableGroup
from dbsync.outcomes import ExitStatus
from updater import __version__
from updater.cli.shared import Failure

COMMANDS: Final = {
    "allow": "updater.cli.allow",
    "check": "updater.cli.check",
    "confirm": "updater.cli.confirm",
    "doctor": "updater.cli.doctor",
    "install": "updater.cli.install",
    "kit": "updater.cli.kit",
    "launch": "updater.cli.launch",
    "publish": "updater.publish.cli.main",
    "rollback": "updater.cli.rollback",
    "run": "updater.cli.run",
    "service": "updater.cli.service",
    "status": "updater.cli.status",
    "trust": "updater.cli.trust",
    "uninstall": "updater.cli.uninstall",
}


class Table(TableGroup):
    """Command group of the table. The vendor's command needs an extra that terminals do not install."""

    modules = COMMANDS

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name; if the vendor's extra is missing, a command that says how to install it."""
        try:
            return super().get_command(ctx, cmd_name)
        except ImportError:
            if cmd_name != "publish":
                raise
            return _publish_missing


@click.group(cls=Table)
@click.version_option(__version__, prog_name="tillkeeper")
def commands() -> None:
    """Keep a terminal's app and its database up to date, as one."""


@click.command(name="publish", context_settings={"ignore_unknown_options": True})
@click.argument("_words", nargs=-1)
def _publish_missing(_words: tuple[str, ...]) -> None:
    """(not installed) the vendor's side."""
    message = "The vendor's side is not installed. Install it with: pip install 'tillkeeper[publish]'"
    raise Failure(message, ExitStatus.REFUSED)
