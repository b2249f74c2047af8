"""`updater launch`, for `--help`: the till runs it without the CLI library (`start`)."""

from __future__ import annotations

import sys

import click

from updater.cli import start


@click.command("launch", context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1)
def command(words: tuple[str, ...]) -> None:
    """Start the right version of the app (what the shortcut starts): launch [--settings FILE] [-- ARGS]."""
    sys.exit(start.launch(list(words)))
