"""Queries of the catalogue of an open database: its tables, their kinds, keys and columns.

Only this module asks SQLite for the kind of a table. `PRAGMA table_list` names it since SQLite 3.37. The module of a
virtual table, and where a search index keeps its content, are read from its parsed statement. No part of the answer
comes from a word that occurs somewhere in the SQL of a table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from enum import IntEnum, StrEnum
from functools import lru_cache
from itertools import chain
from typing import Final, NamedTuple

from dbsync.model import TABLES_WITHOUT_ENGINE, EngineName, SchemaNumber
from dbsync.storage import missing_parts
from dbsync.storage.connections import HISTORY, READABLE, Connection, kind_of
from dbsync.storage.sql_tokens import Token, TokenKind, significant, tokenize, unquoted, words_of

KEPT_ROWS: Final = "dbsync_kept_rows"
KEPT_CELLS: Final = "dbsync_kept_cells"
"""The tables of the complement (`dbsync.complement.kept`)."""
OUR_TABLES: Final = frozenset({HISTORY, READABLE, KEPT_ROWS, KEPT_CELLS})
TRACKERS: Final = frozenset(chain(TABLES_WITHOUT_ENGINE, *(engine.tables for engine in EngineName)))
"""Tables in which other tools record their migrations: not part of an app's schema, and written beside our history."""
NOT_THE_APPS: Final = OUR_TABLES | TRACKERS

HAS_TABLE_LIST: Final = sqlite3.sqlite_version_info >= (3, 37, 0)
_FTS_SHADOWS: Final = frozenset({"content", "docsize", "segdir", "segments", "stat"})
_TREE_SHADOWS: Final = frozenset({"node", "parent", "rowid"})
_SHADOWS: Final = {
    "fts3": _FTS_SHADOWS,
    "fts4": _FTS_SHADOWS,
    "fts5": frozenset({"config", "content", "data", "docsize", "idx"}),
    "geopoly": _TREE_SHADOWS,
    "rtree": _TREE_SHADOWS,
    "rtree_i32": _TREE_SHADOWS,
}
"""The endings of the names of a module's shadow tables: those that its `xShadowName` accepts."""
_CONTENT: Final = "content"
_FTS5_OPTIONS: Final = (
    "prefix", "tokenize", _CONTENT, "contentless_delete", "contentless_unindexed", "content_rowid", "columnsize",
    "locale", "detail", "tokendata",
)  # fmt: skip
"""In the order in which FTS5 tries them: it takes a prefix for the first name that begins with it."""


class TableKind(StrEnum):
    """The kinds of tables."""

    ORDINARY = "ordinary"
    VIRTUAL = "virtual"
    """A table of a module, which decides where its rows are."""
    SHADOW = "shadow"
    """An ordinary table in which a virtual table keeps its data; only its module writes it."""
    VIEW = "view"


class SearchContent(StrEnum):
    """The places where a search index (FTS3, FTS4, FTS5) keeps the texts that it finds."""

    OWN = "own content"
    EXTERNAL = "external content"
    """In another table or view, which every read of the index reads."""
    CONTENTLESS = "contentless"
    """Nowhere: its columns cannot be read, and it cannot be rebuilt."""
    CONTENTLESS_DELETE = "contentless_delete"
    """Nowhere, but entries can be removed without their texts (FTS5 since SQLite 3.43)."""


class TableFacts(NamedTuple):
    """The kind of a table or view, and other facts about it as a whole."""

    name: str
    kind: TableKind
    module: str = ""
    """The module of a virtual table, in lower case; else empty."""
    content: SearchContent | None = None
    """None: it is not a search index."""
    content_table: str = ""
    """The table that a search index with external content shows."""
    without_rowid: bool = False
    strict: bool = False
    unusable: str = ""
    """Why SQLite cannot use a virtual table here, for example because its module is not loaded; empty if it can.

    Neither its columns nor its rows can be read then. Its shadow tables count as ordinary ones.
    """

    @property
    def is_virtual(self) -> bool:
        """Whether it is the table of a module."""
        return self.kind is TableKind.VIRTUAL

    @property
    def is_external_search(self) -> bool:
        """Whether it is derived from another table, and can be rebuilt from that."""
        return self.content is SearchContent.EXTERNAL

    @property
    def is_contentless(self) -> bool:
        """Whether it has no content to read: its columns are NULL, and in some the rows cannot even be counted."""
        return self.content in (SearchContent.CONTENTLESS, SearchContent.CONTENTLESS_DELETE)

    @property
    def has_own_rows(self) -> bool:
        """Whether a read returns rows of its own: neither those of another table nor none."""
        return self.content in (None, SearchContent.OWN)


