"""Counters of open databases: read, raised, and what a declared statement may not do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.counters import reading
from dbsync.counters.decisions import High
from dbsync.counters.declaration import Counter, mark_of
from dbsync.counters.reading import CounterNotRaised

ROW = Counter("row", "x", "settings", "value", "key = 'next'")


@pytest.fixture
def shop() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(
            "CREATE TABLE Sale (id INTEGER PRIMARY KEY AUTOINCREMENT, no INTEGER);"
            "CREATE TABLE plain (id INTEGER PRIMARY KEY, note TEXT DEFAULT 'autoincrement');"
            "CREATE TABLE settings (key TEXT PRIMARY KEY, value);"
            "INSERT INTO settings VALUES ('next', '41');"
            "INSERT INTO Sale (id, no) VALUES (7, 3); DELETE FROM Sale;"
        )
        yield connection


def test_numbers_are_read_in_every_form(shop: sqlite3.Connection) -> None:
    query = Counter("query", "x", query="SELECT max(no) FROM sale", update="INSERT INTO sale (no) VALUES (?)")
    gone = Counter("gone", "x", "nowhere", "n", "1")
    assert reading.numbers(shop, (ROW, query, gone, mark_of("sale"), mark_of("plain"))) == {
        "row": 41, "query": None, "sqlite_sequence:sale": 7,
    }  # fmt: skip
    assert [counter.name for counter in reading.with_marks(shop, (ROW,))] == ["row", "sqlite_sequence:sale"]
    own = Counter("ids", "x", "SALE", "ID")
    assert reading.with_marks(shop, (own,)) == (own,)
    assert reading.numbers(shop, (own, own._replace(name="other", column="no"))) == {"ids": 7}


def test_a_column_that_a_schema_lacks_is_not_read_as_a_text(shop: sqlite3.Connection) -> None:
    later = ROW._replace(name="later", column="amount")
    highest = Counter("highest", "x", "settings", "amount", update="UPDATE settings SET amount = ?")
    assert reading.numbers(shop, (ROW, later, highest)) == {"row": 41}
    assert reading.raise_counters(shop, (ROW, later, highest), {"later": High(50), "highest": High(50)}) == {}


@pytest.mark.parametrize("value", ["'abc'", "1.5", "-1", "x'00'", "9223372036854775808.0"])
def test_a_value_that_is_no_integer_is_an_error_where_it_matters(shop: sqlite3.Connection, value: str) -> None:
    shop.execute(f"UPDATE settings SET value = {value}")
    with pytest.raises(CounterNotRaised):
        reading.numbers(shop, (ROW,))
    assert reading.numbers(shop, (ROW,), strictly=False) == {"row": None}


def test_only_lower_counters_are_raised(shop: sqlite3.Connection) -> None:
    sale = mark_of("sale")
    assert reading.raise_counters(shop, (ROW, sale), {"row": High(50), sale.name: High(6)}) == {"row": 41}
    assert reading.numbers(shop, (ROW, sale)) == {"row": 50, sale.name: 7}
    shop.execute("DELETE FROM sqlite_sequence")
    assert reading.raise_counters(shop, (ROW, sale), {sale.name: High(90)}) == {sale.name: None}
    assert shop.execute("INSERT INTO sale (no) VALUES (1) RETURNING id").fetchone() == (91,)


@pytest.mark.parametrize(
    ("counter", "words"),
    [
        (Counter("row", "x", "settings", "value", "key = 'other'"), "is None after"),
        (Counter("row", "x", query="SELECT 41", update="UPDATE settings SET value = ?"), "is 41 after"),
        (ROW._replace(update="UPDATE settings SET value = ? - 1"), "is 49 after"),
    ],
)
def test_a_statement_that_does_not_raise_is_found(shop: sqlite3.Connection, counter: Counter, words: str) -> None:
    with pytest.raises(CounterNotRaised) as refused:
        reading.raise_counters(shop, (counter,), {"row": High(50)})
    assert words in refused.value.cause


@pytest.mark.parametrize("sql", ["ATTACH '{}' AS stolen", "PRAGMA user_version = 9", "DELETE FROM dbsync_history"])
def test_a_statement_from_a_file_can_do_no_more_than_a_migration(
    shop: sqlite3.Connection, tmp_path: Path, sql: str
) -> None:
    shop.execute("CREATE TABLE dbsync_history (x)")
    bad = ROW._replace(update=sql.format(tmp_path / "stolen.db"))
    with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        reading.raise_counters(shop, (bad,), {"row": High(50)})
    assert list(tmp_path.iterdir()) == []
