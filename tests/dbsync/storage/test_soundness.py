"""Two checks with two names: the quick one while a till waits, the full one wherever none does."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import dbsync as dbsync_api
from dbsync.backups import catalog, restore
from dbsync.cli.console import lines_of
from dbsync.errors import BackupUnusable
from dbsync.progress import Event, EventKind
from dbsync.storage.connections import Thoroughness, check_soundness, open_copy, open_reading, possible_check
from tests.dbsync.cli.test_check import dbsync
from tests.helpers.damage import exchange_pages
from tests.helpers.shop import ask, effects, make_shop, released, sales, sell, upgrade, version


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A shop with an index of several pages."""
    return make_shop(tmp_path, schema=2, items_count=3000)


def found(database: Path, thoroughness: Thoroughness) -> str | None:
    with closing(open_copy(database)) as connection:
        return check_soundness(connection, thoroughness)


def test_exchanged_pages_pass_the_quick_check_and_not_the_full_one(shop: Path) -> None:
    exchange_pages(shop)
    assert found(shop, Thoroughness.QUICK) is None
    assert "out of order" in str(found(shop, Thoroughness.FULL)) or "missing from index" in str(
        found(shop, Thoroughness.FULL)
    )


def test_a_backup_by_hand_of_exchanged_pages_is_refused_and_nothing_is_left(shop: Path) -> None:
    exchange_pages(shop)
    done = dbsync("backup", "--database", shop)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "integrity check passed" not in done.stdout
    assert not list((shop.parent / "backups").glob("*.db"))


def test_a_backup_by_hand_says_which_check_it_passed(shop: Path) -> None:
    done = dbsync("backup", "--json", "--database", shop)
    assert json.loads(done.stdout)["checked"] == "integrity_check"
    assert "good (integrity_check)" in dbsync("backups", "--database", shop).stdout
    assert "✅ Database integrity check passed" in dbsync("backup", "--database", shop).stdout


def test_verify_and_the_api_find_exchanged_pages(shop: Path, tmp_path: Path) -> None:
    released(tmp_path, 2)
    assert dbsync("verify", "--database", shop, "--migrations", tmp_path / "migrations-2").returncode == 0
    assert dbsync_api.verify_integrity(shop)
    exchange_pages(shop)
    done = dbsync("verify", "--database", shop, "--migrations", tmp_path / "migrations-2")
    assert done.returncode == 1
    assert "would not be sound" in done.stdout
    assert not dbsync_api.verify_integrity(shop)


def test_a_rehearsal_finds_exchanged_pages(shop: Path, tmp_path: Path) -> None:
    released(tmp_path, 4)
    exchange_pages(shop)
    done = dbsync("rehearse", "--database", shop, "--migrations", tmp_path / "migrations-4")
    assert done.returncode == 4, done.stdout
    assert str(shop) in done.stderr
    assert ".part-" not in done.stderr


def test_restore_refuses_a_backup_with_exchanged_pages_though_its_facts_call_it_verified(
    shop: Path, tmp_path: Path
) -> None:
    """It was made at a start of the till, which checks quickly; its checksum is right."""
    exchange_pages(shop)
    outcome = upgrade(shop, released(tmp_path, 4))
    assert outcome.name == "MIGRATED", outcome.cause
    assert outcome.backup is not None
    backup = catalog.read(outcome.backup.path)
    assert (backup.verified, backup.checked) == (True, "quick_check")
    done = dbsync("restore", backup.path, "--yes", "--database", shop)
    assert done.returncode == 4, done.stdout
    assert "dbsync repair --database" in done.stderr
    assert version(shop) == 4
    # The till, and a person's rollback on it, must get back; the quick check stays theirs.
    assert restore.check_backup_file(backup.path).version == 2
    with pytest.raises(BackupUnusable):
        restore.check_backup_file(backup.path, Thoroughness.FULL)


def test_a_backup_that_passed_the_full_check_is_read_once_for_its_checksum(shop: Path) -> None:
    made = effects(shop).make_backup()
    assert made.checked == Thoroughness.FULL
    # Were it checked as a database again, this would be found: the facts are believed while the checksum is right.
    exchange_pages(made.path)
    (facts,) = catalog.list_backups(backups=shop.parent / "backups", database=shop)
    from dbsync.storage import files

    catalog.write_facts(facts._replace(sha256=files.sha256_of(made.path)))
    assert restore.check_backup_file(made.path, Thoroughness.FULL).path == made.path


