"""`dbsync check`: check in CI whether a folder of migrations may be released."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import click

from dbsync.cli.output import errors_told, tell, tidy_when_ended
from dbsync.cli.shared import as_json, as_owner_of, from_folder, tell_json
from dbsync.lint.check import examine, not_evaluated
from dbsync.lint.least_sqlite import least_sqlite
from dbsync.migrations.folder import load
from dbsync.outcomes import ExitStatus
from dbsync.rehearsal import way_back
from dbsync.storage import file_calls

_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command("check")
@from_folder
@click.option("--released", type=_FOLDER, multiple=True, help="Migrations of an earlier release; may be repeated.")
@click.option("--database", type=_FILE, help="A database like those in the field; it is copied, never changed.")
@as_json
def command(folder: Path, released: tuple[Path, ...], database: Path | None, as_json: bool) -> None:
    """Check in CI whether a folder of migrations may be released.

    Edited, missing or risky migrations; every schema to the newest; on a copy of a database: twice, and what is changed
    without a declaration, with the line to paste; and once back after made-up
    trade, with what going back would lose.
    """
    with (
        errors_told(as_json=as_json),
        tidy_when_ended(),
        as_owner_of(database.absolute()) if database is not None else nullcontext(),
        file_calls.temporary_folder() as scratch,
    ):
        found = examine(folder=folder, released=released, database=database, scratch=Path(scratch))
        problems, back = found.problems, found.way_back
        needed = None if problems else least_sqlite(load(folder))
        missing = not_evaluated(database=database, scratch=Path(scratch)) if database is not None else ()
    if as_json:
        told = back.as_json() if back is not None else None
        least = needed._asdict() if needed is not None else None
        listed = [problem._asdict() for problem in problems]
        tell_json({"problems": listed, "way_back": told, "not_evaluated": list(missing), "least_sqlite": least})
    for need in () if as_json else missing:
        tell(f"not evaluated here: {need}")
    if not (problems or back or as_json):
        untried = "a shop: pass --database" if database is None else f"{database}, on which none is pending"
        tell(f"not tried on the rows of {untried}")
    if needed is not None and not as_json:
        tell(f"needs SQLite {needed.version}: {needed.feature} in {needed.where}")
    for problem in () if as_json else problems:
        tell(f"{problem.where}: {problem.what}")
        if problem.safe:
            tell(f"    {problem.safe}")
    if back is not None and not as_json:
        if problems or missing or needed is not None:
            tell("")
        tell(way_back.summary(back))
        for line in way_back.in_words(back, notices_only=True):
            tell(f"  {line}")
        tell("")
    if not problems and not as_json:
        tell("nothing to say against it")
    sys.exit(ExitStatus.FAILED if problems else 0)
