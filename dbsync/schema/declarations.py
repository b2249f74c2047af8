"""What migrations declare that they change: one line per permission, the same words in SQL headers and in Python.

drop     table T | column T.c | index i | trigger t | view v
rename   T -> T2 | T.c -> T.c2
update   T | T.c [, T.d] [where EXPR] | T.c = EXPR      o is the row before, n the row after
retype   T.c            insert T [where EXPR]           delete T [where EXPR]
redefine T | T.c | index i | trigger t | view v         reset T
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from dbsync.errors import BadMigrations
from dbsync.model import Migration

KINDS: Final = ("index", "trigger", "view")
_NAME: Final = r'(?:"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|[^\W\d][\w$]*)'
_PATH: Final = rf"{_NAME}(?:\s*\.\s*{_NAME})?"
_RENAME: Final = re.compile(rf"^({_PATH})\s*->\s*({_PATH})$")
_SET: Final = re.compile(rf"^({_PATH})\s*=\s*(.+)$", re.DOTALL)
_LIST: Final = re.compile(rf"^({_PATH}(?:\s*,\s*{_PATH})*)(?:\s+where\s+(.+))?$", re.DOTALL | re.IGNORECASE)
_OF_NO_TABLE: Final = re.compile(r"^(?:index|trigger|view)\s", re.IGNORECASE)
_PLAIN: Final = re.compile(rf"^(?:(table|column|index|trigger|view)\s+)?({_PATH})$", re.IGNORECASE)


class Cell(NamedTuple):
    """How a column may differ: anywhere, only where `where` is true, or to be exactly `value`."""

    where: str | None = None
    value: str | None = None


class Declared(NamedTuple):
    """Everything that is declared, by the names that the database had before. Names compare without case."""

    tables: dict[str, str]
    """Renamed tables: name before, name after."""
    columns: dict[tuple[str, str], str]
    """Renamed columns: (table before, column before), column after."""
    drops: set[tuple[str, str]]
    """(table | column | index | trigger | view, name); a column's name is `table.column`."""
    updates: dict[tuple[str, str], Cell]
    """By (table, column); the column * stands for all."""
    retypes: set[tuple[str, str]]
    inserts: dict[str, str | None]
    deletes: dict[str, str | None]
    redefines: set[tuple[str, str]]
    resets: set[str]
    migrations_count: int = 1
    """How many migrations declared it: expressions of several speak of different befores."""

    def gone_in_between(self, kind: str, name: str) -> bool:
        """Whether one of several migrations drops it: what has its name at the end is another's."""
        return self.migrations_count > 1 and (kind, name) in self.drops


def declared(migrations: Iterable[Migration]) -> Declared:
    """What a run of migrations declares, taken together.

    A till that skips releases runs several at once. A condition or a value that one of them declares speaks of the rows
    as that one finds and leaves them. Where another of the run changes the same table, or one that the expression
    names, nobody has seen these rows by the end: the permission stays, without its condition.

    Raises:
        BadMigrations: a line that is not understood, with the grammar's words.
    """
    found = Declared({}, {}, set(), {}, set(), {}, {}, set(), set())
    migrations = tuple(migrations)
    for migration in migrations:
        for line in migration.changes:
            _take(found, migration, line.strip())
    found = found._replace(migrations_count=len(migrations))
    if len(migrations) > 1:
        _weaken(found, migrations)
    return found


def _weaken(found: Declared, migrations: tuple[Migration, ...]) -> None:
    """Takes away the conditions and values that another migration of the run may have made untrue."""
    times: Counter[str] = Counter()
    for one in migrations:
        times.update({_before(found, table) for table in _tables_of(one)})
    shared = {table for table, count in times.items() if count > 1}

    def holds(table: str, expression: str | None) -> bool:
        # The table itself is counted once, by its own migration; another one that is named, at all.
        named = {_before(found, unquoted(one)) for one in re.findall(_NAME, expression or "")} - {table}
        return table not in shared and not named & times.keys()

    for (table, column), cell in found.updates.items():
        if not holds(table, cell.where or cell.value):
            found.updates[table, column] = Cell()
    for rows in (found.inserts, found.deletes):
        for table, where in rows.items():
            if not holds(table, where):
                rows[table] = None


