"""The structure of a database in full, as a set of comparable sentences, and how two structures differ."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Final, NamedTuple

from dbsync.schema.declarations import KINDS, written_name
from dbsync.schema.table_definition import Table, named_objects, table_of, virtual_of
from dbsync.storage.connections import Connection
from dbsync.storage.introspection import ColumnKind, app_tables, unusable_tables
from dbsync.storage.sql_tokens import words_of

_GENERATED: Final = {
    ColumnKind.STORED: "",
    ColumnKind.HIDDEN: "HIDDEN",
    ColumnKind.GENERATED: "GENERATED",
    ColumnKind.GENERATED_STORED: "GENERATED STORED",
}


class Structure(NamedTuple):
    """The structure of a database, without SQLite's own objects and ours."""

    parts: frozenset[str]
    """One sentence for each element but the order of columns. Names are in lower case."""
    orders: dict[str, tuple[str, ...]]
    """The columns of each table in their order; names in lower case."""

    @property
    def sentences(self) -> frozenset[str]:
        """One sentence for each element, and one for the order of each table's columns."""
        orders = {written_name(table): ", ".join(map(written_name, names)) for table, names in self.orders.items()}
        return self.parts | {f"columns of {table}: {names}" for table, names in orders.items()}


def fingerprint(connection: Connection, schema: str = "main") -> frozenset[str]:
    """Return the structure of a database as a set of sentences: equal if and only if the structures are.

    Spelling does not count: white space, comments, capitals of names, their quotes, the order and names of constraints,
    a constraint of a column or the same of its table.
    """
    return structure_of(connection, schema).sentences


def structure_of(connection: Connection, schema: str = "main") -> Structure:
    """Return the structure of a database."""
    parts = set[str]()
    orders = {}
    tables = app_tables(connection, schema)
    for name, facts in sorted(tables.items()):
        lower = name.lower()
        table = table_of(connection, name, schema)
        parts.update(_table(lower, table))
        if facts.is_virtual:
            parts.add(f"definition {written_name(lower)}: {' '.join(virtual_of(connection, name, schema))}")
        orders[lower] = tuple(table.columns)
    # Of a table that cannot be evaluated here, nothing but its SQL can be read.
    for name, (_, sql) in unusable_tables(connection, schema).items():
        parts.add(f"table {written_name(name.lower())}: {' '.join(words_of(sql))}")
    known = {name.lower() for name in tables}
    for kind in KINDS:
        for found in named_objects(connection, schema, kind):
            if kind != "index" or found.table in known:
                parts.add(f"{kind} {written_name(found.name.lower())}: {' '.join(found.words)}")
    return Structure(frozenset(parts), orders)


def differences(found: Structure, wanted: Structure) -> set[str]:
    """Return how a structure differs from another, as sentences.

    Columns that only one of them has do not count as another order of those that both have. Each pair that changed
    places is one difference, so that a difference stays the same when the table gets another column.
    """
    differing = {f"without {part}" for part in wanted.parts - found.parts}
    differing |= {f"with {part}" for part in found.parts - wanted.parts}
    for table in found.orders.keys() & wanted.orders.keys():
        places = {column: place for place, column in enumerate(wanted.orders[table])}
        shared = [column for column in found.orders[table] if column in places]
        for first, second in combinations(shared, 2):
            if places[first] > places[second]:
                differing.add(f"with column {written_name(table)}.{written_name(first)} before {written_name(second)}")
    return differing


def _table(name: str, table: Table) -> Iterator[str]:
    own = written_name(name)
    yield " ".join([f"table {own}", *(option.upper() for option in sorted(table.options))])
    for column, facts in table.columns.items():
        words = [
            facts.kind.upper(),
            "NOT NULL" if facts.not_null else "",
            f"ON CONFLICT {facts.conflict.upper()}" if facts.conflict else "",
            f"DEFAULT {facts.default}" if facts.default else "",
            f"PRIMARY KEY ({facts.key})" if facts.key > 1 else "PRIMARY KEY" if facts.key else "",
            f"COLLATE {facts.collation.upper()}" if facts.collation != "binary" else "",
            _GENERATED[facts.generated],
            f"AS ({' '.join(facts.expression)})" if facts.expression else "",
        ]
        yield f"column {own}.{written_name(column)}: {' '.join(filter(None, words)) or 'any type'}"
    yield from (f"check {own}: {' '.join(check)}" for check in table.checks)
    yield from (f"foreign key {own}: {key}" for key in table.foreign_keys)
    yield from (f"constraint {own}: {unique}" for unique in table.uniques)
