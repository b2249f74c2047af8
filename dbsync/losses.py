"""What people did since a backup, or what of it would be lost: one wording and one JSON for every command."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dbsync.model import Change, Loss


def counted(loss: Loss, *, unit: str = "") -> str:
    """Return one table's line: `sales: 3 added, 1 changed, 0 removed`; with a unit, `3 rows added`."""
    return f"{loss.table}: {loss.added}{unit and f' {unit}'} added, {loss.changed} changed, {loss.removed} removed"


def compared(loss: Loss, *, before: str, after: str) -> str:
    """Return the line of a table on two sides of which neither came of the other: a backup, and a recovered file."""
    sides = f"{loss.removed} rows only in {before}, {loss.added} only in {after}"
    return f"{loss.table}: {sides}, {loss.changed} different"


def listed(losses: Iterable[Loss], *, nothing: str = "", unit: str = "") -> list[str]:
    """Return a line for each table, indented below what says what they are; the words of `nothing` without any."""
    found = [f"  {counted(loss, unit=unit)}" for loss in losses]
    return found or ([f"  {nothing}"] if nothing else [])


def not_known(cause: str) -> str:
    """Return the sentence for what people did where it could not be found out."""
    return f"what was done since then cannot be told: {cause}"


def since(change: Change) -> list[str]:
    """Return what people did since a backup, in sentences that stand by themselves."""
    if not change.known:
        return [not_known(change.cause)]
    if not change.losses:
        return ["since then, nothing was added, changed or removed in what both have"]
    return [f"since then, {counted(loss)}" for loss in change.losses]


def as_json(losses: Iterable[Loss]) -> list[dict[str, Any]]:
    """Return an object for each table, with the keys `table`, `added`, `changed` and `removed`: numbers of rows."""
    return [loss._asdict() for loss in losses]
