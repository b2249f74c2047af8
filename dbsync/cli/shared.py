"""Shared parts of the commands: the options for the database, the question to a person, and printing answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from dbsync.backups import catalog
from dbsync.backups.description import backup_json
from dbsync.cli.console import Bars
from dbsync.cli.output import errors_told, tell
from dbsync.database import preflight
from dbsync.database.live import LiveEffects
from dbsync.errors import BackupUnusable, DiskProblem, NotAgreed
from dbsync.model import Backup, BackupKind
from dbsync.progress import Progress
from dbsync.storage.connections import Thoroughness
from dbsync.storage.files import disk_errors
from dbsync.storage.platform import this_platform

FORMAT: Final = 1
"""The format number of all --json output."""
# A file that this account may not read is no mistake of usage: our errors say so, with the path and what to do.
FILE: Final = click.Path(path_type=Path, dir_okay=False, readable=False)
FOLDER: Final = click.Path(path_type=Path, file_okay=False, readable=False)


class Place(NamedTuple):
    """The database that a command works on, and the folder of its backups."""

    database: Path
    backups: Path
    prefix: str | None
    bars: Bars

    def effects(
        self,
        progress: Progress | None = None,
        *,
        thoroughness: Thoroughness = Thoroughness.FULL,
        reads_only: bool = False,
    ) -> LiveEffects:
        """Return the effects on the database; no till waits for a person's command."""
        return LiveEffects(
            self.database,
            backups=self.backups,
            prefix=self.prefix,
            progress=progress or self.bars,
            thoroughness=thoroughness,
            reads_only=reads_only,
        )

    def check_writable(self) -> None:
        """Refuse work that could not be finished, before anything is copied.

        Raises:
            ReadOnly: the folder of backups, for copies and records, cannot be written.
        """
        preflight.check_writable(self.backups, like=self.database)

    def listed(self) -> list[Backup]:
        """Return the backups of the database, newest first."""
        return catalog.list_backups(backups=self.backups, database=self.database)


def ask(question: str, *, operation: str, path: Path, yes: bool, as_json: bool) -> None:
    """Ask a person, unless --yes was passed. A program that reads JSON is not asked.

    Raises:
        NotAgreed: the answer was no, or there was none.
    """
    try:
        agreed = yes or (not as_json and click.confirm(question))
    except click.Abort as cause:
        # The question is still on the last line.
        click.echo()
        raise NotAgreed(operation=operation, path=path, cause="nobody answered") from cause
    if not agreed:
        raise NotAgreed(operation=operation, path=path, cause="it was not agreed to")


def _name(_context: click.Context, _option: click.Parameter, prefix: str | None) -> str | None:
    """Return the prefix if it contains no path: a backup in another folder would be on no list."""
    if prefix is not None and (not prefix or Path(prefix).name != prefix):
        raise click.BadParameter("it is the first part of a file's name, not a path")
    return prefix


@contextmanager
def as_owner_of(database: Path) -> Iterator[None]:
    """A block for which a privileged process has become the owner of a database, for good.

    Nothing in the folder of the data is opened before that. A database of a privileged account is worked on as before.
    """
    platform = this_platform()
    owner = None
    if platform.is_privileged:
        with disk_errors("find the owner of", database):
            owner = platform.owner_of(database)
        if owner is not None:
            with disk_errors("become the owner of", database):
                platform.become(owner)
    try:
        yield
    except DiskProblem as error:
        if owner is not None:
            error.hint = f"This command runs with the rights of {owner.name}, who owns {database}. {error.hint}"
        raise


def on_database(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for the database to a command, and turn our errors into sentences."""

    @click.option("--database", type=FILE, required=True, envvar="DBSYNC_DATABASE", help="The database.")
    @click.option("--backups", type=FOLDER, envvar="DBSYNC_BACKUPS", help="Folder of backups (default: beside it).")
    @click.option("--prefix", callback=_name, help="First part of backup names (default: the database's name).")
    @wraps(command)
    def wrapped(database: Path, backups: Path | None, prefix: str | None, **values: Any) -> None:
        place = Place(database.absolute(), (backups or database.parent / "backups").absolute(), prefix, Bars())
        with errors_told(as_json=values.get("as_json", False)), as_owner_of(place.database):
            try:
                command(place, **values)
            finally:
                place.bars.clear()

    return wrapped


def folder_option(text: str, *, required: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the option `--migrations`, which a command receives as `folder`; its help differs if it is optional."""
    return click.option("--migrations", "folder", type=FOLDER, required=required, envvar="DBSYNC_MIGRATIONS", help=text)


from_folder = folder_option("The folder of migrations.", required=True)
newer_folder = folder_option("The newer release's folder of migrations (default: what is kept beside the backup).")
base_backup = click.option("--backup", type=FILE, help="The state before (default: the newest good migration backup).")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
yes_without_loss = click.option("--yes", is_flag=True, help="Do not ask. This never accepts a loss.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def chosen_backup(place: Place, path: Path | None, *, schema: int | None = None) -> Backup:
    """Return the backup to go back to: the named one, else the newest good migration backup, of one schema if given.

    Raises:
        BackupUnusable: there is none, or it is not a backup of this database.
    """
    listed = place.listed()
    if path is not None:
        meant = [catalog.find(file) for file in (path.absolute(), place.backups / path.name)]
        named = [backup for backup in listed if backup.path in meant]
    else:
        named = [backup for backup in listed if backup.kind == BackupKind.MIGRATION and backup.verified]
    if schema is not None:
        having = sorted({backup.version for backup in named})
        named = [backup for backup in named if backup.version == schema]
        if not named and having:
            cause = f"there is no good migration backup of schema {schema}, only of {', '.join(map(str, having))}"
            raise BackupUnusable(operation="go back with", path=path or place.backups, cause=cause)
    if not named:
        cause = "there is no good migration backup of this database"
        if path is not None:
            cause = "it is not among this database's backups" if path.exists() else "there is no such backup"
        hint = "`dbsync backups` lists them." if listed else "There are none at all: nothing can be gone back to."
        raise BackupUnusable(operation="go back with", path=path or place.backups, cause=cause, hint=hint)
    return named[0]


def plain(value: Any) -> dict[str, Any]:
    """Return a named tuple as JSON can hold it: paths are strings, named tuples in it are objects."""
    return {name: _plain_part(part) for name, part in value._asdict().items()}


def _plain_part(part: Any) -> Any:
    if isinstance(part, Backup):
        return backup_json(part)
    return str(part) if isinstance(part, Path) else plain(part) if hasattr(part, "_asdict") else part


def tell_json(told: dict[str, Any], *, on_one_line: bool = False) -> None:
    """Print an answer for programs."""
    tell(json.dumps({"format": FORMAT, **told}, indent=None if on_one_line else 1, default=str), exactly=True)


def print_told(told: dict[str, Any], *, as_json: bool) -> None:
    """Print an answer: as JSON for programs, or one line for each known fact for people."""
    if as_json:
        tell_json(told)
        return
    known = {name.replace("_", " "): value for name, value in told.items() if value not in (None, "", [])}
    width = max(map(len, known), default=0)
    for name, value in known.items():
        shown = ", ".join(str(part) for part in value) if isinstance(value, list) else value
        tell(f"{name:<{width}}  {shown}", hang=width + 2)