def _tables_of(migration: Migration) -> set[str]:
    """The tables of which a migration declares a change, under the name that it uses, and under a new one."""
    found: set[str] = set()
    for line in migration.changes:
        verb, _, rest = line.strip().partition(" ")
        if (one := _RENAME.match(rest.strip())) and verb.lower() == "rename":
            found |= {_split(one[1])[0].lower(), _split(one[2])[0].lower()}
        elif not _OF_NO_TABLE.match(rest.strip()):
            path = re.match(rf"(?:(?:table|column)\s+)?({_NAME})", rest.strip(), re.IGNORECASE)
            found |= {unquoted(path[1]).lower()} if path else set()
    return found


def _take(found: Declared, migration: Migration, line: str) -> None:
    verb, _, rest = line.partition(" ")
    rest = rest.strip()
    match verb.lower():
        case "rename" if one := _RENAME.match(rest):
            _rename(found, _split(one[1]), _split(one[2]))
        case "update" if (one := _SET.match(rest)) and not _LIST.match(rest):
            found.updates[cell_of(found, one[1])] = Cell(value=one[2])
        case "update" if one := _LIST.match(rest):
            for path in re.findall(_PATH, one[1]):
                found.updates[cell_of(found, path)] = Cell(where=one[2])
        case "insert" | "delete" if one := _LIST.match(rest):
            rows = found.inserts if verb.lower() == "insert" else found.deletes
            rows[_before(found, _split(one[1])[0])] = one[2]
        case "retype" if (one := _PLAIN.match(rest)) and len(_split(one[2])) == 2:
            found.retypes.add(cell_of(found, one[2]))
        case "reset" if one := _PLAIN.match(rest):
            found.resets.add(_before(found, _split(one[2])[0]))
        case "drop" if (one := _PLAIN.match(rest)) and one[1]:
            found.drops.add((one[1].lower(), _dotted(found, one[1].lower(), one[2])))
        case "redefine" if one := _PLAIN.match(rest):
            path = _split(one[2])
            kind = (one[1] or ("column" if len(path) == 2 else "table")).lower()
            found.redefines.add((kind, _dotted(found, kind, one[2])))
        case _:
            raise BadMigrations(
                operation="read the changes",
                path=migration.path,
                cause=f"{line!r} is not understood",
                hint="Lines begin with drop, rename, update, retype, insert, delete, redefine or reset.",
            )


def _rename(found: Declared, old: list[str], new: list[str]) -> None:
    if len(old) == 1:
        found.tables[_before(found, old[0])] = new[-1]
    else:
        table = _before(found, old[0])
        earlier = [key for key, name in found.columns.items() if key[0] == table and same(name, old[1])]
        found.columns[earlier[0] if earlier else (table, old[1].lower())] = new[-1]


def cell_of(found: Declared, path: str) -> tuple[str, str]:
    """Table and column, as they were called before, of a path as the migration's text has it; without one: *."""
    parts = _split(path)
    table = _before(found, parts[0])
    if len(parts) == 1:
        return table, "*"
    renamed = [key for key, name in found.columns.items() if key[0] == table and same(name, parts[1])]
    return renamed[0] if renamed else (table, parts[1].lower())


def _dotted(found: Declared, kind: str, path: str) -> str:
    if kind == "column":
        return ".".join(cell_of(found, path))
    return _before(found, _split(path)[0]) if kind == "table" else _split(path)[0].lower()


def _before(found: Declared, name: str) -> str:
    """The name that a table had before the run; later lines may use either."""
    return next((old for old, new in found.tables.items() if same(new, name)), name.lower())


def _split(path: str) -> list[str]:
    return [unquoted(one) for one in re.findall(_NAME, path)]


def unquoted(name: str) -> str:
    """A name without its quotes."""
    if name[:1] in ('"', "`"):
        return name[1:-1].replace(name[0] * 2, name[0])
    return name[1:-1] if name.startswith("[") else name


def same(one: str, other: str) -> bool:
    """Whether SQLite takes two names for one."""
    return one.lower() == other.lower()
