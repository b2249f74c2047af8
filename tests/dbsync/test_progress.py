"""What a run tells while it goes on: every phase, how far it is, how fast, how long still; and what people see."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TextIO

import pytest

from dbsync.cli.console import Bars, JsonLines, Transcript, about, bar, rate
from dbsync.commands import downgrade
from dbsync.database.flight_recorder import FlightRecorder
from dbsync.progress import Event, EventKind, Meter, Progress, Unit, WorkPhase
from dbsync.storage import page_copy
from dbsync.storage.platform import this_platform
from dbsync.upgrade import coordinator, restore_decision
from dbsync.upgrade.outcome_record import FlightEvent
from tests.dbsync.test_flows import run
from tests.helpers.shop import dump, effects, files, make_shop, released, sales, sell, upgrade, version, written

BACKFILL = '''"""In batches."""


def up(db):
    db.backfill("transactions", "totalCents", "totalCents", batch_rows=30)
'''
FIELDS = {"kind", "name", "text", "done", "total", "seconds", "unit", "per_second", "remaining_seconds"}


class Clock:
    """Goes on when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def after(self, seconds: float) -> None:
        self.now += seconds


class Terminal(io.StringIO):
    """Somebody watches."""

    def isatty(self) -> bool:
        return True


def of(events: list[Event], phase: str) -> list[Event]:
    """The progress of one phase."""
    return [one for one in events if one.kind == "progress" and one.name == phase]


# ---------------------------------------------------------------------------------------------------------- the meter


def test_rate_and_remaining_time_follow_from_what_is_done_in_which_time() -> None:
    seen: list[Event] = []
    clock = Clock()
    told = Meter(seen.append, clock).phase(WorkPhase.BACKUP)
    clock.after(2)
    told(100, 400, unit=Unit.BYTES)
    clock.after(2)
    told(300, 400, unit=Unit.BYTES)
    told(400, 400, unit=Unit.BYTES)
    first, second, third, last = seen
    assert (first.done, first.total, first.per_second, first.remaining_seconds) == (0, 0, 0.0, None)
    assert (second.per_second, second.remaining_seconds, second.seconds) == (50.0, 6.0, 2.0)
    assert third.remaining_seconds == pytest.approx(100 / 75)
    assert (third.per_second, third.unit) == (75.0, "bytes")
    assert (last.done, last.remaining_seconds) == (400, 0.0)


def test_a_copy_that_begins_again_or_another_measure_has_a_pace_of_its_own() -> None:
    seen: list[Event] = []
    clock = Clock()
    told = Meter(seen.append, clock).phase(WorkPhase.VERIFY)
    told(0, 0, "soundness")
    clock.after(60)
    told(0, 100, "products", Unit.ROWS)
    clock.after(1)
    told(50, 100, "sales", Unit.ROWS)
    assert (seen[-1].per_second, seen[-1].remaining_seconds) == (50.0, 1.0)
    clock.after(1)
    told(10, 100, "sales", Unit.ROWS)
    assert (seen[-1].per_second, seen[-1].remaining_seconds) == (10.0, 9.0)


def test_views_get_no_more_events_than_eyes_can_follow_and_always_the_last() -> None:
    seen: list[Event] = []
    clock = Clock()
    told = Meter(seen.append, clock).phase(WorkPhase.MIGRATE)
    for number in range(1, 100_001):
        clock.after(0.00001)
        told(number, 100_000, unit=Unit.STATEMENTS)
    assert len(seen) < 20
    assert (seen[-1].done, seen[-1].total) == (100_000, 100_000)
    seen.clear()
    told = Meter(seen.append, clock).phase(WorkPhase.VERIFY)
    for number, table in enumerate(("products", "sales", "users")):
        told(number, 3, table, Unit.ROWS)
    assert [one.text for one in seen] == ["", "products", "sales", "users"]


def test_the_seconds_of_each_phase_are_added_up() -> None:
    clock = Clock()
    meter = Meter(lambda _: None, clock)
    for name, seconds in ((WorkPhase.BACKUP, 1.0), (WorkPhase.MIGRATE, 2.0), (WorkPhase.MIGRATE, 3.0)):
        meter.phase(name)
        clock.after(seconds)
    assert meter.take_spent() == {"backup": 1.0, "migrate": 5.0}
    clock.after(9)
    assert meter.take_spent() == {}


