"""A database that lost its first page after a migration: the schema is its own, not that of the backup before it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.model import Loss
from dbsync.recovery.repair import Good, compared
from tests.dbsync.recovery.test_repair import make_backup, of, overwrite, recovered, refused
from tests.helpers import forks
from tests.helpers.shop import ask, files, make_shop, released, sales, sell, upgrade, version


def test_a_backup_from_before_the_migration_is_brought_to_the_schema_that_was_lost(tmp_path: Path) -> None:
    database, into = make_shop(tmp_path, schema=2, items_count=4000), tmp_path / "new.db"
    assert upgrade(database, released(tmp_path, 5)).name == "MIGRATED"
    sell(database, 7)
    count, categories = sales(database), ask(database, "SELECT count(*) FROM categories")
    with database.open("r+b") as file:
        file.write(bytes(4096))
    done = forks.run(["-m", "dbsync", "repair", "--database", database, "--into", into, "--json"])
    told = json.loads(done.stdout)
    # Nobody can know that nothing is missing, so it is not called whole; but every row is there.
    assert (done.returncode, told["whole"]) == (1, False)
    assert (version(into), sales(into), ask(into, "SELECT count(*) FROM categories")) == (5, count, categories)
    assert ask(into, "SELECT count(*) FROM pragma_table_info('products') WHERE name = 'barcode'") == 1
    assert ask(into, "PRAGMA integrity_check") == "ok"


@pytest.mark.parametrize("number", [b"\xde\xad\xbe\xef", b"\0\0\0\0"], ids=["garbled", "zeroed"])
def test_a_schema_number_that_cannot_be_one_is_that_of_the_newest_backup(tmp_path: Path, number: bytes) -> None:
    database = make_shop(tmp_path, schema=4)
    make_backup(database)
    sell(database, 7)
    count = sales(database)
    with database.open("r+b") as file:
        file.seek(60)
        file.write(number)
        file.seek(100)
        file.write(bytes(3996))
    found = recovered(database)
    assert found.schema_from == str(found.compared_with)
    assert (version(found.into), sales(found.into), found.whole) == (4, count, False)


def test_a_schema_number_just_beyond_what_is_known_is_a_newer_schema_and_not_read_as_an_older_one(
    tmp_path: Path,
) -> None:
    database = make_shop(tmp_path, schema=4)
    make_backup(database)
    with database.open("r+b") as file:
        file.seek(60)
        file.write((5).to_bytes(4))
        file.seek(100)
        file.write(bytes(3996))
    refused(database, "nothing tells its schema")


def keyed(path: Path) -> list[tuple[object, ...]]:
    """A table without rowids beside others, whose tree is not where it was when the backup was made."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as live, live:
        live.execute("PRAGMA user_version=1")
        live.execute("CREATE TABLE spare (x)")
        live.execute("CREATE TABLE codes (code TEXT PRIMARY KEY, product TEXT NOT NULL, at INTEGER) WITHOUT ROWID")
        live.execute("CREATE TABLE sales (id INTEGER PRIMARY KEY, receipt TEXT)")
        live.execute("CREATE INDEX by_receipt ON sales (receipt)")
        live.executemany("INSERT INTO codes VALUES (?, 'p', ?)", [(f"{one:08d}", one) for one in range(2000)])
        live.executemany("INSERT INTO sales VALUES (?, ?)", [(one, f"R{one:08d}") for one in range(1, 2000)])
    make_backup(path)
    with closing(sqlite3.connect(path)) as live:
        live.execute("DROP TABLE spare")
        live.commit()
        live.execute("CREATE TABLE spare (x)")
        live.execute("VACUUM")
        return live.execute("SELECT * FROM codes").fetchall()


def test_without_its_schema_a_table_without_rowids_is_found_by_its_records(tmp_path: Path) -> None:
    database = tmp_path / "data" / "shop.db"
    before = keyed(database)
    overwrite(database, 1, b"\0")
    found = recovered(database)
    with closing(sqlite3.connect(found.into)) as live:
        assert live.execute("SELECT * FROM codes").fetchall() == before
        assert live.execute("SELECT count(*) FROM sales").fetchone() == (1999,)
    assert of(found, "codes").read_count == 2000
    assert (found.losses, found.aside, found.whole) == ((), None, False)


def test_tables_in_the_order_of_an_apps_collation_are_compared_by_content(tmp_path: Path) -> None:
    paths = [tmp_path / "one.db", tmp_path / "other.db"]
    for path in paths:
        with closing(sqlite3.connect(path)) as live, live:
            live.create_collation("german", lambda one, other: (one > other) - (one < other))
            live.execute("CREATE TABLE words (word TEXT COLLATE german PRIMARY KEY) WITHOUT ROWID")
            live.execute("INSERT INTO words VALUES (?)", (path.name,))
    losses, why = compared(paths[0], Good(paths[1], paths[1]))
    assert (losses, why) == ((Loss("words", added=1, changed=0, removed=1),), "")
    assert compared(paths[0], None) == ((), "")
    assert files(tmp_path) == {"one.db", "other.db"}
