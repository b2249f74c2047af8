"""Commands that only read change nothing on the disk: no file, no byte, no time, beside the database either."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.dbsync.cli.test_check import dbsync
from tests.dbsync.cli.test_command_line import AS_NOBODY, open_folder, run
from tests.dbsync.commands.test_dry_run import CRASH
from tests.helpers.damage import flip
from tests.helpers.shop import effects, make_shop, released, sales, upgrade, version
from tests.helpers.turns import in_turns

__all__ = ["open_folder"]

Snapshot = dict[str, tuple[int, int, bytes]]


def snapshot(folder: Path) -> Snapshot:
    """Name, size, time of the last change, and content of everything."""
    found = {}
    for path in sorted(folder.rglob("*")):
        stat = path.lstat()
        found[path.relative_to(folder).as_posix()] = (
            stat.st_size if path.is_file() else 0, stat.st_mtime_ns, path.read_bytes() if path.is_file() else b"",
        )  # fmt: skip
    return found


def without_places(found: Snapshot) -> Snapshot:
    """Without the times of folders, and without the lock: for commands that work on copies in the folder of backups."""
    return {name: value for name, value in found.items() if not name.endswith(".lock") and (value[0] or value[2])}


def crashed(database: Path, mode: str) -> None:
    done = subprocess.run([sys.executable, "-c", CRASH, database, mode], check=False)
    assert done.returncode == 1


def at_rest(database: Path) -> None:
    assert not Path(f"{database}-wal").exists()


def at_rest_in_wal(database: Path) -> None:
    with closing(sqlite3.connect(database)) as live:
        live.execute("PRAGMA journal_mode=WAL").fetchall()


def wal_without_index(database: Path) -> None:
    crashed(database, "WAL")
    Path(f"{database}-shm").unlink()


def wal_with_index(database: Path) -> None:
    crashed(database, "WAL")
    assert Path(f"{database}-shm").exists()


def hot_journal(database: Path) -> None:
    crashed(database, "DELETE")
    assert Path(f"{database}-journal").stat().st_size


def damaged_log(database: Path) -> None:
    wal_without_index(database)
    flip(Path(f"{database}-wal"), 32 + 24 + 100)


def log_without_database(database: Path) -> None:
    wal_without_index(database)
    database.unlink()


def journal_beside_an_empty_file(database: Path) -> None:
    hot_journal(database)
    database.write_bytes(b"")


STATES = {state.__name__: state for state in (
    at_rest, at_rest_in_wal, wal_without_index, wal_with_index, hot_journal, damaged_log, log_without_database,
    journal_beside_an_empty_file,
)}  # fmt: skip
COMMANDS = {
    "status": ("status", "--migrations", "M4"),
    "status --json": ("status", "--json"),
    "verify": ("verify", "--migrations", "M4"),
    "history": ("history",),
    "backups": ("backups",),
    "backups --prune --dry-run": ("backups", "--prune", "--dry-run"),
    "backups --compress --dry-run": ("backups", "--compress", "--dry-run"),
    "upgrade --dry-run": ("upgrade", "--dry-run", "--migrations", "M5"),
    "upgrade --dry-run --on-copy": ("upgrade", "--dry-run", "--on-copy", "--migrations", "M5"),
    "restore --dry-run": ("restore", "BACKUP", "--dry-run"),
    "check": ("check", "--migrations", "M5"),
    "diff": ("diff", "--migrations", "M4"),
}


RUNS_CODE = ("verify", "upgrade --dry-run")
"""Commands that run all migrations on an empty database."""


def is_open_to_others(program: Path) -> bool:
    """Return whether another account may run a program."""
    real = program.resolve()
    return all(place.stat().st_mode & 0o001 for place in (real, *real.parents))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop that was migrated from 2 to 4, with a migration backup and a manual one; for copying only."""
    folder = tmp_path_factory.mktemp("shop")
    database = make_shop(folder, schema=2)
    for schema in (4, 5):
        released(folder, schema)
    assert upgrade(database, released(folder, 4)).name == "MIGRATED"
    effects(database).make_backup()
    # A part of a run that was cut: only a run that changes something removes it.
    (database.parent / "backups" / ".part-pos_system.db~left.db").write_bytes(b"left")
    return folder


