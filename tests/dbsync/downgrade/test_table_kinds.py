"""Going back with tables that only look like a search index, and with search indexes that have nothing to read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.backups.catalog import list_backups
from dbsync.commands import downgrade
from dbsync.model import Migration, Returned
from tests.helpers.shop import effects, upgrade, version, written

SALE = "CREATE TABLE sale (id INTEGER PRIMARY KEY AUTOINCREMENT, cents INTEGER, mark TEXT);\n"
BY_BACKUP = "ALTER TABLE sale ADD COLUMN paid_with TEXT;"
BY_BASE = "-- changes: update sale.mark\nUPDATE sale SET mark = upper(mark);"
BOTH_WAYS = pytest.mark.parametrize("step", [BY_BACKUP, BY_BASE], ids=["by the backup", "by a base"])
"""A step that leaves every value where it was, and one that does not: the ways back differ."""


def change(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as live, live:
        for statement in statements:
            live.execute(statement)


def rows(database: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as live:
        return live.execute(sql).fetchall()


def shop(tmp_path: Path, tables: str, step: str, *filled: str) -> tuple[Path, tuple[Migration, ...]]:
    """A shop with a sale and with tables of its own, brought over one step."""
    database = tmp_path / "data" / "shop.db"
    database.parent.mkdir()
    found = written(tmp_path / "m", SALE + tables, step)
    assert upgrade(database, found[:1]).ready
    change(database, "INSERT INTO sale (cents) VALUES (1)", *filled)
    outcome = upgrade(database, found, trial_id="t1")
    assert outcome.name == "MIGRATED", outcome.cause
    return database, found


def back(database: Path, found: tuple[Migration, ...], *, accept_loss: bool = False) -> Returned:
    (base,) = (
        backup
        for backup in list_backups(backups=database.parent / "backups", database=database)
        if backup.trial_id == "t1"
    )
    return downgrade.downgrade(effects(database), base, found, accept_loss=accept_loss)


LOOKALIKES = {
    "a name with fts in it": ("drafts", "CREATE TABLE drafts (id INTEGER PRIMARY KEY, body TEXT); -- using content="),
    "a comment": (
        "memo",
        "CREATE TABLE memo (id INTEGER PRIMARY KEY, body TEXT /* VIRTUAL TABLE memo USING fts5(content='a') */);",
    ),
    "a default": (
        "memo",
        "CREATE TABLE memo (id INTEGER PRIMARY KEY, body TEXT, kind TEXT DEFAULT 'using fts5(content=x)');",
    ),
    "names of columns": (
        "memo",
        'CREATE TABLE memo (id INTEGER PRIMARY KEY, body TEXT, "using fts5" TEXT, "content=" TEXT);',
    ),
    "no key and a comment": ("memo", "CREATE TABLE memo (body TEXT -- no virtual table\n);"),
}


@BOTH_WAYS
@pytest.mark.parametrize("look", LOOKALIKES)
def test_an_ordinary_table_that_speaks_of_searches_goes_back_to_the_row(tmp_path: Path, look: str, step: str) -> None:
    table, sql = LOOKALIKES[look]
    database, found = shop(tmp_path, sql, step, f"INSERT INTO {table} (body) VALUES ('one'), ('two'), ('three')")
    change(
        database,
        f"INSERT INTO {table} (body) VALUES ('four')",
        f"DELETE FROM {table} WHERE body = 'one'",
        f"UPDATE {table} SET body = 'second' WHERE body = 'two'",
    )
    returned = back(database, found)
    assert (returned.outcome.name, returned.losses) == ("CARRIED_BACK", ()), returned.outcome.cause
    assert rows(database, f"SELECT body FROM {table} ORDER BY 1") == [("four",), ("second",), ("three",)]


CONTENTLESS = {
    "fts5": "CREATE VIRTUAL TABLE found USING fts5(body, content='');",
    "fts5 without sizes": "CREATE VIRTUAL TABLE found USING fts5(body, content='', columnsize=0);",
    "fts4": "CREATE VIRTUAL TABLE found USING fts4(body, content='');",
}


def contentless(kind: str) -> str:
    """The statement for one; skips where this SQLite calls a sound one faulty (3.45 to 3.50 with FTS4)."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(CONTENTLESS[kind] + "INSERT INTO found (rowid, body) VALUES (1, 'bread')")
        if connection.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
            pytest.skip("this SQLite calls a sound search faulty")
    return CONTENTLESS[kind]


