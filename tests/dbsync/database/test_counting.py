"""Counters of a real database: noted outside it, raised in the copy that replaces it, and every gap explained."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dbsync.commands import downgrade, empty_and_import
from dbsync.database import preflight
from dbsync.errors import DiskFull
from dbsync.model import Backup, Migration, Returned, TrialId
from dbsync.recovery.repair import repair
from dbsync.storage import files as storage_files
from dbsync.upgrade import preparation, restore_decision
from tests.helpers.shop import ask, effects, files, upgrade, version, written

ONE = """CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT);
INSERT INTO settings VALUES ('next', '1');
CREATE TABLE sale (id INTEGER PRIMARY KEY AUTOINCREMENT, receipt INTEGER);
"""
TWO = """-- changes: rename settings -> conf
-- changes: rename sale -> ticket
ALTER TABLE settings RENAME TO conf;
ALTER TABLE sale RENAME TO ticket;
"""
DECLARED = """[[counter]]
name = "receipt"
description = "Printed on paper"
table = "conf"
column = "value"
where = "key = 'next'"
holds = "next"
"""


def release(folder: Path, schema: int = 2, declared: str = DECLARED) -> tuple[Migration, ...]:
    place = folder / f"m{schema}"
    found = written(place, *(ONE, TWO)[:schema])
    if declared and schema == 2:
        (place / "counters.toml").write_text(declared)
    return found


def sell(database: Path, count: int = 1) -> None:
    """Each sale takes a number of both counters."""
    conf, ticket = ("settings", "sale") if version(database) < 2 else ("conf", "ticket")
    with closing(sqlite3.connect(database)) as live, live:
        for _ in range(count):
            live.execute(f"INSERT INTO {ticket} (receipt) SELECT value FROM {conf}")
            live.execute(f"UPDATE {conf} SET value = CAST(value AS INTEGER) + 1")


def numbers(database: Path) -> tuple[int, int]:
    """The next receipt, and the last id."""
    conf = "settings" if version(database) < 2 else "conf"
    return int(str(ask(database, f"SELECT value FROM {conf}"))), int(
        str(ask(database, "SELECT seq FROM sqlite_sequence"))
    )


def marks_of(database: Path) -> dict[str, Any]:
    found = json.loads((database.parent / "backups" / f"{database.name}.counters.json").read_text())
    return {name: mark["number"] for name, mark in found["marks"].items()}


def told(folder: Path | None) -> list[tuple[object, ...]]:
    """The content of an explanation: counter, number without, raised to, first and last that are skipped."""
    assert folder is not None
    assert {path.name for path in folder.iterdir()} == {"gaps.txt", "gaps.csv", "gaps.json", "done.txt"}
    gaps = json.loads((folder / "gaps.json").read_text())["gaps"]
    return [(gap["counter"], gap["number"], gap["raised_to"], gap["first"], gap["last"]) for gap in gaps]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return made_shop(tmp_path)


def made_shop(tmp_path: Path) -> Path:
    """A shop of schema 2 in which five were sold at schema 1, and four since: receipt 10 is the next one."""
    database = tmp_path / "data" / "till.db"
    database.parent.mkdir()
    assert upgrade(database, release(tmp_path, 1)).ready
    sell(database, 5)
    assert upgrade(database, release(tmp_path)).ready
    sell(database, 4)
    return database


def migration_backup(database: Path) -> Backup:
    (path,) = (database.parent / "backups").glob("*-backup-v1-*.db")
    found = effects(database).kept_at(path)
    assert found is not None
    return found


def restored(database: Path, backup: Path, name: str = "r1") -> Returned:
    returned = restore_decision.restore(effects(database), backup=backup, intent_id=name, accept_loss=True)
    assert returned.back is not None, returned
    return returned


def test_a_restore_raises_a_copy_and_explains_the_gap(shop: Path) -> None:
    backup = migration_backup(shop)
    as_it_was = backup.path.read_bytes()
    returned = restored(shop, backup.path)
    assert (version(shop), numbers(shop)) == (1, (10, 9))
    assert told(returned.gaps) == [("receipt", 6, 10, 6, 9), ("sqlite_sequence:sale", 5, 9, 6, 9)]
    assert returned.set_aside is not None
    text = (returned.gaps / "gaps.txt").read_text() if returned.gaps else ""
    assert str(returned.set_aside.path) in text
    assert str(backup.path) in text
    assert backup.path.read_bytes() == as_it_was
    # Neither a raised copy nor a part is left.
    assert not [name for name in files(shop.parent) if "raised" in name or ".part-" in name]


def test_a_backup_that_lacks_the_column_of_a_counter_is_restored(tmp_path: Path) -> None:
    database = tmp_path / "data" / "till.db"
    database.parent.mkdir()
    found = written(tmp_path / "m1", ONE)
    assert upgrade(database, found).ready
    declared = DECLARED.replace('"conf"', '"settings"').replace('"value"', '"number"')
    later = written(tmp_path / "m2", ONE, "ALTER TABLE settings ADD COLUMN number INTEGER DEFAULT 8;")
    (tmp_path / "m2" / "counters.toml").write_text(declared)
    assert upgrade(database, later).ready
    assert marks_of(database)["receipt"] == 8
    restored(database, migration_backup(database).path)
    assert (version(database), ask(database, "SELECT value FROM settings")) == (1, "1")
    # The counter is not in that schema; its mark stays for the time when it is.
    assert marks_of(database)["receipt"] == 8


def test_a_restore_of_equal_numbers_copies_nothing(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = effects(shop).make_backup()
    monkeypatch.setattr(preflight, "check_space_to_raise", None)
    returned = restored(shop, kept.path)
    assert (numbers(shop), returned.gaps) == ((10, 9), None)
    assert not (shop.parent / "backups" / "reports").exists()


def test_numbers_of_a_lost_database_are_remembered(shop: Path) -> None:
    backup = migration_backup(shop)
    effects(shop).note_counters(())
    shop.unlink()
    returned = restored(shop, backup.path)
    assert numbers(shop) == (10, 9)
    assert [line[0] for line in told(returned.gaps)] == ["receipt", "sqlite_sequence:sale"]


def test_a_damaged_mark_file_is_kept_and_the_copies_count(shop: Path) -> None:
    backup = migration_backup(shop)
    effects(shop).make_backup()
    marks_path = effects(shop).marks_path
    marks_path.write_text("{")
    shop.unlink()
    restored(shop, backup.path)
    # Its declaration was in the file: the counter that nothing else declares is still raised.
    assert numbers(shop)[1] == 9
    assert [path.read_text() for path in marks_path.parent.glob("*.damaged-*")] == ["{"]
    assert "sqlite_sequence:sale" in marks_of(shop)


def test_a_mark_that_cannot_be_true_makes_no_number_jump_and_is_told(shop: Path) -> None:
    backup = migration_backup(shop)
    live = effects(shop)
    live.note_counters(())
    found = json.loads(live.marks_path.read_text())
    found["marks"]["receipt"]["number"] = 9_000_000_000
    live.marks_path.write_text(json.dumps(found))
    restored(shop, backup.path)
    assert numbers(shop) == (10, 9)
    lines = [line for line in live._flight.lines() if line["event"] == "mark_not_believed"]
    assert "9000000000" in lines[0]["text"]
    assert "dbsync counters --forget receipt" in lines[0]["text"]
    # It is a person's to settle: the file still has it.
    assert marks_of(shop)["receipt"] == 9_000_000_000
    assert effects(shop).raise_to_mark("Receipt") is not None
    assert numbers(shop)[0] == 9_000_000_000
    with closing(sqlite3.connect(shop)) as connection, connection:
        connection.execute("UPDATE settings SET value = 10")
    shown = effects(shop).forget_mark("receipt")
    assert (shown.number, marks_of(shop)["receipt"]) == (10, 10)


def test_a_downgrade_carries_the_numbers_and_has_no_gap(shop: Path, tmp_path: Path) -> None:
    returned = downgrade.downgrade(effects(shop), migration_backup(shop), release_of(tmp_path), accept_loss=False)
    assert (returned.outcome.name, returned.gaps, numbers(shop)) == ("CARRIED_BACK", None, (10, 9))


def release_of(folder: Path) -> tuple[Migration, ...]:
    from dbsync.migrations import folder as migration_folder

    return migration_folder.load(folder / "m2")


def test_numbers_that_a_given_up_trial_used_are_not_used_again(tmp_path: Path) -> None:
    database = tmp_path / "till.db"
    upgrade(database, written(tmp_path / "m1", ONE))
    sell(database, 2)
    found = written(tmp_path / "m2", ONE, "-- changes: insert sale\nINSERT INTO sale (receipt) VALUES (0), (0);")
    assert upgrade(database, found, trial_id="t1").ready
    (path,) = (database.parent / "backups").glob("*-backup-v1-*.db")
    returned = restore_decision.go_back(
        effects(database), trial_id=TrialId("t1"), backup=effects(database).kept_at(path), content_sha256=None,
        older_schema=effects(database).kept_at(path).version, ever_confirmed=False, migrations=found,  # type: ignore[union-attr]
    )  # fmt: skip
    assert (returned.outcome.name, version(database), numbers(database)) == ("RESTORED", 1, (3, 4))
    assert told(returned.gaps) == [("sqlite_sequence:sale", 2, 4, 3, 4)]
    assert not list((tmp_path / "backups").glob("*raised*")) + list((tmp_path / "backups").glob("restore-*.json"))


def test_empty_and_import_leave_no_counter_lower(shop: Path, tmp_path: Path) -> None:
    found, backup = release_of(tmp_path), migration_backup(shop)
    replaced = empty_and_import.empty(effects(shop), found)
    assert numbers(shop) == (10, 9)
    assert told(replaced.gaps) == [("receipt", 1, 10, 1, 9), ("sqlite_sequence:ticket", None, 9, 1, 9)]
    sell(shop)
    imported = empty_and_import.import_file(effects(shop), backup.path, found)
    assert numbers(shop) == (11, 10)
    assert told(imported.gaps) == [("receipt", 6, 11, 6, 10), ("sqlite_sequence:ticket", 5, 10, 6, 10)]


def test_a_repair_leaves_no_counter_lower(shop: Path, tmp_path: Path) -> None:
    live, into = effects(shop), tmp_path / "repaired.db"
    live.note_counters(())
    with closing(sqlite3.connect(shop)) as connection, connection:
        connection.execute("UPDATE sqlite_sequence SET seq = 3")
        connection.execute("UPDATE conf SET value = 4")
    repaired = repair(
        database=shop, into=into, backups=[], raise_counters=lambda connection: live.raise_in_new(connection, into=into)
    )
    assert (repaired.whole, numbers(into)) == (True, (10, 9))
    assert repaired.gaps is not None
    assert (repaired.gaps / "gaps.json").exists()


def test_without_space_for_the_raised_copy_nothing_is_changed(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, names = shop.read_bytes(), files(shop.parent)
    size_bytes = storage_files.size_of(shop)
    # Enough for the copy of the database and for the journal, not for one more copy.
    free = 2 * size_bytes + 2 * size_bytes // 20 + 300_000 - size_bytes // 2
    monkeypatch.setattr(storage_files, "free_bytes", lambda path: 10**12)
    assert effects(shop).would_raise(migration_backup(shop).path)
    monkeypatch.setattr(storage_files, "free_bytes", lambda path: min(free, size_bytes))
    base = migration_backup(shop)
    with pytest.raises(DiskFull):
        preparation.prepare(effects(shop), preparation.Wish("r1", base, carries=False))
    assert shop.read_bytes() == before
    assert files(shop.parent) - names <= {"backups/till.db.counters.json"}


def test_a_restore_that_was_cut_before_its_counters_were_raised_is_finished_with_them_raised(shop: Path) -> None:
    """An earlier version prepared it: its intent names the backup itself."""
    backup = migration_backup(shop)
    live = effects(shop)
    prepared = preparation.prepare(live, preparation.Wish("r1", backup, carries=False))
    live.write_intent(prepared.intent._replace(backup=str(backup.path), raised_from=None, gaps=None, accepts_loss=True))
    returned = restored(shop, backup.path)
    assert numbers(shop) == (10, 9)
    assert len(told(returned.gaps)) == 2


def test_a_finish_that_must_start_anew_starts_from_the_backup_and_not_from_its_raised_copy(shop: Path) -> None:
    backup = migration_backup(shop)
    live = effects(shop)
    prepared = preparation.prepare(live, preparation.Wish("r1", backup, carries=False))
    preparation.accepted(live, prepared)
    sell(shop)
    returned = restore_decision.finish(effects(shop), intent_id="r1", backup=Path(prepared.intent.backup))
    # What was sold meanwhile is carried back, so no number is skipped.
    assert (returned.outcome.name, version(shop), numbers(shop)) == ("CARRIED_BACK", 1, (11, 10))
    assert backup.path.exists()
    assert not [name for name in files(shop.parent) if "raised" in name or "counters-" in name]
