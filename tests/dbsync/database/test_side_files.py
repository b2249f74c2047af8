"""Files beside a database are a part of it: kept and named where it is missing, empty or not readable whole."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.storage import side_files
from tests.dbsync.cli.test_check import dbsync
from tests.dbsync.commands.test_dry_run import CRASH
from tests.helpers.damage import flip, logged
from tests.helpers.shop import effects, make_shop, released, sales, sell, upgrade, version

DIES_AS_IT_IS_MADE = """
import os, sqlite3, sys
app = sqlite3.connect(sys.argv[1], isolation_level=None)
app.execute("BEGIN IMMEDIATE")
app.execute("PRAGMA cache_size=1")
app.execute("CREATE TABLE t (x)")
for number in range(300):
    app.execute("INSERT INTO t VALUES (?)", ("x" * 900,))
os.truncate(sys.argv[1], 0)
os._exit(1)
"""


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """The log of a shop whose database went away, without a backup or a record of it: the only copy of 300 sales."""
    database = make_shop(tmp_path, schema=2)
    shutil.rmtree(database.parent / "backups")
    subprocess.run([sys.executable, "-c", CRASH, database, "WAL"], check=False)
    Path(f"{database}-shm").unlink()
    return database


@pytest.mark.parametrize("empty", [False, True], ids=["missing", "empty"])
def test_a_database_is_never_created_beside_a_log_with_data(left: Path, tmp_path: Path, empty: bool) -> None:
    whole, log = left.read_bytes(), Path(f"{left}-wal").read_bytes()
    left.write_bytes(b"") if empty else left.unlink()
    for _ in range(2):
        outcome = upgrade(left, released(tmp_path, 4))
        assert outcome.name == "MISSING"
        assert "pos_system.db-wal beside it holds" in outcome.cause
        assert f"{len(log)} bytes" in outcome.cause
    assert Path(f"{left}-wal").read_bytes() == log
    assert (left.read_bytes() if empty else left.exists()) == (b"" if empty else False)
    # What the message asks for: the database is put back where it was.
    left.write_bytes(whole)
    assert upgrade(left, released(tmp_path, 4)).name == "MIGRATED"
    assert sales(left) == 400


@pytest.mark.parametrize("empty", [False, True], ids=["missing", "empty"])
def test_a_database_is_never_created_beside_a_journal_with_data(tmp_path: Path, empty: bool) -> None:
    database = make_shop(tmp_path, schema=2)
    shutil.rmtree(database.parent / "backups")
    subprocess.run([sys.executable, "-c", CRASH, database, "DELETE"], check=False)
    journal = Path(f"{database}-journal").read_bytes()
    database.write_bytes(b"") if empty else database.unlink()
    outcome = upgrade(database, released(tmp_path, 4))
    assert (outcome.name, "pos_system.db-journal beside it" in outcome.cause) == ("MISSING", True), outcome.cause
    assert Path(f"{database}-journal").read_bytes() == journal


def test_a_first_start_that_was_cut_is_no_loss_and_is_created(tmp_path: Path) -> None:
    """Its journal says that there was nothing before."""
    database = tmp_path / "data" / "pos_system.db"
    database.parent.mkdir()
    subprocess.run([sys.executable, "-c", DIES_AS_IT_IS_MADE, database], check=False)
    assert Path(f"{database}-journal").stat().st_size
    assert side_files.with_data(database) == []
    assert upgrade(database, released(tmp_path, 4)).name == "CREATED"


def test_a_log_without_frames_and_a_journal_that_is_cleared_hold_nothing(tmp_path: Path) -> None:
    database = tmp_path / "data" / "pos_system.db"
    database.parent.mkdir()
    Path(f"{database}-wal").write_bytes(bytes(32))
    Path(f"{database}-journal").write_bytes(bytes(512))
    assert upgrade(database, released(tmp_path, 4)).name == "CREATED"


@pytest.mark.parametrize("command", ["restore", "import", "empty"])
@pytest.mark.parametrize("empty", [False, True], ids=["missing", "empty"])
def test_what_takes_the_place_of_a_missing_database_moves_its_log_aside(
    tmp_path: Path, command: str, empty: bool
) -> None:
    database = make_shop(tmp_path, schema=2)
    backup = effects(database).make_backup()
    subprocess.run([sys.executable, "-c", CRASH, database, "WAL"], check=False)
    Path(f"{database}-shm").unlink()
    log = Path(f"{database}-wal").read_bytes()
    database.write_bytes(b"") if empty else database.unlink()
    released(tmp_path, 2)
    words: dict[str, list[str | Path]] = {
        "restore": ["restore", backup.path, "--yes"],
        "import": ["import", backup.path, "--yes", "--migrations", tmp_path / "migrations-2"],
        "empty": ["empty", "--yes", "--migrations", tmp_path / "migrations-2"],
    }
    done = dbsync(*words[command], "--database", database)
    assert done.returncode == 0, done.stdout + done.stderr
    (kept,) = database.parent.glob(f"pos_system-backup-before-{command}-*.db-wal")
    assert kept.read_bytes() == log
    assert not Path(f"{database}-wal").exists()
    assert (version(database), sales(database)) == (2, 0 if command == "empty" else 100)
    record = (database.parent / "backups" / "dbsync-flight.jsonl").read_text()
    assert kept.name in record


# ------------------------------------------------------------------------------------------------------ damaged logs


def damaged(database: Path, tmp_path: Path) -> bytes:
    """A shop whose app died with five sales in the log; the third one is damaged there."""
    with closing(sqlite3.connect(database)) as live:
        live.execute("PRAGMA journal_mode=WAL").fetchall()
    script = (
        "import os, sqlite3, sys; app = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        'for n in range(5): app.execute("INSERT INTO transactions (receiptNumber, totalCents, paidWith, createdAt)'
        " VALUES (?, 1, 'cash', '')\", (f'D{n}',))\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, database], check=True)
    log = Path(f"{database}-wal")
    flip(log, log.stat().st_size // 2)
    return log.read_bytes()


def test_a_damaged_log_is_recorded_and_kept_before_sqlite_drops_it_and_stops_no_till(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    log = damaged(database, tmp_path)
    for _ in range(2):
        outcome = upgrade(database, released(tmp_path, 4))
        assert outcome.ready, outcome.cause
    assert not Path(f"{database}-wal").exists()
    (kept,) = (database.parent / "backups").glob("*.wal")
    assert kept.read_bytes() == log
    record = (database.parent / "backups" / "dbsync-flight.jsonl").read_text()
    lines = [json.loads(line) for line in record.splitlines()]
    (line,) = [line for line in lines if line["event"] == "log_damaged"]
    assert line["kept"] == kept.name
    assert "committed transaction(s) in it cannot be read" in line["cause"]
    status = json.loads(dbsync("status", "--json", "--database", database).stdout)
    assert any(kept.name in note for note in status["notes"])


def test_a_sound_log_is_neither_recorded_nor_kept(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    subprocess.run([sys.executable, "-c", CRASH, database, "WAL"], check=False)
    assert upgrade(database, released(tmp_path, 4)).ready
    assert sales(database) == 400
    assert not list((database.parent / "backups").glob("*.wal"))
    assert "log_damaged" not in (database.parent / "backups" / "dbsync-flight.jsonl").read_text()


def test_at_most_three_damaged_logs_are_kept(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    for number in range(5):
        damaged(database, tmp_path)
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)):
            pass
        effects(database).look()
        with closing(sqlite3.connect(database)) as live, live:
            live.execute("DELETE FROM transactions WHERE receiptNumber LIKE 'D%'")
            live.execute("UPDATE products SET stock = ?", (number,))
    assert len(list((database.parent / "backups").glob("auraswift-damaged-log-*.wal"))) == 3


def test_a_log_is_not_kept_where_the_space_is_needed_and_is_recorded(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    damaged(database, tmp_path)
    effects(database, least_free_bytes=1 << 60).look()
    assert not list((database.parent / "backups").glob("*.wal"))
    assert "log_damaged" in (database.parent / "backups" / "dbsync-flight.jsonl").read_text()


def test_repair_says_what_a_damaged_log_loses_and_a_whole_log_loses_nothing(tmp_path: Path) -> None:
    database = logged(tmp_path / "a.db")
    whole = dbsync("repair", "--database", database, "--into", tmp_path / "whole.db")
    assert (whole.returncode, "everything was read" in whole.stdout) == (0, True), whole.stdout
    flip(Path(f"{database}-wal"), 32 + 24 + 4120 * 3)
    done = dbsync("repair", "--json", "--database", database, "--into", tmp_path / "new.db")
    told = json.loads(done.stdout)
    assert (done.returncode, told["whole"]) == (1, False)
    assert told["log"]["lost_commits_count"] >= 1
    assert Path(f"{database}-wal").stat().st_size, "only copies are worked on"


def test_selling_goes_on_beside_a_look(tmp_path: Path) -> None:
    """A log that another process has open is no damaged one, and stays its own."""
    database = make_shop(tmp_path, schema=2, wal=True)
    with closing(sqlite3.connect(database)) as live:
        live.execute("PRAGMA wal_autocheckpoint=0").fetchall()
        live.execute("SELECT count(*) FROM products").fetchone()
        for _ in range(3):
            sell(database)
            before = Path(f"{database}-wal").read_bytes()
            assert json.loads(dbsync("status", "--json", "--database", database).stdout)["notes"] == []
            assert Path(f"{database}-wal").read_bytes() == before
