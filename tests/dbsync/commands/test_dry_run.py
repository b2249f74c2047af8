"""`dbsync upgrade --dry-run`: the plan, the SQL, space and time; and not one byte is changed in whatever state."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from dbsync.__main__ import main
from dbsync.storage import files
from tests.dbsync.cli.test_check import dbsync
from tests.helpers.places import ROOT
from tests.helpers.shop import make_shop, released, sales, upgrade, version, written

CRASH = """
import os, sqlite3, sys
app = sqlite3.connect(sys.argv[1], isolation_level=None)
app.execute("PRAGMA journal_mode=" + sys.argv[2])
app.execute("PRAGMA cache_size=1")
app.execute("BEGIN IMMEDIATE")
for number in range(300):
    app.execute("INSERT INTO transactions (receiptNumber, totalCents, paidWith, createdAt) VALUES (?, 1, 'cash', ?)",
                (f"C{number}", "x" * 900))
if sys.argv[2] == "WAL":
    app.execute("COMMIT")
os._exit(1)
"""
RUNNING = """
import sqlite3, sys
app = sqlite3.connect(sys.argv[1], isolation_level=None)
app.execute("PRAGMA journal_mode=" + sys.argv[2])
app.execute("BEGIN IMMEDIATE")
app.execute("INSERT INTO transactions (receiptNumber, totalCents, paidWith, createdAt) VALUES ('R', 1, 'cash', '')")
if sys.argv[2] == "WAL":
    app.execute("COMMIT")
print("here", flush=True)
sys.stdin.read()
app.rollback()
"""


def digests(folder: Path, *, running: bool = False) -> dict[str, str]:
    """Every file's content; of a running app without the index of its WAL, which is memory and not content."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not (running and path.name.endswith("-shm"))
    }


@contextmanager
def state(database: Path, name: str) -> Iterator[None]:
    """The database at rest, left by a crash, or with an app that is in the middle of a sale."""
    mode, _, what = name.partition(" ")
    words = [sys.executable, "-c", CRASH if "crash" in what else RUNNING, str(database), mode]
    if what == "at rest":
        with closing(sqlite3.connect(database)) as live:
            live.execute(f"PRAGMA journal_mode={mode}")
        yield
    elif "crash" in what:
        assert subprocess.run(words, check=False).returncode == 1
        if "without" in what:
            database.with_name(database.name + "-shm").unlink()
        yield
    else:
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as app:
            assert app.stdout is not None
            assert app.stdin is not None
            assert app.stdout.readline() == "here\n"
            yield
            app.stdin.close()
            assert app.wait() == 0


STATES = {
    "DELETE at rest": 100,
    "WAL at rest": 100,
    "DELETE after a crash": 100,
    "WAL after a crash": 400,
    "WAL after a crash, without its index": 400,
    "DELETE running": 100,
    "WAL running": 101,
}


@pytest.mark.parametrize("how", [(), ("--on-copy",)], ids=["on the schema", "on a copy"])
@pytest.mark.parametrize("name", STATES)
def test_not_one_byte_is_changed_and_nothing_is_left(tmp_path: Path, name: str, how: tuple[str, ...]) -> None:
    database = make_shop(tmp_path, schema=2)
    released(tmp_path, 4)
    place = ("--database", database, "--migrations", tmp_path / "migrations-4", "--dry-run", "--json")
    running = name.endswith("running")
    with state(database, name):
        before = digests(database.parent, running=running)
        done = dbsync("upgrade", *place, *how)
        assert done.returncode == 0, done.stdout + done.stderr
        told = json.loads(done.stdout)
        assert (told["would"], told["version"], told["latest"]) == ("migrate", 2, 4)
        assert digests(database.parent, running=running) == before
        assert told["tried_on"] == ("data" if how else "schema")
    assert (version(database), sales(database)) == (2, STATES[name])


