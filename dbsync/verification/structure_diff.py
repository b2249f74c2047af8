"""Differences between the structures of two databases of one schema: the parts that only one of them has, by name."""

from __future__ import annotations

from dbsync.model import Loss
from dbsync.schema.table_definition import objects, table_of, virtual_of
from dbsync.storage.connections import Connection
from dbsync.storage.introspection import TableFacts, app_tables, columns_of, unusable_tables
from dbsync.storage.sql_tokens import words_of

_KINDS = ("index", "trigger", "view")


def structure_differences(connection: Connection, base: str) -> tuple[Loss, ...]:
    """Return how the structure of `main` differs from that of `base`, one entry for each part, named `column t.c`.

    The order of columns does not count: a column that is added again stands last.
    """
    found: list[Loss] = []
    now, before = app_tables(connection), app_tables(connection, base)
    spelled = {name.lower(): name for name in before}
    for name, facts in sorted(now.items()):
        if name.lower() not in spelled:
            found.append(Loss(f"table {name}", 1, 0, 0))
            continue
        found += _of_table(connection, base, facts, before[spelled[name.lower()]])
    here = {name.lower() for name in now}
    found += [Loss(f"table {name}", 0, 0, 1) for name in sorted(before) if name.lower() not in here]
    found += _of_unusable(connection, base)
    for kind in _KINDS:
        mine, theirs = objects(connection, "main", kind), objects(connection, base, kind)
        for name in sorted(mine.keys() | theirs.keys()):
            if mine.get(name) != theirs.get(name):
                found.append(_part(f"{kind} {name}", name in mine, name in theirs))
    return tuple(found)


def _of_unusable(connection: Connection, base: str) -> list[Loss]:
    """Return the virtual tables whose module is not loaded here and that differ; their shadow tables are compared."""
    mine, theirs = (
        {name.lower(): words_of(sql) for name, (_, sql) in unusable_tables(connection, side).items()}
        for side in ("main", base)
    )
    return [
        _part(f"table {name}", name in mine, name in theirs)
        for name in sorted(mine.keys() | theirs.keys())
        if mine.get(name) != theirs.get(name)
    ]


def _of_table(connection: Connection, base: str, now: TableFacts, before: TableFacts) -> list[Loss]:
    if now.is_virtual or before.is_virtual:
        same = virtual_of(connection, now.name, "main") == virtual_of(connection, before.name, base)
        return [] if same else [Loss(f"definition of {now.name}", 0, 1, 0)]
    names = {side: [column.name for column in columns_of(connection, facts.name, side)]
             for side, facts in (("main", now), (base, before))}  # fmt: skip
    mine, theirs = ({name.lower(): name for name in names[side]} for side in ("main", base))
    found = [
        _part(f"column {now.name}.{mine.get(name) or theirs[name]}", name in mine, name in theirs)
        for name in sorted(mine.keys() ^ theirs.keys())
    ]
    one, other = table_of(connection, now.name, "main"), table_of(connection, before.name, base)
    columns = {name: column for name, column in one.columns.items() if name in other.columns}
    same_columns = all(other.columns[name] == column for name, column in columns.items())
    if not same_columns or one[1:] != other[1:]:
        found.append(Loss(f"definition of {now.name}", 0, 1, 0))
    return found


def _part(name: str, here: bool, there: bool) -> Loss:
    return Loss(name, int(here and not there), int(here and there), int(there and not here))
