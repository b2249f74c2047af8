"""Writes of statements to tables, as the authorizer saw them: the tables to compare, and the statements to name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

TOLD_COUNT: Final = 2


class Write(NamedTuple):
    """A statement that may write a table. SQLite reports it at compile time: perhaps too many, never too few."""

    order: int
    """Its position among the statements of one migration."""
    table: str
    """In lower case."""
    column: str
    """In lower case; empty: whole rows, or all columns."""
    by: str
    """The statement's verb and table, without values."""
    place: str
    """The file and the line of the statement."""
    through: str = ""
    """The trigger that wrote, if the statement itself did not."""

    @property
    def sentence(self) -> str:
        """The write in words."""
        return f"{self.by} ({self.place}{f', through trigger {self.through}' if self.through else ''})"


Written = frozenset[Write]


def together(one: Written | None, other: Written | None) -> Written | None:
    """Return the writes of two runs together; None: they may have written anything."""
    return one | other if one is not None and other is not None else None


def tables_in(written: Iterable[Write]) -> frozenset[str]:
    """Return the tables that may have been written."""
    return frozenset(write.table for write in written)


def carried_over(written: Iterable[Write], table: str, to: str) -> set[Write]:
    """Return the writes to a table under its next name, for which they count as well."""
    return {write._replace(table=to.lower()) for write in written if write.table == table.lower()}


def told(written: Written | None, tables: Iterable[str], column: str = "") -> str:
    """Return the statements that wrote a table, or one of its columns, in words; empty if they are not known."""
    names = {table.lower() for table in tables}
    found = sorted(
        (write for write in written or () if write.table in names), key=lambda write: (write.place, write.order)
    )
    rows = [write for write in found if not write.column and not write.by.upper().startswith(("CREATE", "ALTER"))]
    exact = [write for write in found if write.column == column.lower()] if column else []
    sentences = list(dict.fromkeys(write.sentence for write in exact or rows or found))
    more = f" and {len(sentences) - TOLD_COUNT} more" if len(sentences) > TOLD_COUNT else ""
    return ", ".join(sentences[:TOLD_COUNT]) + more
