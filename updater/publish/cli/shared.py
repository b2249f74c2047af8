"""Options of the vendor's commands, and the source of passwords."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from updater.cli.shared import FOLDER
from updater.publish.signing import Passwords

EXISTING_FILE: Final = click.Path(path_type=Path, dir_okay=False, exists=True)
VARIABLE: Final = "TILLKEEPER_KEY_PASSWORD"

with_repository = click.option(
    "--repository", "folder", type=FOLDER, required=True, envvar="TILLKEEPER_REPOSITORY", help="The workshop's folder."
)
with_password_file = click.option(
    "--password-file",
    type=EXISTING_FILE,
    help=f"File with the keys' password (else {VARIABLE}, or …_ROLE, or it is asked for).",
)


def passwords_from(file: Path | None, *, new: bool = False) -> Passwords:
    """Return the source of passwords: the file, the environment or, at a terminal, one prompt."""
    asked: dict[str, str] = {}

    def password(role: str) -> str | None:
        found = os.environ.get(f"{VARIABLE}_{role.upper()}") or os.environ.get(VARIABLE)
        if file is not None:
            found = file.read_text(encoding="utf-8").strip()
        if found or not os.isatty(0):
            return found
        if "all" not in asked:
            asked["all"] = click.prompt("Password of the keys", hide_input=True, confirmation_prompt=new)
        return asked["all"]

    return password
