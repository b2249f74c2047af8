"""Rows whose parent is not there: a child of a row that an older or newer schema refused goes with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from dbsync.complement.exact_values import bound
from dbsync.complement.final_rows import FINAL, PARTLY, FinalRows
from dbsync.storage.connections import Connection
from dbsync.storage.introspection import key_of, ordinary_tables, quoted

Staged = Mapping[str, FinalRows]
"""The rows on their way, by the name of their table in lower case."""


class Reference(NamedTuple):
    """One foreign key."""

    child: str
    parent: str
    pairs: tuple[tuple[str, str], ...]
    """A column of the child and the column of the parent that it refers to."""


def references(connection: Connection, tables: Iterable[str]) -> list[Reference]:
    """Return the foreign keys of tables, without those to a parent that does not exist or columns that it lacks."""
    found = []
    known = {name.lower(): name for name in ordinary_tables(connection)}
    for table in tables:
        pairs: dict[int, list[tuple[str, str | None]]] = {}
        parents: dict[int, str] = {}
        for number, _, parent, column, target, *_ in connection.execute(
            f"PRAGMA main.foreign_key_list({quoted(table)})"
        ).fetchall():
            parents[number] = str(parent)
            pairs.setdefault(number, []).append((str(column), target))
        for number, parent in parents.items():
            if parent.lower() not in known:
                continue
            targets = [target for _, target in pairs[number]]
            if None in targets:
                targets = list(key_of(connection, parent))
            if len(targets) == len(pairs[number]):
                columns = [column for column, _ in pairs[number]]
                both = tuple(zip(columns, (str(target) for target in targets), strict=True))
                found.append(Reference(table, known[parent.lower()], both))
    return found


def follow_refused(connection: Connection, staged: Staged) -> None:
    """Undo the new state of rows that refer to a row which was refused, and of those that refer to them.

    A row whose parent was removed by people stays: that is how they left it.
    """
    found = references(connection, [rows.table for rows in staged.values()])
    undone = True
    while undone:
        undone = False
        for reference in found:
            parents = staged.get(reference.parent.lower())
            if parents is None:
                continue
            for key in _refused_keys(connection, reference, parents):
                children = staged[reference.child.lower()]
                for seq in _referring(connection, reference, children, key):
                    children.undo(seq, f"its row in {reference.parent} could not be taken over")
                    undone = True


def keep_parents(connection: Connection, staged: Staged, tables: Iterable[str]) -> None:
    """Put rows back, or their keys, to which rows of `tables` refer: tables that only the older schema has."""
    for reference in references(connection, tables):
        parents = staged.get(reference.parent.lower())
        if parents is None:
            continue
        names = _names(parents, [target for _, target in reference.pairs], "o")
        if names is None:
            continue
        match = " AND ".join(
            f"c.{quoted(column)} = s.{name}" for (column, _), name in zip(reference.pairs, names, strict=True)
        )
        there = " AND ".join(
            f"p.{quoted(target)} = s.{name}" for (_, target), name in zip(reference.pairs, names, strict=True)
        )
        rows = connection.execute(
            f"SELECT s.seq, s.final FROM {parents.stage} s WHERE s.old"
            f" AND EXISTS (SELECT 1 FROM main.{quoted(reference.child)} c WHERE {match})"
            f" AND NOT EXISTS (SELECT 1 FROM main.{quoted(reference.parent)} p WHERE {there})"
        ).fetchall()
        cause = f"rows of {reference.child}, which the newer schema does not have, refer to it"
        for seq, changes in rows:
            parents.undo(seq, cause) if changes else parents.restore(seq, cause)


def undo_orphans(connection: Connection, staged: Staged) -> None:
    """Undo the new state of every row that refers to a row which is not there, until none does."""
    found = references(connection, [rows.table for rows in staged.values()])
    undone = True
    while undone:
        undone = False
        for reference in found:
            children = staged[reference.child.lower()]
            for seq in _orphans(connection, reference, children):
                children.undo(seq, f"the row of {reference.parent} to which it refers is not there")
                undone = True


def _orphans(connection: Connection, reference: Reference, children: FinalRows) -> list[int]:
    columns = [column for column, _ in reference.pairs]
    finals, olds = _names(children, columns, "f"), _names(children, columns, "o")
    if finals is None or olds is None:
        return []
    known = " AND ".join(f"s.{name} IS NOT NULL" for name in finals)
    match = " AND ".join(
        f"p.{quoted(target)} = s.{name}" for (_, target), name in zip(reference.pairs, finals, strict=True)
    )
    unchanged = " AND ".join(f"s.{new} IS s.{old}" for new, old in zip(finals, olds, strict=True))
    rows = connection.execute(
        f"SELECT s.seq FROM {children.stage} s WHERE s.final AND s.live = {FINAL} AND {known}"
        f" AND NOT (s.old AND {unchanged})"
        f" AND NOT EXISTS (SELECT 1 FROM main.{quoted(reference.parent)} p WHERE {match})"
    )
    return [int(seq) for (seq,) in rows.fetchall()]


def _refused_keys(connection: Connection, reference: Reference, parents: FinalRows) -> list[tuple[object, ...]]:
    """Return the keys that refused rows should have, and no row has."""
    names = _names(parents, [target for _, target in reference.pairs], "f")
    if names is None:
        return []
    match = " AND ".join(
        f"p.{quoted(target)} = s.{name}" for (_, target), name in zip(reference.pairs, names, strict=True)
    )
    return connection.execute(
        f"SELECT {', '.join(f's.{name}' for name in names)} FROM {parents.stage} s"
        f" WHERE s.final AND s.live <> {FINAL}"
        f" AND NOT EXISTS (SELECT 1 FROM main.{quoted(reference.parent)} p WHERE {match})"
    ).fetchall()


def _referring(connection: Connection, reference: Reference, children: FinalRows, key: tuple[object, ...]) -> list[int]:
    names = _names(children, [column for column, _ in reference.pairs], "f")
    if names is None:
        return []
    marks, values = bound(key)  # type: ignore[arg-type]
    match = " AND ".join(f"s.{name} = {mark}" for name, mark in zip(names, marks, strict=True))
    rows = connection.execute(
        f"SELECT s.seq FROM {children.stage} s WHERE s.final AND s.live IN ({FINAL}, {PARTLY}) AND {match}"
        f" AND s.cause IS NULL",
        values,
    )
    return [int(seq) for (seq,) in rows.fetchall()]


def _names(rows: FinalRows, columns: list[str], side: str) -> list[str] | None:
    """Return the stage's names of columns; None if one of them is generated, and so not in it."""
    known = {name.lower(): number for number, name in enumerate(rows.columns)}
    if any(column.lower() not in known for column in columns):
        return None
    return [f"{side}{known[column.lower()]}" for column in columns]
