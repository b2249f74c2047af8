"""Commands of a terminal that only read change nothing on it: not in its folders, and not beside its database."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.dbsync.cli.test_reads_only import STATES, snapshot
from tests.dbsync.database.test_side_files import damaged
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor

NAMES = ("at_rest", "at_rest_in_wal", "wal_without_index", "wal_with_index", "hot_journal", "damaged_log")
COMMANDS = {"status": ("status",), "rollback --list": ("rollback", "--list")}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_on_the_terminal_changes(till: Till, name: str) -> None:
    STATES[name](till.database)
    before = snapshot(till.folder)
    for words in COMMANDS.values():
        done = till.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert snapshot(till.folder) == before, words


def test_a_dry_run_of_a_rollback_changes_nothing_and_says_what_is_carried(till: Till, vendor: Vendor) -> None:
    vendor.release("1.1")
    assert till.check().outcome == "SWAPPED"
    assert till.launch().returncode == 0
    assert till.check().outcome == "NOTHING_NEW"
    STATES["wal_without_index"](till.database)

    def contents() -> dict[str, bytes]:
        return {name: value[2] for name, value in snapshot(till.folder).items() if not name.endswith(".lock")}

    before = contents()
    done = till.run("rollback", "--dry-run")
    assert (done.returncode, "Nothing was changed" in done.stdout) == (0, True), done.stdout + done.stderr
    assert contents() == before


def test_a_launch_keeps_a_damaged_log_before_it_looks_and_status_names_it(till: Till, tmp_path: Path) -> None:
    log = damaged(till.database, tmp_path)
    assert "pos_system.db-wal is damaged" in till.run("status").stdout
    assert till.launch().returncode == 0
    (kept,) = till.settings.backups.glob("auraswift-damaged-log-*.wal")
    assert kept.read_bytes() == log
    notes = till.status()["database"]["notes"]
    assert any(kept.name in note for note in notes), notes


def test_a_terminal_without_its_database_and_with_its_log_opens_nothing_over_it(till: Till) -> None:
    STATES["wal_without_index"](till.database)
    log = Path(f"{till.database}-wal").read_bytes()
    till.database.unlink()
    done = subprocess.run(
        [sys.executable, "-m", "updater", "launch"], env=till.environment(), capture_output=True, check=False
    )
    assert Path(f"{till.database}-wal").read_bytes() == log
    assert not till.database.exists(), done.stderr
