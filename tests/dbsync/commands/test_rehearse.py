"""A rehearsal beside a till that sells: what it tells, what it leaves on record for the run, and nothing else."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dbsync.backups import snapshot
from dbsync.cli.console import Transcript
from dbsync.commands.rehearse import rehearse
from dbsync.database import measurements
from dbsync.database.flight_recorder import FlightRecorder
from dbsync.errors import Locked, RehearsalSkipped
from dbsync.model import Migration
from dbsync.progress import Event
from dbsync.storage import files as disk_files
from dbsync.storage import page_copy
from dbsync.upgrade import coordinator
from tests.dbsync.cli.test_check import dbsync
from tests.helpers.places import ROOT
from tests.helpers.shop import ask, dump, effects, files, make_shop, released, sales, upgrade, version, written

SELLER = """
import os, sqlite3, sys
till = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
till.execute("PRAGMA synchronous=OFF")
sold = 0
def sell():
    global sold
    sold += 1
    till.execute("INSERT INTO transactions (receiptNumber, totalCents, paidWith, createdAt) VALUES (?, 1, 'cash', '')",
                 (f"S{os.getpid()}-{sold}",))
if sys.argv[2] == "asked":
    for line in sys.stdin:
        sell()
        print(sold, flush=True)
else:
    import threading
    closing = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), closing.set()), daemon=True).start()
    while not closing.wait(0.002):
        sell()
        if sold == 1:
            print("open", flush=True)
    print(sold, flush=True)
