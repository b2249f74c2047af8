"""The commands of people and of the agent's service, in words or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import click

from dbsync.errors import TillkeeperError
from dbsync.outcomes import ExitStatus
from updater import __version__
from updater import settings as settings_file
from updater.cli import start
from updater.model import ProcessKind
from updater.settings import Settings

Command = Callable[..., None]
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


class Failure(click.ClickException):
    """An error as people read it: what was being done, why it did not work, what can be done about it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code: int = exit_code  # type: ignore[misc]


@contextmanager
def in_words() -> Iterator[None]:
    """Our own errors become sentences with an exit status; anything else is a mistake of ours and shows its trace."""
    try:
        yield
    except TillkeeperError as error:
        raise Failure(error.in_words, error.exit_status) from error


def with_settings(command: Command) -> Command:
    """Adds --settings and hands the loaded settings to the command."""

    @click.option("--settings", "settings_path", type=_FILE, help="The terminal's settings file.")
    @wraps(command)
    def wrapped(settings_path: Path | None, **values: Any) -> None:
        with in_words():
            command(settings_file.load(settings_file.find(settings_path)), **values)

    return wrapped


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
@click.version_option(__version__, prog_name="tillkeeper")
def commands() -> None:
    """Keeps a terminal's app and its database up to date, as one."""


@commands.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1)
def launch(words: tuple[str, ...]) -> None:
    """Start the right version of the app (what the shortcut starts): launch [--settings FILE] [-- ARGS]."""
    sys.exit(start.launch(list(words)))


@commands.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1)
def confirm(words: tuple[str, ...]) -> None:
    """For the app: "I work". 0: go on; 3: given up, close without selling."""
    sys.exit(start.confirm(list(words)))


@commands.command()
@click.option("--root", type=_FILE, required=True, help="The vendor's root.json, handed over on a way you trust.")
@click.option("--url", required=True, help="Where the vendor's public folder is served.")
@click.option("--app", help="The app's name (default: the only one in the repository).")
@click.option("--bundle", type=_FOLDER, help="A folder with the first version, instead of downloading it.")
@click.option("--settings", "settings_path", type=_FILE, help="Where to write the settings.")
@click.option("--program", type=_FOLDER, help="Folder of the program's versions.")
@click.option("--state", type=_FOLDER, help="Folder of the updater's own state.")
@click.option("--data", type=_FOLDER, help="Folder of the app's data.")
@click.option("--database", type=_FILE, help="The app's database (default: pos_system.db in the data folder).")
@click.option("--backup-prefix", help="First part of backup names (default: the database's name).")
@click.option("--mirror", "mirrors", multiple=True, help="A further place to fetch from; may be repeated.")
@click.option("--interpreter", "roles", multiple=True, metavar="ROLE=PATH", help="E.g. python=/usr/bin/python3.")
def install(
    root: Path, url: str, app: str | None, roles: tuple[str, ...], settings_path: Path | None, **values: Any
) -> None:
    """Make this machine a terminal: trusted root, settings, terminal id, first version. May be repeated."""
    from updater.terminal.installation import Wish
    from updater.terminal.installation import install as run

    interpreters = tuple(_role(one) for one in roles)
    with in_words():
        settings, journal = run(
            Wish(app=app, url=url, root=root, settings=settings_path, interpreters=interpreters, **values)
        )
    click.echo(f"{settings.app} {journal.good.version} is installed as {settings.terminal_id}.")
    click.echo(f"Settings: {settings.path}")
    click.echo(f"Start it with: updater launch --settings {settings.path}")


def _role(text: str) -> tuple[str, str]:
    role, separator, path = text.partition("=")
    if not (role and separator and path):
        raise click.BadParameter(f"{text} is not ROLE=PATH", param_hint="--interpreter")
    return role, path


@commands.command()
@as_json
@with_settings
def check(settings: Settings, *, as_json: bool) -> None:
    """One cycle now: look, download, stage, swap what may be; tells what was decided and why."""
    from updater.cli import progress_bar
    from updater.flows.agent import cycle

    with progress_bar.download_bar(quiet=as_json) as progress:
        ended = cycle(_terminal(settings, ProcessKind.AGENT, progress))
    if as_json:
        click.echo(json.dumps(ended._asdict()))
    else:
        for line in ended.done:
            click.echo(f"done: {line}")
        click.echo(f"{ended.outcome}: {ended.reason}")
    sys.exit(ended.outcome.exit_status)


@commands.command()
@with_settings
def run(settings: Settings) -> None:
    """The agent: a cycle now and then, for ever. Install it as a service."""
    from updater.flows.agent import run as ring

    ring(
        _terminal(settings, ProcessKind.AGENT),
        interval_seconds=settings.interval_seconds,
        jitter_seconds=settings.jitter_seconds,
        told=lambda ended: click.echo(f"{ended.outcome}: {ended.reason}"),
    )


@commands.command()
@as_json
@with_settings
def status(settings: Settings, *, as_json: bool) -> None:
    """What is going on here: versions, schema, phase, trial, last outcome, backups, disk, and what to do."""
    from updater.reporting.status import in_words as lines_of
    from updater.reporting.status import status as look

    found = look(_terminal(settings, ProcessKind.STATUS))
    for line in [json.dumps(found, indent=1, ensure_ascii=False)] if as_json else lines_of(found):
        click.echo(line)


@commands.command()
@click.argument("release")
@with_settings
def allow(settings: Settings, *, release: str) -> None:
    """Lift a rejection: RELEASE is a version or the beginning of a release id."""
    from updater.flows.rollback import allow as lift

    lifted = lift(_terminal(settings, ProcessKind.ALLOW), release)
    click.echo(f"{lifted.version} ({lifted.release_id[:12]}) may be tried again.")


@commands.command()
@click.option("--list", "listing", is_flag=True, help="Show versions and backups; change nothing.")
@click.option("--to", help="The version to go back to (default: the last one that worked).")
@click.option("--backup", type=_FILE, help="The backup to restore (default: the newest good one that fits).")
@click.option("--dry-run", is_flag=True, help="Say what would be done and lost; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@with_settings
def rollback(settings: Settings, **values: Any) -> None:
    """Go back to a version that worked, with the database that fits it. What is replaced is kept."""
    from updater.cli.rollback import run as roll_back

    sys.exit(roll_back(settings, ask=click.confirm, say=click.echo, **values))


def _terminal(settings: Settings, kind: ProcessKind, progress: Callable[[int, int], None] | None = None) -> Any:
    from updater.terminal.live import Terminal

    return Terminal(settings, kind=kind, download_progress=progress)


@click.command(name="publish", context_settings={"ignore_unknown_options": True})
@click.argument("_words", nargs=-1)
def publish_missing(_words: tuple[str, ...]) -> None:
    """(not installed) the vendor's side."""
    raise Failure(
        "The vendor's side is not installed. Install it with: pip install 'tillkeeper[publish]'", ExitStatus.REFUSED
    )
