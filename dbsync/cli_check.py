"""The command for CI that says whether a folder of migrations is fit to be released."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import click

from dbsync.check import check as find
from dbsync.cli import FAILED, as_json, from_folder, in_words, main
from dbsync.console import say

_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@main.command()
@from_folder
@click.option("--released", type=_FOLDER, multiple=True, help="Migrations of an earlier release; may be repeated.")
@click.option("--database", type=_FILE, help="A database like those in the field; it is copied, never changed.")
@as_json
@in_words
def check(folder: Path, released: tuple[Path, ...], database: Path | None, as_json: bool) -> None:
    """For CI: whether a folder of migrations may be released.

    Edited, missing or risky migrations; every schema to the newest; on a copy of a database: twice, and what is changed
    without a declaration, with the line to paste.
    """
    with tempfile.TemporaryDirectory() as scratch:
        problems = find(folder, released=released, database=database, scratch=Path(scratch))
    if as_json:
        click.echo(json.dumps({"format": 1, "problems": [one._asdict() for one in problems]}, indent=1))
    for one in () if as_json else problems:
        say(f"{one.where}: {one.what}", sys.stdout)
        if one.safe:
            say(f"    {one.safe}", sys.stdout)
    if not problems and not as_json:
        click.echo("nothing to say against it")
    sys.exit(FAILED if problems else 0)