@BOTH_WAYS
@pytest.mark.parametrize("kind", CONTENTLESS)
def test_a_search_without_content_that_nobody_touched_is_in_nobodys_way(tmp_path: Path, kind: str, step: str) -> None:
    entries = "INSERT INTO found (rowid, body) VALUES (1, 'white bread'), (2, 'milk')"
    database, found = shop(tmp_path, contentless(kind), step, entries)
    change(database, "INSERT INTO sale (cents) VALUES (700)")
    returned = back(database, found)
    assert (returned.outcome.name, returned.losses) == ("CARRIED_BACK", ()), returned.outcome.cause
    assert version(database) == 1
    assert rows(database, "SELECT count(*) FROM sale") == [(2,)]
    assert rows(database, "SELECT rowid FROM found WHERE found MATCH 'bread'") == [(1,)]


@BOTH_WAYS
@pytest.mark.parametrize("kind", CONTENTLESS)
def test_entries_of_a_search_without_content_are_carried_with_the_tables_that_hold_them(
    tmp_path: Path, kind: str, step: str
) -> None:
    database, found = shop(
        tmp_path, contentless(kind), step, "INSERT INTO found (rowid, body) VALUES (1, 'white bread')"
    )
    change(
        database,
        "INSERT INTO sale (cents) VALUES (700)",
        "INSERT INTO found (rowid, body) VALUES (2, 'milk'), (3, 'oat milk')",
    )
    returned = back(database, found)
    assert (returned.outcome.name, returned.losses) == ("CARRIED_BACK", ()), returned.outcome.cause
    assert (version(database), rows(database, "SELECT count(*) FROM sale")) == (1, [(2,)])
    assert rows(database, "SELECT rowid FROM found WHERE found MATCH 'bread OR milk'") == [(1,), (2,), (3,)]
    change(database, "INSERT INTO found (rowid, body) VALUES (4, 'brown bread')")
    assert rows(database, "SELECT rowid FROM found WHERE found MATCH 'bread'") == [(1,), (4,)]


def test_another_text_in_a_search_without_content_is_carried_although_there_are_as_many(tmp_path: Path) -> None:
    database, found = shop(
        tmp_path, CONTENTLESS["fts5"], BY_BACKUP, "INSERT INTO found (rowid, body) VALUES (1, 'white bread')"
    )
    change(
        database,
        "INSERT INTO found (found, rowid, body) VALUES ('delete', 1, 'white bread')",
        "INSERT INTO found (rowid, body) VALUES (1, 'brown bread')",
    )
    assert back(database, found).outcome.name == "CARRIED_BACK"
    assert rows(database, "SELECT rowid FROM found WHERE found MATCH 'brown'") == [(1,)]
    assert rows(database, "SELECT rowid FROM found WHERE found MATCH 'white'") == []


@BOTH_WAYS
def test_the_content_of_a_search_goes_back_under_a_name_that_sqlite_calls_a_shadow(tmp_path: Path, step: str) -> None:
    tables = """CREATE TABLE page_content (id INTEGER PRIMARY KEY, body TEXT);
CREATE VIRTUAL TABLE page USING fts5(body, content='page_content', content_rowid='id');
"""
    database, found = shop(tmp_path, tables, step, "INSERT INTO page_content VALUES (1, 'white bread')")
    change(database, "INSERT INTO page_content VALUES (2, 'milk')", "DELETE FROM page_content WHERE id = 1")
    returned = back(database, found)
    assert (returned.outcome.name, returned.losses) == ("CARRIED_BACK", ()), returned.outcome.cause
    assert rows(database, "SELECT * FROM page_content") == [(2, "milk")]
    assert rows(database, "SELECT rowid FROM page WHERE page MATCH 'bread OR milk'") == [(2,)]
