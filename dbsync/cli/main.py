"""The commands of dbsync that bring a database forward, look at it, and restore it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

from dbsync.backups import catalog
from dbsync.cli.console import Bars, Transcript
from dbsync.cli.output import Commands, errors_told, tell
from dbsync.database import preflight
from dbsync.database.flight_recorder import FlightRecorder
from dbsync.database.live import LiveEffects
from dbsync.errors import BackupUnusable, NotAgreed
from dbsync.migrations import folder as migration_folder
from dbsync.model import Backup, Change, Facts, Migration, State
from dbsync.outcomes import ExitStatus
from dbsync.progress import Progress, quiet
from dbsync.storage import connections, files
from dbsync.storage.locks import locked
from dbsync.storage.temporary_files import owner_of
from dbsync.upgrade import restore_decision
from dbsync.verification import checks

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


class Place(NamedTuple):
    """What a command works on."""

    database: Path
    backups: Path
    prefix: str | None
    bars: Bars

    def effects(self, progress: Progress | None = None) -> LiveEffects:
        """The effects on it."""
        return LiveEffects(self.database, backups=self.backups, prefix=self.prefix, progress=progress or self.bars)

    def check_writable(self) -> None:
        """Refuses before anything is copied what could not be finished.

        Raises:
            ReadOnly: backups, where copies are made and records are kept, cannot be written.
        """
        preflight.check_writable(self.backups)

    def listed(self) -> list[Backup]:
        """Its backups, newest first."""
        return catalog.list_backups(self.backups, self.database)


def ask(question: str, *, operation: str, path: Path, yes: bool, as_json: bool) -> None:
    """Asks a person, unless they said yes before. A program that reads JSON is not asked.

    Raises:
        NotAgreed: the answer was no, or there was none.
    """
    try:
        agreed = yes or (not as_json and click.confirm(question))
    except click.Abort as cause:
        raise NotAgreed(operation=operation, path=path, cause="nobody answered") from cause
    if not agreed:
        raise NotAgreed(operation=operation, path=path, cause="it was not agreed to")


def _name(_context: click.Context, _option: click.Parameter, prefix: str | None) -> str | None:
    """A backup elsewhere than among the backups would be on no list."""
    if prefix is not None and (not prefix or Path(prefix).name != prefix):
        raise click.BadParameter("it is the first part of a file's name, not a path")
    return prefix


def on_database(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that say which database, and turns our errors into sentences."""

    @click.option("--database", type=_FILE, required=True, envvar="DBSYNC_DATABASE", help="The database.")
    @click.option("--backups", type=_FOLDER, envvar="DBSYNC_BACKUPS", help="Folder of backups (default: beside it).")
    @click.option("--prefix", callback=_name, help="First part of backup names (default: the database's name).")
    @wraps(command)
    def wrapped(database: Path, backups: Path | None, prefix: str | None, **values: Any) -> None:
        place = Place(database.absolute(), (backups or database.parent / "backups").absolute(), prefix, Bars())
        with errors_told(as_json=values.get("as_json", False)):
            try:
                command(place, **values)
            finally:
                place.bars.clear()

    return wrapped


from_folder = click.option(
    "--migrations", "folder", type=_FOLDER, required=True, envvar="DBSYNC_MIGRATIONS", help="The folder of migrations."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=Commands)
def main() -> None:
    """Brings a SQLite database from one schema to the next without losing anything.

    Exit statuses: 0 done; 1 failed and undone; 2 usage; 4 refused, nothing was changed; 5 a person must decide;
    75 try again later; 130 Ctrl-C: as it was, or finished, as `dbsync status` tells.
    """


