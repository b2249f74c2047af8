"""`dbsync import`: put another database in the place of this one."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dbsync.backups.catalog import find
from dbsync.cli.output import tell
from dbsync.cli.shared import (
    FILE,
    Place,
    as_json,
    ask,
    from_folder,
    on_database,
    plain,
    print_told,
    yes_option,
)
from dbsync.commands import empty_and_import
from dbsync.errors import BackupUnusable
from dbsync.migrations import folder as migration_folder
from dbsync.storage import files
from dbsync.storage.locks import locked


@click.command("import")
@click.argument("file", type=FILE)
@from_folder
@yes_option
@as_json
@on_database
def command(place: Place, *, file: Path, folder: Path, yes: bool, as_json: bool) -> None:
    """Put FILE in the database's place, at the newest schema.

    FILE is a database or one of our backups. It is checked first; the database there is now is kept beside it.
    """
    if not files.is_there(find(file)):
        raise BackupUnusable(operation="import", path=file, cause="there is no such file", hint="Name a database.")
    known = migration_folder.load(folder)
    ask(f"Import {file}? What is replaced is kept.", operation="import", path=file, yes=yes, as_json=as_json)
    with locked(place.database):
        imported = empty_and_import.import_file(place.effects(), file.absolute(), known)
    if not as_json and imported.outcome.ready:
        tell(f"{place.database} is now {file}, at schema {imported.outcome.version_after}.")
        if imported.kept:
            tell(f"The database that it replaced: {imported.kept.path}")
        if imported.gaps:
            tell(f"Numbers that are skipped are explained: {imported.gaps}")
        return
    told = {"kept": str(imported.kept.path) if imported.kept else None, **plain(imported.outcome)}
    told["gaps"] = str(imported.gaps) if imported.gaps else None
    print_told(told, as_json=as_json)
    sys.exit(imported.outcome.name.exit_status)
