"""The SQL that finds the rows of two attached databases without an equal on the other side."""

from __future__ import annotations

from typing import Final, NamedTuple

from dbsync.storage.connections import Connection, attempted
from dbsync.storage.introspection import columns_of, is_rowid, quoted, rowid_of
from dbsync.verification.row_matching import affinity, make_comparable, same_cell


class Counts(NamedTuple):
    """How many rows differ."""

    added: int
    changed: int
    removed: int


class Twins:
    """The rows of one table, `n` (now) and `b` (base), as the part of a query from its FROM on.

    Rows belong together by key. A key that is the rowid, or the order in which the table is stored, is read on both
    sides in one pass. Any other key has an index in which neighbouring rows are spread, and finding each row there is
    slow. So each row is compared with the row of the same rowid first, which mostly is the same, and the index is used
    only if it is not. A key is matched with `=`, because only with it SQLite walks both sides in step.
    """

    def __init__(
        self,
        connection: Connection,
        table: str,
        columns: tuple[str, ...],
        key: tuple[str, ...],
        *,
        now: str,
        base: str,
        now_only: tuple[str, ...] = (),
    ) -> None:
        """Read the columns and rowids of both sides.

        Args:
            connection: where both are attached.
            table: its name on both sides.
            columns: the columns that are compared.
            key: columns that are unique and never NULL; empty: rows are identified by their rowid.
            now: schema name of one side.
            base: schema name of the other.
            now_only: columns that only `now` has: a row with a value there counts as changed.
        """
        make_comparable(connection)
        self._connection: Final = connection
        self._now: Final = f"{now}.{quoted(table)}"
        self._base: Final = f"{base}.{quoted(table)}"
        mine, theirs = (rowid_of(connection, table, side) for side in (now, base))
        own = all(is_rowid(connection, table, side) for side in (now, base))
        self._key: Final = tuple(quoted(name) for name in key)
        self._rowids: Final = (mine or "rowid", theirs or "rowid")
        self._spread: Final = bool(key) and not own and mine is not None and theirs is not None
        self._numbered: Final = mine is not None and theirs is not None and (own or not key)
        """Whether rows belong together by one integer, which is unique on both sides: then they can be counted."""
        self._own_values: Final = {
            row: own_value(connection, table, now_only, schema=now, row=row) for row in ("n", "r")
        }
        self._columns: Final = self._compared(connection, table, columns, (now, base))

    @property
    def removed_or_changed(self) -> str:
        """Rows `b` of base that now lacks, or has (`n`) with a different cell; see `is_removed`."""
        on, (mine, theirs) = self._on("n", "b"), self._rowids
        other = f"({self.is_removed} OR NOT {self._equal('n', 'b')})"
        if not self._spread:
            return f"FROM {self._base} b LEFT JOIN {self._now} n ON {on} WHERE {other}"
        # Only for rows that are not the same at the same rowid, the index is used.
        return (
            f"FROM {self._base} b LEFT JOIN {self._now} r ON r.{mine} = b.{theirs} LEFT JOIN {self._now} n ON {on}"
            f" WHERE (r.{mine} IS NULL OR NOT {self._equal('r', 'b')}) AND {other}"
        )

    @property
    def is_removed(self) -> str:
        """The condition that a row of `removed_or_changed` is removed."""
        return f"n.{self._key[0] if self._key else self._rowids[0]} IS NULL"

    @property
    def changed(self) -> str:
        """Rows `n` of now and `b` of base with the same key and a different cell."""
        on, (mine, theirs) = self._on("n", "b"), self._rowids
        if not self._spread:
            return f"FROM {self._now} n JOIN {self._base} b ON {on} WHERE NOT {self._equal('n', 'b')}"
        # CROSS JOIN keeps this order (sqlite.org/optoverview.html, 6): the index is used for the rest only.
        return (
            f"FROM {self._now} n LEFT JOIN {self._base} r ON r.{theirs} = n.{mine} CROSS JOIN {self._base} b ON {on}"
            f" WHERE (r.{theirs} IS NULL OR NOT {self._equal('n', 'r')}) AND NOT {self._equal('n', 'b')}"
        )

    @property
    def added(self) -> str:
        """Rows `n` of now that base lacks."""
        on, (mine, theirs) = self._on("n", "b"), self._rowids
        if not self._spread:
            lacks = f"b.{self._key[0] if self._key else theirs} IS NULL"
            return f"FROM {self._now} n LEFT JOIN {self._base} b ON {on} WHERE {lacks}"
        same = " AND ".join(f"r.{name} = n.{name}" for name in self._key)
        return (
            f"FROM {self._now} n LEFT JOIN {self._base} r ON r.{theirs} = n.{mine}"
            f" WHERE (r.{theirs} IS NULL OR NOT ({same})) AND NOT EXISTS (SELECT 1 FROM {self._base} b WHERE {on})"
        )

    def added_beside(self, removed_count: int) -> str:
        """Return `added` where it is known how many rows of base now lacks.

        Each row of now that is not added belongs to one row of base, so the numbers of rows tell how many are added.
        If that many come after the last row of base, they are all: mostly people add at the end.
        """
        if not self._numbered:
            return self.added
        mine, theirs = self._rowids
        (last,) = self._connection.execute(f"SELECT max({theirs}) FROM {self._base} NOT INDEXED").fetchone()
        if last is None:
            return self.added
        after = f"FROM {self._now} n NOT INDEXED WHERE n.{mine} > {last}"
        return after if self._one(f"SELECT count(*) {after}") == self._added_count(removed_count) else self.added

    def counts(self) -> Counts:
        """Return how many rows differ; where rows can be counted, with one reading of both sides."""
        removed, differing = self._connection.execute(
            f"SELECT coalesce(sum({self.is_removed}), 0), count(*) {self.removed_or_changed}"
        ).fetchone()
        added = self._added_count(removed) if self._numbered else self._one(f"SELECT count(*) {self.added}")
        return Counts(added, differing - removed, removed)

    def _added_count(self, removed_count: int) -> int:
        # An index may have a collation of the app's, which is not here.
        now, base = (self._one(f"SELECT count(*) FROM {side} NOT INDEXED") for side in (self._now, self._base))
        return now - (base - removed_count)

    def _one(self, sql: str) -> int:
        return int(self._connection.execute(sql).fetchone()[0])

    def _on(self, one: str, other: str) -> str:
        if self._key:
            return " AND ".join(f"{one}.{name} = {other}.{name}" for name in self._key)
        return f"{one}.{self._rowids[0]} = {other}.{self._rowids[1]}"

    def _equal(self, one: str, other: str) -> str:
        cells = [same_cell(f"{one}.{name}", f"{other}.{name}", strict=strict) for name, strict in self._columns]
        own = self._own_values[one if other == "b" else "n"]
        cells += [f"NOT ({own})"] if own else []
        return f"({' AND '.join(cells) or '1'})"

    @staticmethod
    def _compared(
        connection: Connection, table: str, columns: tuple[str, ...], sides: tuple[str, str]
    ) -> list[tuple[str, bool]]:
        kinds = [
            {column.name.lower(): affinity(column.type) for column in columns_of(connection, table, side)}
            for side in sides
        ]
        found = []
        for name in columns:
            mine, theirs = (side_kinds[name.lower()] for side_kinds in kinds)
            found.append((quoted(name), mine != theirs or mine == "blob"))
        return found


