"""Translates a row of the newer schema to the older: reverses declared changes, and calls `down_row`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from dbsync.errors import MigrationFailed
from dbsync.migrations.code_process import RowFailed, down_of
from dbsync.model import Migration, MigrationKind
from dbsync.schema.declarations import Declared, declared, same

Record = dict[str, Any]
"""A row: its values by the names of its columns."""
Down = Callable[[str, Record], Record | None]
"""`down_row` of a migration: receives table and row after it; returns the row before it, None if it has no place."""


def conserves(newer: tuple[Migration, ...]) -> bool:
    """Return whether migrations leave every value in its place: they declare nothing else, as was proven when they ran.

    Drops and additions do not count, unless a later migration may have made another object of the same name.
    """
    if any(migration.kind is MigrationKind.COMMAND or down_of(migration) is not None for migration in newer):
        return False
    said = declared(newer)
    if any(said.gone_in_between(*drop) for drop in said.drops if drop[0] in ("table", "column")):
        return False
    return not (said.tables or said.columns or said.updates or said.retypes or said.inserts or said.deletes)


class Placed(NamedTuple):
    """A row in terms of the older schema."""

    table: str
    row: Record


class _EveryColumn(frozenset[str]):
    """A set that has every column in it."""

    def __contains__(self, column: object) -> bool:
        return True


class Translator:
    """A translator of rows to the older schema: same names, declared renames, and `down_row`."""

    def __init__(self, newer: tuple[Migration, ...]) -> None:
        self._steps: Final = [(declared((migration,)), down_of(migration)) for migration in reversed(newer)]

    @property
    def has_down(self) -> bool:
        """Whether a migration says itself how rows go back."""
        return any(down is not None for _, down in self._steps)

    def renames(self, table: str) -> bool:
        """Return whether a migration renames columns of a table."""
        older = (self.table_of(table) or table).lower()
        return any(before[0] in (older, table.lower()) for step, _ in self._steps for before in step.columns)

    def loose_columns(self, table: str) -> frozenset[str]:
        """Return the older columns, in lower case, of which a migration declares that it changes values."""
        found: set[str] = set()
        for step, _ in self._steps:
            old = _table_before(step, table).lower()
            names = {after.lower(): before[1] for before, after in step.columns.items() if before[0] == old}
            found = {names.get(column, column) for column in found}
            found |= {column for at, column in [*step.updates, *step.retypes] if at == old}
            table = old
        if "*" in found:
            return _EveryColumn()
        return frozenset(found)

    def table_of(self, table: str) -> str | None:
        """Return the older name of a table; None if it came later."""
        for step, _ in self._steps:
            if _is_made_later(step, table):
                return None
            table = _table_before(step, table)
        return table

    def __call__(self, table: str, row: Record) -> Placed | None:
        """Return table and row in the older schema; None if it has no place for them."""
        return self._older(table, row, calls_down=True)

    def by_names(self, table: str, row: Record) -> Placed | None:
        """Return table and row in the older schema by same names and declared renames alone."""
        return self._older(table, row, calls_down=False)

    def _older(self, table: str, row: Record, *, calls_down: bool) -> Placed | None:
        row = dict(row)
        for step, down in self._steps:
            if _is_made_later(step, table):
                return None
            row = _without_later_ones(step, table, row)
            if down is not None and calls_down:
                translated = _called(down, table, row)
                if translated is None:
                    return None
                row = translated
            table, row = _unrenamed(step, table, row)
        return Placed(table, row)


def _called(down: Down, table: str, row: Record) -> Record | None:
    try:
        return down(table, dict(row))
    except RowFailed as error:
        # Only the type of the error: its text may hold a value, and values are personal.
        cause = f"down_row of {table} failed: {error}"
        raise MigrationFailed(operation="carry back", cause=cause) from error


def _is_made_later(step: Declared, table: str) -> bool:
    """Return whether a name was free after a step: the table that has it came with a later step."""
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
