"""What a migration gets in its hands, that a quoted name is never taken for a text, and who wrote what is told."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.errors import MigrationFailed
from dbsync.migrations.sandbox import Sandbox
from dbsync.migrations.write_log import Write, told
from dbsync.schema.sql_text import head_of, numbered, rename_of, use_of
from dbsync.storage.connections import open_scratch
from tests.helpers.shop import ask, dump, make_shop, upgrade, version, written

BASE = """
CREATE TABLE goods (id INTEGER PRIMARY KEY, name TEXT, stock INTEGER);
CREATE TABLE cart (id INTEGER PRIMARY KEY, goods INTEGER, "with space" TEXT);
CREATE TRIGGER stock_back AFTER DELETE ON cart BEGIN UPDATE goods SET stock = stock + 1 WHERE id = old.goods; END;
INSERT INTO goods VALUES (1, 'Bread', 5), (2, 'Milk', 0);
INSERT INTO cart VALUES (1, 1, 'x'), (2, 2, 'y');
"""


def shop(folder: Path) -> Path:
    """A small shop with a trigger of its own."""
    database = folder / "data" / "shop.db"
    database.parent.mkdir()
    assert upgrade(database, written(folder / "one", BASE)).ready
    return database


def test_a_migration_has_these_hands_and_no_others(tmp_path: Path) -> None:
    with closing(open_scratch()) as connection:
        db = Sandbox(connection, lambda _: None, tmp_path / "0001_step.py")
        public = {name for name in dir(db) if not name.startswith("_")}
    helpers = {"add_column", "rebuild_table", "add_foreign_key", "add_unique", "not_null", "backfill", "constrain"}
    own = {"execute", "query", "columns", "script", "log", "progress", "written", "check_transaction"}
    of_rebuilds = {"existing", "is_local", "local", "rebuild_with"}
    assert public == own | helpers | of_rebuilds
    whole = {"connection", "blobopen", "set_authorizer", "backup", "deserialize", "load_extension", "executescript"}
    assert not whole & public


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("SELECT load_extension('evil')", "an extension is code that was not signed"),
        ("PRAGMA writable_schema=ON", "PRAGMA writable_schema"),
        ("PRAGMA foreign_keys=OFF", "PRAGMA foreign_keys"),
        ("DELETE FROM schema_version", "schema_version is written by dbsync only"),
        ("UPDATE sqlite_schema SET sql = ''", "may not be modified"),
        ("DETACH main", "databases are attached and detached by dbsync"),
    ],
)
def test_what_is_refused_is_refused_at_once_with_its_line(tmp_path: Path, statement: str, words: str) -> None:
    database = shop(tmp_path)
    before = dump(database)
    outcome = upgrade(database, written(tmp_path / "two", BASE, f"-- a word\n\nSELECT 1;\n-- another\n{statement};\n"))
    assert outcome.name == "MIGRATION_FAILED"
    assert words in outcome.cause
    assert f"(line 5: {statement};)" in outcome.cause
    assert dump(database) == before


def test_a_finding_names_the_statement_its_line_and_the_trigger_through_which_it_wrote(tmp_path: Path) -> None:
    database = shop(tmp_path)
    step = "-- changes: delete cart\n-- carts are old\nSELECT 1;\n\nDELETE FROM cart\nWHERE goods = 1;\n"
    outcome = upgrade(database, written(tmp_path / "two", BASE, step))
    assert outcome.cause == (
        "goods.stock: 1 rows differ, keys 1, written by DELETE FROM cart (0002_step.sql line 5, through trigger"
        " stock_back) (allow it with `changes: update goods.stock`)"
    )
    assert (version(database), ask(database, "SELECT sum(stock) FROM goods")) == (1, 5)


def test_in_python_the_line_is_that_of_the_migration_also_through_a_helper(tmp_path: Path) -> None:
    database = shop(tmp_path)
    step = '"""A step."""\n\n\ndef up(db):\n    clean(db)\n    db.not_null("goods", "name", fill="\'?\'")\n\n\n'
    step += 'def clean(db):\n    db.execute("UPDATE goods SET name = ?, stock = 3", ("secret",))\n'
    outcome = upgrade(database, written(tmp_path / "two", BASE, step))
    assert (
        "goods.name: 2 rows differ, keys 1, 2, written by UPDATE goods (0002_step.py line 10), UPDATE" in outcome.cause
    )
    assert 'UPDATE "goods" (0002_step.py line 6)' in outcome.cause
    assert "goods.stock: 2 rows differ, keys 1, 2, written by UPDATE goods (0002_step.py line 10)" in outcome.cause
    assert "secret" not in outcome.cause
    failing = '"""A step."""\n\n\ndef up(db):\n    db.execute("SELECT * FROM nowhere")\n'
    outcome = upgrade(database, written(tmp_path / "three", BASE, failing))
    assert outcome.cause == "no such table: nowhere (line 5: SELECT * FROM nowhere)"
    assert version(database) == 1


def test_what_was_written_under_another_name_counts_for_the_name_that_it_has_then(tmp_path: Path) -> None:
    database = shop(tmp_path)
    step = """CREATE TABLE fresh (id INTEGER PRIMARY KEY, name TEXT, stock INTEGER);
        INSERT INTO fresh SELECT * FROM goods WHERE stock > 0;
        DROP TABLE goods;
        PRAGMA legacy_alter_table=ON;
        ALTER TABLE fresh RENAME TO goods;"""
    outcome = upgrade(database, written(tmp_path / "two", BASE, step))
    told_ = "goods: 1 rows are gone, keys 2, written by INSERT INTO fresh (0002_step.sql line 2), DROP TABLE goods"
    assert told_ in outcome.cause
    assert version(database) == 1


@pytest.mark.parametrize(
    "step",
    [
        'ALTER TABLE goods ADD COLUMN kind TEXT DEFAULT "food";',
        'CREATE VIEW names AS SELECT "name", "stock" AS "In stock" FROM "goods";',
        'CREATE VIEW names AS SELECT "name" FROM later; CREATE TABLE later (name TEXT);',
        """CREATE TRIGGER moved AFTER UPDATE OF "name" ON "goods" BEGIN INSERT INTO later VALUES (new."name"); END;
        CREATE TABLE later (name TEXT);""",
        """CREATE TRIGGER IF NOT EXISTS "a ""b""\" BEFORE INSERT ON cart
        BEGIN UPDATE "cart" SET "with space" = '"'; END;""",
        """CREATE VIEW door AS SELECT "id", name FROM goods;
        CREATE TRIGGER opened INSTEAD OF UPDATE ON "door" BEGIN UPDATE goods SET "name" = new.name; END;""",
        'CREATE INDEX "by name" ON goods("name"); CREATE TABLE "t" ("a" CHECK ("a" <> \'"b"\'));',
        'CREATE TABLE t (a); INSERT INTO t SELECT \'"\' || "name" || \'"\' FROM goods; -- "nothing"',
        '/* "nothing" */ CREATE TABLE ["t"] (`"a"`);',
    ],
)
def test_quoted_names_that_mean_something_raise_no_alarm(tmp_path: Path, step: str) -> None:
    database = shop(tmp_path)
    outcome = upgrade(database, written(tmp_path / "two", BASE, step))
    assert outcome.name == "MIGRATED", outcome.cause
    assert version(database) == 2


@pytest.mark.parametrize("comment", ["/* why */ ", "/* why\n*/\n-- and\n", "-- why /*\n", "/* ' \" ; */", ";;\n"])
def test_a_statement_after_a_comment_is_run(tmp_path: Path, comment: str) -> None:
    database = shop(tmp_path)
    step = f"{comment}CREATE TABLE ran (a); {comment}INSERT INTO ran VALUES ('/*'); {comment}/* not closed; "
    assert upgrade(database, written(tmp_path / "two", BASE, step)).name == "MIGRATED"
    assert ask(database, "SELECT count(*) FROM ran WHERE a = '/*'") == 1


def test_a_trigger_that_a_shop_has_already_may_hold_a_text_in_double_quotes(tmp_path: Path) -> None:
    database = shop(tmp_path)
    with closing(sqlite3.connect(database)) as live:
        live.execute("CREATE TABLE log (word TEXT)")
        live.execute('CREATE TRIGGER told AFTER UPDATE ON goods BEGIN INSERT INTO log VALUES ("changed"); END')
    step = "-- changes: update goods.stock\nUPDATE goods SET stock = 0 WHERE id = 1;"
    outcome = upgrade(database, written(tmp_path / "two", BASE, step + 'CREATE VIEW "v" AS SELECT "id" FROM goods;'))
    assert "the structure differs" not in outcome.cause
    assert outcome.name == "MIGRATED", outcome.cause
    assert ask(database, "SELECT count(*) FROM log") == 0, "a migration runs as it was tried, without it"
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("UPDATE goods SET stock = 1 WHERE id = 1")
    assert ask(database, "SELECT word FROM log") == "changed"


def test_the_check_of_a_body_leaves_nothing_and_counts_as_no_write(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    step = 'CREATE TRIGGER "t" AFTER DELETE ON products BEGIN DELETE FROM shifts WHERE "id" = 0; END;'
    assert upgrade(database, written(tmp_path / "m", step, after=2)).name == "MIGRATED"
    with closing(open_scratch()) as connection:
        connection.execute("CREATE TABLE a (x)")
        connection.execute("BEGIN")
        with Sandbox(connection, lambda _: None, tmp_path / "m.py") as db:
            db.execute("ALTER TABLE a ADD COLUMN y")
            db.execute('CREATE TRIGGER "t" AFTER DELETE ON a BEGIN DELETE FROM a WHERE "x" = 0; END')
    assert {one.table for one in db.written} <= {"sqlite_master"}


def test_a_body_is_checked_on_a_table_whose_name_needs_quotes(tmp_path: Path) -> None:
    with closing(open_scratch()) as connection:
        connection.execute('CREATE TABLE "big . {table}" (x, "set" AS (x))')
        connection.execute("BEGIN")
        with Sandbox(connection, lambda _: None, tmp_path / "m.py") as db:
            trigger = 'CREATE TRIGGER t AFTER UPDATE ON "big . {table}" BEGIN DELETE FROM "big . {table}" WHERE'
            db.execute(f'{trigger} "x" = 0; END')
            with pytest.raises(MigrationFailed, match="in double quotes"):
                db.execute(f'{trigger} "nowhere" = 0; END'.replace("TRIGGER t", "TRIGGER u"))


def test_statements_say_where_they_stand_and_what_they_do() -> None:
    text = "-- first\n\nSELECT 1; /* a\nb */ SELECT\n2;\nDELETE FROM a"
    assert [one.line for one in numbered(text)] == [3, 4, 6]
    heads = {
        "DELETE FROM a WHERE x = 'secret'": "DELETE FROM a",
        "WITH x AS (SELECT 'secret') INSERT INTO main.b SELECT * FROM x": "INSERT INTO main.b",
        "UPDATE OR IGNORE \"a b\" SET x = 'secret'": 'UPDATE OR IGNORE "a b"',
        "ALTER TABLE a RENAME TO b": "ALTER TABLE a RENAME TO b",
        "VALUES ('secret')": "VALUES",
    }
    assert {sql: head_of(sql) for sql in heads} == heads
    assert rename_of('ALTER TABLE main."a" RENAME TO [b c]') == ("a", "b c")
    assert rename_of("ALTER TABLE a RENAME COLUMN to TO x") == ("a", "")
    assert rename_of("ALTER TABLE a RENAME to TO x") == ("a", "")
    assert rename_of('ALTER TABLE "rename" ADD COLUMN x') is None
    assert use_of("CREATE TEMP VIEW IF NOT EXISTS main.v AS SELECT 1") == "SELECT * FROM main.v"
    assert use_of("CREATE TRIGGER t BEFORE INSERT ON a BEGIN DELETE FROM b; END") == "INSERT INTO a DEFAULT VALUES"
    assert use_of("CREATE TABLE view (a)") is None


def test_of_many_writers_two_are_named_and_the_others_counted() -> None:
    seen = frozenset(Write(order, "a", "", f"DELETE FROM a{order}", f"0001_x.sql line {order}") for order in range(4))
    assert told(seen, ("A",)) == ("DELETE FROM a0 (0001_x.sql line 0), DELETE FROM a1 (0001_x.sql line 1) and 2 more")
    assert (told(None, ("a",)), told(seen, ("b",))) == ("", "")


def test_ctrl_c_while_sqlite_asks_for_leave_is_ctrl_c_and_no_failure_of_the_migration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    with closing(open_scratch()) as connection:
        connection.executescript(f"{BASE} BEGIN")
        with Sandbox(connection, lambda _: None, tmp_path / "0001_step.py") as db:
            monkeypatch.setattr("dbsync.migrations.sandbox.why_not", pressed)
            with pytest.raises(KeyboardInterrupt):
                db.execute("UPDATE goods SET stock = 9")
            monkeypatch.undo()
            assert db.query("SELECT sum(stock) FROM goods") == [(5,)]
