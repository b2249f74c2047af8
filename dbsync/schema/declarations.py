"""Changes that migrations declare: one line per permission, the same words in SQL headers and in Python.

drop     table T | column T.c | index i | trigger t | view v
rename   T -> T2 | T.c -> T.c2
update   T | T.c [, T.d] [where EXPR] | T.c = EXPR      o is the row before, n the row after
retype   T.c            insert T [where EXPR]           delete T [where EXPR]
redefine T | T.c | index i | trigger t | view v         reset T
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from dbsync.errors import BadMigrations
from dbsync.model import Migration
from dbsync.storage.introspection import quoted
from dbsync.storage.sql_tokens import Token, TokenKind, significant

KINDS: Final = ("index", "trigger", "view")
_OF_A_TABLE: Final = ("table", "column")
_VERBS: Final = ("drop", "rename", "update", "retype", "insert", "delete", "redefine", "reset")
_NAMES: Final = (TokenKind.WORD, TokenKind.QUOTED)


class Cell(NamedTuple):
    """A permission for a column to differ: in all rows, only where `where` is true, or only to exactly `value`."""

    where: str | None = None
    value: str | None = None


class Declared(NamedTuple):
    """Everything that is declared, by the names in the database before. Names compare without case."""

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
    """How many migrations declared it: expressions of different migrations refer to different states before."""

    def gone_in_between(self, kind: str, name: str) -> bool:
        """Return whether one of several migrations drops an object: one of that name at the end is another object."""
        return self.migrations_count > 1 and (kind, name) in self.drops


def declared(migrations: Iterable[Migration]) -> Declared:
    """Return the declarations of a run of migrations, combined.

    A till that skips releases runs several at once. A condition or a value that a migration declares refers to the rows
    as that migration finds and leaves them. If another migration of the run changes the same table, or one that the
    expression names, these rows cannot be compared at the end: the permission stays, without its condition.

    Raises:
        BadMigrations: a line cannot be parsed; the hint lists the verbs.
    """
    found = Declared({}, {}, set(), {}, set(), {}, {}, set(), set())
    migrations = tuple(migrations)
    for migration in migrations:
        for line in migration.changes:
            change = _parsed(line)
            if change is None or not _take(found, change):
                raise BadMigrations(
                    operation="read the changes",
                    path=migration.path,
                    cause=f"{line.strip()!r} is not understood",
                    hint="Lines begin with drop, rename, update, retype, insert, delete, redefine or reset.",
                )
    found = found._replace(migrations_count=len(migrations))
    if len(migrations) > 1:
        _weaken(found, migrations)
    return found


def _weaken(found: Declared, migrations: tuple[Migration, ...]) -> None:
    """Remove the conditions and values that another migration of the run may have made untrue."""
    times: Counter[str] = Counter()
    for migration in migrations:
        times.update({_before(found, table) for table in _tables_of(migration)})
    shared = {table for table, count in times.items() if count > 1}

    def holds(table: str, expression: str | None) -> bool:
        # The table itself counts once, for its own migration; any count of another table that is named is too many.
        names = (token.name for token in significant(expression or "") if token.kind in _NAMES)
        named = {_before(found, name) for name in names} - {table}
        return table not in shared and not named & times.keys()

    for (table, column), cell in found.updates.items():
        if not holds(table, cell.where or cell.value):
            found.updates[table, column] = Cell()
    for rows in (found.inserts, found.deletes):
        for table, where in rows.items():
            if not holds(table, where):
                rows[table] = None


def _tables_of(migration: Migration) -> set[str]:
    """Return the tables of which a migration declares changes, by the name that it uses, and by a new name."""
    changes = [change for line in migration.changes if (change := _parsed(line)) is not None]
    paths = [path for change in changes if change.kind not in KINDS for path in (change.paths[0], change.to) if path]
    return {path[0].lower() for path in paths}


class _Change(NamedTuple):
    """The parts of one line."""

    verb: str
    kind: str = ""
    paths: tuple[tuple[str, ...], ...] = ()
    """The objects that change: each a name, or the names of a table and a column."""
    to: tuple[str, ...] = ()
    """The next name of a renamed object."""
    where: str | None = None
    value: str | None = None


class _Reader:
    """The tokens of a line, from left to right."""

    def __init__(self, line: str) -> None:
        self._line: Final = line
        self._tokens: Final = list(significant(line))
        self._at = 0

    @property
    def ended(self) -> bool:
        return self._at == len(self._tokens)

    def word(self, *words: str) -> str:
        """Pass one of these words and return it; empty if another token comes."""
        token = self._next()
        found = token is not None and token.kind is TokenKind.WORD and token.plain in words
        self._at += found
        return token.plain if token is not None and found else ""

    def sign(self, text: str) -> bool:
        """Pass this sign and return whether it came."""
        token = self._next()
        found = token is not None and token.text == text
        self._at += found
        return found

    def kind(self) -> str:
        """Pass a kind of object before a name and return it; empty if there is none. A name may be that of a kind."""
        token = self._next(1)
        return self.word(*_OF_A_TABLE, *KINDS) if token is not None and token.kind in _NAMES else ""

    def path(self) -> tuple[str, ...]:
        """Pass a name, or the names of a table and a column, and return it; empty if none comes."""
        token, dot, column = self._next(), self._next(1), self._next(2)
        if token is None or token.kind not in _NAMES:
            return ()
        if dot is None or dot.text != "." or column is None or column.kind not in _NAMES:
            self._at += 1
            return (token.name,)
        self._at += 3
        return (token.name, column.name)

    def rest(self) -> str:
        """Pass the rest of the line and return it as written."""
        token, self._at = self._next(), len(self._tokens)
        return self._line[token.begin :].strip() if token is not None else ""

    def _next(self, further: int = 0) -> Token | None:
        return next(iter(self._tokens[self._at + further :]), None)


def _parsed(line: str) -> _Change | None:
    """Return the parts of a line; None if it cannot be parsed."""
    reader = _Reader(line)
    change = _Change(reader.word(*_VERBS))
    change = change._replace(kind=reader.kind() if change.verb in ("drop", "redefine", "retype", "reset") else "")
    paths = [reader.path()]
    if change.verb == "rename":
        change = change._replace(to=reader.path() if reader.sign("->") else ())
    elif change.verb in ("update", "insert", "delete"):
        while reader.sign(","):
            paths.append(reader.path())
        if reader.word("where"):
            change = change._replace(where=reader.rest())
        elif change.verb == "update" and len(paths) == 1 and reader.sign("="):
            change = change._replace(value=reader.rest())
    lacks = not change.verb or not all(paths) or (change.verb == "rename" and not change.to)
    if lacks or "" in (change.where, change.value) or not reader.ended:
        return None
    return change._replace(paths=tuple(paths))


def _take(found: Declared, change: _Change) -> bool:
    """Add a change to the declarations and return whether it is possible."""
    path = change.paths[0]
    match change.verb:
        case "rename":
            _rename(found, path, change.to)
        case "update":
            found.updates.update({cell_of(found, cell): Cell(change.where, change.value) for cell in change.paths})
        case "insert":
            found.inserts[_before(found, path[0])] = change.where
        case "delete":
            found.deletes[_before(found, path[0])] = change.where
        case "retype" if len(path) == 2:
            found.retypes.add(cell_of(found, path))
        case "reset":
            found.resets.add(_before(found, path[0]))
        case "drop" if change.kind:
            found.drops.add((change.kind, _dotted(found, change.kind, path)))
        case "redefine":
            kind = change.kind or ("column" if len(path) == 2 else "table")
            found.redefines.add((kind, _dotted(found, kind, path)))
        case _:
            return False
    return True


def _rename(found: Declared, old: Sequence[str], new: Sequence[str]) -> None:
    if len(old) == 1:
        found.tables[_before(found, old[0])] = new[-1]
    else:
        table = _before(found, old[0])
        earlier = [key for key, name in found.columns.items() if key[0] == table and same(name, old[1])]
        found.columns[earlier[0] if earlier else (table, old[1].lower())] = new[-1]


def cell_of(found: Declared, path: Sequence[str]) -> tuple[str, str]:
    """Return table and column by their names before the run; the column * where the path has none."""
    table = _before(found, path[0])
    if len(path) == 1:
        return table, "*"
    renamed = [key for key, name in found.columns.items() if key[0] == table and same(name, path[1])]
    return renamed[0] if renamed else (table, path[1].lower())


def _dotted(found: Declared, kind: str, path: Sequence[str]) -> str:
    if kind == "column":
        return ".".join(cell_of(found, path))
    return _before(found, path[0]) if kind == "table" else path[0].lower()


def _before(found: Declared, name: str) -> str:
    """Return the name that a table had before the run; later lines may use either name."""
    return next((old for old, new in found.tables.items() if same(new, name)), name.lower())


def same(one: str, other: str) -> bool:
    """Return whether two names are the same to SQLite."""
    return one.lower() == other.lower()


def written_name(name: str) -> str:
    """Return a name as a declaration would write it."""
    return name if name.isidentifier() else quoted(name)
