"""`dbsync verify`: check the database as it is."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from dbsync.cli.shared import Place, as_json, from_folder, on_database, print_told
from dbsync.migrations import folder as migration_folder
from dbsync.model import Facts, Migration, State
from dbsync.outcomes import ExitStatus
from dbsync.storage import connections
from dbsync.verification import checks


@click.command("verify")
@from_folder
@as_json
@on_database
def command(place: Place, *, folder: Path, as_json: bool) -> None:
    """Check the database as it is; changes nothing.

    SQLite's integrity_check, foreign keys, and its structure against that of a fresh database.
    """
    facts = place.effects().look()
    found = _problems(place, facts, migration_folder.load(folder))
    told: dict[str, Any] = {"state": str(facts.state), "version": facts.version, "problems": found}
    print_told(told if found or as_json else {**told, "problems": "none"}, as_json=as_json)
    sys.exit(ExitStatus.FAILED if found else 0)


def _problems(place: Place, facts: Facts, found: tuple[Migration, ...]) -> list[str]:
    if facts.state is not State.OK:
        return [f"{facts.state}: {facts.detail}".rstrip(": ")]
    if facts.version > len(found):
        return [f"its schema is {facts.version}, and the newest of these migrations {len(found)}"]
    with connections.translated("verify", place.database), closing(connections.open_reading(place.database)) as live:
        known = tuple(migration for migration in found if migration.number <= facts.version)
        check = connections.possible_check(live, connections.Thoroughness.FULL)
        case = checks.Case(live, known, has_old=False, thoroughness=check)
        return [sentence for check in checks.CHECKS for sentence in check(case)]
