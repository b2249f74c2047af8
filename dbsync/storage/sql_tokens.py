"""The tokens of SQL text by SQLite's own rules, each with its position: the only module that splits SQL.

Every token is kept, white space and comments too. Joined, they are the text again, so that a part of a statement can
be replaced without changing the rest. The rules are those of SQLite's tokenizer (tokenize.c): every character outside
of ASCII belongs to a name, `1.5` and `<=` are one token each, and a doubled quote ends nothing. Not followed: variables
in the spelling of Tcl, `$a(b)` and `$a::b`.

It is in `storage`, not in `schema`, because `introspection` needs it, and a package imports only packages above it.
Only the CREATE VIRTUAL TABLE statement names the module of a virtual table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple


class TokenKind(StrEnum):
    """The kinds of tokens."""

    SPACE = "space"
    COMMENT = "comment"
    WORD = "word"
    """A keyword, or a name without quotes."""
    QUOTED = "quoted"
    """A name in double quotes, backticks or brackets."""
    STRING = "string"
    """In single quotes. SQLite takes it for a name where only a name is possible."""
    BLOB = "blob"
    NUMBER = "number"
    VARIABLE = "variable"
    OPERATOR = "operator"
    """Also the comma, the semicolon and parentheses."""
    ILLEGAL = "illegal"
    """Text that SQLite refuses: a quote that is not closed extends to the end of the text."""


_NUMBER: Final = r"(?: 0[xX][0-9a-fA-F]++ | (?: [0-9]++(?:\.[0-9]*+)?+ | \.[0-9]++ )(?:[eE][+-]?[0-9]++)?+ )"
# Letters, `_` and all beyond ASCII; in a name also digits and `$`. Each set names what is not in it, because `re` needs
# milliseconds, at every start, to compile one that reaches beyond ASCII.
_BEGINS_NAME: Final = r"[^\x00-\x40\x5b-\x5e\x60\x7b-\x7f]"
_IN_NAME: Final = r"[^\x00-\x23\x25-\x2f\x3a-\x40\x5b-\x5e\x60\x7b-\x7f]"
# The groups are named by the kinds; those beginning with `bad` are illegal. Of the alternatives that match, the first
# counts. `*+` never backtracks, so that an open quote cannot end at the first half of a doubled one.
_TOKENS: Final = re.compile(
    rf"""
      (?P<space> \ufeff | [\t\n\f\r\ ][\t\n\v\f\r\ ]*+ )
    | (?P<comment> --[^\n]*+ | /\*(?=.)(?: .*?\*/ | .* ) )
    | (?P<string> '(?:[^']|'')*+' )
    | (?P<quoted> "(?:[^"]|"")*+" | `(?:[^`]|``)*+` | \[[^\]]*+\] )
    | (?P<bad_quote> ['"`\[].* )
    | (?P<blob> [xX]'(?:[0-9a-fA-F]{{2}})*+' )
    | (?P<bad_blob> [xX]'[^']*+'? )
    | (?P<word> {_BEGINS_NAME}{_IN_NAME}*+ )
    | (?P<number> {_NUMBER}(?!{_IN_NAME}) )
    | (?P<bad_number> {_NUMBER}{_IN_NAME}++ )
    | (?P<variable> \?[0-9]*+ | [$@:\#]{_IN_NAME}++ )
    | (?P<operator> ->>? | \|\| | << | >> | <= | >= | <> | == | != | [-+*/%=<>&|~(),;.] )
    | (?P<bad_sign> . )
    """,
    re.DOTALL | re.VERBOSE | re.ASCII,
)
_KINDS: Final = {kind.value: kind for kind in TokenKind}
_SKIPPED: Final = (TokenKind.SPACE, TokenKind.COMMENT)


class Token(NamedTuple):
    """One token of an SQL text."""

    kind: TokenKind
    text: str
    """As written, quotes included."""
    begin: int
    """Its position in the text."""

    @property
    def end(self) -> int:
        """The position after its last character."""
        return self.begin + len(self.text)

    @property
    def name(self) -> str:
        """The text without the quotes of a name or a string."""
        return unquoted(self.text) if self.kind in (TokenKind.QUOTED, TokenKind.STRING) else self.text

    @property
    def plain(self) -> str:
        """The form for comparing tokens: a string as written, all others without quotes and in lower case."""
        return self.text if self.kind is TokenKind.STRING else self.name.lower()


def tokenize(sql: str, begin: int = 0) -> Iterator[Token]:
    """Yield all tokens of an SQL text from `begin` on, white space and comments included; joined, they are the text."""
    for match in _TOKENS.finditer(sql, begin):
        yield Token(_KINDS.get(match.lastgroup or "", TokenKind.ILLEGAL), match[0], match.start())


def significant(sql: str) -> Iterator[Token]:
    """Yield the tokens of an SQL text without white space and comments."""
    return (token for token in tokenize(sql) if token.kind not in _SKIPPED)


def pieces_of(sql: str) -> list[str]:
    """Return the words and signs of an SQL text as written, without comments."""
    return [token.text for token in significant(sql)]


def words_of(sql: str) -> list[str]:
    """Return the words and signs of an SQL text, names without quotes, all but strings in lower case."""
    return [token.plain for token in significant(sql)]


def unquoted(name: str) -> str:
    """Return a name without its quotes, if it has any."""
    if name[:1] in ('"', "`", "'"):
        return name[1:-1].replace(name[0] * 2, name[0])
    return name[1:-1] if name.startswith("[") else name