@pytest.mark.parametrize(("name", "command"), in_turns(STATES, COMMANDS))
def test_nothing_on_the_disk_changes(shop: Path, tmp_path: Path, name: str, command: str) -> None:
    folder = tmp_path / "till"
    shutil.copytree(shop, folder)
    database = folder / "data" / "pos_system.db"
    backup = next((database.parent / "backups").glob("*-backup-v2-*.db"))
    STATES[name](database)
    words: list[str | Path] = [
        folder / f"migrations-{word[1]}" if word in ("M4", "M5") else backup if word == "BACKUP" else word
        for word in COMMANDS[command]
    ]
    words += ["--database", database]
    before = snapshot(database.parent)
    done = dbsync(*words)
    after = snapshot(database.parent)
    assert "Traceback" not in done.stderr
    if command == "check" and not database.exists():
        return
    if command == "diff":
        before, after = without_places(before), without_places(after)
    assert after == before, sorted({*before.items()} ^ {*after.items()})[:1]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("name", "command"),
    in_turns(
        ["at_rest_in_wal", "wal_without_index", "wal_with_index", "hot_journal"],
        ["status", "verify", "history", "backups", "upgrade --dry-run"],
    ),
)
def test_they_work_in_a_folder_that_may_not_be_written(shop: Path, open_folder: Path, name: str, command: str) -> None:
    if command in RUNS_CODE and not is_open_to_others(Path(sys.executable)):
        pytest.skip("this Python is closed to others: a migration in Python could not be run")
    folder = open_folder / "till"
    shutil.copytree(shop, folder)
    folder.chmod(0o755)
    database = folder / "data" / "pos_system.db"
    STATES[name](database)
    words = [f"{folder}/migrations-{word[1]}" if word in ("M4", "M5") else word for word in COMMANDS[command]]
    before = snapshot(database.parent)
    script = AS_NOBODY.replace("import ast,", "import tempfile, dbsync.storage.copied_files\nimport ast,")
    done = run([sys.executable, "-c", script, *words, "--database", str(database)], open_folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert snapshot(database.parent) == before


def test_a_hot_journal_is_named_and_judged_on_a_copy(shop: Path, tmp_path: Path) -> None:
    folder = tmp_path / "till"
    shutil.copytree(shop, folder)
    database = folder / "data" / "pos_system.db"
    sold = sales(database)
    hot_journal(database)
    status = json.loads(dbsync("status", "--json", "--database", database).stdout)
    assert (status["state"], status["version"]) == ("ok", 4)
    assert status["notes"] == [
        "an unfinished transaction is in pos_system.db-journal; SQLite rolls it back when the database is next used"
    ]
    done = dbsync("verify", "--database", database, "--migrations", folder / "migrations-4")
    assert done.returncode == 0, done.stdout
    assert "SQLite rolls it back" in done.stdout
    assert "integrity_check" in done.stdout
    assert sales(database) == sold


def test_a_damaged_log_is_named_before_sqlite_drops_what_is_in_it(shop: Path, tmp_path: Path) -> None:
    folder = tmp_path / "till"
    shutil.copytree(shop, folder)
    database = folder / "data" / "pos_system.db"
    damaged_log(database)
    note = json.loads(dbsync("status", "--json", "--database", database).stdout)["notes"]
    assert [sentence.partition(":")[0] for sentence in note] == ["pos_system.db-wal is damaged"]
    assert "up to 1 committed transaction(s)" in note[0]
    assert note[0] in dbsync("verify", "--database", database, "--migrations", folder / "migrations-4").stdout
    done = dbsync("repair", "--database", database, "--into", tmp_path / "new.db")
    assert done.returncode == 1
    assert "NOT EVERYTHING WAS READ" in done.stdout
    assert "up to 1 committed transaction(s)" in done.stdout


def test_verify_finds_a_broken_check_constraint_of_a_database_in_wal_mode(tmp_path: Path) -> None:
    """SQLite checks no CHECK of a database that it may only read: a copy is judged."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "0001_a.sql").write_text("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER CHECK (n > 0));")
    database = tmp_path / "a.db"
    assert dbsync("upgrade", "--database", database, "--migrations", tmp_path / "m").returncode == 0
    with closing(sqlite3.connect(database, isolation_level=None)) as live:
        live.execute("PRAGMA journal_mode=WAL").fetchall()
        live.execute("PRAGMA ignore_check_constraints=ON")
        live.execute("INSERT INTO t (n) VALUES (-1)")
    before = snapshot(tmp_path)
    done = dbsync("verify", "--database", database, "--migrations", tmp_path / "m")
    assert (done.returncode, "CHECK constraint failed in t" in done.stdout) == (1, True), done.stdout
    assert snapshot(tmp_path) == before
    assert version(database) == 1
