"""`updater confirm`, for `--help`: the app runs it without the CLI library (`start`)."""

from __future__ import annotations

import sys

import click

from updater.cli import start


@click.command("confirm", context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1)
def command(words: tuple[str, ...]) -> None:
    """For the app: "I work". 0: go on; 3: given up, close without selling."""
    sys.exit(start.confirm(list(words)))
