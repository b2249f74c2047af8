"""`dbsync baseline`: adopt a database with the history of another tool, or with none."""

from __future__ import annotations

from pathlib import Path

import click

from dbsync.cli.output import tell
from dbsync.cli.shared import Place, as_json, from_folder, on_database, tell_json
from dbsync.commands import adopt
from dbsync.migrations import folder as migration_folder
from dbsync.model import SchemaNumber
from dbsync.storage.locks import locked


@click.command("baseline")
@from_folder
@click.option("--at", type=int, help="The schema that it has; needed only where content alone tells two apart.")
@click.option("--dry-run", is_flag=True, help="Say which schema it has; change nothing.")
@as_json
@on_database
def command(place: Place, *, folder: Path, at: int | None, dry_run: bool, as_json: bool) -> None:
    """Take over a database: find out which schema it has.

    By its structure and its tool's own table. It is written down, and the database is dbsync's from then on. Where they
    leave a doubt nothing is written. The database as it was is kept beside it.
    """
    found = migration_folder.load(folder)
    with locked(place.database):
        schema = SchemaNumber(at) if at is not None else None
        version = adopt.baseline(place.effects(), found, at=schema, dry_run=dry_run)
    if as_json:
        tell_json({"schema": version, "of": len(found), "written": not dry_run})
        return
    newest = "" if version == len(found) else f", and the newest is {len(found)}"
    tell(f"{place.database} has schema {version}{newest}.")
    if dry_run:
        tell("Nothing was written. Without --dry-run it is recorded, and the database is dbsync's from then on.")
    else:
        tell("It is recorded. `dbsync status` shows the pending migrations and where the database is kept as it was.")
