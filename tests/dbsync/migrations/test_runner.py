"""What a migration may do, what is refused, and that a failure leaves nothing behind."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.errors import BadMigrations, MigrationFailed
from dbsync.migrations import folder as migration_folder
from dbsync.migrations import runner
from dbsync.migrations.sandbox import STRINGS
from dbsync.schema.sql_text import split
from dbsync.storage.connections import open_copy, open_scratch
from dbsync.storage.introspection import version_of
from tests.helpers.shop import dump, files, make_shop, released, upgrade, version, written

PYTHON = '"""A step."""\n\n\ndef up(db):\n    '


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("COMMIT", "COMMIT"),
        ("ROLLBACK", "ROLLBACK"),
        ("BEGIN", "BEGIN"),
        ("SAVEPOINT mine", "savepoints"),
        ("ATTACH ':memory:' AS other", "attached"),
        ("PRAGMA foreign_keys=ON", "foreign_keys"),
        ("PRAGMA user_version=9", "user_version"),
        ("PRAGMA writable_schema=ON", "writable_schema"),
        ("PRAGMA journal_mode=WAL", "journal_mode"),
        ("DELETE FROM dbsync_history", "dbsync_history"),
        ("DROP TABLE schema_version", "schema_version"),
        ("VACUUM", "VACUUM"),
        ("this is no SQL", "syntax error"),
    ],
)
def test_a_statement_that_would_break_the_one_transaction_fails_the_run(
    tmp_path: Path, statement: str, word: str
) -> None:
    database = make_shop(tmp_path, schema=2)
    before = dump(database)
    outcome = upgrade(database, written(tmp_path / "m", f"CREATE TABLE extra (a);\n{statement};\n", after=2))
    assert outcome.name == "MIGRATION_FAILED"
    assert word in outcome.cause
    assert outcome.migration == "v3 step"
    assert dump(database) == before
    assert outcome.backup is not None
    assert dump(outcome.backup.path) == before


def test_a_failure_in_the_third_of_three_undoes_the_first_two(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    before = dump(database)
    found = written(tmp_path / "m", "CREATE TABLE a (x);", "CREATE TABLE b (x);", "CREATE TABLE a (x);", after=2)
    outcome = upgrade(database, found)
    assert (outcome.name, outcome.migration) == ("MIGRATION_FAILED", "v5 step")
    assert dump(database) == before


def test_pythons_own_errors_are_named_with_their_line(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    outcome = upgrade(database, written(tmp_path / "m", PYTHON + "return 1 / 0\n", after=2))
    assert outcome.cause == "ZeroDivisionError: division by zero (line 5)"
    assert version(database) == 2


def test_a_migration_that_swallows_its_error_does_not_go_on_in_autocommit(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    before = dump(database)
    text = (
        PYTHON + "try:\n        db.execute('COMMIT')\n    except Exception:\n        db.execute('CREATE TABLE x (a)')\n"
    )
    outcome = upgrade(database, written(tmp_path / "m", text + "    db.execute('nonsense')\n", after=2))
    assert outcome.name == "MIGRATION_FAILED"
    assert dump(database) == before


def test_an_unknown_quoted_name_is_no_text(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    outcome = upgrade(database, written(tmp_path / "m", 'UPDATE products SET name = "termianl_id";', after=2))
    assert outcome.name == "MIGRATION_FAILED"
    assert "termianl_id" in outcome.cause
    assert outcome.hint == STRINGS
    assert version(database) == 2


def test_a_rebuild_does_not_cascade_into_the_children(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    text = """
        CREATE TABLE new_transactions (
            id INTEGER PRIMARY KEY AUTOINCREMENT, receiptNumber TEXT NOT NULL UNIQUE,
            shiftId INTEGER REFERENCES shifts(id), totalCents INTEGER NOT NULL,
            paidWith TEXT NOT NULL CHECK (paidWith IN ('cash', 'card')), createdAt TEXT NOT NULL
        );
        INSERT INTO new_transactions SELECT * FROM transactions;
        DROP TABLE transactions;
        ALTER TABLE new_transactions RENAME TO transactions;
    """
    outcome = upgrade(database, written(tmp_path / "m", text, after=2))
    assert outcome.name == "MIGRATED", outcome.cause
    assert any('INSERT INTO "transaction_items"' in line for line in dump(database))


def test_rows_that_vanish_undeclared_fail_verification_and_a_declaration_allows_them(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    before = dump(database)
    outcome = upgrade(database, written(tmp_path / "a", "DELETE FROM transaction_items WHERE id <= 12;", after=2))
    assert outcome.name == "VERIFICATION_FAILED"
    assert (
        "transaction_items: 12 rows are gone, keys 1, 2, 3, written by DELETE FROM transaction_items"
        " (0003_step.sql line 1) (allow it with `changes: delete transaction_items`)" in outcome.cause
    )
    assert dump(database) == before
    text = "-- changes: delete transaction_items\nDELETE FROM transaction_items WHERE id <= 12;"
    assert upgrade(database, written(tmp_path / "b", text, after=2)).name == "MIGRATED"


def test_only_new_foreign_key_violations_count(tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    database = make_shop(tmp_path, schema=2)
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("UPDATE products SET categoryId = 'gone' WHERE id = 'p1'")
    assert upgrade(database, released(tmp_path, 4)).name == "MIGRATED"
    outcome = upgrade(
        database, written(tmp_path / "m", "UPDATE products SET categoryId = 'gone too' WHERE id = 'p2';", after=4)
    )
    assert outcome.name == "VERIFICATION_FAILED"
    assert "1 rows of products refer to rows of categories that are not there" in outcome.cause
    assert version(database) == 4


def test_links_into_a_table_that_was_written_and_of_a_new_table_are_checked_too(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    lost = "-- changes: delete categories where o.id = 'c1'\nDELETE FROM categories WHERE id = 'c1';"
    outcome = upgrade(database, written(tmp_path / "a", lost, after=2))
    assert "rows of products refer to rows of categories that are not there" in outcome.cause
    new = (
        "CREATE TABLE tmp (id INTEGER PRIMARY KEY, product TEXT REFERENCES products(id));"
        "INSERT INTO tmp VALUES (1, 'nothing'); ALTER TABLE tmp RENAME TO wishes;"
    )
    outcome = upgrade(database, written(tmp_path / "b", new, after=2))
    assert "1 rows of wishes refer to rows of products that are not there" in outcome.cause
    assert version(database) == 2


def test_a_shops_own_index_does_not_stop_updates_and_a_migration_that_drifts_does(tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    database = make_shop(tmp_path, schema=2)
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("CREATE INDEX support_made_this ON products(name)")
    assert upgrade(database, released(tmp_path, 4)).name == "MIGRATED"
    text = (
        PYTHON
        + "if db.query('SELECT count(*) FROM products')[0][0]:\n        db.execute('CREATE TABLE only_here (a)')\n"
    )
    outcome = upgrade(database, written(tmp_path / "m", text, after=4))
    assert outcome.name == "VERIFICATION_FAILED"
    assert "the structure differs from a fresh database: with table only_here" in outcome.cause


def test_sql_files_keep_triggers_comments_and_a_table_called_table(tmp_path: Path) -> None:
    text = """
        -- a comment; with a semicolon
        CREATE TABLE "table" (a TEXT DEFAULT ';'); /* another; one */ ;
        CREATE TRIGGER t AFTER INSERT ON "table" BEGIN
            UPDATE "table" SET a = 'x;y'; DELETE FROM "table" WHERE a = '';
        END;
        INSERT INTO "table" VALUES ('it''s')
    """
    assert len(list(split(text))) == 3
    database = tmp_path / "data" / "new.db"
    database.parent.mkdir()
    assert upgrade(database, written(tmp_path / "m", text)).name == "CREATED"
    assert "INSERT INTO \"table\" VALUES('x;y');" in dump(database)


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (("0001_a.sql", "0003_c.sql"), "0002 is missing"),
        (("0001_a.sql", "0001_b.sql"), "0001 is there more than once"),
        (("1_a.sql",), "is named like"),
        (("0001_a.sql", "0002_b.SQL"), "is named like"),
        (("0002_a.sql",), "0001 is missing"),
    ],
)
def test_gaps_and_duplicates_are_refused_before_anything_is_touched(
    tmp_path: Path, names: tuple[str, ...], word: str
) -> None:
    for name in names:
        (tmp_path / name).write_text("CREATE TABLE a (x);")
    with pytest.raises(BadMigrations, match=word):
        migration_folder.load(tmp_path)
    assert files(tmp_path) == set(names)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("changes = 'update a.x'", "changes must be a list of strings"),
        ("changes = 5", "changes must be a list of strings"),
        ("WHAT = 'drop a'\nchanges = [WHAT]", r"changes must be written out.*\(line 2\)"),
    ],
)
def test_a_declaration_in_another_form_is_refused_and_never_taken_apart(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "0001_a.py").write_text(f"{text}\n\n\ndef up(db):\n    pass\n")
    with pytest.raises(BadMigrations, match=word):
        migration_folder.load(tmp_path)


@pytest.mark.parametrize("place", ["up", "top"])
def test_a_migration_that_ends_the_program_fails_and_does_not_look_like_success(tmp_path: Path, place: str) -> None:
    database = make_shop(tmp_path, schema=2)
    before = dump(database)
    ends = "raise SystemExit(0)"
    text = f'"""Ends."""\n\n\ndef up(db):\n    {ends if place == "up" else "pass"}\n'
    outcome = upgrade(database, written(tmp_path / "m", text + (ends if place == "top" else ""), after=2))
    assert outcome.name == "MIGRATION_FAILED"
    assert f"SystemExit: 0 (line {5 if place == 'up' else 6})" in outcome.cause
    assert dump(database) == before


def test_a_line_that_is_not_the_migrations_own_is_not_told(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    outcome = upgrade(database, written(tmp_path / "m", '"""No arguments."""\n\n\ndef up():\n    pass\n', after=2))
    assert outcome.cause == "TypeError: up() takes 0 positional arguments but 1 was given"
    assert version(database) == 2


def test_identity_goes_by_the_text_and_not_by_its_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "0001_a.sql").write_bytes(b"CREATE TABLE a (x);\nSELECT 1;\n")
    (tmp_path / "b" / "0001_a.sql").write_bytes(b"\xef\xbb\xbfCREATE TABLE a (x);  \r\nSELECT 1;\r\n\r\n")
    assert migration_folder.load(tmp_path / "a")[0].sha256 == migration_folder.load(tmp_path / "b")[0].sha256


def test_an_edited_migration_is_refused_and_a_mended_one_blessed(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    before = dump(database)
    released(tmp_path, 2)
    path = tmp_path / "migrations-2" / "0002_add_business_contact_fields.py"
    old = migration_folder.load(tmp_path / "migrations-2")[1].sha256
    path.write_text(path.read_text() + "\n# edited\n")
    outcome = upgrade(database, migration_folder.load(tmp_path / "migrations-2"))
    assert outcome.name == "HISTORY_DIFFERS"
    assert dump(database) == before
    path.write_text(f'replaces = ["{old}"]\n' + path.read_text())
    assert upgrade(database, migration_folder.load(tmp_path / "migrations-2")).ready
    assert any("'blessed',2,'add_business_contact_fields'" in line for line in dump(database))
    assert upgrade(database, migration_folder.load(tmp_path / "migrations-2")).name == "UP_TO_DATE"


def test_the_broken_v6_fails_here_and_the_mended_one_ends_in_the_same_structure(tmp_path: Path) -> None:
    from dbsync.migrations.runner import fresh_structure

    database = make_shop(tmp_path, schema=4, duplicate_sku=True)
    before = dump(database)
    outcome = upgrade(database, released(tmp_path, 6))
    assert (outcome.name, outcome.migration) == ("MIGRATION_FAILED", "v6 add_products_sku_unique")
    assert dump(database) == before
    mended = released(tmp_path, 6, mended=True)
    assert fresh_structure(mended) == fresh_structure(released(tmp_path, 6))
    assert upgrade(database, mended).name == "MIGRATED"
    assert any("'SKU-00003-2'" in line for line in dump(database))


def test_what_python_raises_is_told_with_its_file_and_the_line_that_raised(tmp_path: Path) -> None:
    text = '"""Divides."""\n\n\ndef inner(many):\n    return 1 / many\n\n\ndef up(db):\n    inner(0)\n'
    (migration,) = written(tmp_path / "m", text)
    with closing(open_scratch()) as connection, pytest.raises(MigrationFailed) as caught:
        runner.run_all(connection, (migration,))
    assert caught.value.operation == "migrate"
    assert caught.value.path == migration.path
    assert caught.value.cause == "ZeroDivisionError: division by zero (line 5)"


def test_a_migration_that_fails_at_its_top_level_is_told_with_its_line(tmp_path: Path) -> None:
    (migration,) = written(tmp_path / "m", '"""Imports."""\n\nimport no_such_module\n\n\ndef up(db):\n    pass\n')
    with closing(open_scratch()) as connection, pytest.raises(MigrationFailed, match=r"no_such_module.*\(line 3\)"):
        runner.run_all(connection, (migration,))


def test_a_program_is_not_run_on_a_database_in_memory(tmp_path: Path) -> None:
    (tmp_path / "0001_tool.toml").write_text('command = ["tool", "{database}"]\n')
    found = migration_folder.load(tmp_path)
    with closing(open_scratch()) as connection, pytest.raises(MigrationFailed) as caught:
        runner.run_all(connection, found)
    said = (caught.value.operation, caught.value.path, caught.value.cause)
    assert said == ("migrate", found[0].path, "a program needs a database in a file")


def test_a_python_migration_knows_its_name_and_its_file_and_so_do_its_tracebacks(tmp_path: Path) -> None:
    text = (
        '"""Says who it is."""\n\n\ndef up(db):\n'
        "    me = (__name__, __file__, up.__code__.co_filename)\n"
        '    db.execute("CREATE TABLE me (name, file, code)")\n'
        '    db.execute("INSERT INTO me VALUES (?, ?, ?)", me)\n'
    )
    (migration,) = written(tmp_path / "m", text)
    with closing(open_scratch()) as connection:
        runner.run_all(connection, (migration,))
        me = connection.execute("SELECT * FROM me").fetchall()
    assert me == [("migration_0001", str(migration.path), str(migration.path))]


def test_a_run_on_a_throw_away_database_tells_its_migrations_its_statements_and_what_was_written(
    tmp_path: Path,
) -> None:
    python = (
        '"""Logs."""\n\n\ndef up(db):\n    assert db.log("heard by nobody") is None\n    db.execute("DELETE FROM b")\n'
    )
    found = written(tmp_path / "m", "CREATE TABLE a (x);", "CREATE TABLE b (x);\nINSERT INTO b VALUES (1);", python)
    told: list[tuple[int, int, str]] = []
    issued: list[tuple[int, str]] = []

    def hear(done: int, total: int, text: str = "", unit: str = "") -> None:
        told.append((done, total, text))

    with closing(open_scratch()) as connection:
        connection.execute("BEGIN")
        touched = runner.apply_all(
            connection, found, told=hear, issued=lambda one, sql: issued.append((one.number, sql.split()[0]))
        )
        connection.execute("COMMIT")
        assert runner.run_all(connection, ()) == frozenset()
    assert [one for one in told if one[2].startswith("v")] == [(0, 0, "v1 step"), (0, 0, "v2 step"), (0, 0, "v3 step")]
    assert len(told) > 3, "and its statements"
    assert issued == [(1, "CREATE"), (2, "CREATE"), (2, "INSERT"), (3, "DELETE")]
    assert touched is not None
    assert {one.table for one in touched} >= {"b"}
    assert files(tmp_path / "m") == {one.path.name for one in found}


def test_a_throw_away_file_is_brought_up_and_says_what_it_had_not(tmp_path: Path) -> None:
    found = written(tmp_path / "m", "CREATE TABLE a (x);", "CREATE TABLE b (x);", "INSERT INTO nowhere VALUES (1);")
    path = tmp_path / "scratch.db"
    assert runner.migrate_up(path, found[:1]) == found[:1]
    assert runner.migrate_up(path, found[:2]) == found[1:2]
    assert runner.migrate_up(path, found[:2]) == ()
    with pytest.raises(MigrationFailed, match="nowhere"):
        runner.migrate_up(path, found)
    with closing(open_copy(path)) as connection:
        assert version_of(connection) == 2


def test_a_file_that_is_no_database_is_told_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "scratch.db"
    path.write_text("no database at all, but longer than a header would be " * 5)
    with pytest.raises(Exception, match=re.escape(f"could not migrate a copy {path}: file is not a database")):
        runner.migrate_up(path, written(tmp_path / "m", "CREATE TABLE a (x);"))
