"""Tokens of SQL text: they are the text, and what SQLite takes for one token, or for none, is that here as well."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbsync.storage.sql_tokens import TokenKind, pieces_of, significant, tokenize, unquoted, words_of

SIGNS = "aEzxX_$é09.'\"`[]-*/;:@#?%\n\t\v \u00a0\ufeff()<>=!|&~,+\\"
TEXTS = st.one_of(st.text(SIGNS, max_size=40), st.text(st.characters(exclude_categories=["Cs"]), max_size=40))

KINDS = {
    "-- to the end": TokenKind.COMMENT,
    "/* a ; ' */": TokenKind.COMMENT,
    "/*/ open": TokenKind.COMMENT,
    " \t\r\n\f\v": TokenKind.SPACE,
    "\ufeff": TokenKind.SPACE,
    "select": TokenKind.WORD,
    "_a$1": TokenKind.WORD,
    "größe\u00a0": TokenKind.WORD,
    '"a ""b"" -- c"': TokenKind.QUOTED,
    "`a ``b`` ;`": TokenKind.QUOTED,
    "[a 'b']": TokenKind.QUOTED,
    "'it''s -- \"x\" /* ;'": TokenKind.STRING,
    "x'0aFF'": TokenKind.BLOB,
    "X''": TokenKind.BLOB,
    "17": TokenKind.NUMBER,
    "1.": TokenKind.NUMBER,
    ".5e-3": TokenKind.NUMBER,
    "0xFf": TokenKind.NUMBER,
    "?": TokenKind.VARIABLE,
    "?12": TokenKind.VARIABLE,
    ":name": TokenKind.VARIABLE,
    "@name": TokenKind.VARIABLE,
    "$name": TokenKind.VARIABLE,
    "->>": TokenKind.OPERATOR,
    "||": TokenKind.OPERATOR,
    "<>": TokenKind.OPERATOR,
    ";": TokenKind.OPERATOR,
    "'open''": TokenKind.ILLEGAL,
    '"open "" ;': TokenKind.ILLEGAL,
    "[open": TokenKind.ILLEGAL,
    "x'0'": TokenKind.ILLEGAL,
    "12abc": TokenKind.ILLEGAL,
    "!": TokenKind.ILLEGAL,
}


@pytest.mark.parametrize("text", KINDS)
def test_each_kind_of_token_is_known(text: str) -> None:
    assert [(token.kind, token.text) for token in tokenize(text)] == [(KINDS[text], text)]


@given(TEXTS)
def test_the_tokens_joined_are_the_text_and_know_their_place(text: str) -> None:
    tokens = list(tokenize(text))
    assert "".join(token.text for token in tokens) == text
    assert all(text[token.begin : token.end] == token.text for token in tokens)
    places = [token.begin for token in tokens]
    assert all([token.begin for token in tokenize(text, place)] == places[at:] for at, place in enumerate(places))


@given(TEXTS.filter(lambda text: "\0" not in text))
def test_what_is_no_token_is_what_sqlite_does_not_recognise(text: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        for token in significant(text):
            try:
                connection.execute(f"SELECT/**/{token.text}")
                cause = ""
            except sqlite3.Error as error:
                cause = str(error)
            assert ("unrecognized token" in cause) == (token.kind is TokenKind.ILLEGAL), (token, cause)


STATEMENTS = (
    "SELECT a<=b, a<>b, a!=b, a==b, a||b, a<<1, a>>1, -a, +a, ~a, a%2 FROM t WHERE a>=.5e1 AND b<1.5 OR a&1|2",
    "SELECT x'00ff', 'it''s', \"a\", `b`, [c d], t . a, main.t.a, 0x1F, 1e3 FROM t;",
    pytest.param(
        "SELECT j->'$.a', j->>'$.b' FROM t",
        marks=pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 38), reason="-> came with SQLite 3.38"),
    ),
    "INSERT INTO t(a,b)VALUES(:a,@b),(:c1,$d),($e,NULL)-- no more",
    "UPDATE/**/t SET a=(SELECT max(b)FROM t AS 'u')/*;*/,b=-1 WHERE\n[c d]IS NOT NULL",
)


@pytest.mark.parametrize("sql", STATEMENTS)
def test_a_statement_means_the_same_with_a_comment_between_any_two_tokens(sql: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (a, b, [c d], j)")
        values = dict.fromkeys(("a", "b", "c1", "d", "e"), 1) if ":a" in sql else {}
        apart = "/* ; */".join(pieces_of(sql))
        plans = [connection.execute(f"EXPLAIN {text}", values).fetchall() for text in (sql, apart)]
        assert plans[0] == plans[1]
        assert "/*" not in "".join(pieces_of(apart))


def test_names_compare_without_quotes_and_case_and_strings_as_they_are() -> None:
    text = "CREATE [Big Name] \"a\"\"B\" `c``D` 'It''s' X'AB' 1E5 -- gone\n /* gone */"
    assert words_of(text) == ["create", "big name", 'a"b', "c`d", "'It''s'", "x'ab'", "1e5"]
    assert [token.name for token in significant(text)][1:5] == ["Big Name", 'a"B', "c`D", "It's"]
    assert [unquoted(name) for name in ("plain", '"a""b"', "`a``b`", "'a''b'", "[a b]")] == [
        "plain",
        'a"b',
        "a`b",
        "a'b",
        "a b",
    ]
