"""Helpers of the commands: error messages, and the settings of a command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click

from dbsync.cli.table import Sentence
from dbsync.errors import TillkeeperError, wrapped
from updater import settings as settings_file

Command = Callable[..., None]
FILE: Final = click.Path(path_type=Path, dir_okay=False)
FOLDER: Final = click.Path(path_type=Path, file_okay=False)


class Failure(Sentence):
    """Error as people read it: the operation that failed, the cause, and a hint."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code: int = exit_code  # type: ignore[misc]


@contextmanager
def in_words() -> Iterator[None]:
    """Context that turns our errors and those of files into a message and an exit status.

    All others are left to the group.
    """
    try:
        yield
    except (TillkeeperError, OSError) as raised:
        error = wrapped(raised)
        raise Failure(error.in_words, error.exit_status) from raised


def with_settings(command: Command) -> Command:
    """Add --settings to a command and pass it the loaded settings."""

    @click.option("--settings", "settings_path", type=FILE, help="The terminal's settings file.")
    @wraps(command)
    def wrapped(settings_path: Path | None, **values: Any) -> None:
        with in_words():
            command(settings_file.load(settings_file.find(settings_path)), **values)

    return wrapped


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
