"""Cells that SQLite calls equal and that are not: the sign of a zero."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.model import Loss
from dbsync.outcomes import OutcomeName
from dbsync.storage.connections import attach_copy, open_copy
from dbsync.verification import table_diff
from tests.helpers.shop import dump, files, upgrade, written

TABLES = {
    "by rowid": "CREATE TABLE t (id INTEGER PRIMARY KEY, v)",
    "by key": "CREATE TABLE t (id TEXT PRIMARY KEY, v)",
    "without rowid": "CREATE TABLE t (id TEXT PRIMARY KEY, v) WITHOUT ROWID",
    "without a key": "CREATE TABLE t (id, v)",
    "of any type": "CREATE TABLE t (id INTEGER PRIMARY KEY, v ANY) STRICT",
}


def signs(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return [str(value) for (value,) in connection.execute("SELECT v FROM t ORDER BY id")]


@pytest.mark.parametrize("name", TABLES)
def test_a_zero_with_another_sign_is_another_value(tmp_path: Path, name: str) -> None:
    if "STRICT" in TABLES[name] and sqlite3.sqlite_version_info < (3, 37):
        pytest.skip("this SQLite has no STRICT tables")
    database, other = tmp_path / "s.db", tmp_path / "other.db"
    found = written(tmp_path / "m", TABLES[name], "UPDATE t SET v = v * -1.0 WHERE id = 1;")
    upgrade(database, found[:1])
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(1, 0.0), (2, 0.0), (3, 0), (4, -0.0)])
    before = dump(database)
    outcome = upgrade(database, found)
    assert outcome.name is OutcomeName.VERIFICATION_FAILED
    assert "t" in outcome.cause
    assert (dump(database), signs(database)) == (before, ["0.0", "0.0", "0", "-0.0"])

    other.write_bytes(database.read_bytes())
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("UPDATE t SET v = -0.0 WHERE id = 2")
    with closing(open_copy(database)) as connection:
        attach_copy(connection, other, "base")
        (difference,) = table_diff.differences(connection, "base")
    assert isinstance(difference, Loss)
    assert (difference.added, difference.changed, difference.removed) in ((0, 1, 0), (1, 0, 1))
    assert {name for name in files(tmp_path) if "/" not in name} == {"s.db", "other.db"}


def test_a_zero_of_the_same_sign_is_the_same_value(tmp_path: Path) -> None:
    database = tmp_path / "s.db"
    rebuilt = "CREATE TABLE n (id, v); INSERT INTO n SELECT * FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t;"
    found = written(tmp_path / "m", TABLES["without a key"], rebuilt)
    upgrade(database, found[:1])
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(1, -0.0), (2, 0.0)])
    assert upgrade(database, found).name is OutcomeName.MIGRATED
    assert signs(database) == ["-0.0", "0.0"]
