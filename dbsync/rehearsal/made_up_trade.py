"""Made-up trade: rows added, changed and removed in every table that allows it, by the rules of its own schema.

It stands for what people will do in a shop. Foreign keys, triggers and every constraint are active, and each step is
one transaction: a step that the schema refuses leaves nothing behind and is counted. The steps are chosen by counting,
never by chance, so that the same database and the same seed always give the same rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from dbsync.rehearsal.made_up_values import Value, candidates, like, longer, typical
from dbsync.rehearsal.older_schema import OlderSchema
from dbsync.rehearsal.table_shape import Reference, Shape, shapes
from dbsync.storage.connections import Connection, kind_of
from dbsync.storage.introspection import ColumnFacts, quoted

INSERTS_COUNT: Final = 20
"""Rows that are added to a table, at least, before rows are removed."""
DELETES_COUNT: Final = 6
SWAPS_COUNT: Final = 2
POOL_COUNT: Final = 48
"""Rows of a table that are worked on; of a table with few rows every second one stays as it is."""
TRIES_COUNT: Final = 24
"""How often a row is made up anew before the table is taken to allow no more."""
FAMILY_COUNT: Final = 60
"""Rows that are removed together at most, a row and its children."""
FIRST_NUMBER: Final = 730_001
"""The first of the numbers from which values are made; higher than the numbers of most shops."""

Row = dict[str, Any]
Statement = tuple[str, tuple[Any, ...]]


class TableTrade(NamedTuple):
    """The trade in one table."""

    table: str
    inserted: int = 0
    updated: int = 0
    """Changed cells."""
    updated_columns: int = 0
    columns: int = 0
    """The columns that can be written."""
    deleted: int = 0
    children: int = 0
    """Rows of other tables that were removed with those."""
    swapped_keys: int = 0
    """Pairs of rows that exchanged their primary keys."""
    swapped_values: int = 0
    """Pairs of rows that exchanged their values in a UNIQUE column."""
    newer_only: int = 0
    """Values that the older schema has no place for, or refuses."""
    classes: tuple[str, ...] = ()
    """The storage classes of the values."""
    refused: int = 0
    """Steps that the schema refused."""
    cause: str = ""
    """Why nothing could be done in it; empty if something could."""

    @property
    def done_count(self) -> int:
        """How much was done."""
        return self.inserted + self.updated + self.deleted + self.swapped_keys + self.swapped_values


def trade(
    connection: Connection,
    *,
    seed: int = 0,
    older: OlderSchema | None = None,
    still_time: Callable[[], None] = lambda: None,
    told: Callable[[str], None] = lambda _: None,
) -> tuple[TableTrade, ...]:
    """Make up trade in every table of a throw-away database and return what was done, by table.

    Args:
        connection: to the database, in no transaction; it must be able to roll back (no `journal_mode=OFF`).
        seed: another seed gives other values.
        older: counts the values that the older schema does not hold; None: they are not counted.
        still_time: called before each step; what it raises ends the trade.
        told: receives the name of each table as it is begun.

    Raises:
        sqlite3.Error: the disk, not the schema, refused a step.
    """
    connection.execute("PRAGMA foreign_keys=ON")
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        found, unusable = shapes(connection, POOL_COUNT)
        traders = [_Trader(connection, shape, found, _Numbers(seed, place), older, still_time)
                   for place, shape in enumerate(found.values())]  # fmt: skip
        for kind in (_Trader.insert_all, _Trader.update_all, _Trader.swap_all):
            for trader in traders:
                told(trader.shape.name)
                kind(trader)
        # Children first: a parent whose children are gone can be removed alone.
        for trader in reversed(traders):
            told(trader.shape.name)
            trader.delete_all()
        for trader in traders:
            # The numbers of removed rows may be given anew.
            trader.insert_some(2)
        made = [trader.done() for trader in traders]
    finally:
        connection.text_factory = str
    return (*sorted([*made, *(TableTrade(table, cause=cause) for table, cause in unusable.items())]),)


class _Numbers:
    """The numbers from which the values of one table are made, each different."""

    def __init__(self, seed: int, place: int) -> None:
        self._next = FIRST_NUMBER + 7_919 * seed + 100_003 * place

    def __call__(self) -> int:
        self._next += 13
        return self._next


class _Trader:
    """Trade in one table."""

    def __init__(
        self,
        connection: Connection,
        shape: Shape,
        family: dict[str, Shape],
        number: _Numbers,
        older: OlderSchema | None,
        still_time: Callable[[], None],
    ) -> None:
        self.shape: Final = shape
        self._connection: Final = connection
        self._family: Final = family
        self._number: Final = number
        self._older: Final = older
        self._still_time: Final = still_time
        self._done: dict[str, int] = {}
        self._columns: set[str] = set()
        self._classes: set[str] = set()
        self._cause = ""
        self._turn = 0

    def done(self) -> TableTrade:
        """Return what was done."""
        counts: dict[str, Any] = self._done
        made = TableTrade(
            self.shape.name,
            updated_columns=len(self._columns),
            columns=len(self.shape.columns),
            classes=tuple(sorted(self._classes)),
            **counts,
        )
        return made._replace(cause="" if made.done_count else self._cause or "it has no rows and takes none")

    # -------------------------------------------------------------------------------------------------------- adding

    def insert_all(self) -> None:
        self.insert_some(INSERTS_COUNT)

    def insert_some(self, count: int) -> None:
        """Add rows; a table that takes none after TRIES_COUNT tries is left."""
        for _ in range(count):
            if not any(self._insert(attempt) for attempt in range(TRIES_COUNT)):
                return

    def _insert(self, attempt: int) -> bool:
        row = self._made(attempt)
        names, marks = ", ".join(quoted(name) for name in row), ", ".join("?" * len(row))
        values = f"({names}) VALUES ({marks})" if row else "DEFAULT VALUES"
        if not self._step((f"INSERT OR ABORT INTO {self.shape.quoted} {values}", tuple(row.values()))):
            return False
        self._count("inserted")
        if self.shape.contentless:
            return True
        locator = self.shape.last_inserted(self._connection, row)
        if locator is not None:
            self.shape.pool.append(locator)
            self._note(locator)
        return True

    def _made(self, attempt: int) -> Row:
        """Return a row: a copy of one that is there with new unique values; where there is none, of likely values."""
        base = self._values(self._next_row()) or {}
        bold = self._turn % len(self.shape.columns) if attempt == 0 else -1
        row: Row = {"rowid": self._number()} if self.shape.contentless else {}
        for place, column in enumerate(self.shape.columns):
            name = column.name
            if name == self.shape.alias:
                continue
            value = base.get(name)
            if name in self.shape.unique:
                near = self.shape.near[name]
                another = longer if attempt % 2 else like
                value = another(value, self._number()) if value is not None else self._usual(column, attempt)
                if near and attempt % 4 == 3:
                    value = near[attempt % len(near)]
            elif place == bold or name not in base:
                choices = self._candidates(name, column.type, [])
                value = choices[(self._turn if base else attempt + place * (attempt // 6)) % len(choices)]
            row[name] = value
        for reference in self.shape.references:
            row.update(self._parent(reference, attempt))
        return row

    def _usual(self, column: ColumnFacts, attempt: int) -> Value:
        choices = [*typical(column.type, self._number()), *self.shape.near[column.name], self._number()]
        return choices[attempt % len(choices)]

    def _parent(self, reference: Reference, attempt: int) -> Row:
        """Return the values that refer to one parent after the other; NULLs if there is none, and now and then."""
        parent = self._family.get(reference.parent.lower())
        pool = parent.pool if parent is not None else []
        if not pool or attempt == TRIES_COUNT - 1:
            return dict.fromkeys(reference.columns)
        self._turn += 1
        locator = pool[(self._turn + attempt * (1 + reference.number)) % len(pool)]
        assert parent is not None
        values = _read(self._connection, parent, locator, reference.parent_columns)
        return dict(zip(reference.columns, values or [None] * len(reference.columns), strict=True))

    # ------------------------------------------------------------------------------------------------------ changing

    def update_all(self) -> None:
        """Change every column, with every candidate, each in another row; then several columns at once."""
        for column in self.shape.columns:
            known = [row[column.name] for row in map(self._values, self.shape.pool[:6]) if row]
            for value in self._candidates(column.name, column.type, known):
                self._update({column.name: value})
        for reference in self.shape.references:
            for attempt in range(4):
                self._update(self._parent(reference, attempt))
        missing = [column.name for column in self.shape.columns if column.name not in self._columns]
        for name in missing:
            values = self._values(self._next_row())
            for _ in range(3 if values else 0):
                self._update({name: like(values[name], self._number())})
        plain = [column.name for column in self.shape.columns if column.name not in self.shape.unique]
        for _ in range(4):
            other = self._values(self._next_row())
            self._update({name: other[name] for name in plain if name in other})

    def _update(self, values: Row) -> None:
        locator = self._next_row()
        before = self._values(locator)
        changed = {name: value for name, value in values.items() if name in before and not _same(before[name], value)}
        if locator is None or not changed:
            return
        if self._step(self._updating(changed, locator)):
            moved = self.shape.moved(locator, changed)
            self.shape.pool[self.shape.pool.index(locator)] = moved
            self._count("updated", len(changed))
            self._columns |= changed.keys()
            self._note(moved, tuple(changed))

    def _updating(self, values: Row, locator: tuple[Any, ...]) -> Statement:
        sets = ", ".join(f"{quoted(name)} = ?" for name in values)
        where = self.shape.where
        return f"UPDATE OR ABORT {self.shape.quoted} SET {sets} WHERE {where}", (*values.values(), *locator)

    # ------------------------------------------------------------------------------------------------------ swapping

    def swap_all(self) -> None:
        """Exchange the keys, and the values of each UNIQUE index, between two rows."""
        for columns in self.shape.uniques:
            kind = "swapped_keys" if set(columns) & set(self.shape.keys) else "swapped_values"
            self._count(kind, sum(self._swap(columns, another) for another in (like, longer) * SWAPS_COUNT))

    def _swap(self, columns: tuple[str, ...], another: Callable[[Value, int], Value]) -> bool:
        """Exchange values by way of another one; references are judged when both rows have their new ones."""
        one, other = self._next_row(), self._next_row()
        before, after = self._values(one), self._values(other)
        if one is None or other is None or one == other or not before or not after:
            return False
        first = {name: before[name] for name in columns}
        second = {name: after[name] for name in columns}
        if all(_same(first[name], second[name]) for name in columns):
            return False
        between = {name: another(value, self._number()) for name, value in first.items()}
        aside = self.shape.moved(one, between)
        if not self._step(
            ("PRAGMA defer_foreign_keys=ON", ()),
            self._updating(between, one),
            self._updating(first, other),
            self._updating(second, aside),
        ):
            return False
        for locator, values in ((one, second), (other, first)):
            self._note(self.shape.moved(locator, values), columns)
        at, to = self.shape.pool.index(one), self.shape.pool.index(other)
        self.shape.pool[at], self.shape.pool[to] = self.shape.moved(one, second), self.shape.moved(other, first)
        return True

    # ------------------------------------------------------------------------------------------------------ removing

    def delete_all(self) -> None:
        """Remove rows with their children, the newest row among them."""
        newest = self.shape.newest(self._connection)
        chosen = [*([newest] if newest is not None else []), *self.shape.pool[:: max(1, len(self.shape.pool) // 9)]]
        for locator in dict.fromkeys(chosen):
            if self._done.get("deleted", 0) < DELETES_COUNT:
                self._delete(locator)

    def _delete(self, locator: tuple[Any, ...]) -> None:
        plan = list(self._with_children(self.shape, locator, depth=0))
        if not plan or len(plan) > FAMILY_COUNT:
            return
        if self._step(*(statement for statement, _ in plan if statement is not None)):
            self._count("deleted")
            self._count("children", len(plan) - 1)
            gone = [found for _, found in plan]
            for shape, where in gone:
                if where in shape.pool:
                    shape.pool.remove(where)

    def _with_children(
        self, shape: Shape, locator: tuple[Any, ...], *, depth: int
    ) -> Iterator[tuple[Statement | None, tuple[Shape, tuple[Any, ...]]]]:
        """Yield what removes the rows that refer to a row, children first, then the row itself.

        There is no statement for a row that SQLite removes by itself.
        """
        for child, reference in self._children(shape) if depth < 6 else ():
            if reference.keeps_child:
                continue
            parent = _read(self._connection, shape, locator, reference.parent_columns)
            if parent is None or None in parent:
                continue
            for found in child.find(self._connection, dict(zip(reference.columns, parent, strict=True)), FAMILY_COUNT):
                if (child.name, found) == (shape.name, locator):
                    continue
                for statement, row in self._with_children(child, found, depth=depth + 1):
                    yield None if reference.cascades else statement, row
        yield (f"DELETE FROM {shape.quoted} WHERE {shape.where}", locator), (shape, locator)

    def _children(self, shape: Shape) -> Iterator[tuple[Shape, Reference]]:
        for child in self._family.values():
            for reference in child.references:
                if reference.parent.lower() == shape.name.lower():
                    yield child, reference

    # --------------------------------------------------------------------------------------------------------- steps

    def _step(self, *statements: Statement) -> bool:
        """Run statements in one transaction; return False, with nothing done, if the schema refuses them."""
        self._still_time()
        try:
            self._connection.execute("BEGIN")
            for sql, parameters in statements:
                # A trigger may ignore a row without an error; rowids of rows that a cascade removed match nothing.
                if self._connection.execute(sql, parameters).rowcount == 0 and not sql.startswith("DELETE"):
                    raise sqlite3.IntegrityError("a trigger ignores it")
            self._connection.execute("COMMIT")
        except (sqlite3.Error, OverflowError) as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._still_time()
            if kind_of(error) is not None and not isinstance(error, sqlite3.IntegrityError):
                raise
            self._count("refused")
            self._cause = _cause_of(error)
            return False
        return True

    def _note(self, locator: tuple[Any, ...], changed: tuple[str, ...] = ()) -> None:
        """Note the storage classes of a row's new values, and whether the older schema would take them."""
        columns = changed or tuple(column.name for column in self.shape.columns)
        kinds = ", ".join(f"typeof({quoted(name)})" for name in columns)
        sql = f"SELECT {kinds} FROM {self.shape.quoted} WHERE {self.shape.where}"
        self._classes |= set(self._connection.execute(sql, locator).fetchone() or ())
        if self._older is None:
            return
        row, name = self._values(locator), self.shape.name
        added = self._older.table_of(name) is not None and any(
            self._older.column_of(name, column) is None for column in changed
        )
        if added or not self._older.holds(name, row):
            self._count("newer_only")

    def _count(self, kind: str, count: int = 1) -> None:
        self._done[kind] = self._done.get(kind, 0) + count

    def _candidates(self, name: str, declared: str, known: list[Value]) -> list[Value]:
        found = candidates(near=self.shape.near[name], known=known, declared=declared, number=self._number())
        # SQLite allows NULL in most primary keys. A row that has it cannot be found again by its key.
        return [value for value in found if value is not None] if name in self.shape.keys else found

    def _next_row(self) -> tuple[Any, ...] | None:
        self._turn += 1
        return self.shape.pool[self._turn % len(self.shape.pool)] if self.shape.pool else None

    def _values(self, locator: tuple[Any, ...] | None) -> Row:
        names = tuple(column.name for column in self.shape.columns)
        values = _read(self._connection, self.shape, locator, names) if locator is not None else None
        return dict(zip(names, values, strict=True)) if values is not None else {}


def _read(
    connection: Connection, shape: Shape, locator: tuple[Any, ...], columns: tuple[str, ...]
) -> tuple[Any, ...] | None:
    listed = ", ".join(quoted(name) for name in columns)
    found = connection.execute(f"SELECT {listed} FROM {shape.quoted} WHERE {shape.where}", locator).fetchone()
    return tuple(found) if found is not None else None


def _same(one: Value, other: Value) -> bool:
    return type(one) is type(other) and one == other


def _cause_of(error: Exception) -> str:
    """Return why the schema refuses a step; what a trigger says may hold values, and values are personal."""
    if getattr(error, "sqlite_errorname", "") == "SQLITE_CONSTRAINT_TRIGGER":
        return "a trigger refuses it"
    return str(error)
