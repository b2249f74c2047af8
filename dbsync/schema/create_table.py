"""The parts of a CREATE TABLE statement that no pragma of SQLite shows, from its tokens.

CHECK, COLLATE, ON CONFLICT, AUTOINCREMENT, DEFERRABLE and the expressions of generated columns are in the text alone.
A spelling that means the same gives the same parts: a constraint of a column and one of the table, its name, the order
of constraints, comments, and the quotes of a name (sqlite.org/lang_createtable.html).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from dbsync.schema.sql_text import CONSTRAINTS, definition_of
from dbsync.storage.sql_tokens import Token, TokenKind, significant

Words = tuple[str, ...]
DEFAULT_COLLATION: Final = "binary"
_SAME_SIGNS: Final = {"==": "=", "!=": "<>"}
_ROWIDS: Final = frozenset({"rowid", "_rowid_", "oid"})
_CONSTANTS: Final = frozenset({"true", "false", "null", "current_time", "current_date", "current_timestamp"})


class ColumnText(NamedTuple):
    """The parts of a column's definition that no pragma shows."""

    collation: str = DEFAULT_COLLATION
    conflict: str = ""
    """The action when its NOT NULL fails; empty for the default."""
    expression: Words = ()
    """The expression of a generated column."""


class UniqueText(NamedTuple):
    """A primary key or UNIQUE constraint."""

    columns: tuple[tuple[str, str], ...]
    """Names and collations, in lower case."""
    conflict: str
    primary: bool


class TableText(NamedTuple):
    """The parts of a table's definition that no pragma shows. Names are in lower case."""

    columns: Mapping[str, ColumnText]
    checks: frozenset[Words]
    uniques: tuple[UniqueText, ...]
    deferred: tuple[bool, ...]
    """For each foreign key, in the order of the text: whether it is checked at COMMIT only."""
    autoincrement: bool

    def conflict_of(self, columns: tuple[tuple[str, str], ...]) -> str:
        """Return the action when a UNIQUE constraint on these columns fails; empty for the default."""
        return next((unique.conflict for unique in self.uniques if unique.columns == columns and unique.conflict), "")


def normal_words(tokens: Sequence[Token], names: frozenset[str]) -> Words:
    """Return the words of an expression or a statement, so that another spelling of the same gives the same words.

    SQLite takes a "text" in double quotes for a string where no column has that name (sqlite.org/quirks.html, 8): it
    is returned as that string, with its capitals. `names` are the names that can be meant, in lower case.
    """
    words = []
    for index, token in enumerate(tokens):
        before = tokens[index - 1].plain if index else ""
        behind = tokens[index + 1].text if index + 1 < len(tokens) else ""
        is_string = (
            token.text.startswith('"')
            and token.plain not in names
            and token.plain not in _ROWIDS
            and before not in (".", "collate", "as")
            and behind not in (".", "(")
        )
        words.append(_as_string(token.name) if is_string else _SAME_SIGNS.get(token.text, token.plain))
    return tuple(words)


def normal_default(sql: str) -> str:
    """Return a column's default, so that another spelling of the same default gives the same text."""
    tokens = list(significant(sql))
    if len(tokens) == 1 and tokens[0].kind in (TokenKind.WORD, TokenKind.QUOTED):
        # A single name is a string: `DEFAULT open`, `DEFAULT "open"`.
        is_constant = tokens[0].kind is TokenKind.WORD and tokens[0].plain in _CONSTANTS
        return tokens[0].plain if is_constant else _as_string(tokens[0].name)
    return " ".join(normal_words(tokens, frozenset()))


@lru_cache(maxsize=512)
def table_text(sql: str) -> TableText:
    """Return the parts of a CREATE TABLE statement from the catalogue.

    An upgrade asks for most tables several times: before, after, and in the schema that the migrations make.
    """
    definition = definition_of(sql)
    parts = [list(significant(part)) for part in definition.parts] if definition is not None else []
    names = frozenset(part[0].name.lower() for part in parts if part and not is_constraint(part))
    found = _Found(names)
    for part in parts:
        if part:
            _Part(part, found).read()
    return found.table()


def column_texts(sql: str) -> dict[str, str]:
    """Return the text of each column's definition in a CREATE TABLE statement, by its name in lower case."""
    definition = definition_of(sql)
    parts = [(part, list(significant(part))) for part in definition.parts] if definition is not None else []
    return {tokens[0].name.lower(): part for part, tokens in parts if tokens and not is_constraint(tokens)}


def is_constraint(part: list[Token]) -> bool:
    """Return whether a part of a definition is a constraint of the table, not a column: a name would be in quotes."""
    return part[0].kind is TokenKind.WORD and part[0].plain in CONSTRAINTS


