"""Conservation and searches: content is compared whatever it is called, and where there is none nothing is read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.model import Outcome
from tests.helpers.shop import upgrade, written

TABLES = """CREATE TABLE page_content (id INTEGER PRIMARY KEY, body TEXT);
CREATE VIRTUAL TABLE page USING fts5(body, content='page_content', content_rowid='id');
CREATE VIRTUAL TABLE found USING fts5(body, content='');
CREATE VIRTUAL TABLE seen USING fts4(body, content='');
CREATE VIRTUAL TABLE own USING fts5(body);
"""
ROWS = """INSERT INTO page_content VALUES (1, 'red apple'), (2, 'pear');
INSERT INTO page (page) VALUES ('rebuild');
INSERT INTO found (rowid, body) VALUES (1, 'red apple');
INSERT INTO seen (docid, body) VALUES (1, 'red apple');
INSERT INTO own VALUES ('red apple');
"""


def after(tmp_path: Path, step: str) -> Outcome:
    """How one step over searches of every kind ends."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(TABLES + ROWS)
        if connection.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
            pytest.skip("this SQLite calls a sound FTS4 without content faulty")
    database = tmp_path / "data" / "shop.db"
    database.parent.mkdir()
    found = written(tmp_path / "m", TABLES, step)
    assert upgrade(database, found[:1]).ready
    with closing(sqlite3.connect(database)) as live:
        live.executescript(ROWS)
    return upgrade(database, found)


def test_searches_of_every_kind_are_in_no_migrations_way(tmp_path: Path) -> None:
    outcome = after(tmp_path, "CREATE TABLE other (x); UPDATE own SET body = body;")
    assert outcome.name == "MIGRATED", outcome.cause


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("UPDATE page_content SET body = 'plum' WHERE id = 2;", "page_content.body: 1 rows differ"),
        ("DELETE FROM page_content WHERE id = 2;", "page_content: 1 rows are gone"),
        ("UPDATE own SET body = 'plum';", "own.body: 1 rows differ"),
        ("DROP TABLE page_content;", "table page_content with 2 rows is gone"),
        ("DROP TABLE found;", "table found is gone"),
        ("DROP TABLE seen;", "table seen is gone"),
        ("DROP TABLE own;", "table own with 1 rows is gone"),
    ],
)
def test_what_is_lost_of_a_search_is_found(tmp_path: Path, step: str, words: str) -> None:
    outcome = after(tmp_path, step)
    assert outcome.name == "VERIFICATION_FAILED", outcome.cause
    assert words in outcome.cause
