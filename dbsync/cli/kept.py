"""`dbsync kept`: list the rows that an older schema could not hold, and that wait in the database."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from dbsync.cli.output import tell
from dbsync.cli.shared import Place, as_json, on_database, tell_json
from dbsync.complement import kept
from dbsync.complement.kept import KeptRow, Sides
from dbsync.storage import connections
from dbsync.storage.raw_text import every_text
from dbsync.verification import exports


@click.command("kept")
@as_json
@on_database
def command(place: Place, *, as_json: bool) -> None:
    """List the rows that wait in the database for a newer schema.

    Going back leaves values that the older schema cannot hold. They wait in the database, and `dbsync upgrade` puts
    them back when it comes to their schema again. A row in conflict could not be put back; its reason says why.
    """
    with (
        connections.translated("read", place.database),
        closing(connections.open_undisturbed(place.database)) as live,
        every_text(live),
    ):
        rows = [_as_json(row) for row in kept.all_rows(live)]
    if as_json:
        tell_json({"kept": rows})
        return
    for row in rows:
        reason = f": {row['reason']}" if row["reason"] else ""
        key = ", ".join(f"{name}={value}" for name, value in row["key"].items())
        tell(f"schema {row['schema']}, {row['table']} {key}: {row['kind']}, {row['state']}{reason}")
    if not rows:
        tell("nothing is kept")


def _as_json(row: KeptRow) -> dict[str, Any]:
    def cells(side: Sides, *, keys: bool = False) -> dict[str, object]:
        found = {
            cell.column: cell.predicted if side is Sides.PREDICTED else cell.value
            for cell in row.cells
            if cell.sides in (side, Sides.BOTH) and (cell.is_key or not keys)
        }
        return exports.as_json(found)

    return {
        "schema": row.schema,
        "table": row.table,
        "kind": str(row.kind),
        "state": str(row.state),
        "reason": row.reason,
        "key": cells(Sides.VALUE, keys=True) or cells(Sides.PREDICTED, keys=True),
        "predicted": cells(Sides.PREDICTED),
        "value": cells(Sides.VALUE),
    }
