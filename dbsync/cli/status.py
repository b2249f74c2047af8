"""`dbsync status`: its schema, what is pending, the last run, backups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dbsync.cli.shared import Place, as_json, folder_option, on_database, print_told
from dbsync.database.flight_recorder import FlightRecorder
from dbsync.migrations import folder as migration_folder
from dbsync.storage import connections


@click.command("status")
@folder_option("The folder of migrations: tells the newest schema, and what is pending.")
@as_json
@on_database
def command(place: Place, *, folder: Path | None, as_json: bool) -> None:
    """Its schema, what is pending, the last run, backups."""
    facts = place.effects().look()
    found = migration_folder.load(folder) if folder is not None else ()
    pending = [f"{one.number:04d}_{one.name}" for one in found if one.number > facts.version]
    ended = [line for line in FlightRecorder(place.backups, place.database).lines() if line.get("event") == "ended"]
    errors = [line for line in ended if line.get("cause")]
    listed = place.listed()
    told = {
        "database": str(place.database),
        "state": str(facts.state),
        "version": facts.version,
        "latest": len(found) if folder is not None else None,
        "readable_from": facts.readable_from,
        "pending": pending,
        "last_run": ended[-1] if ended else None,
        "last_error": errors[-1] if errors else None,
        "backups_count": len(listed),
        "newest_backup": str(listed[0].path) if listed else None,
        "detail": facts.detail,
        "sqlite": connections.LIBRARY_VERSION,
    }
    if not as_json:
        told |= {"last_run": _run_in_words(ended[-1:]), "last_error": _run_in_words(errors[-1:])}
    print_told(told, as_json=as_json)


def _run_in_words(last: list[dict[str, Any]]) -> str:
    if not last:
        return ""
    (line,) = last
    where = " ".join(str(line[name]) for name in ("phase", "migration") if line.get(name))
    words = f"{line['outcome']} at {line['at']}" + (f", {where}" if where else "")
    return f"{words}: {line['cause']}" if line.get("cause") else words