"""


@contextmanager
def selling(database: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    """A till in a process of its own."""
    words = [sys.executable, "-c", SELLER, str(database), how]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as till:
        yield till
        assert till.stdin is not None
        till.stdin.close()


def one_more(till: subprocess.Popen[str]) -> int:
    """Sells, and waits until it is sold; how many were."""
    assert till.stdin is not None
    assert till.stdout is not None
    till.stdin.write("\n")
    till.stdin.flush()
    return int(till.stdout.readline())


def journal_mode(database: Path, mode: str) -> None:
    """Sets it."""
    with closing(sqlite3.connect(database)) as live:
        live.execute(f"PRAGMA journal_mode={mode}")


def on_record(database: Path) -> dict[str, object]:
    """The newest line of the flight record."""
    return FlightRecorder(database.parent / "backups", database).lines()[-1]


# ------------------------------------------------------------------------------------------------------- the till sells


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_till_sells_in_every_phase_of_a_rehearsal(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_copy, "COPY_PAGES", 8)
    database = make_shop(tmp_path, schema=2)
    journal_mode(database, mode)
    found = written(tmp_path / "m", "ALTER TABLE users ADD COLUMN x; UPDATE users SET x = 1; SELECT 2;", after=2)
    phases: dict[str, int] = {}
    with selling(database, "asked") as till:

        def sell(event: Event) -> None:
            if phases.get(event.name, 0) < 3:
                phases[event.name] = phases.get(event.name, 0) + 1
                one_more(till)

        done = rehearse(found, database=database, backups=database.parent / "backups", progress=sell)
    assert (done.good, done.cause, done.migrations) == (True, "", ("v3 step",))
    assert phases.keys() == {"copy", "check copy", "migrate", "verify", "compare", "carry back"}
    sold = sum(phases.values())
    assert (sold >= 8, sales(database), version(database)) == (True, 100 + sold, 2)
    assert ask(database, "PRAGMA journal_mode") == mode.lower()
    assert files(database.parent) - {"pos_system.db", "backups/dbsync-flight.jsonl"} == set()


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_till_that_never_stops_selling_loses_no_sale_to_the_command(tmp_path: Path, mode: str) -> None:
    database = make_shop(tmp_path, schema=2)
    released(tmp_path, 5)
    journal_mode(database, mode)
    with selling(database, "always") as till:
        assert till.stdout is not None
        assert till.stdout.readline() == "open\n"
        before = sales(database)
        done = dbsync("rehearse", "--database", database, "--migrations", tmp_path / "migrations-5", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert till.poll() is None
        assert till.stdin is not None
        till.stdin.close()
        sold = int(till.stdout.readline())
    assert sales(database) == 100 + sold > before
    assert ask(database, "PRAGMA integrity_check") == "ok"
    assert files(database.parent) - {"pos_system.db", "backups/dbsync-flight.jsonl"} == set()


def test_a_copy_that_others_write_over_and_over_is_put_off_instead_of_going_on_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_copy, "COPY_PAGES", 4)
    database = make_shop(tmp_path, schema=2)
    target = tmp_path / "copy.db"

    def told(done: int, total: int, text: str = "", unit: str = "") -> None:
        assert one_more(till) < 500

    with selling(database, "asked") as till, pytest.raises(Locked) as caught:
        snapshot.copy_database(source=database, target=target, told=told)
    assert "it was written 21 times while it was copied" in str(caught.value)
    assert not target.exists()
    journal_mode(database, "WAL")
    with selling(database, "asked") as till:
        before = sales(database)
        snapshot.copy_database(source=database, target=target, told=told)
    assert sales(target) == before < sales(database)


@pytest.mark.skipif(sys.platform == "win32", reason="its priority class is not a number that a migration can ask for")
def test_the_command_waits_for_others(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    python = '"""Tells."""\nimport os\n\n\ndef up(db):\n    raise ValueError(f"nice {os.nice(0)}")\n'
    written(tmp_path / "m", python, after=2)
    done = dbsync("rehearse", "--database", database, "--migrations", tmp_path / "m")
    assert done.returncode == 1
    assert f"nice {min(19, os.nice(0) + 10)} " in done.stdout
    assert sales(database) == 100


# ------------------------------------------------------------------------------------------------------- what it tells


def test_what_would_change_is_told_by_table_and_object(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    script = """\
-- changes: update transactions.totalCents where o.id <= 30
-- changes: delete products where o.priceCents < 0
-- changes: insert users
UPDATE transactions SET totalCents = totalCents + 1 WHERE id <= 30;
INSERT INTO users SELECT 'new', 'new', role, businessId FROM users LIMIT 1;
CREATE TABLE bonus (id INTEGER PRIMARY KEY, points INTEGER);
INSERT INTO bonus (points) VALUES (1), (2);
CREATE INDEX by_points ON bonus(points);
"""
    written(tmp_path / "m", script, after=4)
    before = dump(database)
    place = ("--database", database, "--migrations", tmp_path / "m")
    told = json.loads(dbsync("rehearse", *place, "--json").stdout)
    assert (told["good"], told["cause"]) == (True, "")
    assert told["changes"] == [
        {"table": "bonus", "added": 2, "changed": 0, "removed": 0},
        {"table": "transactions", "added": 0, "changed": 30, "removed": 0},
        {"table": "users", "added": 1, "changed": 0, "removed": 0},
    ]
    assert [one.split(":")[0] for one in told["objects"]][:3] == [
        "+ column bonus.id", "+ column bonus.points", "+ index by_points",
    ]  # fmt: skip
    text = dbsync("rehearse", *place).stdout
    assert "  transactions: 0 rows added, 30 changed, 0 removed\n" in text
    assert "the till would be closed for about 1 s" in text
    assert dump(database) == before


def test_a_database_that_the_run_would_refuse_is_no_good_rehearsal(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=5)
    released(tmp_path, 4)
    done = dbsync("rehearse", "--database", database, "--migrations", tmp_path / "migrations-4")
    assert done.returncode == 1
    assert "TOO_NEW: the database has schema 5, this release knows 4" in done.stdout
    assert on_record(database)["good"] is False
    assert version(database) == 5


# ------------------------------------------------------------------------------------------ what it leaves for the run


def rehearsed(folder: Path) -> tuple[Path, tuple[Migration, ...]]:
    """A shop whose way from 2 to 4 was rehearsed."""
    database = make_shop(folder, schema=2)
    found = released(folder, 4)
    assert rehearse(found, database=database, backups=database.parent / "backups").good
    return database, found


def test_the_record_names_the_migrations_by_their_text_and_what_they_took(tmp_path: Path) -> None:
    database, found = rehearsed(tmp_path)
    line = on_record(database)
    assert line["event"] == "rehearsed"
    assert line["pending"] == [f"{one.number:04d}_{one.name} {one.sha256}" for one in found[2:]]
    assert (line["good"], line["cause"]) == (True, "")
    size = database.stat().st_size
    assert line["size_bytes"] == size
    seconds, expected, migrate = (float(str(line[f"{one}seconds"])) for one in ("", "expected_", "migrate_"))
    assert min(seconds, expected) >= migrate > 0
    peak, needed = int(str(line["peak_bytes"])), int(str(line["needed_bytes"]))
    assert (peak, needed >= size) == (needed + size, True)
    assert files(database.parent) == {"pos_system.db", "backups/dbsync-flight.jsonl"}


def test_the_run_asks_for_the_space_that_was_measured_and_says_how_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, found = rehearsed(tmp_path)
    needed = int(str(on_record(database)["needed_bytes"]))
    size = database.stat().st_size
    assert 1.25 * needed < 2.45 * size
    monkeypatch.setattr(disk_files, "free_bytes", lambda _: int(2.45 * size))
    stream = io.StringIO()
    seen: list[Event] = []
    shown = Transcript(stream)

    def view(event: Event) -> None:
        seen.append(event)
        shown(event)

    outcome = coordinator.upgrade(effects(database, view), migrations=found)
    assert outcome.name == "MIGRATED", outcome
    (started,) = [one for one in seen if one.kind == "started"]
    assert started.seconds > 0
    assert "🚀 Running 2 migration(s)...\n   about 1 s, by the last rehearsal\n" in stream.getvalue()
    recorded = [
        one for one in FlightRecorder(database.parent / "backups", database).lines() if one["event"] == "started"
    ]
    assert recorded[-1]["expected_seconds"] == started.seconds
    assert version(database) == 4


@pytest.mark.parametrize("what", ["never rehearsed", "another migration", "grown", "failed since"])
def test_a_rehearsal_of_something_else_counts_for_nothing(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, found = rehearsed(tmp_path)
    backups = database.parent / "backups"
    if what == "never rehearsed":
        (backups / "dbsync-flight.jsonl").unlink()
    elif what == "another migration":
        found = released(tmp_path, 5)
    elif what == "grown":
        with closing(sqlite3.connect(database)) as live, live:
            live.execute("CREATE TABLE notes (x)")
            live.execute("INSERT INTO notes VALUES (zeroblob(?))", (database.stat().st_size // 4,))
    else:
        line = on_record(database)
        FlightRecorder(backups, database).record({**line, "good": False})
    size = database.stat().st_size
    monkeypatch.setattr(disk_files, "free_bytes", lambda _: int(2.45 * size))
    before = dump(database)
    outcome = upgrade(database, found)
    assert (outcome.name, "required" in outcome.cause) == ("NO_SPACE", True)
    assert dump(database) == before


def test_an_estimate_goes_with_the_size_and_never_below_the_least(tmp_path: Path) -> None:
    _, found = rehearsed(tmp_path)
    line = {
        "event": "rehearsed", "pending": measurements.identity_of(found), "good": True, "size_bytes": 1000,
        "expected_seconds": 40.0, "needed_bytes": 1500, "at": "2026-01-01T00:00:00.000Z",
    }  # fmt: skip
    for size, seconds in ((1000, 40.0), (1200, 48.0), (800, 32.0)):
        measured = measurements.measured([line], found, size)
        assert measured is not None
        assert measured.expected_seconds == pytest.approx(seconds)
    for size in (1201, 799):
        assert measurements.measured([line], found, size) is None
    torn: list[dict[str, object]] = [
        {"size_bytes": "x"}, {"size_bytes": 0}, {"expected_seconds": None}, {"good": False}, {"pending": []},
    ]  # fmt: skip
    for wrong in torn:
        assert measurements.measured([{**line, **wrong}], found, 1000) is None
    assert measurements.measured([line], (), 1000) is None


# ------------------------------------------------------------------------------------------------- nothing is left


def killed(database: Path, folder: Path) -> None:
    """A rehearsal that is killed in the middle of its transaction."""
    python = (
        '"""Waits."""\nimport os, sys, threading\n\n\ndef up(db):\n    db.execute("UPDATE users SET rowid = rowid")\n'
    )
    python += '    sys.stdout.write(f"here {os.getpid()}\\n"); sys.stdout.flush()\n    threading.Event().wait()\n'
    written(folder, python, after=2)
    words = ["rehearse", "--database", str(database), "--migrations", str(folder)]
    with subprocess.Popen(
        [sys.executable, "-m", "dbsync", *words], cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr is not None
        here, pid = run.stderr.readline().split()
        assert here == "here"
        run.kill()
        # The process that runs the code ends with it, whatever the code is doing, and closes what it inherited.
        assert run.stderr.read() == "", pid
    left = {path.name for path in measurements.place(backups=database.parent / "backups", database=database).iterdir()}
    assert {"base.db", "rehearsal.db"} <= left


@pytest.mark.parametrize("by", ["rehearse", "upgrade"])
def test_what_a_killed_rehearsal_left_is_cleared_by_the_next_rehearsal_or_run(tmp_path: Path, by: str) -> None:
    database = make_shop(tmp_path, schema=2)
    found = released(tmp_path, 4)
    killed(database, tmp_path / "m")
    kept = {"pos_system.db", "backups/dbsync-flight.jsonl"}
    if by == "rehearse":
        assert rehearse(found, database=database, backups=database.parent / "backups").good
        assert files(database.parent) == kept
    else:
        outcome = upgrade(database, found)
        assert outcome.backup is not None
        name = outcome.backup.path.name
        left = {one for one in files(database.parent) if ".db.migrations/" not in one}
        assert left == kept | {f"backups/{name}", f"backups/{name}.json", "backups/pos_system.db.counters.json"}
    assert sales(database) == 100


def test_a_rehearsal_under_way_is_left_alone_by_the_run_and_by_another_rehearsal(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    backups = database.parent / "backups"
    found = released(tmp_path, 4)
    ended: list[str] = []

    def meanwhile(event: Event) -> None:
        if event.name == "verify" and not ended:
            with pytest.raises(Locked, match="another rehearsal is under way"):
                rehearse(found, database=database, backups=backups)
            ended.append(upgrade(database, found).name)

    done = rehearse(found, database=database, backups=backups, progress=meanwhile)
    assert (done.good, ended) == (True, ["MIGRATED"])
    assert not measurements.place(backups=backups, database=database).exists()
    assert version(database) == 4


def test_a_rehearsal_takes_no_space_that_selling_needs(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    before = files(database.parent)
    with pytest.raises(RehearsalSkipped, match="required"):
        rehearse(
            released(tmp_path, 4), database=database, backups=database.parent / "backups", least_free_bytes=1 << 60
        )
    assert files(database.parent) == before


@pytest.mark.parametrize(
    "body",
    ["    import errno\n    raise OSError(errno.ENOSPC, 'No space left on device')\n", "    raise MemoryError\n"],
    ids=["no space", "no memory"],
)
def test_a_lack_of_this_machine_is_no_verdict_on_the_release(tmp_path: Path, body: str) -> None:
    """A rehearsal is put off, and a check ends with "try later"; neither leaves anything."""
    database = make_shop(tmp_path, schema=4)
    found = written(tmp_path / "m", f'"""A step."""\n\n\ndef up(db):\n{body}', after=4)
    before = files(database.parent)
    with pytest.raises(RehearsalSkipped):
        rehearse(found, database=database, backups=database.parent / "backups", least_free_bytes=0)
    assert files(database.parent) == before
    done = dbsync("check", "--migrations", tmp_path / "m")
    assert (done.returncode, "No space left" in done.stderr or "MemoryError" in done.stderr) == (75, True), done.stderr
