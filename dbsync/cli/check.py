"""`dbsync check`: check in CI whether a folder of migrations may be released."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from dbsync.cli.output import errors_told, tell, tidy_when_ended
from dbsync.cli.shared import as_json, from_folder, tell_json
from dbsync.lint.check import check, not_evaluated
from dbsync.lint.least_sqlite import least_sqlite
from dbsync.migrations.folder import load
from dbsync.outcomes import ExitStatus

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
    without a declaration, with the line to paste.
    """
    with errors_told(as_json=as_json), tidy_when_ended(), tempfile.TemporaryDirectory() as scratch:
        problems = check(folder=folder, released=released, database=database, scratch=Path(scratch))
        needed = None if problems else least_sqlite(load(folder))
        missing = not_evaluated(database=database, scratch=Path(scratch)) if database is not None else ()
    if as_json:
        least = needed._asdict() if needed is not None else None
        found = [problem._asdict() for problem in problems]
        tell_json({"problems": found, "not_evaluated": list(missing), "least_sqlite": least})
    for need in () if as_json else missing:
        tell(f"not evaluated here: {need}")
    if needed is not None and not as_json:
        tell(f"needs SQLite {needed.version}: {needed.feature} in {needed.where}")
    for problem in () if as_json else problems:
        tell(f"{problem.where}: {problem.what}")
        if problem.safe:
            tell(f"    {problem.safe}")
    if not problems and not as_json:
        tell("nothing to say against it")
    sys.exit(ExitStatus.FAILED if problems else 0)
