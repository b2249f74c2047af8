"""Random migrations: their texts with declarations, and what each means for a row that goes back."""

from __future__ import annotations

import copy
import math
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.drills.laws.cells import NULL, Cell, cell, quoted
from tests.drills.laws.schemas import (
    CHECKS,
    COLUMNS,
    STRICT_TYPES,
    TABLES,
    TYPES,
    Column,
    Schema,
    Table,
    Thing,
    random_table,
    random_thing,
)

Numbered = dict[int | str, Cell]
"""A row by the numbers of its columns; 0 is its rowid."""
BOOM: Final = ("text", b"boom")
GONE: Final = ("text", b"gone")


class NoPlace(Exception):
    """A row has no place in the older schema, as the migration says, or its `down_row` fails on it."""


@dataclass
class Step:
    """One migration."""

    name: str
    after: Schema
    changes: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    rebuilds: list[tuple[str, str]] = field(default_factory=list)
    """Tables that are rebuilt after the statements, with the new definition: such a migration is Python."""
    afterwards: list[str] = field(default_factory=list)
    down_row: str = ""
    """The body of `down_row` in Python."""
    down: Callable[[int, Numbered], Numbered] | None = None
    """The oracle's own `down_row`, by numbers; raises `NoPlace`."""
    rows_change: frozenset[int] = frozenset()
    """Tables to which it adds rows, or from which it removes some."""

    def text(self, *, python: bool) -> tuple[str, str]:
        """Return the ending of its file and its text."""
        if not python and not self.rebuilds and not self.down_row:
            head = [f"-- changes: {change}" for change in self.changes]
            return "sql", "\n".join([f"-- description: {self.name}", *head, *(f"{s};" for s in self.statements)]) + "\n"
        lines = [f'"""{self.name}."""', "", f"description = {self.name!r}", f"changes = {self.changes!r}", "", ""]
        lines += ["def up(db):", *(f"    db.execute({statement!r})" for statement in self.statements)]
        lines += [f"    db.rebuild_table({table!r}, {body!r})" for table, body in self.rebuilds]
        lines += [f"    db.execute({statement!r})" for statement in self.afterwards]
        lines += [f"    db.log({self.name!r})", ""]
        if self.down_row:
            lines += ["", "def down_row(table, row):", *(f"    {line}" for line in self.down_row.splitlines()), ""]
        return "py", "\n".join(lines)


Make = Callable[[random.Random, Schema], Step | None]


def random_step(chance: random.Random, before: Schema) -> Step:
    """Return a migration of a schema."""
    while True:
        step = chance.choice(MAKERS)(chance, copy.deepcopy(before))
        if step is not None:
            return step


def _path(table: Table, column: Column | None = None) -> str:
    return quoted(table.name) + (f".{quoted(column.name)}" if column is not None else "")


def _names(table: Table) -> set[str]:
    return {column.name for column in table.columns}


def _removable(schema: Schema, table: Table) -> list[Column]:
    used = schema.used(table)
    found = [c for c in table.free if c.number not in used and not c.unique and c.parent is None]
    return [c for c in found if c.name != "rowid_of"] if len(table.columns) > len(table.key) + 1 else []


def _loose(schema: Schema, table: Table) -> list[Column]:
    """Return columns of which any value may be changed."""
    used = {number for thing in schema.things if thing.unique for number in thing.columns} | set(table.key)
    found = [c for c in table.free if c.number not in used and not c.unique and c.parent is None and not c.check]
    return [c for c in found if c.type in ("", "TEXT", "ANY", "NUMERIC") and c.name != "rowid_of"]


# ---------------------------------------------------------------------------------------------------------------- steps


def add_column(chance: random.Random, schema: Schema) -> Step:
    """Add a column with a default."""
    table = chance.choice(schema.tables)
    type_ = chance.choice(STRICT_TYPES if table.strict else TYPES)
    column = Column(schema.number(), schema.free_name(chance, COLUMNS, _names(table)), type_)
    default = chance.choice(("", "'0'", "'z'") if type_ in ("", "TEXT", "ANY") else ("", ""))
    column.default, column.not_null = default, bool(default) and chance.random() < 0.5
    if chance.random() < 0.2:
        column.check = "{0} IS NOT 'a'"
    table.columns.append(column)
    sql = f"ALTER TABLE {_path(table)} ADD COLUMN {column.text(schema, table, key=False)}"
    return Step("add a column", schema, statements=[sql])


