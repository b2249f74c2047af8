"""SQL as text: cut into statements by SQLite's own rules, and what one statement says without being run."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import Final, NamedTuple

from dbsync.schema.declarations import unquoted
from dbsync.schema.table_definition import pieces

SHOWN_LENGTH: Final = 120
_QUOTED: Final = re.compile(
    r"""(?P<skip>'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/|\[[^\]]*\]|`(?:[^`]|``)*`)|(?P<quoted>"(?:[^"]|"")*")""", re.DOTALL
)
_NOTHING: Final = r"\s|--[^\n]*(?:\n|\Z)|/\*(?:(?!\*/).)*(?:\*/|\Z)"
"""White space and comments; one that is not closed goes to the end (sqlite.org/lang_comment.html)."""
_BLANK: Final = re.compile(rf"(?:{_NOTHING}|;)*\Z", re.DOTALL)
_LEADING: Final = re.compile(rf"(?:{_NOTHING})*", re.DOTALL)
_HEAD_ENDS: Final = frozenset(["set", "where", "values", "select", "as", "default", "using", "on", "(", ";"])
_VERBS: Final = frozenset(["insert", "update", "delete", "replace"])


class Statement(NamedTuple):
    """One statement of a text."""

    line: int
    """Where it begins, comments before it passed over; the first line is 1."""
    sql: str


def numbered(text: str) -> Iterator[Statement]:
    """The statements of an SQL text by SQLite's own rules: triggers hold semicolons, comments hold nothing."""
    begin, end = 0, text.find(";")
    while end >= 0:
        if sqlite3.complete_statement(text[begin : end + 1]):
            yield from _statement(text, begin, end + 1)
            begin = end + 1
        end = text.find(";", end + 1)
    yield from _statement(text, begin, len(text))


def _statement(text: str, begin: int, end: int) -> Iterator[Statement]:
    chunk = text[begin:end]
    if not _BLANK.match(chunk):
        yield Statement(text.count("\n", 0, begin + _leading(chunk)) + 1, chunk.strip())


def split(text: str) -> Iterator[str]:
    """The statements alone."""
    return (one.sql for one in numbered(text))


def _leading(chunk: str) -> int:
    found = _LEADING.match(chunk)
    return found.end() if found else 0


def shown(sql: str) -> str:
    """A statement in one line, not too long, for the vendor's eyes."""
    text = " ".join(sql[_leading(sql) :].split())
    return text if len(text) <= SHOWN_LENGTH else text[: SHOWN_LENGTH - 3] + "..."


def strict(sql: str) -> str:
    """The same statement with its "names" in backticks, which SQLite never takes for texts."""
    return _QUOTED.sub(lambda one: _in_backticks(one["quoted"]) if one["quoted"] else one[0], sql)


def _in_backticks(name: str) -> str:
    return "`" + unquoted(name).replace("`", "``") + "`"


def head_of(sql: str) -> str:
    """What a statement does to which table, without any value: `DELETE FROM cart`."""
    words = pieces(sql)
    if words and words[0].lower() == "with":
        words = words[_main_verb(words) :]
    end = next((index for index, word in enumerate(words) if index and word.lower() in _HEAD_ENDS), len(words))
    parts = ["…" if word[0] in "'\"0123456789" and not word.startswith('"') else word for word in words[:end]]
    text = " ".join(parts).replace(" . ", ".")
    return text if len(text) <= SHOWN_LENGTH else text[: SHOWN_LENGTH - 1] + "…"


def _main_verb(words: list[str]) -> int:
    depth = 0
    for index, word in enumerate(words):
        depth += {"(": 1, ")": -1}.get(word, 0)
        if depth == 0 and word.lower() in _VERBS:
            return index
    return 0


class Rename(NamedTuple):
    """What `ALTER TABLE … RENAME` says."""

    table: str
    to: str
    """The table's next name; empty where a column is renamed."""


def rename_of(sql: str) -> Rename | None:
    """The renaming that a statement is; None for any other."""
    words = pieces(sql)
    at = _altered_at(words)
    if [one.lower() for one in words[at + 1 : at + 2]] != ["rename"]:
        return None
    whole = words[at + 2 : at + 3] == [] or words[at + 2].lower() == "to"
    # `RENAME TO new` is a table's; `RENAME to TO new` is that of a column called "to".
    whole = whole and [one.lower() for one in words[at + 3 : at + 4]] != ["to"]
    return Rename(unquoted(words[at]), unquoted(words[at + 3]) if whole and len(words) > at + 3 else "")


def adds_column(sql: str) -> bool:
    """Whether a statement is `ALTER TABLE … ADD`."""
    words = pieces(sql)
    return [one.lower() for one in words[_altered_at(words) + 1 :][:1]] == ["add"]


def _altered_at(words: list[str]) -> int:
    """Where the name of the table stands that is altered; past the end where none is."""
    if [one.lower() for one in words[:2]] != ["alter", "table"]:
        return len(words)
    return 4 if words[3:4] == ["."] else 2


def use_of(sql: str) -> str | None:
    """A statement that compiles the body of the view or trigger that `sql` creates; None if it creates neither.

    SQLite looks into such a body only when it is used: until then a misspelt name passes for anything.
    """
    words = pieces(sql)
    lower = [one.lower() for one in words]
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
    return {"insert": f"INSERT INTO {table} DEFAULT VALUES", "delete": f"DELETE FROM {table}"}.get(
        event, f"UPDATE {table} SET {{columns}}"
    )


def _path(words: list[str], at: int) -> str:
    return "".join(words[at : at + 3]) if words[at + 1 : at + 2] == ["."] else "".join(words[at : at + 1])