@main.command()
@click.option(
    "--migrations", "folder", type=_FOLDER, envvar="DBSYNC_MIGRATIONS",
    help="The folder of migrations: tells the newest schema, and what is pending.",
)  # fmt: skip
@as_json
@on_database
def status(place: Place, *, folder: Path | None, as_json: bool) -> None:
    """Its schema, what is pending, the last run, backups."""
    facts = place.effects().look()
    found = migration_folder.load(folder) if folder is not None else ()
    pending = [f"{one.number:04d}_{one.name}" for one in found if one.number > facts.version]
    ended = [line for line in FlightRecorder(place.backups, place.database).lines() if line.get("event") == "ended"]
    errors = [line for line in ended if line.get("cause")]
    listed = place.listed()
    told = {
        "format": 1,
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


@main.command("backup")
@click.option("--to", type=_FILE, help="Where to (default: the folder of backups).")
@as_json
@on_database
def make_backup(place: Place, *, to: Path | None, as_json: bool) -> None:
    """Make a backup by hand, and check it.

    Rotation never removes it.
    """
    with locked(place.database):
        kept = place.effects(quiet if as_json else Transcript()).make_backup(to)
    if as_json:
        tell(json.dumps({"format": 1, **plain(kept)}))


@main.command()
@click.argument("backup", type=_FILE)
@click.option("--dry-run", is_flag=True, help="Say what would be lost; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@on_database
def restore(place: Place, *, backup: Path, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Put BACKUP in the database's place.

    The database as it is now is kept beside it first.
    """
    path = backup if files.is_there(catalog.find(backup)) else place.backups / backup.name
    if not files.is_there(catalog.find(path)):
        raise BackupUnusable(operation="restore", path=path, cause="there is no such file")
    _check_own(place, path)
    if not dry_run:
        place.check_writable()
    with locked(place.database):
        effects = place.effects()
        change = restore_decision.what_would_be_lost(effects, backup=path)
        for line in () if as_json else _since(change):
            tell(line)
        if dry_run:
            losses = [one._asdict() for one in change.losses]
            print_told({"format": 1, "done": False, "losses": losses, "not_known": change.cause}, as_json=as_json)
            return
        ask("Restore now? What is replaced is kept.", operation="restore", path=path, yes=yes, as_json=as_json)
        # Before anything is copied: a database that somebody writes cannot be replaced now.
        if effects.look().state is State.OK:
            preflight.check_alone(place.database)
        returned = restore_decision.restore(effects, backup=path.absolute(), intent_id=f"dbsync-{files.random_name()}")
    told = {
        "format": 1,
        "done": returned.back is not None,
        "outcome": str(returned.outcome.name),
        "cause": returned.outcome.cause,
        "hint": returned.outcome.hint,
        "version": returned.outcome.version_after,
        "kept": str(returned.set_aside.path) if returned.set_aside else None,
    }
    print_told(told, as_json=as_json)
    sys.exit(0 if returned.back is not None else returned.outcome.name.exit_status)


def _since(change: Change) -> list[str]:
    if not change.known:
        return [f"what was done since then cannot be told: {change.cause}"]
    if not change.losses:
        return ["since then, nothing was added, changed or removed in what both have"]
    return [
        f"since then, {one.table}: {one.added} added, {one.changed} changed, {one.removed} removed"
        for one in change.losses
    ]


def _check_own(place: Place, path: Path) -> None:
    found = catalog.find(path)
    if not found.is_file():
        return
    if found.samefile(place.database) if place.database.exists() else False:
        raise BackupUnusable(operation="restore", path=path, cause="it is the database itself")
    owner = catalog.read(found).database
    if owner not in ("", owner_of(place.database)):
        hint = "`dbsync import` puts any database in its place, and keeps what is there."
        raise BackupUnusable(operation="restore", path=path, cause=f"it is a backup of {owner}", hint=hint)


@main.command("verify")
@from_folder
@as_json
@on_database
def verify_database(place: Place, *, folder: Path, as_json: bool) -> None:
    """Check the database as it is; changes nothing.

    Soundness, foreign keys, and its structure against that of a fresh database.
    """
    facts = place.effects().look()
    found = _problems(place, facts, migration_folder.load(folder))
    told: dict[str, Any] = {"format": 1, "state": str(facts.state), "version": facts.version, "problems": found}
    print_told(told if found or as_json else {**told, "problems": "none"}, as_json=as_json)
    sys.exit(ExitStatus.FAILED if found else 0)


def _problems(place: Place, facts: Facts, found: tuple[Migration, ...]) -> list[str]:
    if facts.state is not State.OK:
        return [f"{facts.state}: {facts.detail}".rstrip(": ")]
    if facts.version > len(found):
        return [f"its schema is {facts.version}, and the newest of these migrations {len(found)}"]
    with connections.translated("verify", place.database), closing(connections.open_reading(place.database)) as live:
        known = tuple(one for one in found if one.number <= facts.version)
        case = checks.Case(live, known, has_old=False)
        return [sentence for check in checks.CHECKS for sentence in check(case)]


def plain(value: Any) -> dict[str, Any]:
    return {
        name: str(part) if isinstance(part, Path) else plain(part) if hasattr(part, "_asdict") else part
        for name, part in value._asdict().items()
    }


def print_told(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        tell(json.dumps(told, indent=1))
        return
    for name, value in told.items():
        if name != "format" and value not in (None, "", []):
            shown = ", ".join(str(one) for one in value) if isinstance(value, list) else value
            tell(f"{name.replace('_', ' '):<14} {shown}")
