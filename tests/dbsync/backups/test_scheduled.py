"""Backups on a schedule: thirty days with a second place that is away, a full disk, a backup that rots, and cuts."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dbsync.backups import catalog, compression, retention, second_place
from dbsync.backups.retention import Policy
from dbsync.commands import scheduled_backup
from dbsync.commands.scheduled_backup import Done
from dbsync.database import preflight
from dbsync.errors import DiskFull, Refused
from dbsync.model import NO_SCHEMA, NO_SHA256, Backup, BackupKind
from dbsync.storage import files
from tests.dbsync.cli.test_check import dbsync
from tests.helpers.shop import effects, make_shop, sales, sell

POLICY = Policy(hourly=6, daily=7, weekly=4)
BEGIN = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


def run(database: Path, now: datetime, second: Path | None = None, *, if_due: bool = False) -> Done:
    return scheduled_backup.run(effects(database), POLICY, second=second, if_due=if_due, now=now)


def sales_in(backup: Path) -> int:
    """The sales that a restore of a backup would give, counted in the file that is restored."""
    with compression.plain(backup) as plain, closing(sqlite3.connect(plain)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return int(connection.execute("SELECT count(*) FROM transactions").fetchone()[0])


def rot(path: Path) -> None:
    """One bit of a backup turns."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.db*") if not path.name.endswith(".json")}


def test_thirty_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = make_shop(tmp_path, items_count=20)
    backups, second = database.parent / "backups", tmp_path / "second"
    second.mkdir()
    sold: dict[str, int] = {}
    away = tmp_path / "unplugged"
    full_days, away_days, rotten_day = (9, 10), range(12, 19), 21
    for day in range(30):
        if day == away_days.start:
            second.rename(away)
            second.mkdir()
        if day == away_days.stop:
            shutil.rmtree(second)
            away.rename(second)
        for hour in range(0, 12, 3):
            now = BEGIN + timedelta(days=day, hours=hour)
            sell(database, 3)
            if day in full_days:
                with monkeypatch.context() as patched:
                    patched.setattr(files, "free_bytes", lambda _: 1000)
                    before = names(backups)
                    with pytest.raises(DiskFull):
                        run(database, now, second)
                    assert names(backups) == before, "nothing is given up for a backup that cannot be made"
                continue
            if (day, hour) == (rotten_day, 3):
                victim = min(
                    scheduled_backup.scheduled(effects(database)), key=lambda one: (one.read_back_at, one.sequence)
                )
                rot(victim.path)
            done = run(database, now, second)
            assert done.made is not None
            sold[done.made.path.name] = sales(database)
            assert bool(done.away) == (day in away_days), done.away
            if (day, hour) == (rotten_day, 3):
                assert done.replaced == (victim.path,)
                assert sales_in(victim.path) == sold[victim.path.name]
            if day in away_days:
                assert names(second) == set(), "the folder in which the disk would be is not filled in its stead"
    kept = scheduled_backup.scheduled(effects(database))
    assert [sales_in(backup.path) for backup in kept] == [sold[backup.path.name] for backup in kept]
    assert names(second) == names(backups)
    for path in second.glob("*.db*"):
        if not path.name.endswith(".json"):
            assert sales_in(path) == sold[path.name]
    days = {backup.made_at[:10] for backup in kept}
    assert {(BEGIN + timedelta(days=day)).strftime("%Y-%m-%d") for day in range(23, 30)} <= days
    assert len(kept) <= sum(POLICY)
    assert not [path for folder in (backups, second) for path in folder.glob(".*")], "no part is left"


def test_a_rotten_backup_without_a_good_copy_is_said_and_a_new_one_is_made(tmp_path: Path) -> None:
    database = make_shop(tmp_path, items_count=20)
    first = run(database, BEGIN).made
    assert first is not None
    rot(first.path)
    done = run(database, BEGIN + timedelta(minutes=1), if_due=True)
    assert (done.rotten, done.replaced, done.made is not None) == ((first.path,), (), True)
    assert [one.verified for one in scheduled_backup.scheduled(effects(database))] == [True, False]
    told = dbsync("backup", "--keep", "daily=3", "--database", database, "--prefix", "auraswift")
    assert told.returncode == 0, told.stderr
    assert run(database, BEGIN + timedelta(minutes=2), if_due=True).rotten == (), "it is said once"


@pytest.mark.parametrize("at", ["copy", "facts", "rename", "remove"])
def test_a_cut_at_any_point_leaves_every_older_backup_and_the_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    database = make_shop(tmp_path, items_count=20)
    backups, second = database.parent / "backups", tmp_path / "second"
    second.mkdir()
    for hour in range(8):
        run(database, BEGIN + timedelta(hours=hour), second)
    before = names(backups)
    calls = {
        "copy": (second_place, "_append"), "facts": (catalog, "write_facts"), "rename": (files, "rename_durably"),
        "remove": (catalog, "remove"),
    }  # fmt: skip
    place, name = calls[at]
    real = getattr(place, name)
    left = count = 0

    def cut(*words: object, **values: object) -> object:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return real(*words, **values)

    while True:
        count += 1
        left = count
        with monkeypatch.context() as patched:
            patched.setattr(place, name, cut)
            try:
                run(database, BEGIN + timedelta(hours=7 + count), second)
                ended = True
            except KeyboardInterrupt:
                ended = False
        for backup in scheduled_backup.scheduled(effects(database)):
            assert sales_in(backup.path) == sales(database)
        if ended:
            break
    assert count > 1
    run(database, BEGIN + timedelta(hours=40), second)
    assert names(second) == names(backups)
    assert not [path for folder in (backups, second) for path in folder.glob(".*")]
    assert before


