"""`dbsync diff`: show the changes since a backup, and the losses of a downgrade."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dbsync import losses
from dbsync.backups import bundled_migrations
from dbsync.cli.output import tell
from dbsync.cli.shared import FOLDER, Place, as_json, base_backup, chosen_backup, newer_folder, on_database, tell_json
from dbsync.commands import downgrade as go_back
from dbsync.database import preflight
from dbsync.model import Backup
from dbsync.outcomes import ExitStatus
from dbsync.storage import files
from dbsync.storage.locks import locked


@click.command("diff")
@newer_folder
@base_backup
@click.option(
    "--export", type=FOLDER, help="Write the rows that going back would lose as CSV and SQL into this folder."
)
@as_json
@on_database
def command(place: Place, *, folder: Path | None, backup: Path | None, export: Path | None, as_json: bool) -> None:
    """Show the changes since a backup, and what going back loses.

    Changes nothing. Exit status 5: going back would lose something, or what was recorded cannot be carried back.
    """
    if export is not None:
        # Else the rows that are missing would be blamed for it.
        preflight.check_writable(files.nearest_folder(export.absolute()), like=place.database)
    tell_difference(place, chosen_backup(place, backup), folder=folder, export=export, as_json=as_json)


def tell_difference(place: Place, base: Backup, *, folder: Path | None, export: Path | None, as_json: bool) -> None:
    """Print the changes since a backup and what going back to it would lose; end with 5 if that is anything."""
    place.check_writable()
    known = bundled_migrations.chosen(folder=folder, kept=base.path)
    with locked(place.database):
        found = go_back.diff(place.effects(reads_only=True), base, known, export=export)
    told = {
        "since": str(base.path),
        "done": losses.as_json(found.done),
        "lossless": found.carried is not None and found.carried.lossless,
        "lost": losses.as_json(found.carried.losses) if found.carried else None,
        "parked": str(found.carried.parked) if found.carried and found.carried.parked else None,
        "why_not": found.why_not,
    }
    if as_json:
        tell_json(told)
    else:
        _tell(base, found)
    if not told["lossless"]:
        sys.exit(ExitStatus.NEEDS_PERSON)


def _tell(base: Backup, found: go_back.Found) -> None:
    tell(f"since {base.path} (schema {base.version}, made {base.made_at}):")
    lines = losses.listed(
        found.done, nothing="nothing was changed" if found.carried is not None else "it cannot be determined"
    )
    if found.carried is not None and found.carried.lossless:
        lines.append("Downgrading loses nothing (verified by migrating the result forward again)")
    else:
        lines.append("going back would lose:")
        lines += losses.listed(found.carried.losses) if found.carried is not None else []
        lines += [f"  {found.carried.unproven}"] if found.carried is not None and found.carried.unproven else []
        lines += [f"  it cannot be carried back: {found.why_not}"] if found.carried is None else []
    for line in lines:
        tell(line)
