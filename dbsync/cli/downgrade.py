"""`dbsync downgrade`: go back to an older schema, with all that was recorded since."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dbsync import losses
from dbsync.backups import bundled_migrations
from dbsync.cli.diff import tell_difference
from dbsync.cli.output import tell
from dbsync.cli.shared import (
    Place,
    as_json,
    ask,
    base_backup,
    chosen_backup,
    newer_folder,
    on_database,
    plain,
    tell_json,
    yes_without_loss,
)
from dbsync.commands import downgrade as go_back
from dbsync.storage.locks import locked


@click.command("downgrade")
@newer_folder
@base_backup
@click.option("--to", type=int, metavar="SCHEMA", help="Go back to this schema, by the newest good backup of it.")
@click.option("--dry-run", is_flag=True, help="Show what would be done and lost; change nothing.")
@click.option(
    "--accept-loss", is_flag=True, help="Go back even if something is lost. It is kept, and exported if it can be read."
)
@yes_without_loss
@as_json
@on_database
def command(
    place: Place,
    *,
    folder: Path | None,
    backup: Path | None,
    to: int | None,
    dry_run: bool,
    accept_loss: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Go back to an older schema with all that was recorded since.

    The result is verified by migrating it forward again. The newer database is kept beside it.

    Exit status 5: something would be lost, and nothing was changed; pass --accept-loss. 6: something was lost; the last
    line names how much and where it is kept.
    """
    base = chosen_backup(place, backup, schema=to)
    if dry_run:
        tell_difference(place, base, folder=folder, export=None, as_json=as_json)
        return
    place.check_writable()
    known = bundled_migrations.chosen(folder=folder, kept=base.path)
    question = f"Go back to schema {base.version} of {base.made_at}?"
    ask(question, operation="go back to", path=base.path, yes=yes, as_json=as_json)
    with locked(place.database):
        returned = go_back.downgrade(place.effects(), base, known, accept_loss=accept_loss)
    if as_json:
        # `losses` has its numbers in the order of `Loss`, as it always had; `lost` names them, as `dbsync diff` does.
        tell_json({**plain(returned), "lost": losses.as_json(returned.losses)})
    else:
        tell(f"{returned.outcome.name}: {returned.outcome.cause}".rstrip(": "))
        nothing = "nothing was lost" if returned.back is not None else "the database is as it was"
        for line in losses.listed(returned.losses, nothing=nothing):
            tell(line)
        if returned.outcome.hint:
            tell(f"  {returned.outcome.hint}")
        if returned.set_aside is not None:
            tell(f"The newer database is kept: {returned.set_aside.path}")
        if returned.gaps is not None:
            tell(f"Numbers that are skipped are explained: {returned.gaps}")
        if returned.parked is not None:
            tell(f"What the older schema has no place for: {returned.parked}")
            tell("It waits in the database and comes back with the newer schema; `dbsync kept` lists it.")
        if returned.back is not None and (returned.losses or returned.not_known):
            kept = returned.set_aside.path if returned.set_aside is not None else None
            lost = losses.lost(returned.losses, not_known=returned.not_known, kept=kept, export=returned.export)
            tell(f"LOST: {lost}.")
    sys.exit(returned.outcome.name.exit_status)
