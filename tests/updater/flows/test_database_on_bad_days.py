"""A launch on a database that is damaged, gone, empty, held or closed: what the clerk reads, what support reads."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers.shop import sales, version
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor


def damaged(database: Path) -> None:
    database.write_bytes(b"\x00garbage" * 4000)


def gone(database: Path) -> None:
    database.rename(database.with_name("moved.db"))


def empty(database: Path) -> None:
    database.write_bytes(b"")


def untracked(database: Path) -> None:
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("DROP TABLE dbsync_history")
        live.execute("DROP TABLE schema_version")
        live.execute("ALTER TABLE products ADD COLUMN shelf TEXT")  # or it would be known by its structure


@pytest.mark.parametrize(
    ("spoil", "code", "outcome"),
    [
        (damaged, "U-3006", "DAMAGED"),
        (gone, "U-3007", "MISSING"),
        (empty, "U-3007", "MISSING"),
        (untracked, "U-3008", "UNTRACKED"),
    ],
    ids=["damaged", "gone", "empty", "untracked"],
)
@pytest.mark.parametrize("on_trial", [False, True])
def test_nothing_is_started_or_made_and_both_are_told(
    vendor: Vendor, till: Till, spoil: Callable[[Path], None], code: str, outcome: str, on_trial: bool
) -> None:
    if on_trial:
        vendor.release("1.1", schema=4)
        till.check()
    spoil(till.database)
    before = till.database.read_bytes() if till.database.exists() else None
    done = till.launch()
    assert "is open" not in done.stdout
    assert f"The till cannot open. Please call support. Code {code}." in done.stderr
    assert "Traceback" not in done.stderr
    assert (till.database.read_bytes() if till.database.exists() else None) == before
    report = till.report(outcome)
    assert report["next"]
    assert report["cause"]
    status = till.status()
    assert status["last_alarm"]["outcome"] == outcome


def newer(database: Path) -> None:
    """Write a view that only a newer SQLite can parse, as that of the app may be."""
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("PRAGMA writable_schema=ON")
        sql = "CREATE VIEW items AS SELECT group_concat(sku, ', ' ODER BY sku) FROM products"
        live.execute("INSERT INTO sqlite_master VALUES ('view', 'items', 'items', 0, ?)", (sql,))


def test_a_view_that_this_sqlite_cannot_parse_stops_no_release_without_a_migration(vendor: Vendor, till: Till) -> None:
    newer(till.database)
    assert "till 1.0 is open" in till.launch(SAMPLE_TILL_PASSES_OVER="ON").stdout
    vendor.release("1.1", schema=2)
    till.check()
    done = till.launch(SAMPLE_TILL_PASSES_OVER="ON")
    assert ("till 1.1 is open" in done.stdout, done.stderr) == (True, "")
    assert "SCHEMA_NOT_PARSED" not in till.outcomes()
    assert "view items" in str(till.status()["database"]["notes"])
    assert "till 1.1 is open" in till.launch(SAMPLE_TILL_PASSES_OVER="ON").stdout
    dropped(till.database)
    assert till.lost_receipts() == []


def dropped(database: Path) -> None:
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("PRAGMA writable_schema=ON")
        live.execute("DELETE FROM sqlite_master WHERE name = 'items'")


def test_a_view_that_this_sqlite_cannot_parse_keeps_the_old_release_until_it_is_dropped(
    vendor: Vendor, till: Till
) -> None:
    newer(till.database)
    vendor.release("1.1", schema=4)
    till.check()
    for _ in range(2):
        done = till.launch(SAMPLE_TILL_PASSES_OVER="ON")
        assert ("till 1.0 is open" in done.stdout, "Traceback" in done.stderr) == (True, False), done.stderr
    report = till.report("SCHEMA_NOT_PARSED")
    assert (f"SQLite {sqlite3.sqlite_version}" in report["cause"], "view items" in report["cause"]) == (True, True)
    assert (report["phase"], report["done"]) == ("preflight", "the database was left as it was; 1.0 starts")
    assert till.status()["last_alarm"]["outcome"] == "SCHEMA_NOT_PARSED"
    dropped(till.database)
    assert "till 1.1 is open" in till.launch(SAMPLE_TILL_PASSES_OVER="ON").stdout
    assert (version(till.database), till.lost_receipts()) == (4, [])


def test_a_problem_of_this_machine_is_not_held_against_the_release(vendor: Vendor, till: Till) -> None:
    well = till.folder / "well"
    bundle = vendor.bundle("1.1", schema=3)
    text = f'"""A step."""\nimport os\n\n\ndef up(db):\n    if not os.path.exists({str(well)!r}):\n'
    text += "        raise OSError(5, 'Input/output error')\n"
    (step,) = bundle.glob("migrations/0003_*.py")
    step.write_text(text)
    vendor.publish(bundle, "1.1")
    till.check()
    before = sales(till.database)
    for count in (1, 2):
        assert "till 1.0 is open" in till.launch(sell=1).stdout
        assert sales(till.database) == before + count
    report = till.report("MACHINE_PROBLEM")
    assert ("Input/output error" in report["cause"], report["phase"]) == (True, "migrate")
    status = till.status()
    assert (status["rejected"], status["last_alarm"]["outcome"]) == ([], "MACHINE_PROBLEM")
    well.touch()
    assert "till 1.1 is open" in till.launch(sell=1).stdout
    assert (version(till.database), sales(till.database)) == (3, before + 3)


def test_a_database_that_another_process_holds_is_waited_for_and_then_named(till: Till) -> None:
    till.limits(busy_seconds=0.5)
    text = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN EXCLUSIVE');"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", text, str(till.database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        done = till.launch()
        holder.communicate(b"")
    assert (done.returncode, "The till is busy. Please try again in a minute. Code U-3002." in done.stderr) == (
        75,
        True,
    )
    assert "till 1.0 is open" in till.launch().stdout


def test_a_data_folder_that_cannot_be_written_leaves_the_old_version_and_its_data(vendor: Vendor, till: Till) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this system does not let a test mount anything")
    vendor.release("1.1", schema=4)
    till.check()
    place = till.database.parent / "backups"
    mount = f'mount --bind "{place}" "{place}" && mount -o remount,ro,bind "{place}"'
    script = f'{mount} && exec "$0" -m updater launch -- --sell 1'
    done = subprocess.run(
        [unshare, "-rm", "sh", "-c", script, sys.executable],
        env=till.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "till 1.0 is open" in done.stdout, done.stderr
    assert till.report("READ_ONLY")["phase"] == "preflight"
    assert sales(till.database) == 101
    assert "till 1.1 is open" in till.launch(sell=1).stdout