def test_each_event_that_a_run_records_is_one_that_a_view_gets() -> None:
    on_record_only = {FlightEvent.REHEARSED, FlightEvent.ROTATED}
    assert {str(event) for event in FlightEvent if event not in on_record_only} <= {str(kind) for kind in EventKind}
    for event in set(FlightEvent) - on_record_only - {FlightEvent.LOOKED, FlightEvent.STARTED, FlightEvent.ENDED}:
        assert str(Event.of(event, {}).kind) == str(event)


# ------------------------------------------------------------------------------------------------------- whole runs


def test_an_upgrade_tells_bytes_statements_and_rows_of_every_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_copy, "COPY_PAGES", 8)
    database = make_shop(tmp_path, schema=2)
    with closing(sqlite3.connect(database)) as live:
        size = live.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").fetchone()[0]
        tables = [str(row[0]) for row in live.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        rows = sum(
            live.execute(f'SELECT count(*) FROM "{one}"').fetchone()[0]
            for one in tables
            if not one.startswith(("sqlite_", "dbsync_", "schema_version"))
        )
    found = written(tmp_path / "m", "CREATE TABLE a (x); INSERT INTO a VALUES (1);\nDROP TABLE a;", BACKFILL, after=2)
    seen: list[Event] = []
    outcome = coordinator.upgrade(effects(database, seen.append), migrations=found)
    assert outcome.ready, outcome
    names = list(dict.fromkeys(one.name for one in seen if one.kind == "progress"))
    # Where files that are open cannot be renamed, the copy is not read beside the migration.
    read, worked = ["check backup"], ["migrate", "verify"]
    both = worked + read if this_platform().renames_open_files else read + worked
    assert names == ["backup", *both, "commit", "check"]
    backup = of(seen, "backup")[-1]
    assert (backup.done, backup.total, backup.unit) == (size, size, "bytes")
    steps = [(one.done, one.total, one.unit) for one in of(seen, "migrate") if one.text == "v3 step" and one.total]
    assert (steps[0], steps[-1]) == ((0, 3, "statements"), (3, 3, "statements"))
    batches = [(one.done, one.total, one.unit) for one in of(seen, "migrate") if one.text == "v4 step" and one.total]
    assert (batches[0][2], batches[-1]) == ("rows", (100, 100, "rows"))
    verify = of(seen, "verify")
    checks = ["soundness", "structure", "objects work", "needs declared", "conserved", "foreign keys"]
    assert [one.text for one in verify if not one.total][1:] == checks
    compared = [one for one in verify if one.total][-1]
    assert (compared.done, compared.total, compared.unit) == (rows, rows, "rows")
    for one in of(seen, "check backup") + of(seen, "check"):
        assert (one.total, one.unit) == (0, ""), "quick_check has no measure"
    ended = FlightRecorder(database.parent / "backups", database).lines()[-1]
    assert ended["phases"].keys() == set(names)
    assert all(one >= 0 for one in ended["phases"].values())
    assert (version(database), sales(database)) == (4, 100)


def test_going_back_tells_its_phases_too(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    found = released(tmp_path, 5)
    outcome = upgrade(database, found)
    assert outcome.backup is not None
    sell(database, 3)
    seen: list[Event] = []
    returned = downgrade.downgrade(effects(database, seen.append), outcome.backup, found, accept_loss=False)
    assert returned.outcome.name == "CARRIED_BACK"
    again = [one for one in of(seen, "carry back") if one.unit == "rows"]
    assert (again[-1].done, again[-1].total) == (3, 3)
    assert {"copying the backup", "proving it"} <= {one.text for one in of(seen, "carry back")}
    restored = of(seen, "restore")[-1]
    assert restored.done == restored.total > 0
    assert restored.unit == "bytes"
    seen.clear()
    assert (
        restore_decision.restore(
            effects(database, seen.append), backup=outcome.backup.path, intent_id="i", accept_loss=True
        ).back
        is not None
    )
    assert {"check backup", "put aside", "restore"} <= {one.name for one in seen if one.kind == "progress"}
    assert (version(database), sales(database)) == (2, 100)


def test_json_lines_carry_the_same_fields(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    lines = [json.loads(line) for line in run("upgrade", database, 5, "--json").stdout.splitlines()]
    told = [line for line in lines if line["kind"] == "progress"]
    assert {line["name"] for line in told} == {"backup", "check backup", "migrate", "verify", "commit", "check"}
    assert all(line.keys() >= FIELDS for line in told)
    assert {line["unit"] for line in told if line["total"]} == {"bytes", "rows"}
    assert version(database) == 5


@pytest.mark.parametrize("bad", ["progress", "log", "started", "ended", "finished", "every"])
def test_a_view_that_fails_fails_no_run(tmp_path: Path, bad: str) -> None:
    database = make_shop(tmp_path, schema=4)
    fine: list[str] = []

    def view(event: Event) -> None:
        if bad in (event.kind, "every"):
            raise BrokenPipeError(event.kind)
        fine.append(event.kind)

    assert coordinator.upgrade(effects(database, view), migrations=released(tmp_path, 5)).name == "MIGRATED"
    assert bad not in fine
    assert version(database) == 5
    assert not [one for one in files(database.parent) if ".part-" in one]


def test_a_stream_that_is_closed_in_the_middle_fails_no_run(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    views: list[Callable[[TextIO], Progress]] = [Transcript, JsonLines]
    for number, view in enumerate(views):
        before = dump(database)
        stream = Terminal()
        shown = view(stream)
        stream.close()
        name = coordinator.upgrade(effects(database, shown), migrations=released(tmp_path, 5 + number)).name
        assert name == "MIGRATED"
        assert dump(database) != before
    assert version(database) == 6


# ------------------------------------------------------------------------------------------------ what people see


def test_a_bar_shows_percent_rate_and_remaining_time() -> None:
    event = Event(
        EventKind.PROGRESS, name="backup", done=340_000_000, total=1_000_000_000, unit=Unit.BYTES, per_second=412e6
    )
    assert bar(event._replace(remaining_seconds=1.6)) == (
        "   backup       [######..............]  34 %  412.0 MB/s  about 2 s left"
    )
    rows = Event(
        EventKind.PROGRESS, name="verify", text="transactions", done=9, total=10, unit=Unit.ROWS, per_second=1.2e6
    )
    assert bar(rows) == "   verify       [##################..]  90 %  1.2 M rows/s  transactions"
    assert bar(Event(EventKind.PROGRESS, name="check backup")) == "   check backup ..."
    assert bar(Event(EventKind.PROGRESS, name="verify", text="a" * 200, done=1, total=2)).endswith("aaa")
    assert all(len(bar(rows._replace(text="t" * width))) <= 78 for width in range(100))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "about 1 s"), (40.4, "about 40 s"), (99, "about 99 s"), (185, "about 3 min"), (7300, "about 2 h")],
)
def test_times_are_said_no_more_exactly_than_they_are_known(seconds: float, words: str) -> None:
    assert about(seconds) == words


def test_rates_have_their_unit() -> None:
    assert [rate(12, "statements"), rate(2.5, "rows"), rate(950.0, "bytes"), rate(2e9, "bytes")] == [
        "12 statements/s", "2.5 rows/s", "950 B/s", "2.0 GB/s",
    ]  # fmt: skip


@pytest.mark.parametrize("view", [Bars, Transcript])
def test_a_bar_is_gone_when_its_phase_is_over_and_a_short_phase_has_none(view: type[Bars]) -> None:
    stream = Terminal()
    shown = view(stream)
    going = Event(EventKind.PROGRESS, name="backup", done=1, total=2, unit=Unit.BYTES)
    shown(going._replace(seconds=0.1))
    assert stream.getvalue() == ""
    shown(going._replace(seconds=1.0))
    assert "50 %" in stream.getvalue()
    shown(going._replace(seconds=1.0, done=2))
    text = stream.getvalue()
    assert text.endswith("\r")
    assert text.split("\r")[-2].strip() == ""
    assert len(text.split("\r")[-2]) == len(text.split("\r")[1])


def test_nobody_at_the_console_gets_no_bar_and_a_rehearsed_run_says_how_long() -> None:
    stream = io.StringIO()
    shown = Transcript(stream)
    shown(Event(EventKind.PROGRESS, name="backup", done=1, total=2, seconds=9.0))
    shown(Event(EventKind.STARTED, total=2, seconds=41.0))
    assert stream.getvalue() == "🚀 Running 2 migration(s)...\n   about 41 s, by the last rehearsal\n"
