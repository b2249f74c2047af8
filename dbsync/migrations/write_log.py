"""Which statement wrote which table, as the authorizer saw it: what has to be compared, and who did it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

TOLD_COUNT: Final = 2


class Write(NamedTuple):
    """A statement that may write a table. SQLite says so as it compiles it, so there may be too many, never too few."""

    order: int
    """Of the statements of one migration."""
    table: str
    """In lower case."""
    column: str
    """In lower case; empty: whole rows, or all columns."""
    by: str
    """What the statement does, without values."""
    place: str
    """Where it stands: the file and the line."""
    through: str = ""
    """The trigger that wrote, where it was not the statement itself."""

    @property
    def sentence(self) -> str:
        """For people."""
        return f"{self.by} ({self.place}{f', through trigger {self.through}' if self.through else ''})"


Written = frozenset[Write]


def together(one: Written | None, other: Written | None) -> Written | None:
    """Return what two runs wrote; None: anything."""
    return one | other if one is not None and other is not None else None


def tables_in(written: Iterable[Write]) -> frozenset[str]:
    """Return the tables that may have been written."""
    return frozenset(one.table for one in written)


def carried_over(written: Iterable[Write], table: str, to: str) -> set[Write]:
    """Return what was written into a table counts for its next name as well."""
    return {one._replace(table=to.lower()) for one in written if one.table == table.lower()}


def told(written: Written | None, tables: Iterable[str], column: str = "") -> str:
    """Return the statements that wrote a table, or one of its columns, in words; empty if that is not known."""
    names = {one.lower() for one in tables}
    found = sorted((one for one in written or () if one.table in names), key=lambda one: (one.place, one.order))
    rows = [one for one in found if not one.column and not one.by.upper().startswith(("CREATE", "ALTER"))]
    exact = [one for one in found if one.column == column.lower()] if column else []
    sentences = list(dict.fromkeys(one.sentence for one in exact or rows or found))
    more = f" and {len(sentences) - TOLD_COUNT} more" if len(sentences) > TOLD_COUNT else ""
    return ", ".join(sentences[:TOLD_COUNT]) + more