def test_a_copy_goes_on_where_it_was_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = make_shop(tmp_path, items_count=20)
    second = tmp_path / "second"
    second.mkdir()
    made = run(database, BEGIN).made
    assert made is not None
    data = made.path.read_bytes()
    begun_anew: list[Path] = []
    make_empty = files.make_empty

    def noted(path: Path, *, like: Path) -> None:
        begun_anew.append(path)
        make_empty(path, like=like)

    monkeypatch.setattr(files, "make_empty", noted)
    part = second / f".part-{made.database}~{made.path.name}"
    for begun, is_its_own in (
        (data[: len(data) // 2], True),
        (b"another file's beginning", False),
        (data + b"x", True),
    ):
        begun_anew.clear()
        part.write_bytes(begun)
        path = second_place.copy(made, second)
        assert path.read_bytes() == data
        assert begun_anew == ([] if is_its_own else [part])
        assert catalog.check_file(path).verified
        path.unlink()
    assert not list(second.glob(".*"))


def test_a_schedule_touches_no_migration_backup_and_rotation_no_scheduled_one(tmp_path: Path) -> None:
    database = make_shop(tmp_path, items_count=20)
    backups = database.parent / "backups"
    effects(database).make_backup()
    by_hand = names(backups)
    for hour in range(9):
        run(database, BEGIN + timedelta(hours=hour))
    assert by_hand < names(backups)
    assert len(names(backups) - by_hand) == POLICY.hourly
    assert catalog.rotate(backups=backups, database=database, keep_count=3, pinned=()) == []


def test_only_what_is_due_is_made(tmp_path: Path) -> None:
    database = make_shop(tmp_path, items_count=20)
    assert run(database, BEGIN, if_due=True).made is not None
    assert run(database, BEGIN + timedelta(minutes=59), if_due=True).made is None
    assert run(database, BEGIN + timedelta(minutes=60), if_due=True).made is not None
    assert run(database, BEGIN - timedelta(days=400), if_due=True).made is not None, "a clock that was set back"


# -------------------------------------------------------------------------------------------------------------- policy


def made_at(sequence: int, at: datetime, *, verified: bool = True) -> Backup:
    facts = Backup(Path(f"{sequence}.db"), BackupKind.SCHEDULED, NO_SCHEMA, NO_SHA256, 0, sequence, files.utc_text(at))
    return facts._replace(verified=verified)


def test_the_policy_keeps_the_newest_of_each_slot_whatever_the_clock_did() -> None:
    chance = random.Random(7)
    for _ in range(300):
        policy = Policy(chance.randint(0, 5), chance.randint(0, 5), chance.randint(0, 5))
        if not any(policy):
            continue
        now, made = BEGIN, []
        for sequence in range(1, chance.randint(2, 80)):
            now += timedelta(minutes=chance.choice((1, 20, 61, 300, 1500, -40, -3000)))
            made.append(made_at(sequence, now, verified=chance.random() > 0.1))
        good = [backup for backup in made if backup.verified]
        needed = retention.needed(made, policy)
        assert len(needed) <= sum(policy) + 1
        assert not good or good[-1].path in needed
        assert needed <= {backup.path for backup in good}
        # Asked again after the surplus is gone, nothing more goes.
        assert retention.needed([backup for backup in made if backup.path in needed], policy) == needed


@pytest.mark.parametrize("text", ["", "hourly", "hourly=-1", "yearly=3", "hourly=0", "hourly=1e3", "daily=99999"])
def test_a_policy_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        retention.parse(text)
    assert str(retention.parse(" weekly = 2 , hourly=3 ")) == "hourly=3,weekly=2"


# ------------------------------------------------------------------------------------------------------------ commands


def test_the_command_tells_what_it_did(tmp_path: Path) -> None:
    database = make_shop(tmp_path, items_count=20)
    second = tmp_path / "second"
    words = ("backup", "--keep", "hourly=2", "--second", second, "--database", database)
    missing = dbsync(*words, "--json")
    assert (missing.returncode, "there is no such folder" in json.loads(missing.stdout)["away"]) == (75, True)
    second.mkdir()
    done = dbsync(*words)
    assert (done.returncode, done.stdout.count("copied to the second place")) == (0, 2), done.stdout + done.stderr
    assert dbsync(*words, "--if-due").stdout.strip() == "no backup is due"
    shutil.rmtree(second)
    second.mkdir()
    done = dbsync(*words)
    assert (done.returncode, "is its disk there?" in done.stdout) == (75, True)
    for wrong in (("--second", second), ("--if-due",), ("--keep", "hourly=1", "--to", "x.db")):
        assert dbsync("backup", *wrong, "--database", database).returncode == 2
    assert dbsync("backup", "--keep", "often", "--database", database).returncode == 4
    newest = scheduled_backup.scheduled(effects(database))[0]
    restored = dbsync("restore", newest.path, "--database", database, "--yes")
    assert restored.returncode == 0, restored.stdout + restored.stderr


def test_a_damaged_database_makes_no_backup_and_removes_none(tmp_path: Path) -> None:
    database = make_shop(tmp_path, items_count=200)
    run(database, BEGIN)
    before = names(database.parent / "backups")
    data = bytearray(database.read_bytes())
    data[8192:12288] = bytes(4096)
    database.write_bytes(data)
    done = dbsync("backup", "--keep", "hourly=1", "--database", database, "--prefix", "auraswift")
    assert (done.returncode, names(database.parent / "backups")) == (4, before), done.stderr


def test_space_is_asked_for_before(tmp_path: Path) -> None:
    database = make_shop(tmp_path, items_count=20)
    backups = database.parent / "backups"
    with pytest.raises(DiskFull, match="required"):
        preflight.check_space_for_backup(database=database, backups=backups, least_free_bytes=1 << 60)
