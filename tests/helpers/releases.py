"""Random sequences of releases with right declarations, and what becomes of each table and column by them."""

from __future__ import annotations

import random
from typing import NamedTuple

TABLES = ("a", "b", "T c", "d", "e")
COLUMNS = ("x", "y", "z w", "n1", "n2", "Q")
KEYS = ("INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT", "TEXT PRIMARY KEY")


class Table:
    """A table by what it is, whatever it is called: its columns by name, with what each of them is."""

    def __init__(
        self, number: int, key: str, columns: dict[str, int], definitions: dict[str, str], end: str = ""
    ) -> None:
        self.number = number
        self.key = key
        self.columns = columns
        self.definitions = definitions
        self.end = end

    @property
    def text_key(self) -> bool:
        return self.key.startswith("TEXT")

    def copy(self) -> Table:
        return Table(self.number, self.key, dict(self.columns), dict(self.definitions), self.end)

    def create(self, name: str) -> str:
        """The statement that makes it, under a name."""
        body = ", ".join(f"{quoted(one)} {definition}" for one, definition in self.definitions.items())
        return f"CREATE TABLE {quoted(name)} (id {self.key}, {body}){self.end};"


class Step(NamedTuple):
    """What a release declares, and its SQL."""

    declares: tuple[str, ...]
    sql: str

    @property
    def text(self) -> str:
        return "\n".join([*(f"-- changes: {one}" for one in self.declares), self.sql])


class Releases:
    """A schema, and steps from it. Numbers are identities: a name may stand for one thing after another."""

    def __init__(self, chance: random.Random) -> None:
        self.tables: dict[str, Table] = {}
        self.changed: set[int] = set()
        """Columns whose values a migration changed."""
        self._chance = chance
        self._number = 0

    def first(self) -> str:
        """Two tables, of which one may lie in the order of its key."""
        texts = []
        for name in self._chance.sample(TABLES[:4], 2):
            key = self._chance.choice(KEYS)
            columns = {one: self._next() for one in self._chance.sample(COLUMNS[:3], 2)}
            kinds = {one: self._chance.choice(["TEXT", "INTEGER", "", "REAL"]) for one in columns}
            end = self._chance.choice(["", " WITHOUT ROWID"]) if key.startswith("TEXT") else ""
            self.tables[name] = Table(self._next(), key, columns, kinds, end)
            texts.append(self.tables[name].create(name))
        return "\n".join(texts)

    def step(self) -> Step:
        """The next release's migration; one that cannot be done now is a release without a change."""
        name = self._chance.choice(sorted(self.tables))
        kinds = [self._add, self._drop, self._rename, self._table, self._rows, self._values, self._rebuild]
        kind = self._chance.choice(kinds)
        return kind(name, self.tables[name]) or Step((), "SELECT 1;")

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _free(self, taken: list[str], names: tuple[str, ...]) -> str:
        lower = {one.lower() for one in taken}
        return self._chance.choice([one for one in names if one.lower() not in lower])

    def _add(self, name: str, table: Table) -> Step | None:
        if len(table.columns) > 4:
            return None
        column = self._free(list(table.columns), COLUMNS)
        table.columns[column] = self._next()
        kind, default = (
            self._chance.choice(["TEXT", "INTEGER", ""]),
            self._chance.choice(["DEFAULT 7", "DEFAULT 'n'", ""]),
        )
        table.definitions[column] = f"{kind} {default}"
        return Step((), f"ALTER TABLE {quoted(name)} ADD COLUMN {quoted(column)} {kind} {default};")

    def _drop(self, name: str, table: Table) -> Step | None:
        if len(table.columns) < 2:
            return None
        column = self._chance.choice(sorted(table.columns))
        del table.columns[column], table.definitions[column]
        path = f"{quoted(name)}.{quoted(column)}"
        return Step((f"drop column {path}",), f"ALTER TABLE {quoted(name)} DROP COLUMN {quoted(column)};")

    def _rename(self, name: str, table: Table) -> Step:
        if self._chance.random() < 0.4:
            new = self._free(list(self.tables), TABLES)
            self.tables[new] = self.tables.pop(name)
            return Step(
                (f"rename {quoted(name)} -> {quoted(new)}",), f"ALTER TABLE {quoted(name)} RENAME TO {quoted(new)};"
            )
        column, new = self._chance.choice(sorted(table.columns)), self._free(list(table.columns), COLUMNS)
        table.columns[new] = table.columns.pop(column)
        table.definitions = {new if one == column else one: kind for one, kind in table.definitions.items()}
        path = f"{quoted(name)}.{quoted(column)} -> {quoted(name)}.{quoted(new)}"
        sql = f"ALTER TABLE {quoted(name)} RENAME COLUMN {quoted(column)} TO {quoted(new)};"
        return Step((f"rename {path}",), sql)

    def _table(self, name: str, _: Table) -> Step | None:
        if len(self.tables) > 1 and self._chance.random() < 0.5:
            del self.tables[name]
            return Step((f"drop table {quoted(name)}",), f"DROP TABLE {quoted(name)};")
        if len(self.tables) > 3:
            return None
        new = self._free(list(self.tables), TABLES)
        columns = {"x": self._next(), "n1": self._next()}
        self.tables[new] = Table(self._next(), "INTEGER PRIMARY KEY", columns, {"x": "TEXT", "n1": ""})
        return Step((), f"{self.tables[new].create(new)}\nINSERT INTO {quoted(new)} VALUES (1, 'q', 2);")

    def _rebuild(self, name: str, table: Table) -> Step | None:
        """In the order that SQLite documents, with nothing changed."""
        if "AUTOINCREMENT" in table.key:
            # The mark would fall where the last rows were deleted, which takes a declaration.
            return None
        names = ", ".join(["id", *(quoted(one) for one in table.definitions)])
        copied = f"INSERT INTO rebuilt ({names}) SELECT {names} FROM {quoted(name)}; DROP TABLE {quoted(name)};"
        return Step((), f"{table.create('rebuilt')}\n{copied}\nALTER TABLE rebuilt RENAME TO {quoted(name)};")

    def _rows(self, name: str, table: Table) -> Step:
        column = quoted(self._chance.choice(sorted(table.columns)))
        if self._chance.random() < 0.5:
            declares = f"delete {quoted(name)} where o.{column} IS NULL"
            return Step((declares,), f"DELETE FROM {quoted(name)} WHERE {column} IS NULL;")
        key = f"'made{self._next()}'" if table.text_key else str(1000 + self._next())
        sql = f"INSERT INTO {quoted(name)} (id, {column}) VALUES ({key}, 'i');"
        return Step((f"insert {quoted(name)} where n.id = {key}",), sql)

    def _values(self, name: str, table: Table) -> Step:
        column, other = (self._chance.choice(sorted(table.columns)) for _ in range(2))
        self.changed.add(table.columns[column])
        path = f"{quoted(name)}.{quoted(column)}"
        if self._chance.random() < 0.5:
            return Step((f"update {path}",), f"UPDATE {quoted(name)} SET {quoted(column)} = {quoted(column)} || 'u';")
        sql = f"UPDATE {quoted(name)} SET {quoted(column)} = 5 WHERE {quoted(other)} IS NULL;"
        return Step((f"update {path} where o.{quoted(other)} IS NULL",), sql)


def quoted(name: str) -> str:
    """A name as SQL wants it."""
    return f'"{name}"'
