"""`updater rollback`: go back to a version that worked."""

from __future__ import annotations

import sys
from typing import Any

import click

from updater.cli.shared import FILE, as_json, with_settings
from updater.settings import Settings


@click.command("rollback")
@click.option("--list", "listing", is_flag=True, help="Show versions and backups; change nothing.")
@click.option("--to", help="The version to go back to (default: the last one that worked).")
@click.option(
    "--backup", type=FILE,
    help="The backup to restore as it is (default: the newest good one that fits, with what was recorded since).",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would be done and lost; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask. This never accepts a loss.")
@click.option(
    "--accept-loss", is_flag=True, help="Go back even if something is lost. It is kept, and exported if it can be read."
)
@as_json
@with_settings
def command(settings: Settings, **values: Any) -> None:
    """Go back to a version that worked, with the database that fits it. What is replaced is kept.

    Exit status 5: something would be lost, and nothing was changed; pass --accept-loss. 6: something was lost; the last
    line names how much and where it is kept.
    """
    from updater.cli.rollback_conversation import run as roll_back

    sys.exit(roll_back(settings, ask=click.confirm, say=click.echo, **values))
