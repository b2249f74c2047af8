"""`dbsync status`: show the schema, pending migrations, the last run and backups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dbsync.cli.shared import Place, as_json, folder_option, on_database, print_told
from dbsync.database.flight_recorder import FlightRecorder
from dbsync.database.timeline import LastRun, ended_in_words, last_run, notes_of
from dbsync.migrations import folder as migration_folder
from dbsync.model import Backup, State
from dbsync.storage import connections


@click.command("status")
@folder_option("The folder of migrations: tells the newest schema, and what is pending.")
@as_json
@on_database
def command(place: Place, *, folder: Path | None, as_json: bool) -> None:
    """Show the schema, pending migrations, last run and backups."""
    effects = place.effects(reads_only=True)
    facts = effects.look()
    found = migration_folder.load(folder) if folder is not None else ()
    pending = [f"{migration.number:04d}_{migration.name}" for migration in found if migration.number > facts.version]
    lines = FlightRecorder(place.backups, place.database).lines()
    last = last_run(lines)
    listed = place.listed()
    good = next((backup for backup in listed if backup.verified), None)
    told = {
        "database": str(place.database),
        "state": str(facts.state),
        "version": facts.version,
        "latest": len(found) if folder is not None else None,
        "readable_from": facts.readable_from,
        "pending": pending,
        **last.as_json(),
        "backups_count": len(listed),
        "newest_backup": str(listed[0].path) if listed else None,
        "last_good_backup": str(good.path) if good is not None else None,
        "last_good_backup_at": good.made_at if good is not None else None,
        "detail": facts.detail or facts.unparsed,
        "gaps": [str(explained.folder) for explained in effects.gaps()],
        "notes": notes_of(place.database, lines),
        "sqlite": connections.LIBRARY_VERSION,
    }
    if not as_json:
        told = _for_people(told, last, good)
    print_told(told, as_json=as_json)


def _for_people(told: dict[str, Any], last: LastRun, good: Backup | None) -> dict[str, Any]:
    """Return the answer without what it says twice, and with the next step for a database without history."""
    shown = told | {"last_run": ended_in_words(last.ended), "last_error": ended_in_words(last.error)}
    if shown["last_error"] == shown["last_run"]:
        shown["last_error"] = ""
    if good is not None and shown["newest_backup"] == str(good.path):
        shown["newest_backup"] = None
    if told["state"] == State.UNTRACKED:
        shown["next"] = "`dbsync baseline --dry-run` finds out which schema it has (docs/adopting.md)"
    return shown
