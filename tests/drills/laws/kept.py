"""The remains of the newer database: in tables within the older one, in exports, in copies set aside."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tests.drills.laws.cells import Cell, cell, opened

ROWS = "dbsync_kept_rows"
CELLS = "dbsync_kept_cells"


class KeptRow(NamedTuple):
    """One row that the older schema cannot hold, or not as it was."""

    number: int
    schema: int
    kind: str
    table: str
    state: str
    reason: str
    key: dict[str, Cell]
    predicted: dict[str, Cell]
    values: dict[str, Cell]

    @property
    def content(self) -> tuple[object, ...]:
        """All of it but its number and its state."""
        return (self.schema, self.kind, self.table, self.key, self.predicted, self.values)


def kept_in(path: Path) -> list[KeptRow]:
    """Return what a database keeps; nothing if it has no such tables."""
    with closing(opened(path)) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if ROWS.encode() not in names:
            return []
        columns = "row_id, column_name, is_key, predicted, typeof(predicted), value, typeof(value)"
        cells: dict[int, list[tuple[str, bool, Cell, Cell]]] = {}
        for row_id, name, is_key, predicted, kind, value, kind_now in connection.execute(
            f"SELECT {columns} FROM {CELLS}"
        ):
            pair = cell(predicted, kind.decode()), cell(value, kind_now.decode())
            cells.setdefault(row_id, []).append((name.decode().lower(), bool(is_key), *pair))
        rows = connection.execute(
            f"SELECT id, schema, kind, table_name, coalesce(state, ''), coalesce(reason, '') FROM {ROWS} ORDER BY id"
        ).fetchall()
    found = []
    for number, schema, kind, table, state, reason in rows:
        mine = cells.get(number, [])
        found.append(
            KeptRow(
                number, schema, kind.decode(), table.decode().lower(), state.decode(), reason.decode(),
                {name: was if kind == b"removed" else value for name, is_key, was, value in mine if is_key},
                {name: predicted for name, _, predicted, _ in mine},
                {name: value for name, _, _, value in mine},
            )
        )  # fmt: skip
    return found