def drop_column(chance: random.Random, schema: Schema) -> Step | None:
    """Drop a column."""
    table = chance.choice(schema.tables)
    columns = [] if table.kind == "bag" else _removable(schema, table)
    if not columns:
        return None
    column = chance.choice(columns)
    table.columns.remove(column)
    sql = f"ALTER TABLE {_path(table)} DROP COLUMN {quoted(column.name)}"
    return Step("drop a column", schema, [f"drop column {_path(table, column)}"], [sql])


def rename_column(chance: random.Random, schema: Schema) -> Step | None:
    """Rename a column."""
    table = chance.choice(schema.tables)
    if schema.is_searched(table) or not table.free:
        return None
    column = chance.choice(table.columns)
    old, column.name = column.name, schema.free_name(chance, COLUMNS, _names(table))
    was = f"{quoted(table.name)}.{quoted(old)}"
    sql = f"ALTER TABLE {_path(table)} RENAME COLUMN {quoted(old)} TO {quoted(column.name)}"
    return Step("rename a column", schema, [f"rename {was} -> {_path(table, column)}"], [sql])


def rename_table(chance: random.Random, schema: Schema) -> Step | None:
    """Rename a table."""
    table = chance.choice(schema.tables)
    if schema.is_searched(table):
        return None
    old, table.name = table.name, schema.free_name(chance, (*TABLES, "item2"), schema.table_names())
    sql = f"ALTER TABLE {quoted(old)} RENAME TO {quoted(table.name)}"
    return Step("rename a table", schema, [f"rename {quoted(old)} -> {quoted(table.name)}"], [sql])


def loosen(chance: random.Random, schema: Schema) -> Step | None:
    """Rebuild a table without one of its constraints."""
    table = chance.choice(schema.tables)
    columns = [column for column in table.free if column.check or column.not_null or column.unique]
    if not columns:
        return None
    unique = [column for column in columns if column.unique]
    column = chance.choice(unique if unique and chance.random() < 0.6 else columns)
    column.check, column.not_null, column.unique, column.conflict = "", False, False, ""
    return _rebuilt("loosen a constraint", schema, table, column)


def _rebuilt(name: str, schema: Schema, table: Table, column: Column, *before: str) -> Step:
    changes = [f"redefine {_path(table)}", f"redefine {_path(table, column)}"]
    changes += [f"update {_path(table, column)}"] if before else []
    return Step(name, schema, changes, list(before), [(table.name, table.body(schema))])


def tighten(chance: random.Random, schema: Schema) -> Step | None:
    """Rebuild a table with one constraint more, after changing the values that break it."""
    table = chance.choice(schema.tables)
    columns = _loose(schema, table)
    if not columns:
        return None
    column = chance.choice(columns)
    cell_name = quoted(column.name)
    if chance.random() < 0.5 and not column.not_null:
        column.not_null = True
        return _rebuilt(
            "tighten to NOT NULL", schema, table, column,
            f"UPDATE {_path(table)} SET {cell_name} = 'none' WHERE {cell_name} IS NULL",
        )  # fmt: skip
    column.check = CHECKS[0]
    return _rebuilt(
        "tighten by a CHECK",
        schema,
        table,
        column,
        f"UPDATE {_path(table)} SET {cell_name} = 'was bad' WHERE {cell_name} = 'bad'",
    )


def new_table(chance: random.Random, schema: Schema) -> Step:
    """Make a table, and perhaps fill it from another one."""
    source = chance.choice(schema.tables)
    table = random_table(chance, schema)
    statements = []
    if chance.random() < 0.5 and source.free:
        name = schema.free_name(chance, TABLES, schema.table_names())
        key = Column(schema.number(), "k", "INTEGER")
        table = Table(table.number, name, "integer", [key, Column(schema.number(), "a", "")], (key.number,))
        taken = quoted(chance.choice(source.free).name)
        statements = [f"INSERT INTO {quoted(name)} (a) SELECT DISTINCT {taken} FROM {_path(source)} ORDER BY 1"]
    schema.tables.append(table)
    return Step("make a table", schema, statements=[table.sql(schema), *statements])


def drop_table(chance: random.Random, schema: Schema) -> Step | None:
    """Drop a table to which nothing refers."""
    referred = {column.parent for table in schema.tables for column in table.columns}
    free = [t for t in schema.tables if t.number not in referred and not schema.is_searched(t)]
    free = [t for t in free if all(thing.table != t.number for thing in schema.things)]
    if len(schema.tables) < 3 or not free:
        return None
    table = chance.choice(free)
    schema.tables.remove(table)
    return Step("drop a table", schema, [f"drop table {_path(table)}"], [f"DROP TABLE {_path(table)}"])


