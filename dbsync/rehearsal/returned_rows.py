"""Comparison of a database that went back with what it was made from, row by row.

Five databases take part. Of the newer schema: `base`, the migrated backup; `main`, the same with trade; and `again`,
the returned database after it was migrated forward again. Of the older schema: `backup`, and `returned`, which was made
from `backup` and the trade. All that is known of the trade is how `main` differs from `base`.

What people recorded either stands in `again` as in `main`, or it is not held: then `returned` has what `backup` has.
If `returned` has something else, going back wrote a wrong value, or to a wrong row. What nobody touched is in
`returned` as it is in `backup`, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from dbsync.rehearsal.older_schema import OlderSchema
from dbsync.storage.connections import Connection
from dbsync.storage.introspection import app_tables, columns_of, has_table, key_of, quoted, rowid_of
from dbsync.verification.keyed_matching import null_keys

Key = tuple[Any, ...]
Cells = dict[str, Any]
"""The cells of a row by the names of their columns."""
NOT_TEXT: Final = "\ufffd"
"""Stands for bytes that are not UTF-8; a row with such a key cannot be looked up."""
_CLOSELY_COUNT: Final = 200
"""Cells of a table that are looked up in its migrated rows; further ones count as inexact."""
ENTRIES: Final = "_docsize"
"""The end of the name of the table in which FTS4 and FTS5 keep one row for each entry; its key is `id` or `docid`."""
OTHER_VALUE: Final = "that people changed would get another value than theirs"
OTHER_KEY: Final = "that people added would get another key"
OTHER_REMOVED: Final = "that nobody removed would be removed in place of others"
UNTOUCHED: Final = "that nobody touched would come back different"


class NotHeld(NamedTuple):
    """Records of people in one table that the older database does not hold: numbers of rows."""

    table: str
    added: int
    changed: int
    removed: int
    columns: tuple[str, ...]
    """The columns whose values it does not hold; empty if only whole rows are concerned."""
    example: str
    """The key of one such row; empty for a table without a key."""
    new: bool
    """Whether the older schema has no such table, or none of the columns."""
    filled: bool = False
    """Whether migrations fill the table or the columns from older rows."""
    inexact_count: int = 0
    """Of the changed rows, those that the older database has with another value, such as a rounded one."""
    unmatched_count: int = 0
    """Of the changed and removed rows, those whose key no older row has: migrations made them, or gave them a key."""
    unreadable: bool = False
    """Whether it is a search index without content, whose entries nothing can read."""


class Altered(NamedTuple):
    """Rows of a table that going back made wrong."""

    table: str
    rows: int
    columns: tuple[str, ...]
    """The columns that are wrong; empty if whole rows are."""
    example: str
    what: str


class Compared(NamedTuple):
    """The result of a comparison, by table."""

    not_held: tuple[NotHeld, ...]
    altered: tuple[Altered, ...]
    unfilled: tuple[str, ...]
    """Columns of the older schema, as `table.column`, in which the rows that people added have only the default."""


def compared(connection: Connection, older: OlderSchema, *, has_again: bool) -> Compared:
    """Compare the databases, which are attached by the names that the module describes.

    Args:
        connection: where they are attached; `main` is the newer database with the trade.
        older: the names that newer tables and columns had.
        has_again: whether `again` could be made.
    """
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    not_held, altered, unfilled = list[NotHeld](), list[Altered](), list[str]()
    matched = set()
    for name, facts in sorted(app_tables(connection).items()):
        if facts.is_contentless and has_again:
            not_held += _entries(connection, name)
        if not facts.has_own_rows or name.lower().startswith("dbsync_"):
            continue
        table = _Table(connection, name, older)
        matched.add((table.older or "").lower())
        if has_again:
            found = table.traded() if table.key else table.traded_by_content()
            not_held += found[0]
            altered += found[1]
        if table.older is not None:
            altered += table.untouched() if table.key and table.same_key else table.too_many()
            columns = older.lacks(name, table.columns) if table.added_count else []
            unfilled += [f"{table.older}.{column}" for column in columns]
    altered += _without_a_successor(connection, matched)
    return Compared(tuple(not_held), _together(altered), tuple(unfilled))


def _entries(connection: Connection, search: str) -> list[NotHeld]:
    """Return how many entries that people made in a contentless index it does not have again, by its list of them."""
    sizes = f"{search}{ENTRIES}"
    if not all(has_table(connection, sizes, side) for side in ("main", "base", "again")):
        return []
    key = quoted(columns_of(connection, sizes)[0].name)
    listed = [f"SELECT {key} FROM {side}.{quoted(sizes)}" for side in ("main", "base", "again")]
    sql = f"SELECT count(*) FROM ({' EXCEPT '.join(listed)})"
    count = int(connection.execute(sql).fetchone()[0])
    new = not has_table(connection, search, "backup")
    return [NotHeld(search, count, 0, 0, (), "", new, unreadable=True)] if count else []


def _without_a_successor(connection: Connection, matched: set[str]) -> list[Altered]:
    """Return the older tables that the newer schema has not, and that differ all the same: nobody could touch them."""
    found = []
    for name, facts in sorted(app_tables(connection, "backup").items()):
        if name.lower() in matched or not facts.has_own_rows or name.lower().startswith("dbsync_"):
            continue
        columns = tuple(column.name for column in columns_of(connection, name, "backup") if column.is_written)
        more, fewer = _bags(connection, ("returned", name), ("backup", name), columns)
        if more or fewer:
            found.append(Altered(name, max(more, fewer), (), "", UNTOUCHED))
    return found


def _together(found: list[Altered]) -> tuple[Altered, ...]:
    """Return one finding for each table and each kind."""
    merged: dict[tuple[str, str], Altered] = {}
    for altered in found:
        key = altered.table, altered.what
        before = merged.get(key, altered._replace(rows=0, columns=()))
        columns = tuple(sorted({*before.columns, *altered.columns}))
        merged[key] = before._replace(rows=before.rows + altered.rows, columns=columns)
    return tuple(merged.values())


class _Table:
    """One table of the newer schema, and the older one that it came from."""

    def __init__(self, connection: Connection, name: str, older: OlderSchema) -> None:
        self._connection: Final = connection
        self._schema: Final = older
        self.name: Final = name
        self.columns: Final = tuple(column.name for column in columns_of(connection, name) if column.is_written)
        key = tuple(key_of(connection, name))
        usable = bool(key) and set(key) <= set(self.columns) and not null_keys(connection, name, key, "main")
        self.key: Final = key if usable else ()
        found = older.table_of(name)
        self.older: Final = found if found is not None and found in app_tables(connection, "backup") else None
        self._places: Final = {column: older.column_of(name, column) for column in self.columns} if found else {}
        self.shared: Final = tuple(column for column in self.columns if self._places.get(column) is not None)
        older_key = tuple(key_of(connection, found, "backup")) if found else ()
        self.same_key: Final = bool(self.key) and older_key == tuple(self._places.get(column) for column in self.key)
        self._touched: dict[Key, tuple[Cells | None, Cells | None]] | None = None
        self._examined = 0
        self._bags: dict[str, tuple[int, int]] = {}
        self._converted: dict[str, bool] = {}

    @property
    def added_count(self) -> int:
        """How many rows people added; of a table without a key, whether they did."""
        if not self.key:
            return self._content("base")[0]
        return sum(before is None for before, _ in self._edits().values())

    # ------------------------------------------------------------------------------------------- what people recorded

    def traded(self) -> tuple[list[NotHeld], list[Altered]]:
        """Return the edits that are not held, and those that became something else."""
        tally = _Tally()
        for key, after, back in self._differing("main", "again"):
            if key in self._edits():
                self._judge(key, after, back, tally)
            else:
                # Migrated again, a row that nobody touched has another key, or is there without having been there.
                tally.rekeyed += after is None or back is None
        tally.settle_keys()
        altered = []
        for what, keys in tally.wrong.items():
            columns = tuple(sorted(tally.wrong_columns)) if what == OTHER_VALUE else ()
            altered.append(Altered(self.name, len(keys), columns, shown(self.key, min(keys, key=repr)), what))
        if not (tally.added or tally.changed or tally.removed):
            return [], altered
        columns = tuple(sorted(tally.columns))
        new = self.older is None or (bool(columns) and not set(columns) & set(self.shared) and not tally.added)
        held = NotHeld(
            self.name, tally.added, tally.changed, tally.removed, columns, tally.example, new,
            self._filled(columns), tally.inexact, tally.unmatched,
        )  # fmt: skip
        return [held], altered

    def _judge(self, key: Key, after: Cells | None, back: Cells | None, tally: _Tally) -> None:
        before = self._edits()[key][0]
        old, new = self._older_rows(key)
        tally.example = tally.example or shown(self.key, key)
        tally.unmatched += before is not None and old is None and self.same_key
        if after is None:
            # People removed it and it is there again.
            if new is None and old is not None:
                tally.suspects.append((OTHER_REMOVED, key))
            tally.removed += 1
        elif back is None:
            if before is None and new is not None and old is None:
                tally.suspects.append((OTHER_KEY, key))
            tally.added += before is None
            tally.changed += before is not None
        else:
            edited = [name for name in self.columns if before is None or not _same(before[name], after[name])]
            differing = [name for name in edited if not _same(after[name], back[name])]
            self._judge_cells(key, {name: after[name] for name in differing}, (old, new), tally)

    def _judge_cells(self, key: Key, cells: Cells, rows: tuple[Cells | None, Cells | None], tally: _Tally) -> None:
        old, new = rows
        lost = inexact = False
        for name, value in cells.items():
            place = self._places.get(name)
            kept = place is None or new is None or (old is not None and _same(old[place], new[place]))
            if not kept and self._is_known(name, value, new[place] if new is not None and place is not None else None):
                tally.take_wrong(OTHER_VALUE, key, name)
                continue
            tally.columns.add(name)
            lost, inexact = True, inexact or not kept
        tally.changed += lost
        tally.inexact += inexact

    def _is_known(self, name: str, value: Any, returned: Any) -> bool:
        """Return whether the older schema has a value for this one, so that it cannot be a matter of precision.

        It has if migrations made the same value from an older row.
        """
        self._examined += 1
        if value is None or self._examined > _CLOSELY_COUNT:
            return False
        column = quoted(name)
        of_base = f"b.{column} IS ? AND typeof(b.{column}) = typeof(?)"
        table = quoted(self.name)
        sql = f"SELECT 1 FROM base.{table} b WHERE {of_base} LIMIT 1"
        if self._connection.execute(sql, (value, value)).fetchone() is None:
            return False
        return not _same(value, returned) or self._is_converted(name)

    def _is_converted(self, name: str) -> bool:
        """Return whether migrations changed a column in every row, as a change of its meaning does; 0 is 0 in any unit.

        If they left some rows as they were, they corrected data, and a value that came back by name is the right one.
        """
        if name not in self._converted:
            column, place = f"b.{quoted(name)}", f"o.{quoted(str(self._places[name]))}"
            on = " AND ".join(f"b.{quoted(key)} = o.{quoted(str(self._places[key]))}" for key in self.key)
            rows = f"base.{quoted(self.name)} b JOIN backup.{quoted(str(self.older))} o ON {on}"
            sql = f"SELECT 1 FROM {rows} WHERE {place} IS {column} AND {column} IS NOT NULL AND {column} NOT IN (0, '')"
            same = self.same_key and self._connection.execute(f"{sql} LIMIT 1").fetchone() is not None
            self._converted[name] = not same
        return self._converted[name]

    def _filled(self, columns: tuple[str, ...]) -> bool:
        """Return whether migrations give the table rows, or the new columns values that differ."""
        table = f"base.{quoted(self.name)}"
        if self.older is None:
            return self._connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None
        new = [quoted(name) for name in columns if name not in self.shared]
        counted = (self._connection.execute(f"SELECT count(DISTINCT {name}) FROM {table}").fetchone() for name in new)
        return any(count > 1 for (count,) in counted)

    def traded_by_content(self) -> tuple[list[NotHeld], list[Altered]]:
        """Return how many rows of a table without a key are not held."""
        missing, more = self._content("again")
        people = self._content("base")
        missing, more = min(missing, people[0]), min(more, people[1])
        if not missing and not more:
            return [], []
        new = self.older is None
        return [NotHeld(self.name, missing, 0, more, (), "", new, new and self._filled(()))], []

    # -------------------------------------------------------------------------------------------- what nobody touched

    def untouched(self) -> list[Altered]:
        """Return the older rows and cells that differ although nobody touched their newer ones."""
        rows, columns, example = 0, set[str](), ""
        places = [(name, place) for name in self.shared if (place := self._places[name]) is not None]
        for key, old, new in self._differing("backup", "returned", older=True):
            if any(isinstance(part, str) and NOT_TEXT in part for part in key):
                continue
            before, after = self._row("base", key), self._row("main", key)
            if before is None and after is not None:
                continue
            if before is None or after is None:
                wrong = before is None and old is not None
                found = set[str]()
            else:
                found = {
                    place for name, place in places
                    if _same(before[name], after[name]) and old is not None and new is not None
                    and not _same(old[place], new[place])
                }  # fmt: skip
                wrong = bool(found) or ((old is None or new is None) and before == after)
            if wrong:
                rows, columns, example = rows + 1, columns | found, example or shown(self.key, key)
        return [Altered(self.name, rows, tuple(sorted(columns)), example, UNTOUCHED)] if rows else []

    def too_many(self) -> list[Altered]:
        """Return a finding if more older rows differ than people touched, where rows cannot be told apart by key."""
        assert self.older is not None
        columns = tuple(
            column.name for column in columns_of(self._connection, self.older, "backup") if column.is_written
        )
        more, fewer = _bags(self._connection, ("returned", self.older), ("backup", self.older), columns)
        people = self._content("base")
        excess = max(more - people[0], fewer - people[1])
        return [Altered(self.name, excess, (), "", UNTOUCHED)] if excess > 0 else []

    # ---------------------------------------------------------------------------------------------------- the databases

    def _edits(self) -> dict[Key, tuple[Cells | None, Cells | None]]:
        """Return what people did, by key: the row before and the row after."""
        if self._touched is None:
            self._touched = {key: (before, after) for key, before, after in self._differing("base", "main")}
        return self._touched

    def _content(self, side: str) -> tuple[int, int]:
        """Return how many rows `main` has more than a database of the same schema, and how many that one."""
        if side not in self._bags:
            self._bags[side] = self._bags_with(side)
        return self._bags[side]

    def _bags_with(self, side: str) -> tuple[int, int]:
        return _bags(self._connection, ("main", self.name), (side, self.name), self.columns)

    def _older_rows(self, key: Key) -> tuple[Cells | None, Cells | None]:
        if not self.same_key or self.older is None:
            return None, None
        return self._row("backup", key), self._row("returned", key)

    def _row(self, side: str, key: Key) -> Cells | None:
        table, columns, keys = self._on(older=side in ("backup", "returned"))
        listed = ", ".join(quoted(name) for name in columns)
        where = " AND ".join(f"{quoted(name)} = ?" for name in keys)
        found = self._connection.execute(f"SELECT {listed} FROM {side}.{quoted(table)} WHERE {where}", key).fetchone()
        return dict(zip(columns, found, strict=True)) if found is not None else None

    def _on(self, *, older: bool) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        if not older:
            return self.name, self.columns, self.key
        assert self.older is not None
        places = tuple(str(self._places[name]) for name in self.shared)
        return self.older, places, tuple(str(self._places[name]) for name in self.key)

    def _differing(
        self, before: str, after: str, *, older: bool = False
    ) -> Iterator[tuple[Key, Cells | None, Cells | None]]:
        """Yield the key and both rows where two databases of one schema differ."""
        table, columns, keys = self._on(older=older)
        on = " AND ".join(f"l.{quoted(name)} = r.{quoted(name)}" for name in keys)
        first = quoted(keys[0])
        names = [quoted(name) for name in columns]
        listed = ", ".join([*(f"l.{quoted(name)}" for name in keys), *(f"l.{name}" for name in names)])
        both = ", ".join([listed, *(f"r.{name}" for name in names)])
        unequal = " OR ".join(
            f"+l.{name} IS NOT +r.{name} COLLATE BINARY OR typeof(l.{name}) <> typeof(r.{name})" for name in names
        )
        sides = f"{before}.{quoted(table)}", f"{after}.{quoted(table)}"
        width, depth = len(names), len(keys)

        def cells(values: tuple[Any, ...]) -> Cells:
            return dict(zip(columns, values, strict=True))

        sql = f"SELECT {both}, r.{first} IS NULL FROM {sides[0]} l LEFT JOIN {sides[1]} r ON {on}"
        for row in self._connection.execute(f"{sql} WHERE r.{first} IS NULL OR {unequal}"):
            right = None if row[-1] else cells(row[depth + width : -1])
            yield tuple(row[:depth]), cells(row[depth : depth + width]), right
        sql = f"SELECT {listed} FROM {sides[1]} l LEFT JOIN {sides[0]} r ON {on} WHERE r.{first} IS NULL"
        for row in self._connection.execute(sql):
            yield tuple(row[:depth]), None, cells(row[depth:])


class _Tally:
    """Counts for one table."""

    def __init__(self) -> None:
        self.added = self.changed = self.removed = self.inexact = self.unmatched = self.rekeyed = 0
        self.suspects: list[tuple[str, Key]] = []
        self.columns: set[str] = set()
        self.example = ""
        self.wrong: dict[str, set[Key]] = {}
        self.wrong_columns: set[str] = set()

    def settle_keys(self) -> None:
        """Count the suspects as wrong if keys moved: a migration may also remove or make such rows of its own."""
        for what, key in self.suspects if self.rekeyed else ():
            self.take_wrong(what, key)

    def take_wrong(self, what: str, key: Key, column: str = "") -> None:
        """Count a row that became wrong."""
        self.wrong.setdefault(what, set()).add(key)
        if column:
            self.wrong_columns.add(column)


def _bags(
    connection: Connection, one: tuple[str, str], other: tuple[str, str], columns: tuple[str, ...]
) -> tuple[int, int]:
    """Return how many rows one table has that the other lacks, and the reverse; equal rows count as often as they are.

    A table is given as the name of its database and its own. Rows that are equal at the same rowid cancel each other;
    mostly these are nearly all, and only the rest is sorted.
    """
    names = [quoted(name) for name in columns]
    exact = ", ".join(f"typeof({name}), {name} COLLATE BINARY" for name in names)
    parts = []
    for (schema, table), (against, theirs), weight in ((one, other, 1), (other, one, -1)):
        rowids = rowid_of(connection, table, schema), rowid_of(connection, theirs, against)
        equal = " AND ".join(
            f"+l.{name} IS +r.{name} COLLATE BINARY AND typeof(l.{name}) = typeof(r.{name})" for name in names
        )
        there = f"SELECT 1 FROM {against}.{quoted(theirs)} r WHERE r.{rowids[1]} = l.{rowids[0]} AND {equal}"
        rest = f" WHERE NOT EXISTS ({there})" if None not in rowids else ""
        listed = ", ".join(f"l.{name} AS {name}" for name in names)
        parts.append(f"SELECT {listed}, {weight} AS weight FROM {schema}.{quoted(table)} l{rest}")
    sums = f"SELECT sum(weight) AS rest FROM ({' UNION ALL '.join(parts)}) GROUP BY {exact}"
    found = connection.execute(f"SELECT total(max(rest, 0)), total(max(-rest, 0)) FROM ({sums})").fetchone()
    return int(found[0]), int(found[1])


def _same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def shown(columns: tuple[str, ...], key: Key) -> str:
    """Return a key for people, such as `id 17` or `code 'A'`."""
    return ", ".join(f"{name} {part!r}" for name, part in zip(columns, key, strict=True))
