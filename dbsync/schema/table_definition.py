"""The structure of tables, indexes, triggers and views in parts that can be compared: the only answer to what it is.

A rebuild drops what it does not repeat. A new database cannot show such a loss: the same rebuild made it. What pragmas
show comes from them, the rest from the tokens of the SQL (`create_table`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dbsync.schema.create_table import (
    DEFAULT_COLLATION,
    ColumnText,
    TableText,
    Words,
    normal_default,
    normal_words,
    split_at_commas,
    table_text,
)
from dbsync.storage.connections import Connection
from dbsync.storage.introspection import ColumnKind, columns_of, facts_of, quoted, sql_of, tables
from dbsync.storage.sql_tokens import Token, TokenKind, significant, words_of


class Column(NamedTuple):
    """The definition of one column."""

    kind: str
    not_null: bool
    default: str
    key: int
    collation: str
    generated: ColumnKind
    expression: Words = ()
    """The words of a generated column's expression."""
    conflict: str = ""
    """The action when its NOT NULL fails; empty for the default."""


class ForeignKey(NamedTuple):
    """One reference of a table; names in lower case."""

    parent: str
    actions: str
    """As in SQL, with a space in front; empty where there are none."""
    pairs: tuple[tuple[str, str], ...]
    """Pairs of a column and a column of the parent; that is `none` if it is not named."""
    deferred: bool = False
    """Whether it is checked at COMMIT only."""

    def __str__(self) -> str:
        deferred = " initially deferred" if self.deferred else ""
        columns, targets = (", ".join(names) for names in zip(*self.pairs, strict=True))
        return f"({columns}) to {self.parent} ({targets}){self.actions}{deferred}"


class Unique(NamedTuple):
    """A UNIQUE constraint, or a primary key with an index of its own; names in lower case."""

    columns: tuple[tuple[str, str], ...]
    """Each column with its collation."""
    descending: tuple[bool, ...]
    conflict: str
    """The action when it fails; empty for the default."""

    def __str__(self) -> str:
        conflict = f" on conflict {self.conflict}" if self.conflict else ""
        ends = (" desc" if descending else "" for descending in self.descending)
        names = (name + (f" collate {collation}" if collation != DEFAULT_COLLATION else "")
                 for name, collation in self.columns)  # fmt: skip
        columns = (f"{name}{end}" for name, end in zip(names, ends, strict=True))
        return f"UNIQUE ({', '.join(columns)}){conflict}"


class Table(NamedTuple):
    """The definition of one table."""

    columns: dict[str, Column]
    """By name in lower case, in the order of the table, which `INSERT INTO t VALUES` and `SELECT *` follow."""
    checks: frozenset[Words]
    """The words of each check."""
    foreign_keys: frozenset[ForeignKey]
    uniques: frozenset[Unique]
    options: frozenset[str]
    """AUTOINCREMENT, WITHOUT ROWID, STRICT, the action on a conflict of the rowid."""


def table_of(connection: Connection, name: str, schema: str) -> Table:
    """Return the definition of a plain table."""
    text = table_text(sql_of(connection, "table", name, schema))
    columns = {}
    for column in columns_of(connection, name, schema):
        lower = column.name.lower()
        own = text.columns.get(lower, ColumnText())
        columns[lower] = Column(
            " ".join(words_of(column.type)), column.not_null, normal_default(column.default or ""), column.key,
            own.collation, column.kind, own.expression if column.kind else (), own.conflict,
        )  # fmt: skip
    uniques = frozenset(_uniques(connection, name, schema, text))
    facts = facts_of(connection, name, schema)
    options = {"autoincrement"} if text.autoincrement else set()
    options |= {"without rowid"} if facts is not None and facts.without_rowid else set()
    options |= {"strict"} if facts is not None and facts.strict else set()
    # INTEGER PRIMARY KEY has no index that could show its action.
    indexed = {unique.columns for unique in uniques}
    conflicts = [unique.conflict for unique in text.uniques if unique.primary and unique.columns not in indexed]
    options |= {f"primary key on conflict {conflict}" for conflict in conflicts if conflict}
    return Table(columns, text.checks, _foreign_keys(connection, name, schema, text), uniques, frozenset(options))


def _foreign_keys(connection: Connection, name: str, schema: str, text: TableText) -> frozenset[ForeignKey]:
    found: dict[int, ForeignKey] = {}
    for number, _, parent, column, target, on_update, on_delete, _ in connection.execute(
        f"PRAGMA {schema}.foreign_key_list({quoted(name)})"
    ):
        actions = [("update", str(on_update).lower()), ("delete", str(on_delete).lower())]
        acting = "".join(f" on {event} {action}" for event, action in actions if action != "no action")
        key = found.get(number, ForeignKey(str(parent).lower(), acting, ()))
        found[number] = key._replace(pairs=(*key.pairs, (str(column).lower(), str(target).lower())))
    # The pragma lists the last one of the text first.
    deferred = dict(enumerate(reversed(text.deferred)))
    return frozenset(key._replace(deferred=deferred.get(number, False)) for number, key in found.items())