class ColumnKind(IntEnum):
    """The kinds of columns, by the numbers of `table_xinfo`."""

    STORED = 0
    HIDDEN = 1
    """An argument of a virtual table, not content."""
    GENERATED = 2
    """Computed when it is read."""
    GENERATED_STORED = 3


class ColumnFacts(NamedTuple):
    """One column, as `table_xinfo` returns it."""

    name: str
    type: str
    """As declared."""
    not_null: bool
    default: str | None
    """An expression."""
    key: int
    """Its position in the primary key, from 1; 0: it is not part of it."""
    kind: ColumnKind

    @property
    def is_written(self) -> bool:
        """Whether an INSERT may give it a value."""
        return self.kind is ColumnKind.STORED


# ------------------------------------------------------------------------------------------------------------- tables


def tables(connection: Connection, schema: str = "main") -> dict[str, TableFacts]:
    """Return all tables and views of a database by name, SQLite's and ours included; modules may be unknown."""
    return {facts.name: facts for facts in _facts(connection, schema, _entries(connection, schema))}


def facts_of(connection: Connection, table: str, schema: str = "main") -> TableFacts | None:
    """Return the facts of one table or view; None if there is none of that name."""
    if _asks(connection, schema):
        # This is called often, and mostly for tables that need no parsing.
        for name, listed in _listed(connection, schema, table).items():
            if listed.kind in (TableKind.ORDINARY, TableKind.VIEW):
                return TableFacts(name, listed.kind, without_rowid=listed.without_rowid, strict=listed.strict)
    return next(_facts(connection, schema, _entries(connection, schema, table), table), None)


def app_tables(connection: Connection, schema: str = "main") -> dict[str, TableFacts]:
    """Return the app's own tables by name: without SQLite's and ours, shadow tables and views.

    Without those that cannot be used here either (`unusable_tables`): nothing can be asked of them.
    """
    return {
        name: facts
        for name, facts in tables(connection, schema).items()
        if facts.kind in (TableKind.ORDINARY, TableKind.VIRTUAL)
        and not facts.unusable
        and not name.startswith("sqlite_")
        and name not in NOT_THE_APPS
    }


def unusable_tables(connection: Connection, schema: str = "main") -> dict[str, tuple[str, str]]:
    """Return the virtual tables that SQLite cannot use here, by name: the reason, and the SQL of each."""
    entries = _entries(connection, schema)
    found = {entry.name: entry.sql for entry in entries if entry.type == "table" and not entry.root}
    reasons = {name: _why_unusable(connection, schema, name) for name in found}
    return {name: (why, found[name]) for name, why in reasons.items() if why}


def needs_of(connection: Connection) -> tuple[str, ...]:
    """Return what the tables of a database need and this connection lacks, a sentence each; changes nothing.

    Functions and collations in constraints, indexes and generated columns, and virtual tables that cannot be used.
    """
    found = [f"table {name}: {why}" for name, (why, _) in unusable_tables(connection).items()]
    for entry in _entries(connection, "main"):
        if entry.type == "table" and entry.root:
            table = quoted(entry.name)
            # The first computes the generated columns, the second everything else.
            statements = f"SELECT * FROM main.{table}", f"PRAGMA main.integrity_check({table})"
            with missing_parts.stand_ins(connection, *statements) as stubs:
                found += [f"table {entry.name}: needs {stub.in_words}, which is the app's" for stub in stubs]
    return tuple(sorted(found))


def tables_of(connection: Connection, schema: str = "main") -> list[str]:
    """Return the names of the app's own tables, sorted."""
    return sorted(app_tables(connection, schema))


def shadows_of(connection: Connection, table: str, schema: str = "main") -> list[str]:
    """Return the names of the shadow tables in which a virtual table keeps its data, sorted."""
    shadows = (name for name, facts in tables(connection, schema).items() if facts.kind is TableKind.SHADOW)
    return sorted(name for name in shadows if name.lower().rpartition("_")[0] == table.lower())


def ordinary_tables(connection: Connection, schema: str = "main") -> list[str]:
    """Return the names of all ordinary tables, SQLite's and ours included: their columns can always be read."""
    return [name for name, facts in tables(connection, schema).items() if facts.kind is TableKind.ORDINARY]


