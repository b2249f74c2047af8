"""Compares migrations with released ones, which must keep number, name and text: a decision over values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from dbsync.model import SchemaNumber, Sha256


class Entry(Protocol):
    """A migration by its identity."""

    @property
    def number(self) -> SchemaNumber:
        """The number of the migration."""

    @property
    def name(self) -> str:
        """The name of the migration."""

    @property
    def sha256(self) -> Sha256:
        """The hash of the migration's text."""

    @property
    def replaces(self) -> tuple[Sha256, ...]:
        """The hashes of the texts that it replaces."""


class Kind(StrEnum):
    """The ways in which a migration differs from the released one."""

    MISSING = "missing"
    RENAMED = "renamed"
    RENUMBERED = "renumbered"
    EDITED = "edited"
    MENDED = "mended"
    """Edited, and it declares which text it replaces: allowed if both end in the same structure."""


class Departure(NamedTuple):
    """One migration that is not as it was released."""

    number: SchemaNumber
    """As released."""
    name: str
    """As released."""
    kind: Kind
    what: str
    """The end of a sentence that begins with the migration."""
    safe: str
    """The safe way to make the change."""


def same_name(one: str, other: str, *, same_text: bool) -> bool:
    """Return whether two migrations of one number have one name.

    The digits with which another tool orders its files are no part of it if the text is the same: `drizzle-kit up`
    makes `0001_barcode` into `20240131120000_barcode`. Names of our own do not begin with digits.
    """
    return one == other or (same_text and _without_digits(one) == _without_digits(other))


def _without_digits(name: str) -> str:
    front, _, rest = name.partition("_")
    return rest if front.isdecimal() and rest else name


def departures(*, earlier: Sequence[Entry], now: Sequence[Entry]) -> Iterator[Departure]:
    """Yield where `now` departs from the release `earlier`; additions are no departure (requirements S61 to S63)."""
    by_number, by_name = {entry.number: entry for entry in now}, {entry.name: entry for entry in now}
    names = {entry.name for entry in earlier}
    for before in earlier:
        after, moved = by_number.get(before.number), by_name.get(before.name)

        def departure(kind: Kind, what: str, safe: str, entry: Entry = before) -> Departure:
            return Departure(entry.number, entry.name, kind, what, safe)

        if after is not None and after.sha256 == before.sha256 and same_name(before.name, after.name, same_text=True):
            continue
        if (after is None or after.name != before.name) and moved is not None:
            what = f"now has the number {moved.number:04d}"
            yield departure(Kind.RENUMBERED, what, "Give it its number back; a new one takes the next free number.")
        elif after is None or (after.name != before.name and after.name in names):
            yield departure(Kind.MISSING, "is missing", "Released migrations stay for ever.")
        elif after.name != before.name:
            yield departure(Kind.RENAMED, f"is now called {after.name}", "Add a new number instead.")
        elif after.sha256 != before.sha256 and before.sha256 in after.replaces:
            yield departure(Kind.MENDED, "was fixed", "")
        elif after.sha256 != before.sha256:
            safe = (
                "Put the released text back, and add a new migration. Or, if it failed in the field, keep the fix and"
                f' name the old text with `-- replaces: {before.sha256}` (in Python `replaces = ["…"]`).'
            )
            yield departure(Kind.EDITED, "was changed", safe)
