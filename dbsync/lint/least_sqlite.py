"""The least SQLite that migrations need, by the words in them that older versions do not understand.

A small table of what a migration may use and a till may lack; what every supported version knows is not in it. Where a
statement is put together by code, its words may not show: the vendor pins the version in `tillkeeper.toml`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from dbsync.lint.risks import statements_of
from dbsync.model import Migration
from dbsync.storage.sql_tokens import TokenKind, significant

Version = tuple[int, ...]


class Needed(NamedTuple):
    """The least version, and the feature that asks for it."""

    version: str
    feature: str
    where: str
    """The migration: number and name."""


_FUNCTIONS: Final[dict[str, Version]] = {
    "format": (3, 38), "unixepoch": (3, 38), "unhex": (3, 41), "octet_length": (3, 43), "timediff": (3, 43),
    "concat": (3, 44), "concat_ws": (3, 44), "string_agg": (3, 44), "json_pretty": (3, 46), "if": (3, 48),
    "unistr": (3, 50),
}  # fmt: skip
_FIRST_JSONB: Final[Version] = (3, 45)
_WORDS: Final[tuple[tuple[tuple[str, ...], Version, str], ...]] = (
    (("returning",), (3, 35), "RETURNING"),
    (("as", "materialized"), (3, 35), "AS MATERIALIZED"),
    (("as", "not", "materialized"), (3, 35), "AS NOT MATERIALIZED"),
    (("right", "join"), (3, 39), "RIGHT JOIN"),
    (("right", "outer", "join"), (3, 39), "RIGHT JOIN"),
    (("full", "join"), (3, 39), "FULL JOIN"),
    (("full", "outer", "join"), (3, 39), "FULL JOIN"),
    (("is", "distinct", "from"), (3, 39), "IS DISTINCT FROM"),
    (("is", "not", "distinct", "from"), (3, 39), "IS NOT DISTINCT FROM"),
)
"""The release notes of each version (sqlite.org/changes.html)."""


def least_sqlite(migrations: Iterable[Migration]) -> Needed | None:
    """Return the least SQLite that any of these migrations needs; None if every supported version will do."""
    found: list[tuple[Version, str, str]] = []
    for migration in migrations:
        where = f"{migration.number:04d}_{migration.name}"
        found += [(*use, where) for statement in statements_of(migration) for use in _uses(statement)]
    if not found:
        return None
    version, feature, where = max(found, key=lambda use: use[0])
    return Needed(".".join(map(str, version)), feature, where)


def _uses(statement: str) -> Iterable[tuple[Version, str]]:
    tokens = list(significant(statement))
    words = [token.plain if token.kind is TokenKind.WORD else token.text for token in tokens]
    for sequence, version, feature in _WORDS:
        if any(tuple(words[at : at + len(sequence)]) == sequence for at in range(len(words))):
            yield version, feature
    for at, word in enumerate(words):
        called = words[at + 1 : at + 2] == ["("] and tokens[at].kind is TokenKind.WORD
        if called and word in _FUNCTIONS and words[at - 1 : at] != ["table"]:
            yield _FUNCTIONS[word], f"{word}()"
        elif called and word.startswith("jsonb"):
            yield _FIRST_JSONB, f"{word}()"
        elif word in ("->", "->>"):
            yield (3, 38), word
    if words[:2] == ["create", "table"] and "strict" in words[_last(words, ")") :]:
        yield (3, 37), "STRICT"
    if words[:2] == ["alter", "table"] and "drop" in words[3:6]:
        yield (3, 35), "DROP COLUMN"


def _last(words: list[str], wanted: str) -> int:
    return max((at for at, word in enumerate(words) if word == wanted), default=len(words))
