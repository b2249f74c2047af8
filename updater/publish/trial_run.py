"""The child that works on a sample database: made-up trade in it, or the way of a release forward and back."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Final

from dbsync.commands.rehearse import rehearse
from dbsync.errors import TillkeeperError
from dbsync.migrations import folder as migration_folder
from dbsync.migrations.runner import fresh_structure
from dbsync.model import MigrationKind
from dbsync.rehearsal.made_up_trade import trade
from dbsync.rehearsal.way_back import findings
from dbsync.schema.fingerprint import differences, structure_of
from dbsync.storage.connections import open_reading, open_writing

DONE: Final = "done"


def main() -> None:
    """Do one of the three; the last line is DONE, or the problem.

    `trade DATABASE`, `rehearse MIGRATIONS DATABASE` or `compare MIGRATIONS DATABASE MIGRATIONS DATABASE`, the second
    pair as they were before.
    """
    what, *words = sys.argv[1:]
    paths = [Path(word) for word in words]
    try:
        if what == "trade":
            problem = _trade(paths[0])
        elif what == "rehearse":
            problem = _rehearse(paths[0], database=paths[1])
        else:
            problem = "; ".join(sorted(_odd(paths[0], database=paths[1]) - _odd(paths[2], database=paths[3])))
    except TillkeeperError as error:
        problem = error.in_words
    sys.stdout.write(f"{problem or DONE}\n")


def _trade(database: Path) -> str:
    with closing(open_writing(database)) as connection:
        trade(connection)
    return ""


def _rehearse(folder: Path, *, database: Path) -> str:
    """Return why a database cannot go forward and back; what is only lost on the way back is no problem."""
    done = rehearse(migration_folder.load(folder), database=database, backups=database.parent / "backups")
    if not done.good:
        return f"its migrations fail: {done.cause}"
    back = findings(done.way_back) if done.way_back is not None else []
    return "; ".join(f"the way back: {finding.where}: {finding.what}" for finding in back if finding.wrong)


def _odd(folder: Path, *, database: Path) -> set[str]:
    """Return what the structure of a database has that a fresh one of these migrations would not have, or lacks."""
    migrations = migration_folder.load(folder)
    if any(migration.kind is MigrationKind.COMMAND for migration in migrations):
        # What a program of the app would make from nothing is unknown.
        return set()
    with closing(open_reading(database)) as connection:
        found = differences(structure_of(connection, "main"), fresh_structure(migrations))
    return {f"a shop that ran the migration before it was fixed differs from a new one: {what}" for what in found}


if __name__ == "__main__":
    main()
