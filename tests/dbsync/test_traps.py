"""SQLite's traps inside the transaction, each walked into on purpose: what dbsync does there (docs/requirements.md)."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.database.live import LiveEffects
from dbsync.progress import Event
from dbsync.storage import connections
from dbsync.upgrade import coordinator
from tests.helpers.places import ROOT
from tests.helpers.shop import ask, dump, effects, make_shop, released, sales, upgrade, version, written

BASE = """
CREATE TABLE parent (id INTEGER PRIMARY KEY, code TEXT UNIQUE);
CREATE TABLE child (id INTEGER PRIMARY KEY AUTOINCREMENT, code TEXT REFERENCES parent(code) ON DELETE CASCADE);
CREATE TABLE other (id INTEGER PRIMARY KEY, n INTEGER);
CREATE VIEW pairs AS SELECT parent.id, child.id AS child FROM parent JOIN child USING (code);
CREATE TRIGGER counted AFTER INSERT ON other BEGIN UPDATE parent SET code = code; END;
INSERT INTO parent VALUES (1, 'a'), (2, 'b');
INSERT INTO child (code) VALUES ('a'), ('a'), ('b');
INSERT INTO other VALUES (1, 1);
"""


def shop(folder: Path, *, wal: bool = False) -> Path:
    """A small database with links, a view over two tables, and a trigger on a third."""
    database = folder / "data" / "shop.db"
    database.parent.mkdir()
    assert upgrade(database, written(folder / "one", BASE)).ready
    if wal:
        with closing(sqlite3.connect(database)) as live:
            live.execute("PRAGMA journal_mode=WAL")
    return database


@pytest.mark.parametrize("wal", [False, True])
def test_others_see_the_old_database_until_commit_and_the_checks_the_new_one(tmp_path: Path, wal: bool) -> None:
    database = shop(tmp_path, wal=wal)
    seen: list[object] = []

    def look(event: Event) -> None:
        if event.kind == "migrated":
            seen.extend([version(database), ask(database, "SELECT count(*) FROM other")])

    found = written(tmp_path / "two", BASE, "-- changes: delete other\nDELETE FROM other;")
    outcome = coordinator.upgrade(effects(database, look), migrations=found)
    assert outcome.name == "MIGRATED", outcome.cause
    assert seen == [1, 1]
    assert (version(database), ask(database, "SELECT count(*) FROM other")) == (2, 0)


def test_a_failure_leaves_version_application_id_and_schema_as_they_were_to_the_byte(tmp_path: Path) -> None:
    database = shop(tmp_path)
    with closing(sqlite3.connect(database)) as live:
        live.execute("PRAGMA application_id=77")
    before = database.read_bytes()
    found = written(tmp_path / "two", BASE, "CREATE TABLE x (a);", "DROP TABLE child; SELECT * FROM nowhere;")
    assert upgrade(database, found).name == "MIGRATION_FAILED"
    assert database.read_bytes() == before
    assert upgrade(database, written(tmp_path / "three", BASE, "PRAGMA application_id=9;")).name == "MIGRATION_FAILED"
    assert (ask(database, "PRAGMA application_id"), version(database)) == (77, 1)


@pytest.mark.parametrize("pragma", ["", "PRAGMA defer_foreign_keys=ON;"])
def test_a_parents_rebuild_deletes_no_child_whatever_the_app_has_switched_on(tmp_path: Path, pragma: str) -> None:
    database = shop(tmp_path)
    step = f"""{pragma}
        DROP VIEW pairs; DROP TRIGGER counted;
        CREATE TABLE fresh (id INTEGER PRIMARY KEY, code TEXT UNIQUE, more TEXT);
        INSERT INTO fresh (id, code) SELECT id, code FROM parent; DROP TABLE parent; ALTER TABLE fresh RENAME TO parent;
        CREATE VIEW pairs AS SELECT parent.id, child.id AS child FROM parent JOIN child USING (code);
        CREATE TRIGGER counted AFTER INSERT ON other BEGIN UPDATE parent SET code = code; END;"""
    outcome = upgrade(database, written(tmp_path / "two", BASE, step))
    assert outcome.name == "MIGRATED", outcome.cause
    assert ask(database, "SELECT count(*) FROM child") == 3


def test_a_rebuild_under_a_view_and_a_trigger_elsewhere_fails_by_hand_and_works_by_the_helper(tmp_path: Path) -> None:
    database = shop(tmp_path)
    by_hand = """CREATE TABLE fresh (id INTEGER PRIMARY KEY, code TEXT UNIQUE);
        INSERT INTO fresh SELECT * FROM parent; DROP TABLE parent; ALTER TABLE fresh RENAME TO parent;"""
    outcome = upgrade(database, written(tmp_path / "two", BASE, by_hand))
    assert (outcome.name, "no such table: main.parent" in outcome.cause) == ("MIGRATION_FAILED", True)
    helper = (
        '"""A step."""\n\n\ndef up(db):\n    db.rebuild_table("parent", "id INTEGER PRIMARY KEY, code TEXT UNIQUE")\n'
    )
    outcome = upgrade(database, written(tmp_path / "three", BASE, helper))
    assert outcome.name == "MIGRATED", outcome.cause
    with closing(sqlite3.connect(database)) as live, live:
        assert live.execute("SELECT count(*) FROM pairs").fetchone() == (3,)
        live.execute("INSERT INTO other VALUES (2, 2)")
        assert (
            live.execute("SELECT sql FROM sqlite_schema WHERE name = 'child'").fetchone()[0].count("parent(code)") == 1
        )


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("c TEXT NOT NULL", "Cannot add a NOT NULL column with default value NULL"),
        ("c TEXT DEFAULT CURRENT_TIMESTAMP", "Cannot add a column with non-constant default"),
        ("c TEXT UNIQUE", "Cannot add a UNIQUE column"),
        ("c TEXT AS (n * 2) STORED", "cannot add a STORED column"),
        ("c TEXT CHECK (n > 5)", "CHECK constraint failed"),
    ],
)
def test_a_column_that_sqlite_cannot_add_fails_with_its_reason(tmp_path: Path, column: str, words: str) -> None:
    database = shop(tmp_path)
    before = database.read_bytes()
    outcome = upgrade(database, written(tmp_path / "two", BASE, f"ALTER TABLE other ADD COLUMN {column};"))
    assert (outcome.name, words in outcome.cause) == ("MIGRATION_FAILED", True), outcome.cause
    assert database.read_bytes() == before


def test_a_foreign_key_without_a_unique_parent_is_a_failed_check_and_an_old_one_stops_nothing(tmp_path: Path) -> None:
    database = shop(tmp_path)
    step = """DROP VIEW pairs; DROP TRIGGER counted; CREATE TABLE fresh (id INTEGER PRIMARY KEY, code TEXT);
        INSERT INTO fresh SELECT * FROM parent; DROP TABLE parent; ALTER TABLE fresh RENAME TO parent;
        CREATE VIEW pairs AS SELECT parent.id, child.id AS child FROM parent JOIN child USING (code);
        CREATE TRIGGER counted AFTER INSERT ON other BEGIN UPDATE parent SET code = code; END;"""
    outcome = upgrade(database, written(tmp_path / "two", BASE, f"-- changes: redefine parent\n{step}"))
    words = "child refers to columns that are not unique (foreign key mismatch)"
    assert (outcome.name, outcome.cause.split("; ")[-1]) == ("VERIFICATION_FAILED", words)
    assert version(database) == 1
    with closing(sqlite3.connect(database)) as live:
        live.executescript(step)
    touching = "-- changes: delete child\nDELETE FROM child WHERE id = 1;"
    outcome = upgrade(database, written(tmp_path / "three", BASE, touching))
    assert outcome.name == "MIGRATED", outcome.cause
    assert ask(database, "SELECT count(*) FROM child") == 2


def test_damage_that_comes_with_the_commit_is_seen_because_the_file_is_read_again(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)

    class BadDisk(LiveEffects):
        def commit(self) -> None:
            super().commit()
            with self.database.open("r+b") as file:
                file.seek(4096 * 8)
                file.write(b"\xff" * 4096)

    live = BadDisk(database, backups=database.parent / "backups", least_free_bytes=0)
    outcome = coordinator.upgrade(live, migrations=released(tmp_path, 4))
    assert (outcome.name, outcome.phase) == ("COMMIT_FAILED", "commit")
    assert outcome.backup is not None
    assert (version(outcome.backup.path), sales(outcome.backup.path)) == (2, 100)


@pytest.mark.parametrize("then", ['db.execute("INSERT INTO other VALUES (9, 9)")', 'db.log("and then nothing")'])
def test_a_full_disk_that_a_migration_swallows_does_not_let_it_go_on(tmp_path: Path, then: str) -> None:
    database = shop(tmp_path)
    before = dump(database)

    class Small(LiveEffects):
        def begin(self) -> None:
            super().begin()
            pages = self._open.execute("PRAGMA page_count").fetchone()[0]
            self._open.execute(f"PRAGMA max_page_count={pages + 8}")

    step = (
        '"""A step."""\n\n\ndef up(db):\n    db.execute("CREATE TABLE big (a BLOB)")\n    try:\n'
        '        db.execute("INSERT INTO big VALUES (zeroblob(100000))")\n    except Exception:\n        pass\n'
        f"    {then}\n"
    )
    live = Small(database, backups=database.parent / "backups", least_free_bytes=0)
    outcome = coordinator.upgrade(live, migrations=written(tmp_path / "two", BASE, step))
    assert (outcome.name, "database or disk is full (line 7: INSERT INTO big" in outcome.cause) == ("NO_SPACE", True)
    assert dump(database) == before


@pytest.mark.parametrize(
    "call", ["executescript('SELECT 1')", "commit()", "cursor()", "backup(None)", "iterdump()", "create_function()"]
)
def test_what_would_commit_behind_the_back_is_not_there_to_be_called(tmp_path: Path, call: str) -> None:
    database = shop(tmp_path)
    step = f'"""A step."""\n\n\ndef up(db):\n    db.execute("CREATE TABLE x (a)")\n    db.{call}\n'
    outcome = upgrade(database, written(tmp_path / "two", BASE, step))
    assert (outcome.name, "AttributeError" in outcome.cause) == ("MIGRATION_FAILED", True)
    assert (version(database), ask(database, "SELECT count(*) FROM sqlite_schema WHERE name = 'x'")) == (1, 0)


def test_the_connection_that_migrates_is_set_for_keeping_what_it_committed(tmp_path: Path) -> None:
    database = shop(tmp_path)
    with closing(connections.open_writing(database)) as connection:
        asked = {one: connection.execute(f"PRAGMA {one}").fetchone()[0] for one in ("synchronous", "foreign_keys")}
        assert asked == {"synchronous": 3, "foreign_keys": 0}
        assert connection.execute("PRAGMA secure_delete").fetchone() == (2,)
        assert connection.isolation_level is None


def test_a_version_of_sqlite_is_told_to_whoever_asks(tmp_path: Path) -> None:
    import json

    database = make_shop(tmp_path, schema=2)
    done = subprocess.run(
        [sys.executable, "-m", "dbsync", "status", "--json", "--database", str(database), "--migrations",
         str(tmp_path / "migrations-2")],
        capture_output=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert json.loads(done.stdout)["sqlite"] == sqlite3.sqlite_version
    assert version(database) == 2
