"""SQL as text: where a statement ends, and what one says."""

from __future__ import annotations

import sqlite3

from hypothesis import given
from hypothesis import strategies as st

from dbsync.schema.sql_text import definition_of, head_of, numbered, strict, with_not_null
from dbsync.storage.sql_tokens import significant, words_of

PARTS = (
    "CREATE ", "TRIGGER ", "TEMP ", "BEGIN ", "END", "end ", "EXPLAIN ", "SELECT ", ";", ";", ";", "\n", " ", "'", '"',
    "`", "[", "]", "--", "/*", "*/", "/", "x", "x'", ":end", "@end", "$end", "1end", "\u00a0", "\ufeff", "é", "''",
)  # fmt: skip


def statements_by_sqlite(text: str) -> list[str]:
    """The pieces of a text that end where SQLite calls it complete, asked at every single semicolon."""
    found, begin = [], 0
    for end in (at + 1 for at, sign in enumerate(text) if sign == ";"):
        if sqlite3.complete_statement(text[begin:end]):
            found.append(text[begin:end])
            begin = end
    return [*found, text[begin:]]


TEXTS = st.builds(
    "{}{}".format,
    st.sampled_from(["", "CREATE TRIGGER x ", "CREATE TEMP TRIGGER x BEGIN "]),
    st.lists(st.sampled_from(PARTS), max_size=24).map("".join),
)


@given(TEXTS)
def test_a_statement_ends_where_sqlite_says_that_it_is_complete(text: str) -> None:
    pieces = statements_by_sqlite(text)
    saying = [piece.strip() for piece in pieces if any(one.text.strip() not in ("", ";") for one in significant(piece))]
    found = list(numbered(text))
    assert [statement.sql for statement in found] == saying
    lines = text.split("\n")
    for statement in found:
        first = next((token.text for token in significant(statement.sql) if token.text.strip()), "")
        assert first.split("\n")[0] in lines[statement.line - 1]


def test_semicolons_inside_of_strings_comments_names_and_triggers_end_nothing() -> None:
    text = """-- a; b
INSERT INTO t VALUES ('a;b', "c;d", [e;f], `g;h`); /* ; */
CREATE TRIGGER r AFTER INSERT ON t BEGIN
    UPDATE t SET a = 'END;'; -- END;
    DELETE FROM u;
END;
SELECT 1
"""
    assert [(one.line, one.sql.split()[0]) for one in numbered(text)] == [(2, "--"), (3, "/*"), (7, "SELECT")]


def test_what_is_in_double_quotes_is_put_in_backticks_and_nothing_else() -> None:
    text = """SELECT "a""b`c", 'x "y" ''z"', [p"q], `r"s` -- "t"\n /* "u" */"""
    assert strict(text) == """SELECT `a"b``c`, 'x "y" ''z"', [p"q], `r"s` -- "t"\n /* "u" */"""


def test_the_head_of_a_statement_names_no_value() -> None:
    heads = {
        "DELETE FROM cart WHERE note = 'mine'": "DELETE FROM cart",
        "DELETE FROM main . \"big cart\" -- 'mine'": 'DELETE FROM main."big cart"',
        "WITH old AS (SELECT 1 FROM sale WHERE x = ')' AND delete_me) UPDATE sale SET a = 1": "UPDATE sale",
        "PRAGMA x = x'00ff'": "PRAGMA x = …",
        "PRAGMA user_version = .5": "PRAGMA user_version = …",
    }
    assert {sql: head_of(sql) for sql in heads} == heads


DEFINITION = """CREATE TABLE "t (a" (
    id INTEGER PRIMARY KEY, -- the key, (of all)
    "a, b" TEXT DEFAULT '),(' /* a, */ CHECK ("a, b" IS NOT NULL OR id IN (1, 2)),
    c TEXT NOT NULL -- said, already
    , "unique" TEXT, UNIQUE (c, [id])
) STRICT"""


def test_a_definition_is_taken_apart_where_its_commas_are() -> None:
    found = definition_of(DEFINITION)
    assert found is not None
    assert [words_of(part)[0] for part in found.parts] == ["id", "a, b", "c", "unique", "unique"]
    assert found.tail == " STRICT"
    assert f'CREATE TABLE "t (a" ({",".join(found.parts)}){found.tail}' == DEFINITION
    assert definition_of("CREATE TABLE t (a, (b)") is None
    assert definition_of("CREATE VIRTUAL TABLE t USING fts5(a)") is None


def test_not_null_is_put_to_its_column_and_into_no_comment() -> None:
    found = definition_of(DEFINITION)
    assert found is not None

    def changed(column: str) -> list[str]:
        parts = [with_not_null(part, column) for part in found.parts]
        return [part for part in parts if part not in found.parts]

    assert changed("ID") == ["\n    id INTEGER PRIMARY KEY NOT NULL"]
    assert changed("a, b") == [f"{found.parts[1]} NOT NULL"]
    assert changed("c") == []
    assert changed("unique") == [' "unique" TEXT NOT NULL']
    assert with_not_null("a TEXT -- of what\n", "a") == "a TEXT NOT NULL -- of what\n"
