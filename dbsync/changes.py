"""What migrations declare that they change: one line per permission, the same words in SQL headers and in Python.

drop     table T | column T.c | index i | trigger t | view v
rename   T -> T2 | T.c -> T.c2
update   T | T.c [, T.d] [where EXPR] | T.c = EXPR      o is the row before, n the row after
retype   T.c            insert T [where EXPR]           delete T [where EXPR]
redefine T | T.c | index i | trigger t | view v         reset T
"""

from __future__ import annotations

import re
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


def declared(migrations: Iterable[Migration]) -> Declared:
    """What a run of migrations declares, taken together.

    Raises:
        BadMigrations: a line that is not understood, with the grammar's words.
    """
    found = Declared({}, {}, set(), {}, set(), {}, {}, set(), set())
    migrations = tuple(migrations)
    for migration in migrations:
        seen: set[tuple[str, str]] = set()
        for line in migration.changes:
            _take(found, migration, line.strip(), seen)
    return found._replace(migrations_count=len(migrations))


def _take(found: Declared, migration: Migration, line: str, seen: set[tuple[str, str]]) -> None:
    verb, _, rest = line.partition(" ")
    rest = rest.strip()
    match verb.lower():
        case "rename" if one := _RENAME.match(rest):
            _rename(found, _split(one[1]), _split(one[2]))
        case "update" if (one := _SET.match(rest)) and not _LIST.match(rest):
            _update(found, one[1], Cell(value=one[2]), seen)
        case "update" if one := _LIST.match(rest):
            for path in re.findall(_PATH, one[1]):
                _update(found, path, Cell(where=one[2]), seen)
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


def _update(found: Declared, path: str, cell: Cell, seen: set[tuple[str, str]]) -> None:
    key = cell_of(found, path)
    if key in found.updates and key not in seen:
        # Two migrations speak of different befores: neither proves anything about the whole way, so both are weakened.
        cell = Cell()
    seen.add(key)
    found.updates[key] = cell


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
