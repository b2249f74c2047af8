"""A part that this SQLite cannot parse or evaluate is not damage: it is named, copied, and stops only its users."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from dbsync.errors import Damaged, Locked
from dbsync.model import BackupKind, State
from dbsync.storage import missing_parts
from dbsync.storage.connections import check_soundness, look
from dbsync.upgrade import preparation
from tests.dbsync.cli.test_check import dbsync
from tests.helpers.shop import ask, effects, files, make_shop, released, sell, upgrade, version, written

VERSION: Final = sqlite3.sqlite_version
UNKNOWN: Final = {
    "view items": ("items", "CREATE VIEW items AS SELECT group_concat(sku, ', ' ODER BY sku) FROM products"),
    "trigger told": ("told", "CREATE TRIGGER told AFTER INSERT ON products BEGIN SELECT 1 ODER BY 1 (2 3); END"),
    "table shelves": ("shelves", "CREATE TABLE shelves (id INTEGER PRIMARY KEY, name TEXT) STRICTER"),
    "index by_shelf": ("by_shelf", "CREATE INDEX by_shelf ON shelves (name) HASHED"),
}
"""Objects as a newer SQLite may write them, by kind and name: the words are of no version that is known."""


def newer(database: Path, what: str) -> None:
    """Write an object that only a newer SQLite can parse; tables and indexes have pages, which are sound."""
    kind, name = what.split()
    sql = UNKNOWN[what][1]
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("CREATE TABLE shelves (id INTEGER PRIMARY KEY, name TEXT)")
        live.execute("CREATE INDEX by_shelf ON shelves (name)")
        live.executemany("INSERT INTO shelves (name) VALUES (?)", ((f"shelf {number:05d}",) for number in range(2000)))
        live.execute("PRAGMA writable_schema=ON")
        if kind in ("view", "trigger"):
            on = name if kind == "view" else "products"
            live.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, 0, ?)", (kind, name, on, sql))
        else:
            live.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (sql, name))


def pages(path: Path) -> list[bytes]:
    """Return all pages but the first, whose header counts changes."""
    content = path.read_bytes()
    size = int.from_bytes(content[16:18], "big")
    return [content[at : at + size] for at in range(size, len(content), size)]


@pytest.mark.parametrize("what", UNKNOWN)
def test_with_nothing_pending_the_app_starts_and_it_is_said(tmp_path: Path, what: str) -> None:
    database = make_shop(tmp_path, schema=2)
    newer(database, what)
    before = database.read_bytes()
    facts = look(database)
    assert (facts.state, facts.version) == (State.OK, 2)
    assert facts.unparsed.startswith(f"SQLite {VERSION} cannot parse {what}: ")
    outcome = upgrade(database, released(tmp_path, 2))
    assert (outcome.name, outcome.cause) == ("UP_TO_DATE", facts.unparsed)
    told = json.loads(dbsync("status", "--json", "--database", database).stdout)
    assert (told["state"], told["version"], told["detail"]) == ("ok", 2, facts.unparsed)
    assert database.read_bytes() == before


@pytest.mark.parametrize("wal", [False, True], ids=["delete", "wal"])
@pytest.mark.parametrize("what", UNKNOWN)
def test_the_row_of_a_trial_is_written_beside_it(tmp_path: Path, what: str, wal: bool) -> None:
    database = make_shop(tmp_path, schema=2, wal=wal)
    newer(database, what)
    schema, beside = catalogue(database), files(database.parent)
    for trial in ("t1", "t2"):
        outcome = upgrade(database, released(tmp_path, 2), trial_id=trial)
        assert (outcome.name, what in outcome.cause) == ("UP_TO_DATE", True)
        assert look(database).trial_id == trial
    assert catalogue(database) == schema
    assert files(database.parent) - beside == {"backups/pos_system.db.counters.json"}
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("PRAGMA writable_schema=ON")
        live.execute("DELETE FROM sqlite_master WHERE name IN ('items', 'told')")
        live.execute("UPDATE sqlite_master SET sql = replace(replace(sql, ' STRICTER', ''), ' HASHED', '')")
    assert ask(database, "PRAGMA integrity_check") == "ok"
    assert ask(database, "SELECT count(*) FROM shelves") == 2000


@pytest.mark.parametrize("table", ["dbsync_history", "schema_version"])
def test_an_object_on_our_own_tables_that_may_be_passed_over_refuses_the_row_of_a_trial(
    tmp_path: Path, table: str
) -> None:
    database = make_shop(tmp_path, schema=2)
    newer(database, "view items")
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("PRAGMA writable_schema=ON")
        live.execute(f"CREATE TRIGGER copied AFTER INSERT ON {table} BEGIN SELECT 1; END")
    before = database.read_bytes()
    outcome = upgrade(database, released(tmp_path, 2), trial_id="t1")
    assert (outcome.name, "view items" in outcome.cause) == ("SCHEMA_NOT_PARSED", True)
    assert upgrade(database, released(tmp_path, 2)).name == "UP_TO_DATE"
    assert database.read_bytes() == before


@pytest.mark.parametrize("wal", [False, True], ids=["delete", "wal"])
def test_a_database_that_has_one_is_restored_and_only_while_nobody_writes_into_it(tmp_path: Path, wal: bool) -> None:
    database = make_shop(tmp_path, schema=2, wal=wal)
    kept = effects(database).make_backup()
    sell(database)
    newer(database, "view items")
    live = effects(database)
    preparation.put_aside(live, BackupKind.BEFORE_RESTORE)
    with closing(sqlite3.connect(database)) as app, app:
        app.execute("PRAGMA writable_schema=ON")
        app.execute("UPDATE products SET sku = sku || '.'")
    with pytest.raises(Locked, match="wrote into it since"):
        live.restore(kept.path)
    done = dbsync("restore", kept.path, "--database", database, "--yes", "--accept-loss")
    assert done.returncode == 6, done.stdout + done.stderr
    assert (look(database).unparsed, ask(database, "PRAGMA integrity_check")) == ("", "ok")


def catalogue(database: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as live:
        live.execute("PRAGMA writable_schema=ON")
        return live.execute("SELECT * FROM sqlite_master ORDER BY rowid").fetchall()


@pytest.mark.parametrize("wal", [False, True], ids=["delete", "wal"])
@pytest.mark.parametrize("what", UNKNOWN)
def test_with_something_pending_it_is_refused_by_name_before_anything(tmp_path: Path, what: str, wal: bool) -> None:
    database = make_shop(tmp_path, schema=2, wal=wal)
    newer(database, what)
    before, beside = database.read_bytes(), files(database.parent)
    for _ in range(3):
        outcome = upgrade(database, released(tmp_path, 4), trial_id="t1")
        assert outcome.name == "SCHEMA_NOT_PARSED"
        assert (VERSION in outcome.cause, what in outcome.cause) == (True, True)
        assert "dbsync restore" not in outcome.hint
    assert (database.read_bytes(), files(database.parent)) == (before, beside), "neither a backup nor a copy is made"


@pytest.mark.parametrize("wal", [False, True], ids=["delete", "wal"])
@pytest.mark.parametrize("what", UNKNOWN)
def test_a_backup_has_every_page_and_says_what_was_checked(tmp_path: Path, what: str, wal: bool) -> None:
    database = make_shop(tmp_path, schema=2, wal=wal)
    newer(database, what)
    with closing(sqlite3.connect(database)) as live:
        live.execute("PRAGMA user_version").fetchone()
    kept = effects(database).make_backup()
    assert (kept.verified, kept.checked, kept.version) == (True, "pages", 2)
    assert pages(kept.path) == pages(database)
    done = dbsync("verify", "--json", "--database", database, "--migrations", tmp_path / "migrations-2")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["checked"], [what in problem for problem in told["problems"]]) == ("pages", [True])
    # Over a database that lost it again, and back.
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("PRAGMA writable_schema=ON")
        live.execute("DELETE FROM sqlite_master WHERE name IN ('items', 'told', 'shelves', 'by_shelf')")
    done = dbsync("restore", kept.path, "--database", database, "--yes", "--accept-loss")
    assert done.returncode in (0, 6), done.stdout + done.stderr
    assert look(database).unparsed
    assert pages(kept.path) == pages(database)


@pytest.mark.parametrize("name", ["two\u2028lines", "rest\u2028*** in database main ***", "x is never used"])
def test_a_finding_is_shown_whatever_the_name_in_it_is(tmp_path: Path, name: str) -> None:
    database = make_shop(tmp_path, schema=2)
    with closing(sqlite3.connect(database)) as live, live:
        live.execute(f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY, "{name}" TEXT)')
        live.execute(f'INSERT INTO "{name}" VALUES (1, NULL)')
        live.execute("PRAGMA writable_schema=ON")
        live.execute("UPDATE sqlite_master SET sql = replace(sql, 'TEXT', 'TEXT NOT NULL') WHERE name = ?", (name,))
    newer(database, "view items")
    with closing(sqlite3.connect(database)) as live:
        assert check_soundness(live) == f"NULL value in {name}.{name}"


@pytest.mark.parametrize(
    ("why", "sql"),
    [
        ("invalid rootpage", "UPDATE sqlite_master SET rootpage = 9999 WHERE name = 'products'"),
        ("orphan index", "UPDATE sqlite_master SET sql = NULL WHERE name = 'products'"),
        ("no SQL at all", "UPDATE sqlite_master SET sql = 'XREATE TABLE products (id)' WHERE name = 'products'"),
        (
            "no text",
            "UPDATE sqlite_master SET sql = 'CREATE TABLE products (' || char(1) || ')' WHERE name = 'products'",
        ),
    ],
)
def test_a_catalogue_that_contradicts_itself_is_damage_as_before(tmp_path: Path, why: str, sql: str) -> None:
    database = make_shop(tmp_path, schema=2)
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("PRAGMA writable_schema=ON")
        live.execute(sql)
    assert look(database).state is State.UNREADABLE, why
    assert upgrade(database, released(tmp_path, 4)).name == "DAMAGED"


def test_a_damaged_page_beside_a_view_that_cannot_be_parsed_is_damage(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    newer(database, "view items")
    with database.open("r+b") as file:
        file.seek(4096 * (root_of(database, "products") - 1))
        file.write(b"\xff" * 4096)
    with pytest.raises(Damaged):
        effects(database).make_backup()
    assert not list((database.parent / "backups").glob("*.db"))


def root_of(database: Path, table: str) -> int:
    with closing(sqlite3.connect(database)) as live:
        live.execute("PRAGMA writable_schema=ON")
        return int(live.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0])


# ---------------------------------------------------------------------------------- functions, collations, modules

APPS: Final = (
    "CREATE TABLE codes (id INTEGER PRIMARY KEY, code TEXT CHECK (code REGEXP '^[0-9]+$'))",
    "CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT COLLATE german UNIQUE)",
    "CREATE TABLE sums (id INTEGER PRIMARY KEY, cents INT, euros AS (money(cents)))",
)
NEEDS: Final = [
    "table codes: needs function REGEXP, which is the app's",
    "table names: needs collation german, which is the app's",
    "table sums: needs function money, which is the app's",
    "table vec: no such module: vec0",
]


def with_the_apps_own(database: Path) -> None:
    """Make tables that need functions and a collation of the app, and one of a module that is not loaded here."""
    with closing(sqlite3.connect(database)) as live, live:
        live.create_function("regexp", 2, lambda *_: True, deterministic=True)
        live.create_function("money", 1, lambda cents: cents, deterministic=True)
        live.create_collation("german", lambda one, other: (one > other) - (one < other))
        for sql in APPS:
            live.execute(sql)
        for table, column, value in (("codes", "code", "'12'"), ("names", "name", "'a'"), ("sums", "cents", "5")):
            live.execute(f"INSERT INTO {table} ({column}) VALUES ({value})")
        live.execute("PRAGMA writable_schema=ON")
        sql = "CREATE VIRTUAL TABLE vec USING vec0(embedding float[4])"
        live.execute("INSERT INTO sqlite_master VALUES ('table', 'vec', 'vec', 0, ?)", (sql,))


def test_what_the_app_alone_can_evaluate_stops_no_update_that_leaves_it_alone(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    with_the_apps_own(database)
    told: list[str] = []
    live = effects(database, lambda event: told.append(event.text))
    live.preflight(released(tmp_path, 4)[2:])
    assert [text.removeprefix("not evaluated here: ") for text in told if "not evaluated" in text] == NEEDS
    outcome = upgrade(database, released(tmp_path, 4))
    assert (outcome.name, outcome.cause) == ("MIGRATED", "")
    assert outcome.backup is not None
    assert (outcome.backup.verified, outcome.backup.checked) == (True, "quick_check")
    assert [ask(database, f"SELECT count(*) FROM {table}") for table in ("codes", "sums")] == [1, 1]
    assert "CREATE VIRTUAL TABLE vec" in str(ask(database, "SELECT sql FROM sqlite_master WHERE name = 'vec'"))


def test_a_migration_that_needs_what_is_missing_fails_with_its_name_and_is_undone(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    with_the_apps_own(database)
    before = database.read_bytes()
    for number, (sql, why) in enumerate(
        (
            ("INSERT INTO codes (code) VALUES ('13')", "no such function: REGEXP"),
            ("UPDATE names SET name = 'b'", "no such collation sequence: german"),
            ("DROP TABLE vec", "no such module: vec0"),
        )
    ):
        outcome = upgrade(database, written(tmp_path / f"m{number}", sql + ";", after=2))
        assert (outcome.name, why.split(": ")[1] in outcome.cause) == ("MIGRATION_FAILED", True)
    assert database.read_bytes() == before


def test_check_names_them_and_has_no_traceback(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    with_the_apps_own(database)
    released(tmp_path, 4)
    words: list[str | Path] = ["check", "--migrations", tmp_path / "migrations-4", "--database", database]
    done = dbsync(*words, "--json")
    told = json.loads(done.stdout)
    assert (told["problems"], told["not_evaluated"]) == ([], NEEDS), done.stderr
    lines = dbsync(*words).stdout.splitlines()
    assert [line for line in lines if "not evaluated" in line] == [f"not evaluated here: {need}" for need in NEEDS]


def test_a_database_whose_first_migration_needs_a_function_of_the_app_is_adopted(tmp_path: Path) -> None:
    database = tmp_path / "data" / "s.db"
    database.parent.mkdir()
    with closing(sqlite3.connect(database)) as live, live:
        live.create_function("regexp", 2, lambda *_: True, deterministic=True)
        live.execute(APPS[0])
        live.execute("INSERT INTO codes (code) VALUES ('12')")
    found = written(tmp_path / "m", f"{APPS[0]};", "CREATE TABLE more (id INTEGER PRIMARY KEY);")
    outcome = upgrade(database, found)
    assert (outcome.name, outcome.version_before, version(database)) == ("MIGRATED", 1, 2)
    assert ask(database, "SELECT group_concat(code) FROM codes") == "12"


def test_a_schema_that_cannot_be_made_here_is_named_without_a_wall_of_differences(tmp_path: Path) -> None:
    database = tmp_path / "data" / "s.db"
    database.parent.mkdir()
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("CREATE TABLE codes (id INTEGER PRIMARY KEY)")
    found = written(tmp_path / "m", "CREATE VIRTUAL TABLE vec USING vec0(embedding float[4]);")
    outcome = upgrade(database, found)
    assert outcome.name == "UNTRACKED"
    assert outcome.cause.startswith("its structure is none of this release's: schema 1 cannot be made: no such module")
    assert "nearest" not in outcome.cause


def test_stand_ins_are_gone_when_they_have_served() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        with missing_parts.stand_ins(connection, "SELECT money(1)", "SELECT 'a' < 'b' COLLATE german") as stubs:
            assert [stub.in_words for stub in stubs] == ["function money", "collation german"]
            assert connection.execute("SELECT money(5), 'a' < 'b' COLLATE german").fetchone() == (1, 1)
        for sql in ("SELECT money(5)", "SELECT 'a' < 'b' COLLATE german"):
            with pytest.raises(sqlite3.OperationalError, match="no such"):
                connection.execute(sql)
