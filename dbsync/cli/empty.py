"""`dbsync empty`: start with an empty database of the newest schema."""

from __future__ import annotations

from pathlib import Path

import click

from dbsync.cli.shared import Place, as_json, ask, from_folder, on_database, print_told, yes_option
from dbsync.commands import empty_and_import
from dbsync.migrations import folder as migration_folder
from dbsync.storage.locks import locked


@click.command("empty")
@from_folder
@yes_option
@as_json
@on_database
def command(place: Place, *, folder: Path, yes: bool, as_json: bool) -> None:
    """Start with an empty database of the newest schema.

    The one there is now is kept beside it, for ever.
    """
    known = migration_folder.load(folder)
    question = "Empty the database? It is kept beside it."
    ask(question, operation="empty", path=place.database, yes=yes, as_json=as_json)
    with locked(place.database):
        replaced = empty_and_import.empty(place.effects(), known)
    told = {
        "schema": len(known),
        "kept": str(replaced.kept.path) if replaced.kept else None,
        "gaps": str(replaced.gaps) if replaced.gaps else None,
    }
    print_told(told, as_json=as_json)
