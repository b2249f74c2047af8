"""The commands around the data itself: rehearse, empty, import."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from dbsync import data, migrations, priority
from dbsync.backup import find
from dbsync.cli import FAILED, Place, as_json, ask, exit_code, from_folder, main, on_database, plain
from dbsync.console import about, say
from dbsync.errors import BackupUnusable
from dbsync.locking import locked
from dbsync.rehearse import rehearse as run

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
    priority.lower()
    found = run(place.database, place.backups, migrations.load(folder), progress=place.bars)
    if as_json:
        changes = [one._asdict() for one in found.changes]
        click.echo(json.dumps({"format": 1, **found._asdict(), "changes": changes}, indent=1))
    else:
        names = ", ".join(found.migrations) or "nothing to run"
        click.echo(f"{'it would go well' if found.good else 'IT WOULD FAIL'}: {names}")
        if found.cause:
            click.echo(f"  {found.cause}")
        for one in found.changes:
            click.echo(f"  {one.table}: {one.added} rows added, {one.changed} changed, {one.removed} removed")
        for what in found.objects:
            say(f"  {what}", sys.stdout)
        click.echo(f"  {found.seconds:.1f} s here; the till would be closed for {about(found.expected_seconds)}")
        sizes = f"{found.size_bytes / 1e6:.1f} MB now, {found.after_bytes / 1e6:.1f} MB after"
        click.echo(f"  {sizes}; it would need {found.needed_bytes / 1e6:.1f} MB of disk")
    sys.exit(0 if found.good else FAILED)


@main.command()
@from_folder
@_yes
@as_json
@on_database
def empty(place: Place, *, folder: Path, yes: bool, as_json: bool) -> None:
    """Start with an empty database of the newest schema.

    The one there is now is kept beside it, for ever.
    """
    question = "Empty the database? It is kept beside it."
    ask(question, operation="empty", path=place.database, yes=yes, as_json=as_json)
    with locked(place.database):
        aside = data.empty(place.effects(), migrations.load(folder))
    _tell({"format": 1, "kept": str(aside.path) if aside else None}, as_json=as_json)


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
    if not find(file).is_file():
        raise BackupUnusable(operation="import", path=file, cause="there is no such file", hint="Name a database.")
    ask(f"Import {file}? What is replaced is kept.", operation="import", path=file, yes=yes, as_json=as_json)
    with locked(place.database):
        imported = data.import_file(place.effects(), file.absolute(), migrations.load(folder))
    told = {"format": 1, "kept": str(imported.kept.path) if imported.kept else None, **plain(imported.outcome)}
    _tell(told, as_json=as_json)
    sys.exit(exit_code(imported.outcome))


def _tell(told: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(told, indent=1))
        return
    for name, value in told.items():
        if name != "format" and value not in (None, "", []):
            click.echo(f"{name.replace('_', ' '):<14} {value}")
