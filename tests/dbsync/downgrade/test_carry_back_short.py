"""Going back over migrations that left every value where it was: the backup is the base, and the proof is the same."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.backups.catalog import list_backups
from dbsync.commands import downgrade
from dbsync.downgrade.row_translation import conserves
from dbsync.model import Loss, Migration, Returned
from dbsync.progress import Event
from tests.helpers.shop import ask, effects, files, upgrade, version, written

FIRST = """
CREATE TABLE sales (id INTEGER PRIMARY KEY AUTOINCREMENT, receipt TEXT NOT NULL UNIQUE, cents INTEGER NOT NULL);
CREATE TABLE words (word TEXT, times INTEGER);
"""
REBUILD = """
CREATE TABLE new_sales (
    id INTEGER PRIMARY KEY AUTOINCREMENT, receipt TEXT NOT NULL, cents INTEGER NOT NULL, UNIQUE (receipt, cents)
);
INSERT INTO new_sales SELECT * FROM sales;
DROP TABLE sales;
ALTER TABLE new_sales RENAME TO sales;
ALTER TABLE words ADD COLUMN remark TEXT;
"""
UNDECLARED = "-- changes: redefine sales\n"
UPPER = "-- changes: update words.word\nUPDATE words SET word = upper(word);"


def shop(tmp_path: Path, step: str) -> tuple[Path, tuple[Migration, ...]]:
    """A shop with three sales and two words, brought over one step."""
    database = tmp_path / "data" / "pos_system.db"
    database.parent.mkdir()
    found = written(tmp_path / "m", FIRST, step)
    assert upgrade(database, found[:1]).ready
    change(database, "INSERT INTO sales (receipt, cents) VALUES ('A', 100), ('B', 200), ('C', 300)")
    change(database, "INSERT INTO words VALUES ('one', 1), ('two', 2)")
    outcome = upgrade(database, found, trial_id="t1")
    assert outcome.name == "MIGRATED", outcome.cause
    return database, found


def change(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as live, live:
        for one in statements:
            live.execute(one)


def rows(database: Path, table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as live:
        return live.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


def back(database: Path, found: tuple[Migration, ...], *, accept_loss: bool = False) -> tuple[Returned, set[str]]:
    """What became of going back, and the steps that it told."""
    seen: list[Event] = []
    (base,) = (
        one for one in list_backups(backups=database.parent / "backups", database=database) if one.trial_id == "t1"
    )
    returned = downgrade.downgrade(effects(database, seen.append), base, found, accept_loss=accept_loss)
    return returned, {one.text for one in seen if one.name == "carry back"}


def test_without_a_second_run_of_the_migrations_all_arrives_and_the_older_values_are_there(tmp_path: Path) -> None:
    database, found = shop(tmp_path, UNDECLARED + REBUILD)
    # One receipt's number goes to another sale, which a replay in the wrong order could not do.
    change(
        database,
        "DELETE FROM sales WHERE receipt = 'B'",
        "INSERT INTO sales (receipt, cents) VALUES ('B', 250), ('D', 400)",
        "UPDATE sales SET cents = 101 WHERE receipt = 'A'",
        "INSERT INTO words (word, times) VALUES ('three', 3)",
        "DELETE FROM words WHERE word = 'one'",
    )
    returned, told = back(database, found)
    assert (returned.outcome.name, returned.losses) == ("CARRIED_BACK", ())
    assert "proving it" in told
    assert "migrating the backup" not in told
    assert rows(database, "sales") == [(1, "A", 101), (3, "C", 300), (4, "B", 250), (5, "D", 400)]
    assert rows(database, "words") == [("three", 3), ("two", 2)]
    assert ask(database, "SELECT seq FROM sqlite_sequence") == 5
    assert (version(database), ask(database, "PRAGMA integrity_check")) == (1, "ok")
    assert not {one for one in files(database.parent / "backups") if one.startswith(".")}


def test_what_the_backup_cannot_show_is_found_by_the_proof_and_told_exactly(tmp_path: Path) -> None:
    database, found = shop(tmp_path, UNDECLARED + REBUILD)
    change(database, "UPDATE words SET remark = 'kept' WHERE word = 'two'", "DELETE FROM sales WHERE receipt = 'B'")
    stays, told = back(database, found)
    assert (stays.outcome.name, stays.losses) == ("STAYS", (Loss("words", 1, 0, 1),))
    assert "migrating the backup" in told
    assert (version(database), len(rows(database, "sales"))) == (2, 2)
    gone, _ = back(database, found, accept_loss=True)
    assert (gone.outcome.name, gone.parked is not None) == ("RESTORED_WITH_LOSS", True)
    assert (version(database), rows(database, "sales")) == (1, [(1, "A", 100), (3, "C", 300)])


def test_two_rows_that_would_be_one_for_the_older_schema_are_told_and_the_rest_is_carried(tmp_path: Path) -> None:
    database, found = shop(tmp_path, UNDECLARED + REBUILD)
    change(database, "INSERT INTO sales (receipt, cents) VALUES ('A', 999), ('D', 400)")
    returned, _ = back(database, found)
    assert (returned.outcome.name, returned.losses) == ("STAYS", (Loss("sales", 1, 0, 0),))
    assert (version(database), len(rows(database, "sales"))) == (2, 5)
    gone, _ = back(database, found, accept_loss=True)
    assert gone.outcome.name == "RESTORED_WITH_LOSS"
    assert (version(database), rows(database, "sales")[-1]) == (1, (5, "D", 400))
    assert upgrade(database, found, trial_id="t2").name == "MIGRATED"
    assert rows(database, "sales")[-2:] == [(4, "A", 999), (5, "D", 400)]
    assert not ask(database, "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'dbsync_kept%'")


def test_values_that_a_migration_changed_come_back_as_they_were_even_where_going_up_again_proves_nothing(
    tmp_path: Path,
) -> None:
    database, found = shop(tmp_path, UPPER)
    change(database, "INSERT INTO words VALUES ('THREE', 3)")
    returned, told = back(database, found)
    assert returned.outcome.name == "CARRIED_BACK"
    assert "migrating the backup" in told
    assert rows(database, "words") == [("THREE", 3), ("one", 1), ("two", 2)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ALTER TABLE words ADD COLUMN remark TEXT;", True),
        (UNDECLARED + REBUILD, True),
        ("-- changes: drop column words.times\nALTER TABLE words DROP COLUMN times;", True),
        ("-- changes: drop table words\nDROP TABLE words;", True),
        (UPPER, False),
        ("-- changes: rename words -> terms\nALTER TABLE words RENAME TO terms;", False),
        ("-- changes: rename words.word -> words.term\nALTER TABLE words RENAME COLUMN word TO term;", False),
        ("-- changes: retype words.times\nUPDATE words SET times = CAST(times AS TEXT);", False),
        ("-- changes: insert words\nINSERT INTO words VALUES ('new', 0);", False),
        ("-- changes: delete words\nDELETE FROM words;", False),
        ('"""Down by a function."""\ndef up(db):\n    pass\n\n\ndef down_row(table, row):\n    return row\n', False),
        ('"""Nothing moves."""\n\n\ndef up(db):\n    pass\n', True),
    ],
)
def test_the_backup_is_the_base_only_of_migrations_that_declare_no_other_value(
    tmp_path: Path, text: str, expected: bool
) -> None:
    found = written(tmp_path / "m", FIRST, text)
    assert conserves(found[1:]) is expected
    assert files(tmp_path / "m") == {one.path.name for one in found}


def test_migrations_that_do_not_lead_to_the_databases_schema_prove_nothing(tmp_path: Path) -> None:
    database, found = shop(tmp_path, UNDECLARED + REBUILD)
    before = rows(database, "sales")
    returned, _ = back(database, found[:1], accept_loss=True)
    why = "it cannot be carried back: it has schema 2, and the migrations lead to 1"
    assert (returned.outcome.name, returned.outcome.cause) == ("STAYS", why)
    assert (version(database), rows(database, "sales")) == (2, before)
    assert not {one for one in files(database.parent / "backups") if one.startswith(".")}


def test_another_releases_migrations_are_named_as_what_they_are(tmp_path: Path) -> None:
    database, _ = shop(tmp_path, UNDECLARED + REBUILD)
    others = written(tmp_path / "others", FIRST, "ALTER TABLE nowhere ADD COLUMN word TEXT;")
    returned, _ = back(database, others)
    changed = "it cannot be carried back: 0002_step was changed after the database had taken it; "
    assert (returned.outcome.name, returned.outcome.cause.startswith(changed + "no such table")) == ("STAYS", True)
    (base,) = (
        one for one in list_backups(backups=database.parent / "backups", database=database) if one.trial_id == "t1"
    )
    assert downgrade.diff(effects(database), base, others, export=None).why_not in returned.outcome.cause
    assert (version(database), len(rows(database, "sales"))) == (2, 3)
