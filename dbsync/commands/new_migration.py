"""Writes the file of a new migration, with the next number, from a template."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dbsync.errors import BadMigrations
from dbsync.migrations.engines import registry
from dbsync.migrations.folder import load
from dbsync.model import EngineName
from dbsync.storage import files

SQL: Final = """\
-- description: {description}
{first}-- Changes of existing rows are declared above the first statement. `dbsync check --database COPY-OF-A-SHOP`
-- proposes the lines; docs/migrations.md has them all.

"""
PYTHON: Final = '''\
"""{description}."""

from dbsync import Database

description = "{description}"
{first}# Changes of existing rows: `dbsync check --database COPY-OF-A-SHOP` proposes them; docs/migrations.md.
changes: list[str] = []


def up(db: Database) -> None:
    """{description}."""
'''
_OTHERS_COMMANDS: Final = {
    EngineName.ALEMBIC: "`alembic revision -m …`",
    EngineName.DRIZZLE: "`drizzle-kit generate`",
    EngineName.NUMBERED: "the command of its tool (`migrate create`, `goose create`, `dbmate new`)",
}
FIRST: Final = """\
{mark} The first migration makes the whole schema, from nothing.
{mark} For a database that exists already, remove this file and have it written:
{mark} dbsync write-schema {folder}/0001_initial_schema.sql --database FILE
"""
_NAME_LIMIT: Final = 80


def make(folder: Path, words: str, *, python: bool) -> Path:
    """Write the file of a new migration and return its path; a missing folder is made.

    Args:
        folder: the migrations.
        words: what it does; its name is made of them: `Add the barcode` gives `add_the_barcode`.
        python: whether it is written in Python, not in SQL.

    Raises:
        BadMigrations: the folder belongs to another tool or cannot be read, or no name can be made of the words.
    """
    spaced = "".join(letter if letter.isascii() and letter.isalnum() else " " for letter in words.lower())
    name = "_".join(spaced.split())[:_NAME_LIMIT].rstrip("_")
    if not name[:1].isalpha():
        cause = f"no name can be made of {words!r}: it begins with a letter and has letters, digits and _"
        raise BadMigrations(operation="name the migration", cause=cause, hint="Say it in a few English words.")
    if not folder.is_dir():
        files.make_folder(folder)
    engine = registry.engine_of(folder).name
    if engine is not EngineName.OWN:
        hint = f"Make it with {_OTHERS_COMMANDS[engine]}: dbsync reads it."
        raise BadMigrations(operation="write", path=folder, cause=f"its migrations are {engine}'s", hint=hint)
    number = len(load(folder)) + 1
    path = folder / f"{number:04d}_{name}.{'py' if python else 'sql'}"
    description = " ".join(words.replace("\\", " ").replace('"', " ").split())
    first = FIRST.format(mark="#" if python else "--", folder=folder) if number == 1 else ""
    text = (PYTHON if python else SQL).format(description=description[:1].upper() + description[1:], first=first)
    files.write_durably(path, text.encode())
    return path
