"""Options of the commands that let scratch terminals take a release."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from updater.publish import verify
from updater.publish.cli.shared import EXISTING_FILE


def with_verification(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a verification to a command, which receives them as `wish`."""

    @click.option(
        "--living", multiple=True, metavar="VERSION", help="A version that runs on terminals (default: the last 5)."
    )
    @click.option(
        "--strands",
        multiple=True,
        metavar="VERSION",
        help=f"A version whose terminals may be left behind; {verify.NEW} for new terminals.",
    )
    @click.option("--sample-database", "samples", type=EXISTING_FILE, multiple=True, help="A database to migrate too.")
    @click.option("--oldest-agent", default="0", metavar="VERSION", help="No terminal has an older Tillkeeper.")
    @click.option("--oldest-sqlite", default="", metavar="VERSION", help="No terminal has an older SQLite.")
    @wraps(command)
    def wrapped(
        living: tuple[str, ...],
        strands: tuple[str, ...],
        samples: tuple[Path, ...],
        oldest_agent: str,
        oldest_sqlite: str,
        **values: Any,
    ) -> None:
        def told(line: str) -> None:
            click.echo(line, err=True)

        for option, value in (("--oldest-agent", oldest_agent), ("--oldest-sqlite", oldest_sqlite or "0")):
            if not all(part.isdecimal() for part in value.split(".")):
                raise click.BadParameter(f"{value} is no version such as 3.38", param_hint=option)
        wish = verify.Wish(living, frozenset(strands), samples, oldest_agent, oldest_sqlite, told)
        command(wish=wish, **values)

    return wrapped
