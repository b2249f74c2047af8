"""A group of commands from a table: the module of a command is imported when the command is used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import click


class TableGroup(click.Group):
    """A group whose commands are lines of a table: a name, and the module with its `command`."""

    modules: Mapping[str, str] = {}
    """Names of commands, and the dotted names of their modules."""

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