def new_thing(chance: random.Random, schema: Schema) -> Step | None:
    """Make an index, a trigger, a view or a virtual table."""
    table = chance.choice(schema.tables)
    thing = random_thing(chance, schema, table)
    if thing is None or thing.unique or thing.kind == "fts":
        return None
    schema.things.append(thing)
    return Step(f"make a {thing.kind}", schema, statements=list(thing.statements))


def drop_thing(chance: random.Random, schema: Schema) -> Step | None:
    """Drop an index, a trigger or a view."""
    things = [thing for thing in schema.things if thing.kind in ("index", "trigger", "view")]
    if not things:
        return None
    thing = chance.choice(things)
    schema.things.remove(thing)
    return Step(
        f"drop an {thing.kind}", schema, [f"drop {thing.kind} {quoted(thing.name)}"],
        [f"DROP {thing.kind.upper()} {quoted(thing.name)}"],
    )  # fmt: skip


def backfill(chance: random.Random, schema: Schema) -> Step | None:
    """Change the values of a column in place."""
    table = chance.choice(schema.tables)
    columns = _loose(schema, table)
    if not columns or table.kind == "bag":
        return None
    column = chance.choice(columns)
    name = quoted(column.name)
    sql = f"UPDATE {_path(table)} SET {name} = upper({name}) WHERE typeof({name}) = 'text'"
    return Step("change values", schema, [f"update {_path(table, column)}"], [sql])


def make_unique(chance: random.Random, schema: Schema) -> Step | None:
    """Make a column unique, after clearing what repeats."""
    table = chance.choice(schema.tables)
    columns = [column for column in _loose(schema, table) if not column.not_null]
    if not columns or table.kind.startswith("without"):
        return None
    column, on = chance.choice(columns), _path(table)
    name = quoted(column.name)
    index = f"{table.name}_{schema.number()}"
    thing = Thing(
        "index", index, table.number, (column.number,), (f"CREATE UNIQUE INDEX {quoted(index)} ON {on} ({name})",), True
    )
    schema.things.append(thing)
    sql = f"UPDATE {on} SET {name} = NULL WHERE rowid NOT IN (SELECT min(rowid) FROM {on} GROUP BY {name})"
    return Step("make a column unique", schema, [f"update {_path(table, column)}"], [sql, *thing.statements])


def seed(chance: random.Random, schema: Schema) -> Step | None:
    """Add a row that the app needs from now on, or remove the rows that it does not need."""
    table = chance.choice(schema.tables)
    if table.kind not in ("auto", "integer") or not table.free or any(c.parent is not None for c in table.columns):
        return None
    changed = frozenset({table.number})
    if chance.random() < 0.3:
        where = f"{quoted(table.free[0].name)} IS 'b'"
        sql = f"DELETE FROM {_path(table)} WHERE {where}"
        return Step("remove rows", schema, [f"delete {_path(table)}"], [sql], rows_change=changed)
    values = {c.name: "'seed'" for c in table.free if c.not_null or c.number == table.free[0].number}
    if table.strict or any(column.check or column.unique for column in table.free):
        return None
    names, row = ", ".join(map(quoted, values)), ", ".join(values.values())
    sql = f"INSERT INTO {_path(table)} ({names}) VALUES ({row})"
    return Step("add a row", schema, [f"insert {_path(table)}"], [sql], rows_change=changed)


def convert(chance: random.Random, schema: Schema) -> Step | None:
    """Turn cents into euros under another name; some values have no way back, or fail on it."""
    table = chance.choice(schema.tables)
    columns = [] if table.kind == "bag" else _removable(schema, table)
    columns = [column for column in columns if not column.check]
    if not columns or schema.is_searched(table) or table.strict:
        return None
    old = chance.choice(columns)
    new = Column(schema.number(), schema.free_name(chance, ("euro", "euros"), _names(table)), "")
    table.columns.append(new)
    table.columns.remove(old)
    name, was, on = quoted(new.name), quoted(old.name), _path(table)
    statements = [
        f"ALTER TABLE {on} ADD COLUMN {name}",
        f"UPDATE {on} SET {name} = CASE typeof({was}) WHEN 'integer' THEN {was} / 100.0 ELSE {was} END",
        f"ALTER TABLE {on} DROP COLUMN {was}",
    ]
    body, down = cents_again(table, old=old, new=new, fails=chance.random() < 0.5)
    return Step("convert cents", schema, [f"drop column {_path(table, old)}"], statements, down_row=body, down=down)


