"""`dbsync backup`: make a backup by hand."""

from __future__ import annotations

from pathlib import Path

import click

from dbsync.backups.description import backup_json
from dbsync.cli.console import Transcript
from dbsync.cli.shared import FILE, Place, as_json, on_database, tell_json
from dbsync.progress import quiet
from dbsync.storage.locks import locked


@click.command("backup")
@click.option("--to", type=FILE, help="Where to (default: the folder of backups).")
@as_json
@on_database
def command(place: Place, *, to: Path | None, as_json: bool) -> None:
    """Make a backup by hand, and check it.

    Rotation never removes it.
    """
    with locked(place.database):
        kept = place.effects(quiet if as_json else Transcript()).make_backup(to)
    if as_json:
        tell_json(backup_json(kept), on_one_line=True)
