"""The engine of a folder of migrations: `EngineName` lists the engines, and each is loaded when it is needed.

An engine reads its folder into migrations, runs one in the open transaction, and knows the table in which its tool
records its migrations. It is read to adopt a database, and written beside our own history, so that the tool agrees
with us afterwards. All engines run inside the one transaction; a program of the app's own cannot, and is a migration of
kind "command".
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import cast

from dbsync.errors import BadMigrations
from dbsync.migrations.engines import own
from dbsync.migrations.engines.engine import Engine
from dbsync.migrations.engines.settings import SETTINGS, settings
from dbsync.migrations.migration_file import unreadable
from dbsync.model import EngineName


def named(name: EngineName) -> Engine:
    """Return an engine by its name, loading its module first."""
    return cast("Engine", import_module(f"{__package__}.{name}").ENGINE)


def engine_of(folder: Path) -> Engine:
    """Return the engine of a folder, by unambiguous marks or by its settings; ours if there are none.

    A folder in which all names are those of our migrations is ours, without loading the other engines.

    Raises:
        BadMigrations: there is no such folder, or its settings name an unknown engine.
        DiskProblem: it cannot be read now.
    """
    try:
        if own.is_all_ours(folder):
            return own.ENGINE
        others = [named(name) for name in EngineName if name is not EngineName.OWN]
        for engine in others:
            if is_marked(folder, engine.marks):
                return engine
        said = settings(folder).get("engine")
        if said is not None:
            return named(_checked(said, folder))
        return next((engine for engine in others if is_marked(folder, engine.weak_marks)), own.ENGINE)
    except OSError as cause:
        # `is_file` raises if it cannot determine the answer, for instance below a folder without permission.
        raise unreadable(folder, cause) from cause


def is_marked(folder: Path, marks: Iterable[str]) -> bool:
    """Return whether a folder has a file that matches one of the patterns."""
    return any((folder / mark).is_file() if "*" not in mark else any(folder.glob(mark)) for mark in marks)


def _checked(said: object, folder: Path) -> EngineName:
    try:
        return EngineName(cast("str", said))
    except ValueError as cause:
        known = ", ".join(EngineName)
        raise BadMigrations(
            operation="read", path=folder / SETTINGS, cause=f"{said!r} is no engine: {known}"
        ) from cause
