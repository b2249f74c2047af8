"""The commands of dbsync: one table, a line each. The module of a command is imported when the command is used."""

from __future__ import annotations

from typing import Final, NamedTuple

import click

from dbsync.cli.output import Commands
from dbsync.cli.table import TableGroup


class Line(NamedTuple):
    """A command's line in the table."""

    module: str
    """A module of this package, which has the command as `command`."""
    answers: bool = False
    """Whether its only result is its answer: it has failed if that cannot be printed."""


COMMANDS: Final = {
    "backup": Line("backup"),
    "backups": Line("backups", answers=True),
    "baseline": Line("baseline"),
    "check": Line("check", answers=True),
    "counters": Line("counters", answers=True),
    "diff": Line("diff", answers=True),
    "downgrade": Line("downgrade"),
    "empty": Line("empty"),
    "history": Line("history", answers=True),
    "import": Line("import_database"),
    "kept": Line("kept", answers=True),
    "new": Line("new"),
    "rehearse": Line("rehearse", answers=True),
    "repair": Line("repair"),
    "restore": Line("restore"),
    "stamp": Line("stamp"),
    "status": Line("status", answers=True),
    "upgrade": Line("upgrade"),
    "verify": Line("verify", answers=True),
    "write-schema": Line("write_schema"),
}


class Table(Commands, TableGroup):
    """The group of all commands in the table."""

    modules = {name: f"{__package__}.{line.module}" for name, line in COMMANDS.items()}  # noqa: RUF012 - a constant
    answering = frozenset(name for name, line in COMMANDS.items() if line.answers)


@click.group(cls=Table)
def main() -> None:
    """Bring a SQLite database from one schema to the next without losing anything.

    Exit statuses: 0 done; 1 failed and undone; 2 usage; 4 refused, nothing was changed; 5 a person must decide;
    75 try again later; 130 Ctrl-C: as it was, or finished, as `dbsync status` tells.
    """
