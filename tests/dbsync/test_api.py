"""The calls for Python (requirements S74 to S82)."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync import api
from dbsync.errors import BadMigrations, Damaged, Locked, Missing
from dbsync.storage.locks import Lock
from tests.helpers.shop import files, make_shop, released, sales, sell, version
from tests.helpers.systems import missing


def test_a_folder_and_one_call(tmp_path: Path) -> None:
    released(tmp_path, 4)
    released(tmp_path, 6)
    database, folder = tmp_path / "data" / "shop.db", tmp_path / "migrations-4"
    database.parent.mkdir()
    assert api.get_current_version(database) == 0
    assert api.initialize_versioning(database=database, folder=folder)
    assert (api.get_current_version(database), api.get_latest_version(folder)) == (4, 4)
    assert [one.number for one in api.get_pending_migrations(tmp_path / "migrations-6", 4)] == [5, 6]
    found = api.get_migration_by_version(folder, 3)
    assert found is not None
    assert (found.name, api.get_migration_by_version(folder, 9)) == ("add_categories_parent_id", None)
    assert api.verify_integrity(database)
    told = api.get_migration_history(database=database)
    assert [row["number"] for row in told["applied"]] == [1, 2, 3, 4]
    assert told["runs"][-1]["outcome"] == "CREATED"


def test_a_failed_run_is_in_the_history_although_the_database_knows_nothing_of_it(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4, duplicate_sku=True)
    released(tmp_path, 6)
    assert not api.initialize_versioning(database=database, folder=tmp_path / "migrations-6")
    told = api.get_migration_history(database=database)
    assert (told["current_version"], told["runs"][-1]["outcome"]) == (4, "MIGRATION_FAILED")
    assert [row["number"] for row in told["applied"]] == [1, 2, 3, 4]


def test_backups_emptying_and_importing(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    released(tmp_path, 4)
    to = tmp_path / "usb" / "my backup.db"
    assert api.create_backup(database=database, to=to) == to
    sell(database)
    kept = api.empty_database(database=database, folder=tmp_path / "migrations-4")
    assert kept is not None
    assert (sales(database), sales(kept.path)) == (0, 101)
    imported = api.import_database(database=database, file=to, folder=tmp_path / "migrations-4")
    assert imported.outcome.ready
    assert (sales(database), version(database)) == (100, 4)


def test_what_is_wrong_is_said_and_nothing_is_touched(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    released(tmp_path, 4)
    before = files(tmp_path)
    with pytest.raises(BadMigrations):
        api.run_migrations(database=database, folder=tmp_path / "nowhere")
    lock = Lock(Path(f"{database}.lock"))
    assert lock.try_take()
    with pytest.raises(Locked):
        api.run_migrations(database=database, folder=tmp_path / "migrations-4")
    lock.release()
    with pytest.raises(Missing):
        api.create_backup(database=tmp_path / "shop.db")
    database.write_bytes(b"ruined" * 1000)
    assert not api.verify_integrity(database)
    with pytest.raises(Damaged):
        api.get_current_version(database)
    assert api.get_migration_history(database=database)["state"] == "unreadable"
    with pytest.raises(Damaged, match="it is a folder"):
        api.get_current_version(tmp_path)
    assert files(tmp_path) == before


def test_that_a_database_is_written_just_now_is_not_taken_for_an_old_or_a_damaged_one(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    with closing(sqlite3.connect(database)) as live:
        live.execute("BEGIN EXCLUSIVE")
        for call in (api.get_current_version, api.verify_integrity):
            with pytest.raises(Locked):
                call(database)
    assert (api.get_current_version(database), api.verify_integrity(database)) == (4, True)


def test_wrong_migrations_are_said_before_a_lock_or_a_folder_is_made(tmp_path: Path) -> None:
    for call in (
        lambda: api.run_migrations(database=tmp_path / "data" / "shop.db", folder=tmp_path / "nowhere"),
        lambda: api.empty_database(database=tmp_path / "data" / "shop.db", folder=tmp_path / "nowhere"),
        lambda: api.adopt_database(database=tmp_path / "data" / "shop.db", folder=tmp_path / "nowhere"),
    ):
        with pytest.raises(BadMigrations, match=re.escape(missing(tmp_path / "nowhere"))):
            call()
    assert list(tmp_path.iterdir()) == []
