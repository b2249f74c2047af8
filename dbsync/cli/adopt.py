"""The commands that take over a database with a history of another tool's, or with none."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import click

from dbsync.cli.main import Place, as_json, ask, from_folder, main, on_database, print_told
from dbsync.cli.output import tell
from dbsync.commands import adopt
from dbsync.errors import Untracked
from dbsync.migrations import folder as migration_folder
from dbsync.storage import connections, files, introspection
from dbsync.storage.locks import locked

_FILE = click.Path(path_type=Path, dir_okay=False)


@main.command()
@from_folder
@click.option("--at", type=int, help="The schema that it has; needed only where content alone tells two apart.")
@click.option("--dry-run", is_flag=True, help="Say which schema it has; change nothing.")
@as_json
@on_database
def baseline(place: Place, *, folder: Path, at: int | None, dry_run: bool, as_json: bool) -> None:
    """Take over a database: find out which schema it has.

    By its structure and its tool's own table. It is written down, and the database is dbsync's from then on. Where they
    leave a doubt nothing is written. The database as it was is kept beside it.
    """
    found = migration_folder.load(folder)
    with locked(place.database):
        version = adopt.baseline(place.effects(), found, at=at, dry_run=dry_run)
    print_told({"format": 1, "schema": version, "of": len(found), "written": not dry_run}, as_json=as_json)


@main.command()
@from_folder
@click.option("--at", type=int, required=True, help="The schema that it is taken to have.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@on_database
def stamp(place: Place, *, folder: Path, at: int, yes: bool, as_json: bool) -> None:
    """Take a person's word for which schema a database has.

    No proof is asked for. Also the way on where a released migration was edited. The database as it was is kept beside
    it.
    """
    found = migration_folder.load(folder)
    question = f"Write down that it has schema {at}, whatever it looks like?"
    ask(question, operation="stamp", path=place.database, yes=yes, as_json=as_json)
    with locked(place.database):
        kept = adopt.stamp(place.effects(), found, at=at)
    print_told({"format": 1, "schema": at, "kept": str(kept.path) if kept else None}, as_json=as_json)


@main.command("write-schema")
@click.argument("file", type=_FILE)
@as_json
@on_database
def write_schema(place: Place, *, file: Path, as_json: bool) -> None:
    """Write a database's structure into FILE, as first migration.

    Call it 0001_initial_schema.sql.
    """
    if files.is_there(file):
        hint = "Choose another name: nothing is written over."
        raise Untracked(
            operation="write the schema", path=file, cause="there is a file of that name already", hint=hint
        )
    with connections.translated("read", place.database), closing(connections.open_reading(place.database)) as live:
        if not introspection.tables_of(live):
            hint = "Is this the app's database? Nothing was written."
            raise Untracked(operation="write the schema", path=place.database, cause="it has no tables", hint=hint)
        text = adopt.written_schema(live)
    files.write_durably(file, text.encode())
    if as_json:
        tell(json.dumps({"format": 1, "written": str(file.absolute())}))
    else:
        tell(f"{file} is written. Next: dbsync check, then dbsync baseline --dry-run.")