def has_table(connection: Connection, name: str, schema: str = "main") -> bool:
    """Return whether there is a table of that name, one of SQLite's own included."""
    sql = f"SELECT 1 FROM {schema}.sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(sql, (name,)).fetchone() is not None


def sql_of(connection: Connection, kind: str, name: str, schema: str = "main") -> str:
    """Return the statement that made a table, index, trigger or view; empty if there is none of that name."""
    sql = f"SELECT sql FROM {schema}.sqlite_master WHERE type = ? AND lower(name) = lower(?)"
    row = connection.execute(sql, (kind, name)).fetchone()
    return str(row[0] or "") if row else ""


def numbered_tables(connection: Connection) -> dict[str, str]:
    """Return the tables with AUTOINCREMENT: their names by the names in lower case."""
    rows = connection.execute(
        "SELECT name, sql FROM main.sqlite_master WHERE type = 'table' AND sql LIKE '%autoincrement%'"
    ).fetchall()
    # A comment, a string or a name may hold the word too.
    return {str(name).lower(): str(name) for name, sql in rows if "autoincrement" in words_of(str(sql))}


def version_of(connection: Connection, schema: str = "main") -> SchemaNumber:
    """Return the schema number of an open database."""
    return SchemaNumber(int(connection.execute(f"PRAGMA {schema}.user_version").fetchone()[0]))


class _Entry(NamedTuple):
    """A table or view in the catalogue."""

    name: str
    type: str
    root: int
    """0 for views and virtual tables, and only for them (sqlite.org/schematab.html)."""
    sql: str


class _Listed(NamedTuple):
    """The facts that SQLite itself states of a table."""

    kind: TableKind
    without_rowid: bool
    strict: bool


def _entries(connection: Connection, schema: str, table: str | None = None) -> list[_Entry]:
    # The old name: `sqlite_schema` exists only since SQLite 3.33.
    sql = f"SELECT name, type, rootpage, sql FROM {schema}.sqlite_master WHERE type IN ('table', 'view')"
    parameters = () if table is None else (table,)
    rows = connection.execute(f"{sql} AND name = ? COLLATE NOCASE" if parameters else sql, parameters).fetchall()
    return [_Entry(str(name), str(kind), int(root or 0), str(text or "")) for name, kind, root, text in rows]


def _facts(
    connection: Connection, schema: str, entries: list[_Entry], table: str | None = None
) -> Iterator[TableFacts]:
    if not entries:
        return
    if _asks(connection, schema):
        listed = _listed(connection, schema, table)
    else:
        listed = _concluded(connection, schema, entries)
    for name, _, _, sql in entries:
        kind, without_rowid, strict = listed.get(name) or _Listed(TableKind.ORDINARY, False, False)
        if kind is TableKind.SHADOW and (_is_the_apps(connection, schema, name) or _is_left(connection, schema, name)):
            kind = TableKind.ORDINARY
        virtual = virtual_table(sql) if kind is TableKind.VIRTUAL else None
        search = _search(virtual) if virtual is not None else _Search()
        module = virtual.module if virtual is not None else ""
        why = _why_unusable(connection, schema, name) if kind is TableKind.VIRTUAL else ""
        yield TableFacts(name, kind, module, search.content, search.table, without_rowid, strict, why)


def _asks(connection: Connection, schema: str) -> bool:
    """Return whether `table_list` is asked for the facts of tables.

    It works out the columns of every view each time, also where it is asked for one table: seconds with views on views.
    So it is not asked where there are views, and no tables of which only it knows the facts: virtual and STRICT ones.
    """
    if not HAS_TABLE_LIST:
        return False
    only_it = "type = 'table' AND (coalesce(rootpage, 0) = 0 OR sql LIKE '%strict%')"
    sql = f"SELECT total(type = 'view') = 0 OR total({only_it}) > 0 FROM {schema}.sqlite_master"
    return bool(connection.execute(sql).fetchone()[0])


def _listed(connection: Connection, schema: str, table: str | None) -> dict[str, _Listed]:
    argument = f"({quoted(table)})" if table is not None else ""
    rows = connection.execute(f"PRAGMA {schema}.table_list{argument}").fetchall()
    kinds = {"table": TableKind.ORDINARY}
    return {
        str(name): _Listed(kinds.get(kind) or TableKind(kind), bool(without_rowid), bool(strict))
        for _, name, kind, _, without_rowid, strict in rows
    }


