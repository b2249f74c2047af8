"""SQL as text: split into statements by SQLite's own rules, and parsed without being run."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from dbsync.schema.declarations import same
from dbsync.storage.sql_tokens import Token, TokenKind, pieces_of, significant, tokenize, unquoted

SHOWN_LENGTH: Final = 120
COLUMNS: Final = "{columns}"
"""Placeholder for the assignments of an UPDATE."""
_HEAD_ENDS: Final = frozenset(["set", "where", "values", "select", "as", "default", "using", "on", "(", ";"])
CONSTRAINTS: Final = frozenset(["constraint", "primary", "unique", "check", "foreign"])
_VALUES: Final = (TokenKind.STRING, TokenKind.BLOB, TokenKind.NUMBER, TokenKind.ILLEGAL)
_VERBS: Final = frozenset(["insert", "update", "delete", "replace"])


class Statement(NamedTuple):
    """One statement of an SQL text."""

    line: int
    """The line on which it begins, after any comments; the first line is 1."""
    sql: str


def numbered(text: str) -> Iterator[Statement]:
    """Yield the statements of an SQL text by SQLite's own rules: triggers contain semicolons, comments do not count."""
    begin, line = 0, 1
    while begin < len(text):
        end = _end_of_statement(text, begin)
        yield from _statement(text[begin:end], line)
        line += text.count("\n", begin, end)
        begin = end


def _end_of_statement(text: str, begin: int) -> int:
    """Return the position after the semicolon that ends a statement; the end of the text if none does."""
    first = text.find(";", begin) + 1
    if not first or sqlite3.complete_statement(text[begin:first]):
        return first or len(text)
    # This semicolon is part of a string, a comment or a trigger.
    ends = (token.end for token in tokenize(text, begin) if token.text == ";")
    return next((end for end in ends if sqlite3.complete_statement(text[begin:end])), len(text))


def _statement(chunk: str, line: int) -> Iterator[Statement]:
    begin = next((token.begin for token in _said(chunk)), 0)
    if any(token.text != ";" for token in _said(chunk)):
        yield Statement(line + chunk.count("\n", 0, begin), chunk.strip())


def _said(sql: str) -> Iterator[Token]:
    """Yield the significant tokens of an SQL text, without the spaces outside of ASCII that some editors insert."""
    return (token for token in significant(sql) if not token.text.isspace())


def split(text: str) -> Iterator[str]:
    """Yield the statements of an SQL text, without their lines."""
    return (statement.sql for statement in numbered(text))


def shown(sql: str) -> str:
    """Return a statement on one line, shortened, for messages to the vendor."""
    begin = next((token.begin for token in _said(sql)), len(sql))
    text = " ".join(sql[begin:].split())
    return text if len(text) <= SHOWN_LENGTH else text[: SHOWN_LENGTH - 3] + "..."


def strict(sql: str) -> str:
    """Return a statement with its "names" in backticks, which SQLite never takes for strings."""
    if '"' not in sql:
        return sql
    return "".join(_in_backticks(token) if token.text.startswith('"') else token.text for token in tokenize(sql))


def _in_backticks(token: Token) -> str:
    return "`" + token.name.replace("`", "``") + "`" if token.kind is TokenKind.QUOTED else token.text


def head_of(sql: str) -> str:
    """Return the verb and the table of a statement, without any value: `DELETE FROM cart`."""
    parts = list[str]()
    for token in _from_main_verb(sql):
        if parts and token.text.lower() in _HEAD_ENDS:
            break
        parts.append("…" if token.kind in _VALUES else token.text)
    text = " ".join(parts).replace(" . ", ".")
    return text if len(text) <= SHOWN_LENGTH else text[: SHOWN_LENGTH - 1] + "…"


def _from_main_verb(sql: str) -> Iterator[Token]:
    """Yield the tokens of a statement from its main verb on, after its common table expressions (WITH)."""
    depth, passing = 0, False
    for index, token in enumerate(significant(sql)):
        text = token.text.lower()
        passing = text == "with" if index == 0 else passing
        depth += {"(": 1, ")": -1}.get(text, 0)
        passing = passing and not (depth == 0 and text in _VERBS)
        if not passing:
            yield token