def test_facts_of_an_older_version_name_no_check_and_count_as_quick(shop: Path) -> None:
    made = effects(shop).make_backup()
    facts = json.loads(catalog.facts_path(made.path).read_text())
    del facts["checked"]
    catalog.facts_path(made.path).write_text(json.dumps(facts))
    (read,) = catalog.list_backups(backups=shop.parent / "backups", database=shop)
    assert (read.verified, read.checked) == (True, "")
    assert "  good  " in dbsync("backups", "--database", shop).stdout
    done = dbsync("restore", made.path, "--yes", "--database", shop)
    assert done.returncode == 0, done.stderr


def test_only_the_full_check_is_called_an_integrity_check() -> None:
    said = {check: lines_of(Event(EventKind.INTEGRITY, name=check)) for check in Thoroughness}
    assert said == {
        Thoroughness.QUICK: ["✅ Database quick check passed"],
        Thoroughness.FULL: ["✅ Database integrity check passed"],
        Thoroughness.PAGES: ["✅ Database check of pages passed"],
    }


def test_an_upgrade_by_a_person_checks_fully_and_with_a_waiting_till_quickly(shop: Path, tmp_path: Path) -> None:
    released(tmp_path, 4)
    other = tmp_path / "other" / "pos_system.db"
    other.parent.mkdir()
    shutil.copy(shop, other)
    folder = ("--migrations", tmp_path / "migrations-4")
    quick = dbsync("upgrade", "--quick", "--database", other, *folder)
    assert quick.returncode == 0
    assert quick.stdout.count("✅ Database quick check passed") == 2
    assert "integrity check" not in quick.stdout
    full = dbsync("upgrade", "--database", shop, *folder)
    assert full.stdout.count("✅ Database integrity check passed") == 2
    assert sales(shop) == sales(other)


def test_where_a_function_of_the_app_is_missing_the_check_that_can_run_is_named(shop: Path) -> None:
    with closing(sqlite3.connect(shop)) as live:
        live.create_function("folded", 1, str.casefold, deterministic=True)
        live.execute("CREATE INDEX folded_names ON products (folded(name))")
    with closing(open_copy(shop)) as connection:
        assert possible_check(connection, Thoroughness.FULL) is Thoroughness.QUICK
    assert effects(shop).make_backup().checked == Thoroughness.QUICK
    assert "✅ Database quick check passed" in dbsync("backup", "--database", shop).stdout


def refused(database: Path) -> None:
    """Write rows that a CHECK constraint refuses, as a program with `ignore_check_constraints` does."""
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("CREATE TABLE shelves (id INTEGER PRIMARY KEY, place INTEGER CHECK (place > 0))")
        live.execute("PRAGMA ignore_check_constraints=ON")
        live.executemany("INSERT INTO shelves (place) VALUES (?)", ((-number,) for number in range(9)))


@pytest.mark.parametrize("wal", [False, True], ids=["delete", "wal"])
def test_a_row_that_a_check_constraint_refuses_is_no_damage(tmp_path: Path, wal: bool) -> None:
    database = make_shop(tmp_path, schema=2, wal=wal)
    refused(database)
    kept = effects(database).make_backup()
    for found in (2, 4):
        outcome = upgrade(database, released(tmp_path, found), trial_id=f"t{found}")
        assert outcome.ready, outcome.cause
    folder = tmp_path / "migrations-4"
    done = dbsync("verify", "--database", database, "--migrations", folder)
    assert (done.returncode, "CHECK constraint failed in shelves: 9 rows" in done.stdout) == (1, True), done.stdout
    done = dbsync("downgrade", "--database", database, "--migrations", folder, "--yes")
    assert (done.returncode, version(database)) == (0, 2), done.stdout + done.stderr
    sell(database)
    done = dbsync("restore", kept.path, "--database", database, "--yes", "--accept-loss")
    assert done.returncode == 6, done.stdout + done.stderr
    assert ask(database, "SELECT count(*) FROM shelves") == 9


def test_damage_is_found_behind_any_number_of_rows_that_a_check_constraint_refuses(shop: Path) -> None:
    refused(shop)
    exchange_pages(shop)
    with closing(open_reading(shop)) as connection:
        found = str(check_soundness(connection, Thoroughness.FULL))
    assert "CHECK" not in found
    assert "out of order" in found or "missing from index" in found