def cents_again(
    table: Table, *, old: Column, new: Column, fails: bool
) -> tuple[str, Callable[[int, Numbered], Numbered]]:
    """Return `down_row` in Python for euros, and the oracle's own; `fails` makes it raise on one value."""
    number = table.number
    body = [
        f"if table != {table.name!r} or {new.name!r} not in row:", "    return row", f"value = row.pop({new.name!r})",
        "if value == 'gone':", "    return None",
        *(["if value == 'boom':", "    raise ValueError(value)"] if fails else []),
        "if isinstance(value, float) and abs(value) < 1e15:", "    value = round(value * 100)",
        f"row[{old.name!r}] = value", "return row",
    ]  # fmt: skip

    def down(in_table: int, row: Numbered) -> Numbered:
        if in_table != number or new.number not in row:
            return row
        rest = {column: exact for column, exact in row.items() if column != new.number}
        exact = row[new.number]
        if exact == GONE or (exact == BOOM and fails):
            raise NoPlace
        return {**rest, old.number: _cents(exact)}

    return "\n".join(body), down


def is_string(exact: Cell) -> bool:
    """Return whether `down_row` receives a string: a text that is no UTF-8 comes as its bytes."""
    if exact[0] != "text":
        return False
    try:
        exact[1].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _cents(exact: Cell) -> Cell:
    if exact[0] != "real":
        return exact
    euros = struct.unpack(">d", exact[1])[0]
    if not math.isfinite(euros) or abs(euros) >= 1e15:
        return exact
    cents = euros * 100
    whole = math.floor(cents)
    rest = cents - whole
    return cell(whole + (rest > 0.5 or (rest == 0.5 and whole % 2 == 1)), "integer")


def split(chance: random.Random, schema: Schema) -> Step | None:
    """Split a text at its first space into two columns."""
    table = chance.choice(schema.tables)
    columns = [] if table.kind == "bag" else _removable(schema, table)
    columns = [column for column in columns if not column.check]
    if not columns or schema.is_searched(table) or table.strict:
        return None
    old = chance.choice(columns)
    first, rest = (Column(schema.number(), schema.free_name(chance, (n,), _names(table)), "") for n in ("head", "rest"))
    table.columns += [first, rest]
    table.columns.remove(old)
    was, on = quoted(old.name), _path(table)
    is_two = f"typeof({was}) = 'text' AND instr({was}, ' ') > 0"
    head_of = f"CASE WHEN {is_two} THEN substr({was}, 1, instr({was}, ' ') - 1) ELSE {was} END"
    rest_of = f"CASE WHEN {is_two} THEN substr({was}, instr({was}, ' ') + 1) END"
    statements = [
        f"ALTER TABLE {on} ADD COLUMN {quoted(first.name)}", f"ALTER TABLE {on} ADD COLUMN {quoted(rest.name)}",
        f"UPDATE {on} SET {quoted(first.name)} = {head_of}, {quoted(rest.name)} = {rest_of}",
        f"ALTER TABLE {on} DROP COLUMN {was}",
    ]  # fmt: skip
    body = [
        f"if table != {table.name!r} or {first.name!r} not in row:", "    return row",
        f"head, rest = row.pop({first.name!r}), row.pop({rest.name!r}, None)",
        f"row[{old.name!r}] = head + ' ' + rest if isinstance(head, str) and isinstance(rest, str) else head",
        "return row",
    ]  # fmt: skip

    def down(number: int, row: Numbered) -> Numbered:
        if number != table.number or first.number not in row:
            return row
        left = {column: exact for column, exact in row.items() if column not in (first.number, rest.number)}
        head, tail = row[first.number], row.get(rest.number, NULL)
        both = is_string(head) and is_string(tail)
        return {**left, old.number: ("text", head[1] + b" " + tail[1]) if both else head}

    return Step(
        "split a text", schema, [f"drop column {_path(table, old)}"], statements, down_row="\n".join(body), down=down
    )


MAKERS: Final[tuple[Make, ...]] = (
    add_column, add_column, drop_column, rename_column, rename_table, loosen, loosen, loosen, tighten, new_table,
    drop_table, new_thing, drop_thing, backfill, make_unique, seed, convert, convert, split,
)  # fmt: skip
