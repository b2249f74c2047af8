"""The settings of a folder of migrations, `engine.toml`: its engine, and declarations for files of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dbsync.errors import BadMigrations
from dbsync.migrations.migration_file import bytes_of

SETTINGS: Final = "engine.toml"
"""In the folder of migrations: `engine = "numbered"`, and declarations for files that must not be edited."""

COUNTERS: Final = "counters.toml"
"""In the folder of migrations of any engine: the numbers that must never run backwards (`dbsync.counters`)."""


def settings(folder: Path) -> dict[str, object]:
    """Return the folder's settings; empty without any.

    Raises:
        BadMigrations: the settings are no TOML.
        DiskProblem: they cannot be read now.
    """
    path = folder / SETTINGS
    if not path.is_file():
        return {}
    import tomllib

    try:
        return tomllib.loads(bytes_of(path).decode())
    except ValueError as cause:
        raise BadMigrations(operation="read", path=path, cause=str(cause)) from cause
