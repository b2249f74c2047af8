"""What a run tells: the flight record, the caller's recorder, the outcome's every field; and when even that fails."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dbsync.backups.catalog import list_backups
from dbsync.database.flight_recorder import FlightRecorder
from dbsync.database.live import LiveEffects
from dbsync.errors import DiskProblem
from dbsync.model import Backup, ReleaseId, SchemaNumber, Sha256, TrialId
from dbsync.storage.files import sha256_of
from dbsync.upgrade import coordinator, restore_decision
from dbsync.upgrade.effects import Recorder
from tests.helpers.shop import ask, dump, effects, files, make_shop, released, upgrade, version, written


class Notes(Recorder):
    """A launcher's trial file."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def backup_made(self, backup: Backup) -> None:
        assert backup.path.exists()
        self.told.append(("backup", backup.path.name))

    def content_noted(self, sha256: Sha256) -> None:
        self.told.append(("content", sha256))


def lines(database: Path, after: int = 0) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in line.items() if name not in ("at", "database", "seconds", "run", "phases")}
        for line in FlightRecorder(database.parent / "backups", database).lines()[after:]
    ]


def test_a_run_that_goes_well_is_on_record_from_its_start_to_its_end(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    before, notes = len(lines(database)), Notes()
    outcome = coordinator.upgrade(
        effects(database), migrations=released(tmp_path, 4), trial_id=TrialId("t1"), release_id=ReleaseId("r1"),
        release_version="1.4", recorder=notes,
    )  # fmt: skip
    assert lines(database, before) == [
        {"event": "looked", "version": 2, "latest": 4},
        {"event": "started", "count": 2},
        {
            "event": "ended",
            "outcome": "MIGRATED",
            "before": 2,
            "after": 4,
            "phase": "commit",
            "migration": None,
            "cause": "",
        },
    ]
    (backup,) = list_backups(backups=database.parent / "backups", database=database)
    assert (outcome.version_before, outcome.version_after, outcome.backup) == (2, 4, backup)
    assert outcome.content_sha256 == sha256_of(database)
    assert notes.told == [("backup", backup.path.name), ("content", sha256_of(database))]
    assert (backup.version, backup.trial_id) == (2, "t1")
    rows = "SELECT group_concat(coalesce(release_version, '') || kind || coalesce(trial_id, '')) FROM dbsync_history"
    assert str(ask(database, rows)).endswith("1.4migrationt1,1.4migrationt1,1.4trialt1")
    assert outcome.duration_seconds > 0
    assert (outcome.phase, outcome.cause, outcome.hint) == ("commit", "", "")


def test_how_long_a_run_took_is_the_time_from_its_beginning_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make_shop(tmp_path, schema=2)
    clock = [1000.0]

    def seconds(_: LiveEffects) -> float:
        clock[0] += 1
        return clock[0]

    monkeypatch.setattr(LiveEffects, "seconds", seconds)
    outcome = upgrade(database, released(tmp_path, 4))
    assert 0 < outcome.duration_seconds < clock[0] - 1000
    assert all(0 <= one < 1_000_000 for one in durations(database))


def durations(database: Path) -> list[int]:
    with closing(sqlite3.connect(database)) as live:
        rows = live.execute("SELECT duration_ms FROM dbsync_history WHERE kind = 'migration' AND number > 2").fetchall()
    assert len(rows) == 2
    return [row[0] for row in rows]


def test_a_run_that_does_not_pass_a_check_says_so(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    before = dump(database)
    outcome = upgrade(database, written(tmp_path / "m", "DELETE FROM shifts;", after=4))
    assert (outcome.name, outcome.phase, outcome.migration) == ("VERIFICATION_FAILED", "verify", None)
    assert dump(database) == before


def test_a_run_that_fails_says_where_and_is_on_record(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    found = written(tmp_path / "m", "CREATE TABLE fine (a);", "INSERT INTO nowhere VALUES (1);", after=4)
    seen, notes = len(lines(database)), Notes()
    outcome = coordinator.upgrade(effects(database), migrations=found, recorder=notes)
    assert (outcome.name, outcome.phase, outcome.migration) == ("MIGRATION_FAILED", "migrate", "v6 step")
    assert (outcome.version_before, outcome.version_after, outcome.content_sha256) == (4, 4, None)
    assert outcome.backup is not None
    assert [name for name, _ in notes.told] == ["backup"]
    *_, started, ended = lines(database, seen)
    assert started == {"event": "started", "count": 2}
    assert (ended["outcome"], ended["migration"], ended["cause"]) == ("MIGRATION_FAILED", "v6 step", outcome.cause)
    assert version(database) == 4


def test_a_trial_without_a_new_schema_writes_its_row_and_makes_no_backup(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    before, notes = files(database.parent), Notes()
    outcome = coordinator.upgrade(
        effects(database),
        migrations=released(tmp_path, 4),
        trial_id=TrialId("t9"),
        release_id=ReleaseId("r"),
        recorder=notes,
    )
    assert (outcome.name, outcome.phase, outcome.backup) == ("UP_TO_DATE", "", None)
    assert notes.told == [("content", outcome.content_sha256)]
    assert ask(database, "SELECT trial_id FROM dbsync_history ORDER BY sequence DESC LIMIT 1") == "t9"
    assert files(database.parent) - {"backups/pos_system.db.counters.json"} == before


def test_nothing_to_do_is_one_look(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    seen = len(lines(database))
    assert upgrade(database, released(tmp_path, 4)).name == "UP_TO_DATE"
    assert [line["event"] for line in lines(database, seen)] == ["looked", "ended"]
    assert lines(database, seen)[1]["phase"] == ""


def test_a_new_shop_has_nothing_to_back_up(tmp_path: Path) -> None:
    database = tmp_path / "data" / "shop.db"
    database.parent.mkdir()
    outcome = upgrade(database, released(tmp_path, 2))
    assert (outcome.name, outcome.version_before, outcome.version_after) == ("CREATED", 0, 2)
    assert [line["event"] for line in lines(database)] == ["looked", "started", "nothing_to_back_up", "ended"]


def test_no_migrations_at_all_are_nothing_to_do(tmp_path: Path) -> None:
    database = tmp_path / "data" / "shop.db"
    database.parent.mkdir()
    assert upgrade(database, ()).name == "UP_TO_DATE"
    assert lines(database)[0] == {"event": "looked", "version": 0, "latest": 0}
    assert not database.exists()


def test_adopting_is_on_record(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("DROP TABLE dbsync_history")
        live.execute("DROP TABLE schema_version")
    seen = len(lines(database))
    assert upgrade(database, released(tmp_path, 4)).version_before == 2
    assert lines(database, seen)[:2] == [
        {"event": "adopted", "version": 2},
        {"event": "looked", "version": 2, "latest": 4},
    ]


def test_an_earlier_attempts_backup_serves_again_and_is_not_rotated_away(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    part = effects(database).copy_backup(SchemaNumber(2), TrialId("t1"))
    earlier = effects(database).keep_backup(effects(database).check_backup(part))
    notes = Notes()
    outcome = coordinator.upgrade(
        effects(database), migrations=released(tmp_path, 4), trial_id=TrialId("t1"), release_id=ReleaseId("r"),
        earlier_backup=earlier, recorder=notes,
    )  # fmt: skip
    assert (outcome.name, outcome.backup) == ("MIGRATED", earlier)
    assert [name for name, _ in notes.told] == ["content"], "it was told of that one before"
    assert [one.path for one in list_backups(backups=database.parent / "backups", database=database)] == [earlier.path]


def test_when_undoing_fails_as_well_the_first_cause_is_told_and_sqlite_undoes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make_shop(tmp_path, schema=4)
    found, before = written(tmp_path / "m", "INSERT INTO nowhere VALUES (1);", after=4), dump(database)

    def no(live: LiveEffects) -> None:
        live._open.close()  # the end of its process
        raise DiskProblem(operation="undo", cause="the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(LiveEffects, "rollback", no)
        outcome = upgrade(database, found)
    assert (outcome.name, "nowhere" in outcome.cause) == ("MIGRATION_FAILED", True)
    assert dump(database) == before


def test_a_record_that_cannot_be_written_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = make_shop(tmp_path, schema=2)

    def full(*_: object, **__: object) -> None:
        raise DiskProblem(operation="append", cause="no space")

    monkeypatch.setattr(FlightRecorder, "record", full)
    assert upgrade(database, released(tmp_path, 4)).name == "MIGRATED"


def test_a_digest_that_cannot_be_trusted_is_not_noted(tmp_path: Path) -> None:
    """In WAL mode with somebody else's connection open, what was committed is not all in the file."""
    database = make_shop(tmp_path, schema=2)
    notes = Notes()
    live = effects(database)
    live.content_digest = lambda: None  # type: ignore[method-assign]
    outcome = coordinator.upgrade(live, migrations=released(tmp_path, 4), recorder=notes)
    assert (outcome.name, outcome.content_sha256) == ("MIGRATED", None)
    assert [name for name, _ in notes.told] == ["backup"]


def test_what_fails_after_the_database_is_the_new_one_and_sound_does_not_call_it_undone(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    live = effects(database)

    def unreadable() -> Sha256 | None:
        raise DiskProblem(operation="read", path=database, cause="Input/output error")

    live.content_digest = unreadable  # type: ignore[method-assign]
    outcome = coordinator.upgrade(live, migrations=released(tmp_path, 4), recorder=Notes())
    assert (outcome.name, outcome.content_sha256, version(database)) == ("MIGRATED", None, 4)
    assert "Input/output error" in next(line["cause"] for line in lines(database) if line["event"] == "not_noted")


def test_a_file_error_that_nobody_has_put_in_words_ends_a_run_and_not_the_program(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    before = dump(database)
    live = effects(database)

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(database.parent))

    live.preflight = denied  # type: ignore[assignment]
    outcome = coordinator.upgrade(live, migrations=released(tmp_path, 4))
    assert (outcome.name, outcome.cause) == ("READ_ONLY", f"{database.parent}: Permission denied")
    live.read_intent = denied  # type: ignore[assignment]
    returned = restore_decision.restore(live, backup=database, intent_id="i", accept_loss=True)
    where = f"{database.parent}: Permission denied"
    assert (returned.outcome.name, returned.outcome.cause) == ("RESTORE_PENDING", where)
    assert dump(database) == before


def test_blessing_and_adopting_by_name_write_the_rows_that_they_say(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    assert upgrade(database, released(tmp_path, 6)).name == "MIGRATED"
    # The mended text of a migration that this database had in its first form: recorded, not run again.
    assert upgrade(database, released(tmp_path, 6, mended=True)).name == "UP_TO_DATE"
    rows = "SELECT group_concat(kind || number) FROM dbsync_history WHERE kind NOT IN ('migration', 'trial')"
    assert ask(database, rows) == "blessed6"
    assert version(database) == 6
