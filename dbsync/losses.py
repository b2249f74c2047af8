"""Changes since a backup, and losses among them: one wording and one JSON form for every command."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dbsync.model import Change, Loss


def counted(loss: Loss, *, unit: str = "") -> str:
    """Return one table's line: `sales: 3 added, 1 changed, 0 removed`; with a unit, `3 rows added`."""
    return f"{loss.table}: {loss.added}{unit and f' {unit}'} added, {loss.changed} changed, {loss.removed} removed"


def compared(loss: Loss, *, before: str, after: str) -> str:
    """Return a table's line for two unrelated databases, such as a backup and a recovered file."""
    sides = f"{loss.removed} rows only in {before}, {loss.added} only in {after}"
    return f"{loss.table}: {sides}, {loss.changed} different"


def listed(losses: Iterable[Loss], *, nothing: str = "", unit: str = "") -> list[str]:
    """Return an indented line for each table; the line `nothing`, if any, where there are no losses."""
    found = [f"  {counted(loss, unit=unit)}" for loss in losses]
    return found or ([f"  {nothing}"] if nothing else [])


def not_known(cause: str) -> str:
    """Return the sentence for changes that cannot be determined."""
    return f"cannot determine what was recorded since then: {cause}"


def lost(losses: Iterable[Loss], *, not_known: str = "", kept: Path | None = None, export: Path | None = None) -> str:
    """Return, in one line, how much is not in the live database any more and where it is kept."""
    found = list(losses)
    rows = sum(loss.added + loss.changed + loss.removed for loss in found)
    tables = ", ".join(loss.table for loss in found)
    changes = "1 change since the backup is" if rows == 1 else f"{rows} changes since the backup are"
    what = f"{changes} not in the live database ({tables})"
    if not found:
        what = f"what was recorded since the backup is not in the live database, and cannot be counted: {not_known}"
    where = f"; kept in {kept}" if kept is not None else ""
    return what + where + (f", exported to {export}" if export is not None else "")


def since(change: Change) -> list[str]:
    """Return the changes since a backup, each as a complete sentence."""
    if not change.known:
        return [not_known(change.cause)]
    if not change.losses and change.cause:
        return [f"there is nothing to compare with the backup: {change.cause}"]
    if not change.losses:
        return ["since then, nothing was added, changed or removed in what both have"]
    return [f"since then, {counted(loss)}" for loss in change.losses]


def as_json(losses: Iterable[Loss]) -> list[dict[str, Any]]:
    """Return an object for each table, with the keys `table`, `added`, `changed` and `removed`: numbers of rows."""
    return [loss._asdict() for loss in losses]
