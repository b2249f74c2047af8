"""Declarations in the language of a migration's own file, to paste."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal, assert_never

from dbsync.migrations.engines.settings import SETTINGS
from dbsync.model import EngineName, Migration, MigrationKind


def is_one_by_one(migration: Migration) -> bool:
    """Return whether each declaration is a line of its own, so that any of them can be pasted alone."""
    return migration.kind is MigrationKind.SQL and migration.engine is not EngineName.DRIZZLE


def lines(migration: Migration, key: Literal["changes", "needs"], values: Sequence[str]) -> str:
    """Return what the file of a migration has to say to declare `values`, with what it declares already.

    Comments in SQL, one for each; one list in Python and in the file of a program. A file of Drizzle's must stay as it
    is, because the tool knows it by its hash: there it is a table of the folder's settings.
    """
    declared = migration.changes if key == "changes" else tuple(str(need) for need in migration.needs)
    listed = json.dumps([*declared, *(value for value in values if value not in declared)], ensure_ascii=False)
    if migration.engine is EngineName.DRIZZLE:
        return f'{SETTINGS}: [declared."{migration.name}"] {key} = {listed}'
    match migration.kind:
        case MigrationKind.SQL:
            return "\n".join(f"-- {key}: {value}" for value in values)
        case MigrationKind.PYTHON | MigrationKind.COMMAND:
            return f"{key} = {listed}"
        case _:
            assert_never(migration.kind)
