"""`dbsync write-schema`: write a database's structure as a first migration."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from dbsync.cli.console import command_line
from dbsync.cli.output import tell
from dbsync.cli.shared import FILE, Place, as_json, on_database, tell_json
from dbsync.commands import adopt
from dbsync.errors import Untracked
from dbsync.storage import connections, files, introspection


@click.command("write-schema")
@click.argument("file", type=FILE)
@as_json
@on_database
def command(place: Place, *, file: Path, as_json: bool) -> None:
    """Write a database's structure into FILE, as first migration.

    Call it 0001_initial_schema.sql.
    """
    if files.is_there(file):
        hint = "Choose another name: nothing is written over."
        raise Untracked(
            operation="write the schema", path=file, cause="there is a file of that name already", hint=hint
        )
    with connections.translated("read", place.database), closing(connections.open_undisturbed(place.database)) as live:
        if not introspection.tables_of(live):
            hint = "Is this the app's database? Nothing was written."
            raise Untracked(operation="write the schema", path=place.database, cause="it has no tables", hint=hint)
        text = adopt.written_schema(live)
    files.write_durably(file, text.encode(), like=place.database)
    if as_json:
        tell_json({"written": str(file.absolute())}, on_one_line=True)
    else:
        words = ["dbsync", "baseline", "--dry-run", "--database", place.database, "--migrations", file.parent]
        tell(f"{file} is written. Next: `{command_line(words)}`")
