"""Translates a row of the newer schema to a row of the older: declared changes backwards, and `down_row`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from dbsync.errors import MigrationFailed
from dbsync.migrations.python_code import namespace_of
from dbsync.model import Migration, MigrationKind
from dbsync.schema.declarations import Declared, declared, same

Record = dict[str, Any]
"""A row: its values by the names of its columns."""
Down = Callable[[str, Record], Record | None]
"""`down_row` of a migration: table and row as they are after it; returns the row before it, None if it has no place."""


def conserves(newer: tuple[Migration, ...]) -> bool:
    """Return whether migrations leave every value in its place: they declare nothing else, as was proven when they ran.

    What they drop or add does not count, unless a later one may have made another thing of the same name.
    """
    if any(one.kind is MigrationKind.COMMAND or _down_row(one) is not None for one in newer):
        return False
    said = declared(newer)
    if any(said.gone_in_between(*one) for one in said.drops if one[0] in ("table", "column")):
        return False
    return not (said.tables or said.columns or said.updates or said.retypes or said.inserts or said.deletes)


def _down_row(migration: Migration) -> Down | None:
    found = namespace_of(migration).get("down_row") if migration.kind is MigrationKind.PYTHON else None
    return found if callable(found) else None


class Placed(NamedTuple):
    """A row in terms of the older schema."""

    table: str
    row: Record
    later: frozenset[str]
    """Columns, as the newer schema calls them, that came after another of their name: no value of theirs is in it."""


class Translator:
    """Rows of the newer schema in terms of the older one: same names, declared renames, and `down_row`."""

    def __init__(self, newer: tuple[Migration, ...]) -> None:
        self._steps: Final = [(declared((one,)), _down_row(one)) for one in reversed(newer)]

    def table_of(self, table: str) -> str | None:
        """Return the older name of a table; None: it came later."""
        for step, _ in self._steps:
            if _is_made_later(step, table):
                return None
            table = _table_before(step, table)
        return table

    def __call__(self, table: str, row: Record) -> Placed | None:
        """Return table and row as they were; None: a migration says that the older schema has no place for it."""
        row, whole, later = dict(row), row, frozenset[str]()
        for step, down in self._steps:
            if _is_made_later(step, table):
                return None
            without = _without_later_ones(step, table, row)
            # Under another name than its own a value has been placed by a step, and is not one that came later.
            later |= (row.keys() - without.keys()) & whole.keys()
            row = without
            if down is not None:
                translated = _called(down, table, row)
                if translated is None:
                    return None
                row = translated
            table, row = _unrenamed(step, table, row)
        return Placed(table, row, later)


def _called(down: Down, table: str, row: Record) -> Record | None:
    try:
        return down(table, dict(row))
    except (Exception, SystemExit) as error:
        # Only the kind of error: its text may hold a value, and values are personal.
        cause = f"down_row of {table} failed: {type(error).__name__}"
        raise MigrationFailed(operation="carry back", cause=cause) from error


def _is_made_later(step: Declared, table: str) -> bool:
    """Return whether a name was free after a step, so that its owner came with a later one and is another table."""
    if any(same(after, table) for after in step.tables.values()):
        return False
    return table.lower() in step.tables or ("table", table.lower()) in step.drops


def _table_before(step: Declared, table: str) -> str:
    return next((before for before, after in step.tables.items() if same(after, table)), table)


def _without_later_ones(step: Declared, table: str, row: Record) -> Record:
    old = _table_before(step, table).lower()
    targets = {after.lower() for before, after in step.columns.items() if before[0] == old}

    def is_later(column: str) -> bool:
        name = column.lower()
        free = (old, name) in step.columns or ("column", f"{old}.{name}") in step.drops
        return free and name not in targets

    return {column: value for column, value in row.items() if not is_later(column)}


def _unrenamed(step: Declared, table: str, row: Record) -> tuple[str, Record]:
    old = _table_before(step, table)
    names = {after.lower(): before[1] for before, after in step.columns.items() if before[0] == old.lower()}
    return old, {names.get(column.lower(), column): value for column, value in row.items()}
