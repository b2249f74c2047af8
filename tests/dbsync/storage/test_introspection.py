"""What kind of table one is: real tables of every kind, and ordinary ones that look like another."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.storage import introspection
from dbsync.storage.introspection import (
    ColumnKind,
    SearchContent,
    TableFacts,
    TableKind,
    app_tables,
    columns_of,
    facts_of,
    has_table,
    is_rowid,
    key_of,
    quoted,
    rowid_of,
    shadows_of,
    tables,
    tables_of,
    virtual_table,
)
from dbsync.storage.sql_tokens import Token

SCHEMA = """
CREATE TABLE plain (id INTEGER PRIMARY KEY AUTOINCREMENT, note TEXT);
CREATE TABLE drafts (id INTEGER PRIMARY KEY, body TEXT); -- its name has "fts" in it
CREATE TABLE quoting (a TEXT DEFAULT 'USING fts5(content=x)', b TEXT /* VIRTUAL TABLE using fts4(content='') */);
CREATE TABLE "virtual table using fts5(content='')" ("using" TEXT, "fts5" TEXT, "content=" TEXT, "strict" TEXT);
CREATE TABLE "Say ""hi"" now" ([without rowid] TEXT);
CREATE TABLE keyed (a TEXT, b INTEGER, PRIMARY KEY (b, a)) WITHOUT ROWID;
CREATE TABLE made (a INTEGER, b AS (a + 1), c AS (a + 2) STORED, rowid TEXT);
CREATE TABLE named (name TEXT PRIMARY KEY);
CREATE VIEW shown AS SELECT a FROM made;
CREATE VIEW broken AS SELECT x FROM nowhere;

CREATE VIRTUAL TABLE own5 USING fts5(title, content, tokenize = "unicode61 tokenchars '=,('");
CREATE VIRTUAL TABLE over5 USING fts5(note, content='plain', content_rowid='id');
CREATE VIRTUAL TABLE IF NOT EXISTS main.[over 5 too] USING "FTS5" (note, content = [plain], content_rowid=id);
CREATE VIRTUAL TABLE short5 USING fts5(note, cont=plain);
CREATE VIRTUAL TABLE less5 USING fts5(note, content='');
CREATE VIRTUAL TABLE bare5 USING fts5(note, content="", columnsize=0);
CREATE VIRTUAL TABLE own4 USING fts4(title, content TEXT, tokenize=unicode61 "tokenchars=,");
CREATE VIRTUAL TABLE over4 USING fts4(content="plain", note);
CREATE VIRTUAL TABLE less4 USING fts4(note, content='');
CREATE VIRTUAL TABLE own3 USING fts3(title, content=plain);
CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1);
CREATE VIRTUAL TABLE "say 'it''s'" USING fts5(x);
CREATE VIRTUAL TABLE terms USING fts5vocab(less5, 'row');

CREATE TABLE plain_content (a);
CREATE TABLE own5_log (a);
CREATE TABLE less5_content (a);
CREATE TABLE page_content (id INTEGER PRIMARY KEY, body TEXT);
CREATE VIRTUAL TABLE page USING fts5(body, content='page_content', content_rowid='id');
"""

ORDINARY, VIRTUAL, SHADOW, VIEW = TableKind.ORDINARY, TableKind.VIRTUAL, TableKind.SHADOW, TableKind.VIEW
OWN, EXTERNAL, CONTENTLESS = SearchContent.OWN, SearchContent.EXTERNAL, SearchContent.CONTENTLESS

EXPECTED = {
    facts.name: facts
    for facts in (
        TableFacts("plain", ORDINARY),
        TableFacts("drafts", ORDINARY),
        TableFacts("quoting", ORDINARY),
        TableFacts("virtual table using fts5(content='')", ORDINARY),
        TableFacts('Say "hi" now', ORDINARY),
        TableFacts("keyed", ORDINARY, without_rowid=True),
        TableFacts("made", ORDINARY),
        TableFacts("named", ORDINARY),
        TableFacts("shown", VIEW),
        TableFacts("broken", VIEW),
        TableFacts("own5", VIRTUAL, "fts5", OWN),
        TableFacts("over5", VIRTUAL, "fts5", EXTERNAL, "plain"),
        TableFacts("over 5 too", VIRTUAL, "fts5", EXTERNAL, "plain"),
        TableFacts("short5", VIRTUAL, "fts5", EXTERNAL, "plain"),
        TableFacts("less5", VIRTUAL, "fts5", CONTENTLESS),
        TableFacts("bare5", VIRTUAL, "fts5", CONTENTLESS),
        TableFacts("own4", VIRTUAL, "fts4", OWN),
        TableFacts("over4", VIRTUAL, "fts4", EXTERNAL, "plain"),
        TableFacts("less4", VIRTUAL, "fts4", CONTENTLESS),
        TableFacts("own3", VIRTUAL, "fts3", OWN),
        TableFacts("boxes", VIRTUAL, "rtree"),
        TableFacts("say 'it''s'", VIRTUAL, "fts5", OWN),
        TableFacts("terms", VIRTUAL, "fts5vocab"),
        TableFacts("plain_content", ORDINARY),
        TableFacts("own5_log", ORDINARY),
        TableFacts("less5_content", ORDINARY),
        TableFacts("page_content", ORDINARY),
        TableFacts("page", VIRTUAL, "fts5", EXTERNAL, "page_content"),
        TableFacts("sqlite_sequence", ORDINARY),
    )
}
"""Everything but shadow tables."""

SHADOWS = {
    "own5": ("config", "content", "data", "docsize", "idx"),
    "less5": ("config", "data", "docsize", "idx"),
    "bare5": ("config", "data", "idx"),
    "page": ("config", "data", "docsize", "idx"),
    "own4": ("content", "docsize", "segdir", "segments", "stat"),
    "less4": ("docsize", "segdir", "segments", "stat"),
    "own3": ("content", "segdir", "segments"),
    "boxes": ("node", "parent", "rowid"),
    "plain": (),
    "terms": (),
}


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """A database with tables of every kind."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        made.executescript(SCHEMA)
        yield made


