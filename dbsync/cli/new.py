"""`dbsync new`: write the file of a new migration."""

from __future__ import annotations

from pathlib import Path

import click

from dbsync.cli.output import errors_told, tell
from dbsync.cli.shared import as_json, from_folder, tell_json
from dbsync.commands import new_migration


@click.command("new")
@click.argument("words", nargs=-1, required=True, metavar="NAME...")
@from_folder
@click.option("--python", is_flag=True, help="In Python, with the helpers of `db`; without it, in SQL.")
@as_json
def command(words: tuple[str, ...], folder: Path, python: bool, as_json: bool) -> None:
    """Write the file of a new migration, with the next number.

    NAME says what it does, in a few words: `dbsync new add the barcode --migrations migrations` writes
    migrations/0007_add_the_barcode.sql.
    """
    with errors_told(as_json=as_json):
        path = new_migration.make(folder, " ".join(words), python=python)
    if as_json:
        tell_json({"written": str(path.absolute())}, on_one_line=True)
        return
    tell(f"{path} is written. Write what it does, then: dbsync check --migrations {folder}")