def _uniques(connection: Connection, name: str, schema: str, text: TableText) -> Iterator[Unique]:
    """Yield the unique constraints of the table itself; named indexes are compared as objects."""
    for _, index, unique, origin, _ in connection.execute(f"PRAGMA {schema}.index_list({quoted(name)})").fetchall():
        if unique and origin in ("u", "pk"):
            rows = connection.execute(f"PRAGMA {schema}.index_xinfo({quoted(index)})").fetchall()
            columns = tuple((str(row[2]).lower(), str(row[4]).lower()) for row in rows if row[5])
            descending = tuple(bool(row[3]) for row in rows if row[5])
            yield Unique(columns, descending, text.conflict_of(columns))


def virtual_of(connection: Connection, name: str, schema: str) -> Words:
    """Return the words of a virtual table's definition, without its name."""
    tokens = list(significant(sql_of(connection, "table", name, schema)))
    # What stands in double quotes there is the module's: a tokenizer, a delimiter.
    return tuple(token.plain for token in (*tokens[:3], *tokens[4:]))


class Named(NamedTuple):
    """An index, trigger or view."""

    kind: str
    name: str
    """As written."""
    table: str
    """The table of an index or trigger, in lower case; for a view its own name."""
    words: Words
    """Its definition, equal if only its name differs."""


def named_objects(connection: Connection, schema: str, kind: str) -> list[Named]:
    """Return the indexes, triggers or views of a database that somebody made, in the order of the catalogue."""
    rows = connection.execute(
        f"SELECT name, tbl_name, sql FROM {schema}.sqlite_master WHERE type = ? AND sql IS NOT NULL ORDER BY rowid",
        (kind,),
    ).fetchall()
    names = _all_names(connection, schema) if rows and kind != "index" else frozenset()
    found = []
    for name, table, sql in rows:
        tokens = list(significant(str(sql)))
        if kind == "index":
            words = _index_words(connection, schema, (str(name), str(table)), tokens)
        else:
            words = _words_without_name(tokens, names)
        found.append(Named(kind, str(name), str(table).lower(), words))
    return found


def objects(connection: Connection, schema: str, kind: str) -> dict[str, Words]:
    """Return indexes, triggers or views: name in lower case → words of the SQL, equal if only the name differs."""
    return {found.name.lower(): found.words for found in named_objects(connection, schema, kind)}


def _all_names(connection: Connection, schema: str) -> frozenset[str]:
    """Return all names that the body of a view or trigger can mean: of tables, views and their columns."""
    master = f"{schema}.sqlite_master"
    columns = connection.execute(
        f"SELECT c.name FROM {master} m, pragma_table_xinfo(m.name, ?) c WHERE m.type = 'table' AND m.rootpage",
        (schema,),
    ).fetchall()
    # The columns of a view are not asked for: a view may be broken.
    virtual = "type = 'view' OR (type = 'table' AND coalesce(rootpage, 0) = 0)"
    texts = connection.execute(f"SELECT sql FROM {master} WHERE {virtual}").fetchall()
    said = (token.name for (sql,) in texts for token in significant(str(sql or "")) if token.kind is TokenKind.WORD)
    return frozenset(name.lower() for name in (*tables(connection, schema), *said, *(str(name) for (name,) in columns)))


def _words_without_name(tokens: list[Token], names: frozenset[str]) -> Words:
    """Return the words of CREATE TRIGGER or CREATE VIEW without the name, which is the third token."""
    said = {token.name.lower() for token in tokens if token.kind is TokenKind.WORD or token.text[:1] in ("`", "[")}
    return normal_words((*tokens[:2], *tokens[3:]), names | said | {"new", "old"})


def _index_words(connection: Connection, schema: str, own: tuple[str, str], tokens: list[Token]) -> Words:
    """Return `create unique index on t ( a nocase desc , … ) where …`: each column with collation and direction."""
    name, table = own
    columns = frozenset(column.name.lower() for column in columns_of(connection, table, schema))
    at = next(index for index, token in enumerate(tokens) if token.text == "(" and tokens[index - 2].plain == "on")
    end = _closing(tokens, at)
    rows = connection.execute(f"PRAGMA {schema}.index_xinfo({quoted(name)})").fetchall()
    parts = list[str]()
    for part, row in zip(split_at_commas(tokens[at + 1 : end]), rows, strict=False):
        expression = (str(row[2]).lower(),) if row[2] is not None else normal_words(_bare(part), columns)
        parts += [*expression, *(["collate", str(row[4]).lower()] if str(row[4]).lower() != DEFAULT_COLLATION else [])]
        parts += ["desc", ","] if row[3] else [","]
    head = ("create", "unique", "index") if tokens[1].plain == "unique" else ("create", "index")
    where = normal_words(tokens[end + 1 :], columns)
    return (*head, "on", table.lower(), "(", *parts[:-1], ")", *where)


def _bare(part: list[Token]) -> list[Token]:
    """Return the expression of an indexed part, without the collation and direction behind it."""
    while len(part) > 1 and part[-1].kind is TokenKind.WORD and part[-1].plain in ("asc", "desc"):
        part = part[:-1]
    return part[:-2] if len(part) > 2 and part[-2].plain == "collate" else part


def _closing(tokens: list[Token], start: int) -> int:
    depth = 0
    for index in range(start, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[index].text, 0)
        if depth == 0:
            return index
    return len(tokens) - 1
