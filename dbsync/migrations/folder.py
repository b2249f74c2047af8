"""Folders of migrations of any engine, read into the same values, by number. Runs none of them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dbsync.migrations.engines import own, registry
from dbsync.model import EngineName, Migration

NONE: Final = "there is no migration in the folder"
NONE_HINT: Final = "Name the folder that holds the migrations."


def load(folder: Path) -> tuple[Migration, ...]:
    """Return all migrations of a folder, by number.

    Raises:
        BadMigrations: the folder is missing, a number is missing or used twice, or a file cannot be parsed; nothing
            else was read.
    """
    return registry.engine_of(folder).load(folder)


def passed_over(folder: Path) -> list[Path]:
    """Return files that look like migrations but are not read, as editors leave them: `0007_add_barcode.sql.txt`."""
    return own.passed_over(folder) if registry.engine_of(folder).name is EngineName.OWN else []


def folder_of(migration: Migration) -> Path:
    """Return the folder that a migration was loaded from."""
    return registry.named(migration.engine).folder_of(migration)