def _concluded(connection: Connection, schema: str, entries: list[_Entry]) -> dict[str, _Listed]:
    """Return the rows that `table_list` would return, for SQLite before 3.37 and where that is not asked.

    The shadow tables of a module that is not built into SQLite count as ordinary ones, as they do with `table_list`
    where the module is not loaded.
    """
    found, owners = {}, _virtual_tables(connection, schema)
    for name, kind, root, _ in entries:
        owner, _, end = name.lower().rpartition("_")
        if kind == "view":
            listed = _Listed(TableKind.VIEW, False, False)
        elif not root:
            listed = _Listed(TableKind.VIRTUAL, False, False)
        elif owner in owners and end in _SHADOWS.get(owners[owner].module, ()):
            listed = _Listed(TableKind.SHADOW, _is_without_rowid(connection, schema, name), False)
        else:
            listed = _Listed(TableKind.ORDINARY, _is_without_rowid(connection, schema, name), False)
        found[name] = listed
    return found


def _is_without_rowid(connection: Connection, schema: str, table: str) -> bool:
    # It returns the key's columns for such a table, and no rows for any other (sqlite.org/withoutrowid.html, 6).
    return connection.execute(f"PRAGMA {schema}.index_info({quoted(table)})").fetchone() is not None


def _virtual_tables(connection: Connection, schema: str) -> dict[str, VirtualTable]:
    sql = f"SELECT name, sql FROM {schema}.sqlite_master WHERE type = 'table' AND coalesce(rootpage, 0) = 0"
    parsed = ((str(name).lower(), virtual_table(str(text or ""))) for name, text in connection.execute(sql).fetchall())
    return {name: virtual for name, virtual in parsed if virtual is not None}


def _is_the_apps(connection: Connection, schema: str, shadow: str) -> bool:
    """Return whether a table is the app's own and only has the name of a shadow table: SQLite goes by names.

    With external content FTS makes no `NAME_content`; a table of that name is the app's, mostly the content itself.
    """
    owner, _, end = shadow.lower().rpartition("_")
    if end != _CONTENT:
        return False
    virtual = _virtual_tables(connection, schema).get(owner)
    return virtual is not None and not _search(virtual).makes_content_table


def _is_left(connection: Connection, schema: str, shadow: str) -> bool:
    """Return whether the virtual table that a shadow table belongs to cannot be used: nothing else shows its rows."""
    owner = shadow.rpartition("_")[0]
    return owner.lower() in _virtual_tables(connection, schema) and bool(_why_unusable(connection, schema, owner))


def _why_unusable(connection: Connection, schema: str, table: str) -> str:
    """Return why SQLite cannot connect to a virtual table: its module, or a part of it, is not loaded here."""
    try:
        connection.execute(f"EXPLAIN SELECT 1 FROM {schema}.{quoted(table)}").close()
    except sqlite3.OperationalError as error:
        if kind_of(error) is None:
            return str(error)
        raise
    except sqlite3.DatabaseError:
        # What is damaged in it shows when it is read.
        return ""
    return ""


# ------------------------------------------------------------------------------------------------------------ modules


class VirtualTable(NamedTuple):
    """The parts of a CREATE VIRTUAL TABLE statement."""

    name: str
    module: str
    """In lower case, as SQLite compares names of modules."""
    arguments: tuple[tuple[Token, ...], ...]
    """Each argument without white space at its ends, and without comments."""


# For each shadow table, the statements of all virtual tables are parsed: again and again the same ones.
@lru_cache(maxsize=256)
def virtual_table(sql: str) -> VirtualTable | None:
    """Return the parts of a CREATE VIRTUAL TABLE statement; None for any other text."""
    parts = list(significant(sql))
    plain = [token.plain for token in parts]
    if plain[:3] != ["create", "virtual", "table"]:
        return None
    at = 6 if plain[3:6] == ["if", "not", "exists"] else 3
    at += 2 if plain[at + 1 : at + 2] == ["."] else 0
    if plain[at + 1 : at + 2] != ["using"] or len(parts) < at + 3:
        return None
    module = parts[at + 2]
    behind = (token for token in tokenize(sql) if token.begin >= module.end)
    return VirtualTable(parts[at].name, module.name.lower(), tuple(_arguments(behind)))


