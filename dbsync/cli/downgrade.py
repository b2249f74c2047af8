"""The commands that go back with what people did: what it was, what would be lost, and doing it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from dbsync.backups import bundled_migrations, catalog
from dbsync.cli.main import Place, as_json, ask, main, on_database, plain
from dbsync.cli.output import tell
from dbsync.commands import downgrade as go_back
from dbsync.errors import BackupUnusable
from dbsync.model import Backup, Loss
from dbsync.outcomes import ExitStatus
from dbsync.storage.locks import locked

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_from_folder = click.option(
    "--migrations", "folder", type=_FOLDER, envvar="DBSYNC_MIGRATIONS",
    help="The newer release's folder of migrations (default: what is kept beside the backup).",
)  # fmt: skip
_backup = click.option("--backup", type=_FILE, help="The state before (default: the newest good migration backup).")


@main.command()
@_from_folder
@_backup
@click.option(
    "--export", type=_FOLDER, help="Write the rows that going back would lose as CSV and SQL into this folder."
)
@as_json
@on_database
def diff(place: Place, *, folder: Path | None, backup: Path | None, export: Path | None, as_json: bool) -> None:
    """What people did since a backup, and what going back loses.

    Changes nothing.
    """
    base = _chosen(place, backup)
    place.check_writable()
    known = bundled_migrations.chosen(folder, base.path)
    with locked(place.database):
        found = go_back.diff(place.effects(), base, known, export=export)
    told = {
        "format": 1,
        "since": str(base.path),
        "done": [one._asdict() for one in found.done],
        "lossless": found.carried is not None and not found.carried.losses,
        "lost": [one._asdict() for one in found.carried.losses] if found.carried else None,
        "parked": str(found.carried.parked) if found.carried and found.carried.parked else None,
        "why_not": found.why_not,
    }
    if as_json:
        tell(json.dumps(told, indent=1))
        return
    tell(f"since {base.path} (schema {base.version}, made {base.made_at}):")
    _say(found.done, "nothing was changed" if found.carried is not None else "it cannot be told")
    tell("going back would lose:")
    if found.carried is None:
        tell(f"  it cannot be carried back: {found.why_not}")
    else:
        _say(found.carried.losses, "nothing, proven by going up again")


def _say(losses: tuple[Loss, ...], nothing: str) -> None:
    for one in losses:
        tell(f"  {one.table}: {one.added} added, {one.changed} changed, {one.removed} removed")
    if not losses:
        tell(f"  {nothing}")


@main.command()
@_from_folder
@_backup
@click.option("--accept-loss", is_flag=True, help="Go back although something is lost; it is exported and kept.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@on_database
def downgrade(
    place: Place, *, folder: Path | None, backup: Path | None, accept_loss: bool, yes: bool, as_json: bool
) -> None:
    """Go back to an older schema with all that was recorded since.

    It is proven by going up again. The newer database is kept beside it.
    """
    base = _chosen(place, backup)
    place.check_writable()
    known = bundled_migrations.chosen(folder, base.path)
    question = f"Go back to schema {base.version} of {base.made_at}?"
    ask(question, operation="go back to", path=base.path, yes=yes, as_json=as_json)
    with locked(place.database):
        returned = go_back.downgrade(place.effects(), base, known, accept_loss=accept_loss)
    if as_json:
        tell(json.dumps({"format": 1, **plain(returned)}, indent=1, default=str))
    else:
        tell(f"{returned.outcome.name} {returned.outcome.cause}".strip())
        _say(returned.losses, "nothing was lost" if returned.back is not None else "the database is as it was")
        if returned.outcome.hint:
            tell(f"  {returned.outcome.hint}")
        if returned.set_aside is not None:
            tell(f"The newer database is kept: {returned.set_aside.path}")
        if returned.parked is not None:
            tell(f"What the older schema has no place for: {returned.parked}")
    sys.exit(0 if returned.back is not None else returned.outcome.name.exit_status or ExitStatus.FAILED)


def _chosen(place: Place, path: Path | None) -> Backup:
    listed = place.listed()
    if path is not None:
        meant = [catalog.find(one) for one in (path.absolute(), place.backups / path.name)]
        named = [one for one in listed if one.path in meant]
    else:
        named = [one for one in listed if one.kind == "migration" and one.verified]
    if not named:
        cause = "there is no good migration backup of this database"
        if path is not None:
            cause = "it is not among this database's backups" if path.exists() else "there is no such backup"
        hint = "`dbsync backups` lists them." if listed else "There are none at all: nothing can be gone back to."
        raise BackupUnusable(operation="go back with", path=path or place.backups, cause=cause, hint=hint)
    return named[0]