class Rename(NamedTuple):
    """The names in `ALTER TABLE … RENAME`."""

    table: str
    to: str
    """The table's new name; empty if a column is renamed."""


def rename_of(sql: str) -> Rename | None:
    """Return the names in a statement that renames a table or column; None for any other."""
    words = pieces_of(sql)
    at = _altered_at(words)
    if [word.lower() for word in words[at + 1 : at + 2]] != ["rename"]:
        return None
    whole = words[at + 2 : at + 3] == [] or words[at + 2].lower() == "to"
    # `RENAME TO new` renames the table; `RENAME to TO new` renames a column called "to".
    whole = whole and [word.lower() for word in words[at + 3 : at + 4]] != ["to"]
    return Rename(unquoted(words[at]), unquoted(words[at + 3]) if whole and len(words) > at + 3 else "")


def adds_column(sql: str) -> bool:
    """Return whether a statement is `ALTER TABLE … ADD`."""
    words = pieces_of(sql)
    return [word.lower() for word in words[_altered_at(words) + 1 :][:1]] == ["add"]


def _altered_at(words: list[str]) -> int:
    """Return the index of the altered table's name; past the end if there is none."""
    if [word.lower() for word in words[:2]] != ["alter", "table"]:
        return len(words)
    return 4 if words[3:4] == ["."] else 2


def use_of(sql: str) -> str | None:
    """Return a statement that compiles the body of the view or trigger that `sql` creates; None if it creates neither.

    An UPDATE ends with COLUMNS in place of its assignments.

    SQLite compiles such a body only when it is used: until then it accepts a misspelt name.
    """
    words = pieces_of(sql)
    lower = [word.lower() for word in words]
    at = 2 if lower[1:2] and lower[1] in ("temp", "temporary") else 1
    kind = lower[at] if lower[:1] == ["create"] and len(lower) > at else ""
    if kind == "view":
        name = at + (4 if lower[at + 1 : at + 4] == ["if", "not", "exists"] else 1)
        return f"SELECT * FROM {_path(words, name)}"
    if kind != "trigger":
        return None
    on = next((index for index, word in enumerate(lower) if word == "on" and index > at + 1), 0)
    event = next((word for word in lower[at + 2 : on] if word in ("insert", "delete", "update")), "")
    table = _path(words, on + 1)
    if event == "insert":
        return f"INSERT INTO {table} DEFAULT VALUES"
    if event == "delete":
        return f"DELETE FROM {table}"
    return f"UPDATE {table} SET {COLUMNS}"


class Definition(NamedTuple):
    """The parts of a CREATE TABLE statement, as written, comments included."""

    parts: list[str]
    """The definitions between the commas of its parentheses."""
    tail: str
    """The text after the parentheses."""


def definition_of(sql: str) -> Definition | None:
    """Return the parts of a CREATE TABLE statement from the catalogue; None for any other statement."""
    tokens = list(significant(sql))
    if [token.plain for token in tokens[:2]] != ["create", "table"] or [token.text for token in tokens[3:4]] != ["("]:
        return None
    begin, depth, parts = tokens[3].end, 1, list[str]()
    for token in tokens[4:]:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 or (depth == 1 and token.text == ","):
            parts.append(sql[begin : token.begin])
            begin = token.end
        if depth == 0:
            return Definition(parts, sql[begin:])
    return None


def with_not_null(part: str, column: str) -> str:
    """Return a part of a definition with NOT NULL added, if it is this column's and has none; else unchanged."""
    tokens, depth, outer = list(significant(part)), 0, list[str]()
    for token in tokens:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        outer.append(token.plain if depth == 0 else "")
    if not tokens or not same(tokens[0].name, column) or ("not", "null") in pairwise(outer):
        return part
    if tokens[0].kind is TokenKind.WORD and tokens[0].plain in CONSTRAINTS:
        # A column with such a name would be in quotes.
        return part
    # Not at the end of the text, which may be a comment.
    end = tokens[-1].end
    return f"{part[:end]} NOT NULL{part[end:]}"


def _path(words: list[str], at: int) -> str:
    return "".join(words[at : at + 3]) if words[at + 1 : at + 2] == ["."] else "".join(words[at : at + 1])
