"""Functions shared by the engines of other tools: running their SQL, and declarations beside their files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from dbsync.errors import BadMigrations
from dbsync.migrations.engines.settings import SETTINGS, settings
from dbsync.migrations.migration_file import built, metadata
from dbsync.migrations.operations import Database, run_statements
from dbsync.model import EngineName, Migration, SchemaNumber
from dbsync.schema.sql_text import Statement, numbered
from dbsync.storage.sql_tokens import words_of

_PASSED_OVER: Final = (("pragma", "foreign_keys"), ("begin",), ("commit",), ("end",))
"""Other tools wrap their files in these; here foreign keys are off and the one transaction is open already."""


def migration(
    path: Path,
    text: str,
    *,
    number: SchemaNumber,
    name: str,
    engine: EngineName,
    declared: dict[str, Any],
    entry: str = "",
) -> Migration:
    """Make a migration of another tool's.

    Its declarations are in its header or, if the file must not change for the tool, in the folder's settings under its
    name. In Python it must define `entry`.
    """
    values = {**metadata(path, text, entry=entry), **declared.get(name, {})}
    return built(path, text, values, number=number, name=name)._replace(engine=engine)


def declarations(folder: Path) -> dict[str, Any]:
    """Return the tables `[declared."NAME"]` of the folder's settings.

    Raises:
        BadMigrations: `declared` is not a table.
    """
    found = settings(folder).get("declared", {})
    if not isinstance(found, dict):
        raise BadMigrations(operation="read", path=folder / SETTINGS, cause="declared must be a table")
    return found


def check_known(folder: Path, declared: dict[str, Any], names: set[str]) -> None:
    """Refuse declarations for migrations that do not exist: a misspelt name would allow nothing."""
    unknown = sorted(declared.keys() - names)
    if unknown:
        cause = f"it declares something of {unknown[0]}, which is not there"
        raise BadMigrations(operation="read", path=folder / SETTINGS, cause=cause)


def run(db: Database, text: str, *, cut: re.Pattern[str] | None = None) -> None:
    """Run the statements of an SQL text, except those about transactions and foreign keys.

    A match of `cut` ends a statement, with or without a semicolon.
    """
    run_statements(db, [statement for statement in _statements(text, cut) if not is_passed_over(statement.sql)])


def _statements(text: str, cut: re.Pattern[str] | None) -> Iterator[Statement]:
    begin = 0
    for found in [*(cut.finditer(text) if cut else ()), None]:
        end = found.start() if found else len(text)
        lines_before = text.count("\n", 0, begin)
        for statement in numbered(text[begin:end]):
            yield statement._replace(line=statement.line + lines_before)
        begin = found.end() if found else end


def is_passed_over(statement: str) -> bool:
    """Return whether a statement is only about transactions or foreign keys."""
    words = tuple(words_of(statement)[:2])
    return any(words[: len(head)] == head for head in _PASSED_OVER)