class _Found:
    """The parts of the table that were read so far."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self.columns: dict[str, ColumnText] = {}
        self.checks: set[Words] = set()
        self.uniques: list[tuple[tuple[tuple[str, str], ...], str, bool]] = []
        self.deferred: list[bool] = []
        self.autoincrement = False

    def table(self) -> TableText:
        uniques = []
        for columns, conflict, primary in self.uniques:
            collated = tuple(
                (name, collation or self.columns.get(name, ColumnText()).collation) for name, collation in columns
            )
            uniques.append(UniqueText(collated, conflict, primary))
        return TableText(self.columns, frozenset(self.checks), tuple(uniques), tuple(self.deferred), self.autoincrement)


class _Part:
    """One part of the definition, read from left to right."""

    def __init__(self, tokens: list[Token], found: _Found) -> None:
        self._tokens: Final = tokens
        self._found: Final = found
        self._at = 0

    def read(self) -> None:
        column = "" if is_constraint(self._tokens) else self._next().name.lower()
        text = ColumnText()
        while self._at < len(self._tokens):
            token = self._next()
            word = token.plain if token.kind is TokenKind.WORD else token.text
            if word in ("not", "collate", "as"):
                text = self._of_column(word, text)
            elif word in ("primary", "unique"):
                self._unique(column, primary=word == "primary")
            else:
                self._clause(word)
        if column:
            self._found.columns[column] = text

    def _clause(self, word: str) -> None:
        """Read a clause that is the same for a column and for the table; other words are of a type or of no effect."""
        if word == "constraint":
            # Its name is shown when it fails, and means nothing else.
            self._at += 1
        elif word == "check":
            self._found.checks.add(normal_words(self._bracketed(), self._found.names))
        elif word == "default":
            self._default()
        elif word == "references":
            self._references()
        elif word == "deferrable":
            self._deferrable()
        elif word == "(":
            # Of a type, or the columns of a foreign key: pragmas show these.
            self._at -= 1
            self._bracketed()

    def _of_column(self, word: str, text: ColumnText) -> ColumnText:
        if word == "collate":
            return text._replace(collation=self._next().name.lower())
        if word == "as":
            return text._replace(expression=normal_words(self._bracketed(), self._found.names))
        if self._peek() != "null":
            # NOT DEFERRABLE
            return text
        self._at += 1
        return text._replace(conflict=self._conflict())

    def _next(self) -> Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _peek(self, further: int = 0) -> str:
        return next((token.plain for token in self._tokens[self._at + further :][:1]), "")

    def _bracketed(self) -> list[Token]:
        """Pass the parentheses that come next and return the tokens in them; empty if none come."""
        if self._peek() != "(":
            return []
        begin, depth = self._at + 1, 0
        while self._at < len(self._tokens):
            depth += {"(": 1, ")": -1}.get(self._next().text, 0)
            if depth == 0:
                break
        return self._tokens[begin : self._at - 1]

    def _conflict(self) -> str:
        """Pass ON CONFLICT and return its action; ABORT is the default (sqlite.org/lang_conflict.html)."""
        if (self._peek(), self._peek(1)) != ("on", "conflict"):
            return ""
        self._at += 2
        action = self._next().plain
        return "" if action == "abort" else action

    def _unique(self, column: str, *, primary: bool) -> None:
        self._at += primary
        columns = [(column, "")]
        if column:
            self._at += self._peek() in ("asc", "desc")
        else:
            tokens = self._bracketed()
            # Of the table: PRIMARY KEY (id AUTOINCREMENT).
            counts = primary and tokens[-1].kind is TokenKind.WORD and tokens[-1].plain == "autoincrement"
            self._found.autoincrement |= counts
            columns = [_indexed(part) for part in split_at_commas(tokens)]
        conflict = self._conflict()
        self._found.autoincrement |= primary and self._peek() == "autoincrement"
        self._found.uniques.append((tuple(columns), conflict, primary))

    def _default(self) -> None:
        if self._peek() == "(":
            self._bracketed()
        else:
            self._at += 1 + (self._peek() in ("+", "-"))

    def _references(self) -> None:
        self._at += 1
        self._bracketed()
        while self._peek() in ("on", "match"):
            # MATCH SIMPLE; ON DELETE CASCADE; ON DELETE SET NULL.
            words = 2 if self._peek() == "match" else 3 + (self._peek(2) in ("set", "no"))
            self._at += words
        self._found.deferred.append(False)

    def _deferrable(self) -> None:
        """Note that the last foreign key is checked at COMMIT only, if it is."""
        negated = self._tokens[self._at - 2].plain == "not"
        if self._peek() == "initially":
            self._found.deferred[-1:] = [not negated and self._peek(1) == "deferred"]
            self._at += 2


def _indexed(part: list[Token]) -> tuple[str, str]:
    """Return a column of a key or UNIQUE constraint of the table: its name, and the collation that is named there."""
    plain = [token.plain for token in part]
    return part[0].name.lower(), plain[plain.index("collate") + 1] if "collate" in plain[1:-1] else ""


def split_at_commas(tokens: list[Token]) -> Iterator[list[Token]]:
    """Yield the tokens between the commas that are outside of parentheses."""
    depth, found = 0, list[Token]()
    for token in tokens:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and token.text == ",":
            yield found
            found = []
        else:
            found.append(token)
    if found:
        yield found


def _as_string(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"