@pytest.fixture(params=["listed by SQLite", "concluded"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `table_list`, and as with an SQLite that has none."""
    if request.param == "concluded":
        monkeypatch.setattr(introspection, "HAS_TABLE_LIST", False)
    elif not introspection.HAS_TABLE_LIST:
        pytest.skip("this SQLite has no table_list")


@pytest.mark.usefixtures("way")
def test_every_kind_of_table_is_known_for_what_it_is(connection: sqlite3.Connection) -> None:
    found = tables(connection)
    assert {name: facts for name, facts in found.items() if facts.kind is not SHADOW} == EXPECTED
    assert all(facts_of(connection, name.upper()) == facts for name, facts in found.items())
    assert facts_of(connection, "nowhere") is None
    assert facts_of(connection, "sqlite_autoindex_named_1") is None, "an index is no table"


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("owner", SHADOWS)
def test_a_shadow_table_is_one_that_a_virtual_table_keeps(connection: sqlite3.Connection, owner: str) -> None:
    assert shadows_of(connection, owner.upper()) == [f"{owner}_{end}" for end in SHADOWS[owner]]


@pytest.mark.usefixtures("way")
def test_the_apps_tables_are_those_with_something_of_the_apps_in_them(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE dbsync_history (x)")
    connection.execute("CREATE TABLE schema_migrations (x)")
    expected = [name for name, facts in EXPECTED.items() if facts.kind in (ORDINARY, VIRTUAL)]
    assert tables_of(connection) == sorted(set(expected) - {"sqlite_sequence"}) == sorted(app_tables(connection))


def test_an_attached_database_is_asked_for_its_own(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.executescript("CREATE TABLE t (a TEXT PRIMARY KEY) WITHOUT ROWID; CREATE VIRTUAL TABLE v USING fts5(x)")
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("CREATE TABLE v_data (a)")
        connection.execute("ATTACH ? AS other", (str(tmp_path / "other.db"),))
        assert tables_of(connection) == ["t", "v_data"]
        assert tables_of(connection, "other") == ["t", "v"]
        assert rowid_of(connection, "t") == "rowid"
        assert rowid_of(connection, "t", "other") is None
        assert not has_table(connection, "v")
        assert has_table(connection, "v", "other")


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 37), reason="STRICT came with SQLite 3.37")
def test_a_strict_table_is_known(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE exact (a TEXT PRIMARY KEY) STRICT")
    connection.execute("CREATE TABLE both (a TEXT PRIMARY KEY) WITHOUT ROWID, STRICT")
    assert facts_of(connection, "exact") == TableFacts("exact", ORDINARY, strict=True)
    assert facts_of(connection, "both") == TableFacts("both", ORDINARY, without_rowid=True, strict=True)


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 43), reason="contentless_delete came with SQLite 3.43")
def test_a_search_without_content_may_allow_to_delete(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE VIRTUAL TABLE gone5 USING fts5(x, content='', contentless_delete=1)")
    facts = facts_of(connection, "gone5")
    assert facts is not None
    assert facts.content is SearchContent.CONTENTLESS_DELETE
    assert facts.is_contentless


def test_only_what_a_search_keeps_itself_is_its_own() -> None:
    own, over, less, plain = (EXPECTED[name] for name in ("own5", "over5", "less5", "drafts"))
    assert [facts.has_own_rows for facts in (own, over, less, plain)] == [True, False, False, True]
    assert [facts.is_external_search for facts in (own, over, less, plain)] == [False, True, False, False]
    assert [facts.is_contentless for facts in (own, over, less, plain)] == [False, False, True, False]
    assert [facts.is_virtual for facts in (own, over, less, plain)] == [True, True, True, False]


@pytest.mark.usefixtures("way")
def test_a_module_that_is_not_there_stops_no_question(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA writable_schema=ON")
    sql = "CREATE VIRTUAL TABLE vec USING vec0(embedding float[4])"
    connection.execute("INSERT INTO sqlite_master VALUES ('table', 'vec', 'vec', 0, ?)", (sql,))
    connection.execute("CREATE TABLE vec_chunks (a)")
    with closing(sqlite3.connect(":memory:")) as again:
        # It is read anew: this connection does not know what it wrote into the catalogue.
        connection.backup(again)
        assert facts_of(again, "vec") == TableFacts("vec", VIRTUAL, "vec0", unusable="no such module: vec0")
        assert {*EXPECTED, "vec", "vec_chunks"} <= tables(again).keys()


def test_columns_are_stored_hidden_or_generated(connection: sqlite3.Connection) -> None:
    kinds = {column.name: column.kind for column in columns_of(connection, "made")}
    assert kinds == {
        "a": ColumnKind.STORED,
        "b": ColumnKind.GENERATED,
        "c": ColumnKind.GENERATED_STORED,
        "rowid": ColumnKind.STORED,
    }
    hidden = [column.name for column in columns_of(connection, "own5") if column.kind is ColumnKind.HIDDEN]
    assert hidden == ["own5", "rank"]
    (first, *_) = columns_of(connection, "quoting")
    assert (first.type, first.default, first.key, first.is_written) == ("TEXT", "'USING fts5(content=x)'", 0, True)
    assert columns_of(connection, "nowhere") == []


@pytest.mark.usefixtures("way")
def test_keys_and_rowids(connection: sqlite3.Connection) -> None:
    assert key_of(connection, "keyed") == ["b", "a"]
    assert key_of(connection, 'Say "hi" now') == []
    names = ("plain", "keyed", "made", "own5", "shown", "nowhere", 'Say "hi" now')
    assert [rowid_of(connection, name) for name in names] == ["rowid", None, "_rowid_", "rowid", None, None, "rowid"]
    assert [is_rowid(connection, name) for name in ("plain", "keyed", "named", "made")] == [True, False, False, False]


def test_a_table_is_no_index_trigger_or_view_of_that_name(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE INDEX by_note ON plain(note)")
    connection.execute("CREATE TRIGGER never AFTER INSERT ON plain BEGIN SELECT 1; END")
    assert [has_table(connection, name) for name in ("plain", "own5", "by_note", "never", "shown")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_the_parts_of_a_virtual_table() -> None:
    def texts(arguments: tuple[tuple[Token, ...], ...]) -> list[str]:
        return ["".join(token.text for token in argument) for argument in arguments]

    begin = 'CREATE VIRTUAL TABLE IF NOT EXISTS temp."a.b" -- USING no'
    sql = begin + "\nUSING [Fts5] ( x , y(1,(2)),\n c = 'a, ()' /* , */ ) "
    found = virtual_table(sql)
    assert found is not None
    assert (found.name, found.module) == ("a.b", "fts5")
    assert texts(found.arguments) == ["x", "y(1,(2))", "c = 'a, ()'"]
    assert virtual_table("CREATE VIRTUAL TABLE d USING dbstat") == ("d", "dbstat", ())
    for other in ("", "CREATE TABLE virtual (using f)", "CREATE VIRTUAL TABLE t", "-- CREATE VIRTUAL TABLE t USING f"):
        assert virtual_table(other) is None


def test_a_quoted_name_is_that_name(connection: sqlite3.Connection) -> None:
    for name in EXPECTED.keys() - {"broken"}:
        connection.execute(f"SELECT 1 FROM {quoted(name)} WHERE 0")


@pytest.mark.parametrize("more", ["", "CREATE TABLE exact (x INT) STRICT;", "CREATE VIRTUAL TABLE v USING fts5(x);"])
def test_views_are_not_worked_out_for_the_facts_of_a_table(more: str) -> None:
    if "STRICT" in more and sqlite3.sqlite_version_info < (3, 37):
        pytest.skip("this SQLite has no STRICT tables")
    text = (
        "CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT); CREATE TABLE w (k PRIMARY KEY) WITHOUT ROWID;"
        f"CREATE VIEW one AS SELECT * FROM t; CREATE VIEW two AS SELECT * FROM one; {more}"
    )
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        made.executescript(text)
        asked: list[str] = []
        made.set_trace_callback(asked.append)
        found = tables(made)
        assert [facts_of(made, name) for name in found] == list(found.values())
        made.set_trace_callback(None)
        assert (found["w"].without_rowid, found["two"].kind) == (True, TableKind.VIEW)
        assert [name for name, facts in found.items() if facts.strict] == (["exact"] if "STRICT" in more else [])
        # Only `table_list` knows the facts of the others, and it works out every view.
        assert any("table_list" in sql for sql in asked) is (bool(more) and introspection.HAS_TABLE_LIST)