def _arguments(behind: Iterator[Token]) -> Iterator[tuple[Token, ...]]:
    """Yield the arguments between the commas of the first parentheses; commas in inner ones do not count."""
    depth, argument = 0, list[Token]()
    for token in behind:
        outside = depth == 0
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if outside:
            continue
        if depth == 0 or (depth == 1 and token.text == ","):
            yield _stripped(argument)
            argument = []
        elif token.kind is not TokenKind.COMMENT:
            argument.append(token)
        if depth == 0:
            return


def _stripped(argument: list[Token]) -> tuple[Token, ...]:
    begin, end = 0, len(argument)
    while begin < end and argument[begin].kind is TokenKind.SPACE:
        begin += 1
    while end > begin and argument[end - 1].kind is TokenKind.SPACE:
        end -= 1
    return tuple(argument[begin:end])


class _Search(NamedTuple):
    """The content of a search index, by its arguments; the defaults for any other virtual table."""

    content: SearchContent | None = None
    table: str = ""
    makes_content_table: bool = True


def _search(virtual: VirtualTable) -> _Search:
    if virtual.module == "fts5":
        options = dict(filter(None, map(_fts5_option, virtual.arguments)))
    elif virtual.module == "fts4":
        options = dict(filter(None, map(_fts4_option, virtual.arguments)))
    elif virtual.module == "fts3":
        # FTS3 has no options: such an argument is a column.
        options = {}
    else:
        return _Search()
    table = options.get(_CONTENT)
    if table is None:
        return _Search(SearchContent.OWN)
    if table:
        return _Search(SearchContent.EXTERNAL, table, makes_content_table=False)
    deletes = options.get("contentless_delete") == "1"
    content = SearchContent.CONTENTLESS_DELETE if deletes else SearchContent.CONTENTLESS
    return _Search(content, makes_content_table=options.get("contentless_unindexed") == "1")


def _fts5_option(argument: tuple[Token, ...]) -> tuple[str, str] | None:
    """Return the name and value of an argument `name = value` of FTS5; None for a column."""
    parts = [token for token in argument if token.kind is not TokenKind.SPACE]
    if len(parts) < 2 or parts[0].kind is not TokenKind.WORD or parts[1].text != "=":
        return None
    name = next((option for option in _FTS5_OPTIONS if option.startswith(parts[0].plain)), "")
    return name, parts[2].name if parts[2:] else ""


def _fts4_option(argument: tuple[Token, ...]) -> tuple[str, str] | None:
    """Return the name and value of an argument `name=value` of FTS4, which allows no space there; None for a column."""
    if len(argument) < 2 or argument[1].text != "=":
        return None
    return argument[0].plain, unquoted("".join(token.text for token in argument[2:]))


# ------------------------------------------------------------------------------------------------------------ columns


def columns_of(connection: Connection, table: str, schema: str = "main") -> list[ColumnFacts]:
    """Return the columns of a table in order, generated and hidden ones included; empty if there is no such table."""
    rows = connection.execute(f"PRAGMA {schema}.table_xinfo({quoted(table)})").fetchall()
    return [
        ColumnFacts(str(name), str(kind), bool(not_null), default, int(key), ColumnKind(hidden))
        for _, name, kind, not_null, default, key, hidden in rows
    ]


def key_of(connection: Connection, table: str, schema: str = "main") -> list[str]:
    """Return the names of the primary key's columns in their order; empty without one."""
    keys = [column for column in columns_of(connection, table, schema) if column.key]
    return [column.name for column in sorted(keys, key=lambda column: column.key)]


def rowid_of(connection: Connection, table: str, schema: str = "main") -> str | None:
    """Return a name for a table's rowid that no column hides; None if it has no rowid, or no such name is left."""
    facts = facts_of(connection, table, schema)
    if facts is None or facts.without_rowid or facts.kind is TableKind.VIEW:
        return None
    taken = {column.name.lower() for column in columns_of(connection, table, schema)}
    return next((name for name in ("rowid", "_rowid_", "oid") if name not in taken), None)


def is_rowid(connection: Connection, table: str, schema: str = "main") -> bool:
    """Return whether a table's primary key is its rowid: INTEGER PRIMARY KEY, which needs no index of its own."""
    if len(key_of(connection, table, schema)) != 1 or rowid_of(connection, table, schema) is None:
        return False
    indexes = connection.execute(f"PRAGMA {schema}.index_list({quoted(table)})").fetchall()
    return all(origin != "pk" for _, _, _, origin, _ in indexes)


def quoted(name: str) -> str:
    """Return a name in double quotes, for SQL."""
    return '"' + name.replace('"', '""') + '"'
