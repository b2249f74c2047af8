"""A group of commands from a table: the module of a command is imported when the command is used.

The group is the last boundary of the command line: whatever is raised becomes a sentence and an exit status.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click

from dbsync.cli.lines import printable, say
from dbsync.errors import interrupts, wrapped
from dbsync.outcomes import ExitStatus

CLICKS: Final = (click.ClickException, click.Abort, click.exceptions.Exit, SystemExit)
"""The exceptions by which a command ends on purpose."""


class Sentence(click.ClickException):
    """An error as a sentence on stderr, which a terminal shows wrapped at words."""

    def show(self, file: Any = None) -> None:
        """Print it; nothing in a program that has no stderr."""
        stream = file if file is not None else sys.stderr
        if stream is not None:
            say(f"Error: {self.format_message()}", stream)


class Ended(Sentence):
    """The end of a command by an exception: a sentence on stderr, and an exit status."""

    def __init__(self, sentence: str, exit_status: ExitStatus) -> None:
        super().__init__(printable(sentence))
        self.exit_code: int = exit_status  # type: ignore[misc]


def ended(error: BaseException) -> Ended:
    """Return the end of a command for an exception of any type; never its traceback."""
    if interrupts(error):
        return Ended("interrupted: everything is as it was, or finished", ExitStatus.INTERRUPTED)
    ours = wrapped(error)
    return Ended(ours.in_words, ours.exit_status)


class TableGroup(click.Group):
    """A group whose commands are lines of a table: a name, and the module with its `command`."""

    modules: Mapping[str, str] = {}
    """Names of commands, and the dotted names of their modules."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; whatever it raises becomes a sentence and an exit status."""
        try:
            return super().invoke(ctx)
        except (*CLICKS, BrokenPipeError):
            # A reader that stops is no failure; click ends the command.
            raise
        except BaseException as error:
            raise ended(error) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*self.modules, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, importing its module."""
        module = self.modules.get(cmd_name)
        if module is None:
            return super().get_command(ctx, cmd_name)
        command = import_module(module).command
        assert isinstance(command, click.Command)
        return command
