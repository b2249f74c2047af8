"""`updater publish expiry`: when the public roles end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import click

from dbsync.outcomes import ExitStatus
from updater.cli.shared import as_json, in_words
from updater.publish import expiry
from updater.publish.cli.shared import with_repository
from updater.publish.expiry import WITHIN_DAYS, End

with_within = click.option(
    "--within", "within_days", type=float, default=WITHIN_DAYS, show_default=True, metavar="DAYS",
    help="Exit with 5 if a role ends so soon.",
)  # fmt: skip


@click.command("expiry")
@with_repository
@with_within
@as_json
@click.pass_context
def command(context: click.Context, folder: Path, within_days: float, as_json: bool) -> None:
    """Say when the public roles end: exit 5 if root, targets or snapshot end soon, or timestamp has ended."""
    with in_words():
        ends = expiry.public_ends(folder)
    late = [
        *expiry.soon(ends, within_days=within_days, roles=expiry.WARNED),
        *expiry.soon(ends, within_days=0, roles=("timestamp",)),
    ]
    if as_json:
        roles = {end.role: {"version": end.version, "expires": f"{end.expires:%Y-%m-%dT%H:%M:%SZ}"} for end in ends}
        click.echo(json.dumps({"format": 1, "roles": roles, "ends_soon": [end.role for end in late]}))
    else:
        for end in ends:
            click.echo(
                f"{end.role} {end.version} ends on {end.expires:%Y-%m-%d %H:%M} UTC, in {end.days_left:.0f} days"
            )
    if late:
        warn(late)
        context.exit(ExitStatus.NEEDS_PERSON)


def warn(late: Iterable[End]) -> None:
    """Say on stderr which roles need a person with their keys."""
    for end in late:
        click.echo(
            f"{end.role} ends on {end.expires:%Y-%m-%d}: terminals refuse the repository from then on."
            f" `updater publish sign renew {end.role}` signs it anew.",
            err=True,
        )
