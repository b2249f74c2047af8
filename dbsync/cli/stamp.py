"""`dbsync stamp`: record the schema that a person states."""

from __future__ import annotations

from pathlib import Path

import click

from dbsync.cli.shared import Place, as_json, ask, from_folder, on_database, print_told, yes_option
from dbsync.commands import adopt
from dbsync.migrations import folder as migration_folder
from dbsync.model import SchemaNumber
from dbsync.storage.locks import locked


@click.command("stamp")
@from_folder
@click.option("--at", type=int, required=True, help="The schema that it is taken to have.")
@yes_option
@as_json
@on_database
def command(place: Place, *, folder: Path, at: int, yes: bool, as_json: bool) -> None:
    """Take a person's word for which schema a database has.

    No proof is asked for. Also the way on where a released migration was edited. The database as it was is kept beside
    it.
    """
    found = migration_folder.load(folder)
    question = f"Write down that it has schema {at}, whatever it looks like?"
    ask(question, operation="stamp", path=place.database, yes=yes, as_json=as_json)
    with locked(place.database):
        kept = adopt.stamp(place.effects(), found, at=SchemaNumber(at))
    print_told({"schema": at, "kept": str(kept.path) if kept else None}, as_json=as_json)
