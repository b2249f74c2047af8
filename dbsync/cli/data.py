"""The commands around the data itself: rehearse, empty, import."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from dbsync.backups.catalog import find
from dbsync.cli.console import about
from dbsync.cli.main import Place, as_json, ask, from_folder, main, on_database, plain
from dbsync.cli.output import tell, tidy_when_ended
from dbsync.commands import empty_and_import
from dbsync.commands.rehearse import rehearse as run
from dbsync.errors import BackupUnusable, Missing
from dbsync.migrations import folder as migration_folder
from dbsync.model import State
from dbsync.outcomes import ExitStatus
from dbsync.storage import files
from dbsync.storage.locks import locked
from dbsync.storage.platform import this_platform

_FILE = click.Path(path_type=Path, dir_okay=False)
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@main.command()
@from_folder
@as_json
@on_database
def rehearse(place: Place, *, folder: Path, as_json: bool) -> None:
    """Migrate and verify a copy, with the app running.

    Tells how it would go, how long it would take and what would change; leaves nothing behind.
    """
    known = migration_folder.load(folder)
    facts = place.effects().look()
    if facts.had_data or facts.state is State.MISSING:
        raise Missing(operation="rehearse", path=place.database, cause=facts.gone)
    this_platform().lower_priority()
    with tidy_when_ended():
        found = run(place.database, place.backups, known, progress=place.bars)
    if as_json:
        changes = [one._asdict() for one in found.changes]
        tell(json.dumps({"format": 1, **found._asdict(), "changes": changes}, indent=1))
    else:
        names = ", ".join(found.migrations) or "nothing to run"
        tell(f"{'it would go well' if found.good else 'IT WOULD FAIL'}: {names}")
        if found.cause:
            tell(f"  {found.cause}")
        for one in found.changes:
            tell(f"  {one.table}: {one.added} rows added, {one.changed} changed, {one.removed} removed")
        for what in found.objects:
            tell(f"  {what}")
        tell(f"  {found.seconds:.1f} s here; the till would be closed for {about(found.expected_seconds)}")
        sizes = f"{found.size_bytes / 1e6:.1f} MB now, {found.after_bytes / 1e6:.1f} MB after"
        tell(f"  {sizes}; it would need {found.needed_bytes / 1e6:.1f} MB of disk")
    sys.exit(0 if found.good else ExitStatus.FAILED)


@main.command()
@from_folder
@_yes
@as_json
@on_database
def empty(place: Place, *, folder: Path, yes: bool, as_json: bool) -> None:
    """Start with an empty database of the newest schema.

    The one there is now is kept beside it, for ever.
    """
    known = migration_folder.load(folder)
    question = "Empty the database? It is kept beside it."
    ask(question, operation="empty", path=place.database, yes=yes, as_json=as_json)
    with locked(place.database):
        aside = empty_and_import.empty(place.effects(), known)
    _tell({"format": 1, "schema": len(known), "kept": str(aside.path) if aside else None}, as_json=as_json)


@main.command("import")
@click.argument("file", type=_FILE)
@from_folder
@_yes
@as_json
@on_database
def import_file(place: Place, *, file: Path, folder: Path, yes: bool, as_json: bool) -> None:
    """Put FILE in the database's place, at the newest schema.

    FILE is a database or one of our backups. It is checked first; the database there is now is kept beside it.
    """
    if not files.is_there(find(file)):
        raise BackupUnusable(operation="import", path=file, cause="there is no such file", hint="Name a database.")
    known = migration_folder.load(folder)
    ask(f"Import {file}? What is replaced is kept.", operation="import", path=file, yes=yes, as_json=as_json)
    with locked(place.database):
        imported = empty_and_import.import_file(place.effects(), file.absolute(), known)
    told = {"format": 1, "kept": str(imported.kept.path) if imported.kept else None, **plain(imported.outcome)}
    _tell(told, as_json=as_json)
    sys.exit(imported.outcome.name.exit_status)


def _tell(told: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        tell(json.dumps(told, indent=1))
        return
    for name, value in told.items():
        if name != "format" and value not in (None, "", []):
            tell(f"{name.replace('_', ' '):<14} {value}")
