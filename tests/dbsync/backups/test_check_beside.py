"""A backup is checked while the migration runs; nothing of the migration is committed before its check has passed."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from dbsync.backups import snapshot
from dbsync.database.live import LiveEffects
from dbsync.model import Backup, Migration, MigrationKind, SchemaNumber
from dbsync.upgrade import coordinator
from tests.helpers.shop import dump, effects, files, make_shop, released, upgrade, version, written

ENDLESS = """
CREATE TABLE numbers (x);
INSERT INTO numbers WITH RECURSIVE c(x) AS (
    SELECT x FROM (SELECT 1 AS x FROM products LIMIT 1) UNION ALL SELECT x + 1 FROM c
) SELECT count(*) FROM c;
"""
"""On a database with products; not on the empty one that shows the vendor's schema."""
LEFT = {"pos_system.db", "backups/dbsync-flight.jsonl", "backups/pos_system.db.counters.json"}


def rot(path: Path) -> None:
    """Two pages in the middle are something else."""
    with path.open("r+b") as file:
        file.seek(4096 * 6)
        file.write(b"\xff" * 8192)


@pytest.fixture
def rotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backup rots before it is checked."""
    copy_to_part = snapshot.copy_to_part

    def wrong(*arguments: Any, **values: Any) -> Backup:
        part = copy_to_part(*arguments, **values)
        monkeypatch.setattr(snapshot, "copy_to_part", copy_to_part)
        rot(part.path)
        return part

    monkeypatch.setattr(snapshot, "copy_to_part", wrong)


def held_until(monkeypatch: pytest.MonkeyPatch, go: threading.Event) -> None:
    """Let no check of a backup begin before `go` is set."""
    check_part = snapshot.check_part

    def late(*arguments: Any, **values: Any) -> Backup:
        assert go.wait(60)
        return check_part(*arguments, **values)

    monkeypatch.setattr(snapshot, "check_part", late)


class Noted(LiveEffects):
    """The real effects; the order of some is noted, and the check is held until the content is verified."""

    go = threading.Event()
    seen: list[str] = []  # noqa: RUF012 - each test has its own

    def put_back(self, pending: tuple[Migration, ...]) -> None:
        super().put_back(pending)
        self.seen.append(f"verified, {len(list(self.backups.glob('[!.]*.db')))} backups")
        self.go.set()

    def keep_backup(self, part: Backup) -> Backup:
        kept = super().keep_backup(part)
        self.seen.append(f"kept {kept.checked}")
        return kept

    def commit(self) -> None:
        self.seen.append("commit")
        super().commit()


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Noted:
    """The effects on a shop whose backup is checked only after the migration is verified."""
    database = make_shop(tmp_path, schema=2)
    monkeypatch.setattr(Noted, "go", threading.Event())
    monkeypatch.setattr(Noted, "seen", [])
    held_until(monkeypatch, Noted.go)
    return Noted(database, backups=database.parent / "backups")


def test_the_check_runs_beside_the_migration_and_is_joined_before_commit(tmp_path: Path, noted: Noted) -> None:
    outcome = coordinator.upgrade(noted, migrations=released(tmp_path, 4))
    assert outcome.ready, outcome
    assert noted.seen == ["verified, 0 backups", "kept quick_check", "commit"]
    assert outcome.backup is not None
    assert (version(outcome.backup.path), outcome.backup.verified) == (2, True)


@pytest.mark.usefixtures("rotten")
def test_a_rotten_backup_lets_nothing_be_committed_even_of_a_migration_that_is_verified(
    tmp_path: Path, noted: Noted
) -> None:
    before = dump(noted.database)
    outcome = coordinator.upgrade(noted, migrations=released(tmp_path, 4))
    assert (outcome.name, outcome.phase, outcome.migration, outcome.backup) == ("DAMAGED", "backup", None, None)
    assert noted.seen == ["verified, 0 backups"]
    assert dump(noted.database) == before
    assert files(noted.database.parent) == LEFT


@pytest.mark.usefixtures("rotten")
def test_the_damage_wins_over_the_failure_of_the_migration(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    before = dump(database)
    found = written(tmp_path / "m", "INSERT INTO nowhere VALUES (1);", after=2)
    outcome = upgrade(database, found)
    assert (outcome.name, outcome.phase, outcome.migration) == ("DAMAGED", "backup", None)
    assert dump(database) == before


@pytest.mark.usefixtures("rotten")
def test_a_migration_that_would_not_end_is_ended_when_the_backup_is_found_rotten(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    outcome = upgrade(database, written(tmp_path / "m", ENDLESS, after=2))
    assert (outcome.name, outcome.phase) == ("DAMAGED", "backup")
    assert version(database) == 2


def test_a_failed_migration_keeps_its_backup_as_ever(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    outcome = upgrade(database, written(tmp_path / "m", "INSERT INTO nowhere VALUES (1);", after=2))
    assert (outcome.name, outcome.phase) == ("MIGRATION_FAILED", "migrate")
    assert outcome.backup is not None
    assert (outcome.backup.path.is_file(), outcome.backup.verified) == (True, True)


def test_after_ctrl_c_neither_a_thread_nor_a_part_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = make_shop(tmp_path, schema=2)
    before, threads = dump(database), threading.active_count()
    live = effects(database)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(live, "apply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        coordinator.upgrade(live, migrations=released(tmp_path, 4))
    assert threading.active_count() == threads
    assert files(database.parent) == LEFT
    assert dump(database) == before


def test_ctrl_c_while_the_check_is_waited_for_leaves_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = make_shop(tmp_path, schema=2)
    before, threads = dump(database), threading.active_count()
    live = effects(database)
    put_back = live.put_back

    def interrupted() -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    def then(pending: tuple[Migration, ...]) -> None:
        put_back(pending)
        assert live._checking is not None
        monkeypatch.setattr(live._checking._beside, "end", interrupted)

    monkeypatch.setattr(live, "put_back", then)
    with pytest.raises(KeyboardInterrupt):
        coordinator.upgrade(live, migrations=released(tmp_path, 4))
    assert threading.active_count() == threads
    assert files(database.parent) == LEFT
    assert dump(database) == before


def test_a_check_that_is_cancelled_ends_although_it_has_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make_shop(tmp_path, schema=2)
    go, threads, live = threading.Event(), threading.active_count(), effects(database)
    held_until(monkeypatch, go)
    live.begin()
    part = live.copy_backup(live.look().version, None)
    assert live.begin_check(part)
    threading.Timer(0.05, go.set).start()
    live.discard(part.path)
    live.rollback()
    assert not part.path.exists()
    assert threading.active_count() <= threads + 1, "the timer may end a moment later"


def test_a_program_of_the_app_begins_after_the_check(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    (some, *_) = released(tmp_path, 4)
    live = effects(database)
    live._pending = (some._replace(kind=MigrationKind.COMMAND),)
    live.begin()
    part = live.copy_backup(SchemaNumber(2), None)
    assert not live.begin_check(part), "ROLLBACK does not undo what a program does"
    assert live.check_backup(part).checked == "quick_check"
    live.rollback()