def own_value(connection: Connection, table: str, columns: tuple[str, ...], *, schema: str, row: str) -> str:
    """Return the condition that a row has a value in columns which only its side has; empty if there are none.

    The default of such a column is none: a row of the other side gets it with the column. NULL beside it is one.
    """
    known = {column.name.lower(): column for column in columns_of(connection, table, schema)}
    conditions = []
    for name in columns:
        column, cell = known[name.lower()], f"{row}.{quoted(name)}"
        default = _literal(connection, column.default) if column.default else "NULL"
        conditions.append(f"{cell} COLLATE BINARY IS NOT {default}" if default else "1")
        if column.default and default and affinity(column.type) == "blob":
            conditions.append(f"typeof({cell}) <> typeof({default})")
    return " OR ".join(conditions)


def _literal(connection: Connection, default: str) -> str:
    """Return the value of a default as SQL; empty if SQLite cannot compute it here."""
    found: list[str] = []

    def compute() -> None:
        (value,) = connection.execute(f"SELECT quote(({default}))").fetchone()
        found.append(str(value))

    attempted(connection, compute)
    return "".join(found)


def null_keys(connection: Connection, table: str, key: tuple[str, ...], schema: str) -> bool:
    """Return whether a key contains NULL and so does not identify rows; SQLite allows that in most primary keys."""
    nulls = " OR ".join(f"{quoted(name)} IS NULL" for name in key)
    found = connection.execute(f"SELECT 1 FROM {schema}.{quoted(table)} WHERE {nulls} LIMIT 1").fetchone()
    return found is not None
