"""`dbsync verify`: check the database as it is."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from dbsync.backups import snapshot
from dbsync.cli.shared import Place, as_json, from_folder, on_database, print_told
from dbsync.database import preflight
from dbsync.migrations import folder as migration_folder
from dbsync.model import Facts, Migration, State
from dbsync.outcomes import ExitStatus
from dbsync.progress import Meter, WorkPhase
from dbsync.storage import connections, file_calls, files
from dbsync.storage.notes import notes_on
from dbsync.verification import checks


@click.command("verify")
@from_folder
@as_json
@on_database
def command(place: Place, *, folder: Path, as_json: bool) -> None:
    """Check the database as it is; changes nothing.

    SQLite's integrity_check, foreign keys, its structure against that of a fresh database, and whether every table
    and view works.
    """
    facts = place.effects(reads_only=True).look()
    found, checked = _problems(place, facts, migration_folder.load(folder))
    told: dict[str, Any] = {
        "state": str(facts.state),
        "version": facts.version,
        "checked": checked,
        "problems": found,
        "notes": notes_on(place.database),
    }
    print_told(told if found or as_json else {**told, "problems": "none"}, as_json=as_json)
    sys.exit(ExitStatus.FAILED if found else 0)


def _problems(place: Place, facts: Facts, found: tuple[Migration, ...]) -> tuple[list[str], str]:
    """Return the findings, and the check of SQLite that ran."""
    if facts.state is not State.OK:
        return [f"{facts.state}: {facts.detail}".rstrip(": ")], ""
    if facts.version > len(found):
        return [f"its schema is {facts.version}, and the newest of these migrations {len(found)}"], ""
    known = tuple(migration for migration in found if migration.number <= facts.version)
    with (
        file_calls.temporary_folder() as folder,
        connections.translated("verify", place.database),
        closing(_examined(place, Path(folder))) as connection,
    ):
        thoroughness = connections.possible_check(connection, connections.Thoroughness.FULL)
        if facts.unparsed:
            problem = connections.check_soundness(connection, thoroughness)
            return [facts.unparsed, *([] if problem is None else [problem])], str(thoroughness)
        case = checks.Case(connection, known, has_old=False, thoroughness=thoroughness, has_run=False)
        problems = [sentence for check in checks.CHECKS for sentence in check(case)]
    return problems, str(thoroughness)


def _examined(place: Place, folder: Path) -> connections.Connection:
    """Return a connection to a copy, which may be opened for writing; without space for one, to the database itself.

    SQLite does not check the CHECK constraints of a database that it may only read.
    """
    copied = folder / "copy.db"
    if files.free_bytes(folder) < preflight.size_of(place.database):
        return connections.open_undisturbed(place.database)
    told = Meter(place.bars).phase(WorkPhase.COPY)
    snapshot.copy_database(source=place.database, target=copied, told=told, opened=connections.open_undisturbed)
    return connections.open_reading(copied)
