"""There and back once: small forms of what the laws found on random databases (tests/drills/laws)."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from dbsync.downgrade import carry_back
from dbsync.migrations import runner
from dbsync.progress import nobody
from tests.drills.laws.cells import picture
from tests.drills.laws.course import problem_of
from tests.drills.laws.judge import Law, same_content
from tests.helpers.shop import written


class There(NamedTuple):
    """A database of the first version, its migrations, and what people do on the newest one."""

    versions: tuple[str, ...]
    filled: str
    traded: str
    older: str
    """A query on the older database, and its rows."""
    rows: list[tuple[object, ...]]
    stops: tuple[int, ...] = ()
    """Versions in between, at each of which it stops on the way up and on the way back."""
    rowids: frozenset[str] = frozenset()
    """Tables without a key, of which each row keeps its rowid."""


PLACES: Final = """\
-- changes: drop table bins
CREATE TABLE places (code, sku REFERENCES items (sku));
INSERT INTO places SELECT code, sku FROM bins;
DROP TABLE bins;
"""
BINS: Final = (
    "CREATE TABLE items (sku TEXT PRIMARY KEY, n); CREATE TABLE bins (code, sku REFERENCES items (sku));", PLACES,
)  # fmt: skip
"""Only the older version has a table whose rows refer to rows of another one."""
SEARCH: Final = """\
CREATE VIRTUAL TABLE f USING fts5(label, content='t', content_rowid='rowid');
INSERT INTO f (f) VALUES ('rebuild');
CREATE TRIGGER f_i AFTER INSERT ON t BEGIN INSERT INTO f (rowid, label) VALUES (new.rowid, new.label); END;
"""
EUROS: Final = '''\
"""Euros."""

changes = ["drop column t.cents"]


def up(db):
    db.execute("ALTER TABLE t ADD COLUMN euros")
    db.execute("UPDATE t SET euros = CASE typeof(cents) WHEN 'integer' THEN cents / 100.0 ELSE cents END")
    db.execute("ALTER TABLE t DROP COLUMN cents")


def down_row(table, row):
    value = row.pop("euros")
    if value == "bad":
        raise ValueError(value)
    return {**row, "cents": round(value * 100) if isinstance(value, float) else value}
'''
WITHOUT_OWN: Final = '''\
"""Without own."""

changes = ["drop column t.own"]


def up(db):
    db.execute("ALTER TABLE t DROP COLUMN own")


def down_row(table, row):
    return row
'''
CASES: Final = {
    "a changed row keeps what only the older schema has": There(
        (
            "CREATE TABLE t (k INTEGER PRIMARY KEY AUTOINCREMENT, a, b);",
            "-- changes: drop column t.b\nALTER TABLE t DROP COLUMN b;",
        ),
        "INSERT INTO t VALUES (1, 'x', 'mine'), (2, 'y', 'yours');",
        "UPDATE t SET a = 'z' WHERE k = 1;",
        "SELECT * FROM t ORDER BY k",
        [(1, "z", "mine"), (2, "y", "yours")],
    ),
    "an index on a column that the older schema does not have is not made on a string": There(
        ("CREATE TABLE sale (k INTEGER PRIMARY KEY, p);", "ALTER TABLE sale ADD COLUMN code TEXT;"),
        "INSERT INTO sale VALUES (1, 1);",
        'CREATE INDEX late ON sale ("code");',
        "SELECT count(*) FROM sqlite_master WHERE name = 'late'",
        [(0,)],
    ),
    "a text that is no UTF-8 in a new column of a table without a key": There(
        ("CREATE TABLE t (a TEXT);", "ALTER TABLE t ADD COLUMN b;"),
        "INSERT INTO t VALUES ('x');",
        "INSERT INTO t VALUES ('y', CAST(x'ff41' AS TEXT));",
        "SELECT a FROM t ORDER BY rowid",
        [("x",), ("y",)],
    ),
    "a column that people added, before one of the migrations": There(
        ("CREATE TABLE t (a TEXT UNIQUE);", "ALTER TABLE t ADD COLUMN c TEXT NOT NULL DEFAULT '0';"),
        "INSERT INTO t VALUES ('x');",
        "ALTER TABLE t ADD COLUMN late_own; UPDATE t SET late_own = 5;",
        "SELECT a FROM t",
        [("x",)],
    ),
    "a row is removed to which only the older version refers": There(
        BINS,
        "INSERT INTO items VALUES ('a', 1), ('c', 3); INSERT INTO bins VALUES ('bin', 'a');",
        "DELETE FROM places; DELETE FROM items WHERE sku = 'a';",
        "SELECT count(*) FROM pragma_foreign_key_check",
        [(0,)],
    ),
    "a row gets another key to which only the older version refers": There(
        BINS,
        "INSERT INTO items VALUES ('a', 1), ('c', 3); INSERT INTO bins VALUES ('bin', 'a');",
        "DELETE FROM places; UPDATE items SET sku = 'b' WHERE sku = 'a';",
        "SELECT count(*) FROM pragma_foreign_key_check",
        [(0,)],
    ),
    "a row is removed to which only the older version refers, and another one takes its place": There(
        BINS,
        "INSERT INTO items VALUES ('a', 1), ('c', 3); INSERT INTO bins VALUES ('bin', 'a');",
        "DELETE FROM places; DELETE FROM items WHERE sku = 'a'; INSERT INTO items (rowid, sku, n) VALUES (1, 'd', 4);",
        "SELECT count(*) FROM pragma_foreign_key_check",
        [(0,)],
    ),
    "the same by way of a version in between": There(
        (
            "CREATE TABLE t (k INTEGER PRIMARY KEY, a TEXT); CREATE TABLE n (x);",
            "ALTER TABLE n ADD COLUMN b NUMERIC;",
            "ALTER TABLE t ADD COLUMN c;",
        ),
        "INSERT INTO t VALUES (1, 'x');",
        "ALTER TABLE t ADD COLUMN late_own; UPDATE t SET late_own = 5;",
        "SELECT k, a FROM t",
        [(1, "x")],
        stops=(2,),
    ),
    "rows of a search index are found by rowids that the table itself does not have as its key": There(
        (
            "CREATE TABLE t (sku TEXT PRIMARY KEY, label TEXT);",
            SEARCH,
        ),
        "INSERT INTO t VALUES ('a', 'apple');",
        "INSERT INTO t (rowid, sku, label) VALUES (7, 'b', 'bread');",
        "SELECT rowid, sku FROM t ORDER BY rowid",
        [(1, "a"), (7, "b")],
    ),
    "keys that change places take their rowids with them": There(
        ("CREATE TABLE t (k TEXT PRIMARY KEY, a TEXT);", "ALTER TABLE t ADD COLUMN b;"),
        "INSERT INTO t VALUES ('one', 'x'), ('two', 'y');",
        "UPDATE t SET k = 'three' WHERE k = 'one'; UPDATE t SET k = 'one' WHERE k = 'two'; UPDATE t SET b = 5;",
        "SELECT rowid, k, a FROM t ORDER BY rowid",
        [(1, "three", "x"), (2, "one", "y")],
    ),
    "of rows that are equal on the older version, each gets its own value again": There(
        ("CREATE TABLE t (a TEXT);", "ALTER TABLE t ADD COLUMN b NUMERIC;"),
        "INSERT INTO t VALUES ('x');",
        "INSERT INTO t VALUES ('x', 5), ('x', NULL), ('x', 7);",
        "SELECT rowid, a FROM t ORDER BY rowid",
        [(1, "x"), (2, "x"), (3, "x"), (4, "x")],
        rowids=frozenset({"t"}),
    ),
    "of equal rows that a migration makes, the one that was removed is removed again": There(
        (
            "CREATE TABLE t (a TEXT);",
            "CREATE TABLE u (a); INSERT INTO u SELECT a FROM t;",
        ),
        "INSERT INTO t VALUES ('x'), ('x'), ('x');",
        "DELETE FROM u WHERE rowid = 2;",
        "SELECT rowid, a FROM t ORDER BY rowid",
        [(1, "x"), (2, "x"), (3, "x")],
        rowids=frozenset({"u"}),
    ),
    "a row keeps its rowid while it waits for a version that is not reached yet": There(
        (
            "CREATE TABLE t (a TEXT);",
            "CREATE TABLE n (x);",
            "CREATE TABLE u (a);",
        ),
        "INSERT INTO t VALUES ('x');",
        "INSERT INTO u (rowid, a) VALUES (7, 'seven');",
        "SELECT a FROM t",
        [("x",)],
        stops=(2,),
        rowids=frozenset({"u"}),
    ),
    "a column of people's own in a table without a key that the older version does not have": There(
        (
            "CREATE TABLE t (a TEXT);",
            "CREATE TABLE u (a); INSERT INTO u SELECT a FROM t;",
        ),
        "INSERT INTO t VALUES ('x'), ('y'), ('x');",
        "ALTER TABLE u ADD COLUMN own; UPDATE u SET own = 5 WHERE rowid > 1;",
        "SELECT rowid, a FROM t ORDER BY rowid",
        [(1, "x"), (2, "y"), (3, "x")],
        rowids=frozenset({"u"}),
    ),
    "NULL in a column of people's own that has a default": There(
        ("CREATE TABLE t (a TEXT);", "CREATE TABLE u (a); INSERT INTO u SELECT a FROM t;"),
        "INSERT INTO t VALUES ('x'), ('y');",
        "ALTER TABLE u ADD COLUMN own DEFAULT 3; UPDATE u SET own = NULL WHERE rowid = 1;",
        "SELECT rowid, a FROM t ORDER BY rowid",
        [(1, "x"), (2, "y")],
        rowids=frozenset({"u"}),
    ),
    "a column of people's own with the name of one that the migration dropped": There(
        (
            "CREATE TABLE t (k INTEGER PRIMARY KEY, a TEXT, own TEXT);",
            "-- changes: drop column t.own\nALTER TABLE t DROP COLUMN own;",
        ),
        "INSERT INTO t VALUES (1, 'x', 'older');",
        "ALTER TABLE t ADD COLUMN own; UPDATE t SET own = 5, a = 'y';",
        "SELECT * FROM t",
        [(1, "y", "older")],
    ),
    "the same, and the migration says how rows go back": There(
        (
            "CREATE TABLE t (k INTEGER PRIMARY KEY, a TEXT, own TEXT);",
            WITHOUT_OWN,
        ),
        "INSERT INTO t VALUES (1, 'x', 'older');",
        "ALTER TABLE t ADD COLUMN own; UPDATE t SET own = 5, a = 'y';",
        "SELECT * FROM t",
        [(1, "y", "older")],
    ),
    "a row without a key, of which the migration gives a value back otherwise": There(
        ("CREATE TABLE t (a TEXT, cents);", EUROS),
        "INSERT INTO t VALUES ('x', 2.5), ('x', 2.5), ('x', 'word');",
        "UPDATE t SET euros = 'other' WHERE rowid = 2;",
        "SELECT rowid, a, cents FROM t ORDER BY rowid",
        [(1, "x", 2.5), (2, "x", "other"), (3, "x", "word")],
        rowids=frozenset({"t"}),
    ),
    "a row for which the older version has no place until people correct it": There(
        ("CREATE TABLE t (k TEXT PRIMARY KEY, a TEXT, cents);", EUROS),
        "INSERT INTO t VALUES ('one', 'x', 'bad'), ('two', 'x', 'bad'), ('three', 'y', 150);",
        "UPDATE t SET euros = 2.5 WHERE k = 'one'; UPDATE t SET a = 'z' WHERE k = 'two';",
        "SELECT * FROM t ORDER BY k",
        [("one", "x", 250), ("three", "y", 150), ("two", "x", "bad")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_all_there_on_the_older_version_and_on_the_newer_one_again(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    migrations = written(tmp_path / "migrations", *case.versions)
    first = tmp_path / "version-1.db"
    runner.migrate_up(first, migrations[:1])
    perform(first, case.filled)
    backups = [first]
    for version in (*case.stops, len(migrations)):
        backups.append(Path(shutil.copy(backups[-1], tmp_path / f"version-{version}.db")))
        runner.migrate_up(backups[-1], migrations[:version])
    newest = backups.pop()
    perform(newest, case.traded)
    now = newest
    for number, backup in enumerate(reversed(backups)):
        made, reports = tmp_path / f"made-{number}.db", tmp_path / f"reports-{number}"
        known = migrations[: picture(now).version]
        carry_back.carry_back(known, now=now, backup=backup, into=made, reports=reports, told=nobody)
        now = made
    with closing(sqlite3.connect(now)) as connection:
        assert connection.execute(case.older).fetchall() == case.rows
    again = Path(shutil.copy(now, tmp_path / "again.db"))
    runner.migrate_up(again, migrations)
    found = same_content(Law.UP_AGAIN, picture(newest), picture(again), rowids=case.rowids)
    assert [str(violation) for violation in found] == []
    assert problem_of(again) == ""


def test_a_throw_away_file_that_could_not_be_removed_is_in_nobodys_way(tmp_path: Path) -> None:
    """A virus scanner holds it from the attempt on copies to the return itself."""
    case = CASES["a row for which the older version has no place until people correct it"]
    migrations = written(tmp_path / "migrations", *case.versions)
    backup = tmp_path / "backup.db"
    runner.migrate_up(backup, migrations[:1])
    perform(backup, case.filled)
    newer, made = Path(shutil.copy(backup, tmp_path / "newer.db")), tmp_path / "made.db"
    runner.migrate_up(newer, migrations)
    perform(newer, case.traded)
    lying = [tmp_path / f"made.db-{name}" for name in ("work", "work-1")]
    for path in lying:
        perform(path, "CREATE TABLE t (left_over)")
    carry_back.carry_back(migrations, now=newer, backup=backup, into=made, reports=tmp_path / "reports", told=nobody)
    with closing(sqlite3.connect(made)) as connection:
        assert connection.execute(case.older).fetchall() == case.rows
    assert sorted(tmp_path.glob("made.db-*")) == lying


def perform(path: Path, statements: str) -> None:
    """Run statements of people."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(statements)
