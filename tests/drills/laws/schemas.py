"""Random schemas: few names, every kind of key, rows that meet; and the text of their SQL."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from tests.drills.laws.cells import quoted

TABLES: Final = ("item", "sale", "note", "Tag", "order line")
COLUMNS: Final = ("a", "b", "c", "d", "price", "Name", "select", "x y")
TYPES: Final = ("", "TEXT", "INTEGER", "REAL", "BLOB", "NUMERIC", "VARCHAR(9)")
STRICT_TYPES: Final = ("TEXT", "INTEGER", "REAL", "BLOB", "ANY", "INT")
CHECKS: Final = (
    "{0} <> 'bad'", "length({0}) < 4 OR {0} IS NULL", "coalesce({0}, 0) <> 2", "typeof({0}) <> 'blob'",
    "{0} IS NOT 'a'",
)  # fmt: skip
CONFLICTS: Final = ("", "", "", "REPLACE", "IGNORE", "ROLLBACK", "FAIL", "ABORT")
KEYS: Final = ("integer", "integer", "auto", "auto", "text", "pair", "without", "without pair", "bag", "rowid")
VALUES: Final = (
    "1", "1.0", "'1'", "2", "2.5", "0", "-1", "NULL", "''", "'a'", "'A'", "'b'", "'bad'", "'a b'", "x'00ff'", "x'61'",
    "-0.0", "0.0", "9e999", "CAST(x'610062' AS TEXT)", "CAST(x'ff41' AS TEXT)", "9007199254740993", "'2.675'", "2.675",
    "'1e3'", "'x\u2028y'", "9223372036854775807",
)  # fmt: skip


@dataclass
class Column:
    """One column; its number stays the same through all versions."""

    number: int
    name: str
    type: str = ""
    not_null: bool = False
    unique: bool = False
    check: str = ""
    """With {0} for the quoted name."""
    collate: str = ""
    default: str = ""
    generated_from: int | None = None
    parent: int | None = None
    """The number of the table that it refers to."""
    on_delete: str = ""
    conflict: str = ""

    def text(self, schema: Schema, table: Table, *, key: bool) -> str:
        """Return its definition."""
        name, parts = quoted(self.name), [quoted(self.name), self.type]
        clause = f" ON CONFLICT {self.conflict}" if self.conflict else ""
        if key:
            parts.append(f"PRIMARY KEY{clause}" + (" AUTOINCREMENT" if table.kind == "auto" else ""))
        if self.not_null:
            parts.append(f"NOT NULL{clause if self.default else ''}")
        if self.unique:
            parts.append(f"UNIQUE{clause}")
        if self.collate:
            parts.append(f"COLLATE {self.collate}")
        if self.check:
            parts.append(f"CHECK ({self.check.format(name)})")
        if self.default:
            parts.append(f"DEFAULT {self.default}")
        if self.parent is not None and (parent := schema.table(self.parent)) is not None:
            parts.append(f"REFERENCES {quoted(parent.name)}{self.on_delete}")
        if self.generated_from is not None:
            parts.append(
                f"GENERATED ALWAYS AS (coalesce({quoted(table.column(self.generated_from).name)}, 'n') || '!')"
            )
        return " ".join(filter(None, parts))


@dataclass
class Table:
    """One table; its number stays the same through all versions."""

    number: int
    name: str
    kind: str
    columns: list[Column]
    key: tuple[int, ...] = ()
    """The numbers of the columns of the primary key."""
    strict: bool = False

    def column(self, number: int) -> Column:
        """Return a column by its number."""
        return next(column for column in self.columns if column.number == number)

    @property
    def free(self) -> list[Column]:
        """The columns that are neither the key nor generated."""
        return [c for c in self.columns if c.number not in self.key and c.generated_from is None]

    @property
    def written(self) -> list[Column]:
        """The columns that an INSERT may name."""
        return [column for column in self.columns if column.generated_from is None]

    @property
    def identity(self) -> tuple[str, ...] | None:
        """The names by which a row is known: its key or its rowid; None where a row is known by nothing."""
        if self.key:
            return tuple(self.column(number).name for number in self.key)
        return ("rowid",) if self.kind == "rowid" else None

    def body(self, schema: Schema) -> str:
        """Return the text from its parenthesis on."""
        alone = len(self.key) == 1
        parts = [column.text(schema, self, key=alone and column.number in self.key) for column in self.columns]
        if len(self.key) > 1:
            parts.append(f"PRIMARY KEY ({', '.join(quoted(self.column(number).name) for number in self.key)})")
        options = ["WITHOUT ROWID"] if self.kind.startswith("without") else []
        options += ["STRICT"] if self.strict else []
        return f"({', '.join(parts)}) {', '.join(options)}".rstrip()

    def sql(self, schema: Schema) -> str:
        """Return its statement."""
        return f"CREATE TABLE {quoted(self.name)} {self.body(schema)}"


@dataclass
class Thing:
    """An index, a trigger, a view or a virtual table over one table."""

    kind: str
    name: str
    table: int
    columns: tuple[int, ...]
    """The numbers of the columns that it uses."""
    statements: tuple[str, ...]
    unique: bool = False


@dataclass
class Schema:
    """One version: its tables, and what is made of them."""

    tables: list[Table] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
    next_number: int = 1

    def table(self, number: int) -> Table | None:
        """Return a table by its number; None if it is gone."""
        return next((table for table in self.tables if table.number == number), None)

    def number(self) -> int:
        """Return a number that nothing has."""
        self.next_number += 1
        return self.next_number

    def free_name(self, chance: random.Random, names: tuple[str, ...], taken: set[str]) -> str:
        """Return a name that is not taken, one of `names` as long as there is one."""
        taken = {name.lower() for name in taken}
        left = [name for name in names if name.lower() not in taken]
        return chance.choice(left) if left else f"{names[0]}{self.number()}"

    def table_names(self) -> set[str]:
        """Return all names of tables, views and virtual tables."""
        return {table.name for table in self.tables} | {thing.name for thing in self.things}

    def used(self, table: Table) -> set[int]:
        """Return the numbers of the columns that something else depends on."""
        used = {number for thing in self.things if thing.table == table.number for number in thing.columns}
        used |= {column.generated_from for column in table.columns if column.generated_from is not None}
        return used | set(table.key)

    def is_searched(self, table: Table) -> bool:
        """Return whether a search index or an area index is built on a table: its names are then fixed."""
        return any(thing.table == table.number and thing.kind in ("fts", "rtree") for thing in self.things)

    def statements(self) -> list[str]:
        """Return the SQL that makes it."""
        made = [table.sql(self) for table in self.tables]
        return made + [statement for thing in self.things for statement in thing.statements]


# ------------------------------------------------------------------------------------------------------------- chance


def random_schema(chance: random.Random) -> Schema:
    """Return a schema of two to four tables with what is made of them."""
    schema = Schema()
    for _ in range(chance.randint(2, 4)):
        schema.tables.append(random_table(chance, schema))
    if chance.random() < 0.25:
        _refer_by_rowid(chance, schema)
    for table in schema.tables:
        for _ in range(chance.choice((0, 0, 1, 2))):
            thing = random_thing(chance, schema, table)
            if thing is not None:
                schema.things.append(thing)
    return schema


def random_table(chance: random.Random, schema: Schema) -> Table:
    """Return a table that is not part of the schema yet."""
    kind = chance.choice(KEYS)
    strict = chance.random() < 0.15
    table = Table(schema.number(), schema.free_name(chance, TABLES, schema.table_names()), kind, [], strict=strict)
    names: set[str] = set()
    if kind not in ("bag", "rowid"):
        for name in ("k", "l")[: 2 if kind.endswith("pair") else 1]:
            type_ = "INTEGER" if kind in ("integer", "auto") or chance.random() < 0.4 else "TEXT"
            if kind in ("text", "without", "without pair", "pair") and len(table.columns) == 0:
                type_ = "TEXT"
            column = Column(schema.number(), name, type_, not_null=kind not in ("integer", "auto"))
            if kind == "text" and not strict and chance.random() < 0.2:
                column.collate = "NOCASE"
            table.columns.append(column)
            names.add(name)
        table.key = tuple(column.number for column in table.columns)
    for _ in range(chance.randint(1, 4)):
        column = random_column(chance, schema, table, names)
        table.columns.append(column)
        names.add(column.name)
    if chance.random() < 0.15 and table.free and not strict:
        name = schema.free_name(chance, COLUMNS, names)
        table.columns.append(Column(schema.number(), name, "", generated_from=chance.choice(table.free).number))
    return table


def random_column(chance: random.Random, schema: Schema, table: Table, names: set[str]) -> Column:
    """Return a column for a table."""
    type_ = chance.choice(STRICT_TYPES if table.strict else TYPES)
    column = Column(schema.number(), schema.free_name(chance, COLUMNS, names), type_)
    draw = chance.random()
    if draw < 0.22:
        column.unique, column.conflict = True, chance.choice(CONFLICTS)
    elif draw < 0.35:
        column.check = chance.choice(CHECKS)
    elif draw < 0.5:
        column.not_null = True
        column.default = chance.choice(("'0'", "'z'")) if type_ in ("TEXT", "ANY", "") else ""
        column.conflict = "REPLACE" if column.default and chance.random() < 0.3 else ""
    elif draw < 0.65 and not table.strict:
        parents = [other for other in [*schema.tables, table] if other.kind in ("integer", "auto")]
        if parents:
            column.parent, column.type = chance.choice(parents).number, "INTEGER"
            column.on_delete = chance.choice(("", " ON DELETE CASCADE", " ON DELETE SET NULL"))
    elif draw < 0.72 and not table.strict and type_ == "TEXT":
        column.collate = "NOCASE"
    return column


def _refer_by_rowid(chance: random.Random, schema: Schema) -> None:
    """Let a column hold rowids of a table without a key, which no constraint says."""
    targets = [table for table in schema.tables if table.kind == "rowid"]
    for table in schema.tables:
        if targets and table.kind in ("integer", "auto") and table.free:
            chance.choice(table.free).name = "rowid_of"
            return


def random_thing(chance: random.Random, schema: Schema, table: Table) -> Thing | None:
    """Return an object over a table; None if there is none for it."""
    name, on = f"{table.name}_{schema.number()}", quoted(table.name)
    if not table.free:
        return None
    column = chance.choice(table.free)
    cell = quoted(column.name)
    match chance.choice(("index", "partial", "expression", "unique", "view", "trigger", "fts", "contentless", "rtree")):
        case "index":
            return Thing(
                "index", name, table.number, (column.number,), (f"CREATE INDEX {quoted(name)} ON {on} ({cell})",)
            )
        case "partial":
            sql = f"CREATE INDEX {quoted(name)} ON {on} ({cell}) WHERE {cell} = 'a'"
            return Thing("index", name, table.number, (column.number,), (sql,))
        case "expression":
            sql = f"CREATE INDEX {quoted(name)} ON {on} (lower({cell}))"
            return Thing("index", name, table.number, (column.number,), (sql,))
        case "unique":
            where = chance.choice(("", f" WHERE {cell} IS NOT NULL AND {cell} <> ''"))
            sql = f"CREATE UNIQUE INDEX {quoted(name)} ON {on} ({cell}){where}"
            return Thing("index", name, table.number, (column.number,), (sql,), unique=True)
        case "view":
            return Thing(
                "view",
                name,
                table.number,
                (column.number,),
                (f"CREATE VIEW {quoted(name)} AS SELECT {cell} FROM {on}",),
            )
        case "trigger":
            if not table.key or table.kind.startswith("without"):
                return None
            sql = (
                f"CREATE TRIGGER {quoted(name)} AFTER INSERT ON {on} WHEN new.{cell} = 'b' BEGIN"
                f" UPDATE {on} SET {cell} = 'B' WHERE rowid = new.rowid; END"
            )
            return Thing("trigger", name, table.number, (column.number,), (sql,))
        case "fts" if table.kind in ("integer", "auto") and not schema.is_searched(table):
            return _search(name, table, column)
        case "contentless":
            return _alone(name, table, f"fts5({quoted('w')}, content='')", "(rowid, w) VALUES (1, 'old words')")
        case "rtree":
            return _alone(name, table, "rtree(id, x0, x1)", "VALUES (1, 0.5, 1.5)")
    return None


def _alone(name: str, table: Table, module: str, row: str) -> Thing:
    name = name.replace(" ", "_")
    statements = (f"CREATE VIRTUAL TABLE {quoted(name)} USING {module}", f"INSERT INTO {quoted(name)} {row}")
    return Thing("virtual", name, table.number, (), statements)


def _search(name: str, table: Table, column: Column) -> Thing:
    """Return a search index with external content, which triggers keep as it has to be."""
    name = name.replace(" ", "_")
    on, cell, key = quoted(table.name), quoted(column.name), quoted(table.column(table.key[0]).name)
    into = f"INSERT INTO {quoted(name)}"
    old = f"{into} ({quoted(name)}, rowid, {cell}) VALUES ('delete', old.{key}, old.{cell})"
    new = f"{into} (rowid, {cell}) VALUES (new.{key}, new.{cell})"
    return Thing(
        "fts", name, table.number, (column.number, *table.key),
        (
            f"CREATE VIRTUAL TABLE {quoted(name)} USING fts5({cell}, content={on}, content_rowid={key})",
            f"CREATE TRIGGER {quoted(name + '_i')} AFTER INSERT ON {on} BEGIN {new}; END",
            f"CREATE TRIGGER {quoted(name + '_d')} AFTER DELETE ON {on} BEGIN {old}; END",
            f"CREATE TRIGGER {quoted(name + '_u')} AFTER UPDATE ON {on} BEGIN {old}; {new}; END",
        ),
    )  # fmt: skip