def test_the_plan_names_every_migration_with_what_it_declares_and_its_sql(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    script = """\
-- description: Bonus points
-- changes: update transactions.totalCents = o.totalCents + 1 where o.totalCents < 0
ALTER TABLE transactions ADD COLUMN points INTEGER;
-- nothing; but a comment
CREATE TRIGGER bonus AFTER INSERT ON transactions BEGIN
  UPDATE transactions SET points = 1 WHERE id = new.id; SELECT 1;
END;
"""
    python = '''"""Row by row."""


def up(db):
    for number in range(3):
        db.execute("UPDATE products SET name = name WHERE id = ?", (f"secret {number}",))
    db.add_column("products", "barcode", "TEXT")
'''
    written(tmp_path / "m", script, python, after=2)
    place = ("--database", database, "--migrations", tmp_path / "m", "--dry-run")
    told = json.loads(dbsync("upgrade", *place, "--json").stdout)
    assert (told["dry_run"], told["would"], told["backs_up"], told["problem"]) == (True, "migrate", True, "")
    first, second = told["steps"]
    assert (first["number"], first["description"], first["kind"]) == (3, "Bonus points", "sql")
    assert first["changes"] == ["update transactions.totalCents = o.totalCents + 1 where o.totalCents < 0"]
    assert [one["sql"].split()[-3:] for one in first["statements"]] == [
        ["COLUMN", "points", "INTEGER;"], ["SELECT", "1;", "END;"],
    ]  # fmt: skip
    assert [(one["sql"], one["times"]) for one in second["statements"]] == [
        ("UPDATE products SET name = name WHERE id = ?", 3),
        ('ALTER TABLE "products" ADD COLUMN "barcode" TEXT', 1),
    ]
    text = dbsync("upgrade", *place).stdout
    assert "go from schema 2 to 4 by 2 migration(s), after a backup" in text
    assert "   declares: update transactions.totalCents" in text
    assert "     UPDATE products SET name = name WHERE id = ?;  -- 3 times\n" in text
    assert "     CREATE TRIGGER bonus" in text
    assert "takes      not known: `dbsync rehearse` measures it" in text
    assert "50.0 MB needed" in text
    assert "secret" not in text + json.dumps(told)
    assert version(database) == 2


def test_what_only_the_data_does_not_allow_shows_on_a_copy(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4, duplicate_sku=True)
    released(tmp_path, 6)
    before = digests(database.parent)
    place = ("--database", database, "--migrations", tmp_path / "migrations-6", "--dry-run")
    assert dbsync("upgrade", *place).returncode == 0
    done = dbsync("upgrade", *place, "--on-copy")
    assert done.returncode == 1
    assert "a copy of the data, verified: UNIQUE constraint failed: products.sku" in done.stdout
    assert "not known" in done.stdout, "what failed has measured nothing"
    written(tmp_path / "m", "UPDATE products SET name = 'x';", after=4)
    done = dbsync("upgrade", "--database", database, "--migrations", tmp_path / "m", "--dry-run", "--on-copy")
    assert done.returncode == 1
    assert "allow it with `changes: update products.name`" in done.stdout
    assert digests(database.parent) == before


def test_what_fails_on_empty_tables_is_said_with_its_migration(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    written(tmp_path / "m", "ALTER TABLE nowhere ADD COLUMN x;", "SELECT 'a\u2028b';", after=4)
    before = digests(database.parent)
    done = dbsync("upgrade", "--database", database, "--migrations", tmp_path / "m", "--dry-run")
    assert done.returncode == 1
    assert "an empty copy of the schema: v5 step: no such table: nowhere" in done.stdout
    assert "     SELECT 'a\u2028b';" in done.stdout
    assert digests(database.parent) == before


def test_a_schema_with_everything_in_it_is_copied_empty(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    with closing(sqlite3.connect(database)) as live:
        live.executescript(
            """
            CREATE VIRTUAL TABLE search USING fts5(name, content='products', content_rowid='rowid');
            CREATE TABLE "of ""all"" things" (k TEXT PRIMARY KEY, v AS (k || '!') STORED) WITHOUT ROWID;
            CREATE VIEW dear AS SELECT * FROM products WHERE priceCents > 1000;
            CREATE TRIGGER cheap INSTEAD OF DELETE ON dear BEGIN SELECT 1; END;
            CREATE INDEX partly ON products(name) WHERE priceCents > 0;
            CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT);
            """
        )
    everything = """
    INSERT INTO search(search) VALUES ('rebuild');
    ALTER TABLE "of ""all"" things" ADD COLUMN more;
    DROP TRIGGER cheap; DROP VIEW dear; DROP INDEX partly; INSERT INTO counted DEFAULT VALUES;
    """
    written(tmp_path / "m", everything, after=4)
    before = digests(database.parent)
    done = dbsync("upgrade", "--database", database, "--migrations", tmp_path / "m", "--dry-run")
    assert (done.returncode, "it goes well" in done.stdout) == (0, True), done.stdout + done.stderr
    assert digests(database.parent) == before


def test_the_content_of_a_search_is_copied_although_sqlite_calls_it_a_shadow(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    with closing(sqlite3.connect(database)) as live:
        live.executescript("""CREATE TABLE page_content (id INTEGER PRIMARY KEY, body TEXT);
            CREATE VIRTUAL TABLE page USING fts5(body, content='page_content', content_rowid='id');""")
    written(tmp_path / "m", "ALTER TABLE page_content ADD COLUMN lang TEXT;", after=4)
    done = dbsync("upgrade", "--database", database, "--migrations", tmp_path / "m", "--dry-run")
    assert (done.returncode, "it goes well" in done.stdout) == (0, True), done.stdout + done.stderr


def test_what_an_upgrade_would_refuse_is_refused_with_the_same_name_and_exit_code(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=5)
    released(tmp_path, 4)
    place = ("--database", database, "--migrations", tmp_path / "migrations-4", "--dry-run")
    before = digests(database.parent)
    done = dbsync("upgrade", *place)
    assert (done.returncode, "refuse: TOO_NEW" in done.stdout) == (4, True)
    told = json.loads(dbsync("upgrade", *place, "--json").stdout)
    assert (told["would"], told["steps"], bool(told["hint"])) == ("TOO_NEW", [], True)
    assert digests(database.parent) == before
    assert upgrade(database, released(tmp_path, 6)).backup is not None
    database.unlink()
    left = digests(database.parent)
    done = dbsync("upgrade", *place)
    assert (done.returncode, "refuse: MISSING" in done.stdout) == (4, True)
    database.write_bytes(b"ruined" * 999)
    done = dbsync("upgrade", *place)
    assert (done.returncode, "refuse: DAMAGED" in done.stdout) == (4, True)
    database.unlink()
    assert digests(database.parent) == left


def test_nothing_to_do_and_a_new_database_are_told_without_making_it(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    place = ("--migrations", tmp_path / "migrations-4", "--dry-run")
    assert "change nothing: the database is up to date" in dbsync("upgrade", "--database", database, *place).stdout
    new = tmp_path / "new" / "shop.db"
    new.parent.mkdir()
    done = dbsync("upgrade", "--database", new, *place)
    assert (done.returncode, "make a new database of schema 4 by 4 migration(s)" in done.stdout) == (0, True)
    assert "Migration v1: initial_schema" in done.stdout
    assert list(new.parent.iterdir()) == []
    assert dbsync("upgrade", "--database", new, *place[:2], "--on-copy").returncode == 2
    assert list(new.parent.iterdir()) == []


def test_too_little_space_is_told_with_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = make_shop(tmp_path, schema=2)
    released(tmp_path, 4)
    words = ["upgrade", "--database", str(database), "--migrations", str(tmp_path / "migrations-4"), "--dry-run"]
    monkeypatch.setattr(files, "free_bytes", lambda _: 49_000_000)
    before = digests(database.parent)
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 75
    assert f"space      {database.parent}: 50.0 MB needed, 49.0 MB free: NOT ENOUGH" in done.output
    done = CliRunner().invoke(main, [*words, "--on-copy"])
    assert done.exit_code == 75
    assert "could not copy to" in done.output
    assert "TMPDIR" in done.output
    assert digests(database.parent) == before


def test_the_text_fits_a_console_without_the_signs(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    released(tmp_path, 4)
    done = subprocess.run(
        [
            sys.executable, "-m", "dbsync", "upgrade", "--database", str(database), "--migrations",
            str(tmp_path / "migrations-4"), "--dry-run",
        ],
        capture_output=True, encoding="cp1252", env={"PYTHONIOENCODING": "cp1252"}, check=True, cwd=ROOT,
    )  # fmt: skip
    assert "[m] Migration v3: add_categories_parent_id" in done.stdout
    assert version(database) == 2
