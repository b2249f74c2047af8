"""The story of a terminal with real processes, in a folder with a space and an umlaut, on consoles of old code pages.

Install, check, launch with a migration, confirm, crash and way back, rollback by script. It runs on every system, and
is the part of the tests for which Windows differs most; there also with no console at all.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

import pytest

from tests.drills.terminate import AGENT, APP, FLOWS, KEEPER, LAUNCHER, calibrate, play, staged
from tests.helpers.held import Share, held_by_a_process
from tests.helpers.places import ROOT
from tests.helpers.scanner import scanned
from tests.helpers.shop import version as version_of_database
from tests.helpers.terminal import COMMAND_SECONDS, Till
from tests.helpers.vendor import Vendor, copy_of, served, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
"""Twenty processes each: with wine and a busy machine that takes minutes."""
ODD: Final = "Tillkäper GmbH & Söhne"
DETACHED: Final = 0x8
"""DETACHED_PROCESS: without a console, as Explorer starts a program of windows."""
STARTER: Final = f"""
import subprocess, sys
sys.exit(subprocess.run(sys.argv[1:], close_fds=True, creationflags={DETACHED}).returncode)
"""
CODE_PAGES: Final = ("cp437", "cp1252", "utf-8")


class Console:
    """How the commands of one terminal are started and read."""

    def __init__(self, till: Till, encoding: str) -> None:
        self.till, self.encoding = till, encoding

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A Python command, read as this console shows it; a character that the code page lacks is no failure."""
        values = {**self.till.environment(), "PYTHONIOENCODING": f"{self.encoding}:strict", "PYTHONUTF8": "0"}
        return subprocess.run(
            [sys.executable, *words], env=values, stdin=subprocess.DEVNULL, capture_output=True,
            # An isolated Python takes the system's code page, whatever the environment says.
            encoding=self.encoding, errors="replace", timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip

    def updater(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`updater …`."""
        return self.run("-m", "updater", *words)

    def opens(self, version: str, *, schema: int) -> str:
        """Launch, sell two, close; the app that opened fits the database, and no receipt is lost."""
        done = self.updater("launch", "--", "--sell", "2")
        assert done.returncode == 0, done.stderr
        assert f"till {version} is open" in done.stdout, (done.stdout, done.stderr)
        assert version_of_database(self.till.database) == schema
        assert self.till.lost_receipts() == []
        return done.stdout


def test_the_story_in_an_odd_folder_on_old_consoles(first_release: Vendor, tmp_path: Path) -> None:
    """Each launch has another code page, and what people read is asked for on all of them."""
    folder = tmp_path / ODD
    folder.mkdir()
    vendor, till = copy_of(first_release, folder / "vendor"), Till(folder / "till")
    pages = [Console(till, encoding) for encoding in CODE_PAGES]
    console, western, wide = pages
    with served(serving(vendor.public)) as url:
        root = folder / "1.root.json"
        shutil.copy(vendor.root, root)
        installed = console.updater(
            "install", "--root", str(root), "--url", url, "--settings", str(till.settings_path),
            "--program", str(till.folder / "program"), "--state", str(till.folder / "state"),
            "--data", str(till.folder / "data"), "--interpreter", f"python={sys.executable}",
        )  # fmt: skip
        assert installed.returncode == 0, installed.stderr
        till.fill(duplicate_sku=True)
        console.opens("1.0", schema=2)

        vendor.release("1.1", schema=4)
        assert "SWAPPED" in western.updater("check").stdout
        western.opens("1.1", schema=4)
        assert "NOTHING_NEW" in wide.updater("check").stdout

        vendor.release("1.2", schema=5, behaviour="crash")
        assert "SWAPPED" in console.updater("check").stdout
        assert "notice: The update was undone." in wide.opens("1.1", schema=4)
        for page in pages:
            assert "REJECTED_HERE" in page.updater("check").stdout

        script = ("-I", "-S", str(ROOT / "scripts" / "rollback.py"), "--settings", str(till.settings_path))
        for page in pages:
            listed = page.run(*script, "--list", "--json")
            assert listed.returncode == 0, listed.stderr
            assert json.loads(listed.stdout)["backups"]
        done = console.run(*script, "--yes")
        assert done.returncode == 0, (done.stdout, done.stderr)
        western.opens("1.0", schema=2)
    for page in pages:
        assert "U-" in page.updater("status").stdout


def without_a_console(till: Till, *words: str) -> int:
    """Run a command as Explorer starts a program of windows: without a console, and without standard streams."""
    windowed = Path(sys.executable).with_name("pythonw.exe")
    command = [sys.executable, "-c", STARTER, str(windowed), "-m", "updater", *words]
    return subprocess.run(command, env=till.environment(), timeout=COMMAND_SECONDS, check=False).returncode


@pytest.mark.skipif(sys.platform != "win32", reason="programs without a console are of Windows")
def test_commands_without_a_console_do_their_work(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    assert without_a_console(till, "check") == 0
    assert till.status()["phase"] == "SWAPPED"
    assert without_a_console(till, "status") == 0


@pytest.mark.skipif(sys.platform != "win32", reason="programs without a console are of Windows")
def test_an_app_that_prints_opens_without_a_console(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    assert till.check().outcome == "SWAPPED"
    assert without_a_console(till, "launch", "--", "--sell", "2") == 0
    assert till.status()["starts"]["version"] == "1.1"
    assert "APP_FAILED" not in till.outcomes()
    assert len(till.held_receipts()) == 2
    assert till.lost_receipts() == []


@pytest.mark.skipif(sys.platform != "win32", reason="programs without a console are of Windows")
def test_the_story_without_a_console(vendor: Vendor, till: Till) -> None:
    """An update, a release that crashes, the way back, and a person's rollback: as Explorer starts the programs."""

    def opens(version: str) -> None:
        assert without_a_console(till, "launch", "--", "--sell", "1") == 0
        assert till.status()["starts"]["version"] == version
        assert till.lost_receipts() == []

    vendor.release("1.1", schema=4)
    assert without_a_console(till, "check") == 0
    opens("1.1")
    assert without_a_console(till, "check") == 0
    vendor.release("1.2", schema=5, behaviour="crash")
    assert without_a_console(till, "check") == 0
    opens("1.1")
    assert {"APP_FAILED", "RESTORED"} <= set(till.outcomes())
    assert without_a_console(till, "check") == 0
    assert without_a_console(till, "rollback", "--yes") == 0
    opens("1.0")
    assert len(till.held_receipts()) == 3


def test_a_database_in_odd_folders_is_upgraded_and_goes_back(tmp_path: Path) -> None:
    from tests.sample_till.bundles import copy_migrations

    folder = tmp_path / ODD / "100% [x]" / "π 漢"
    folder.mkdir(parents=True)
    for schema in (2, 4):
        copy_migrations(folder / f"m{schema}", schema=schema, mended=False)
    values = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    older, newer = ("--migrations", str(folder / "m2")), ("--migrations", str(folder / "m4"))
    for words in (
        ("upgrade", *older), ("upgrade", *newer), ("backup",), ("verify", *newer), ("downgrade", "--yes"),
        ("status", *older),
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "dbsync", *words, "--database", str(folder / "shop.db")], env=values,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
        assert b"Traceback" not in done.stderr
        assert done.returncode == 0, (words, done.stdout, done.stderr)


HELD: Final = {
    "state/journal.json": Share.NOTHING,
    "state/moment.json": Share.READ,
    "state/terminal.lock": Share.READ,
    "program/versions/*/tillkeeper-manifest.json": Share.NOTHING,
}
"""A sample of `tests/drills/sharing.py`, with a real process that holds the file."""


@pytest.mark.skipif(sys.platform != "win32", reason="share modes are of Windows")
@pytest.mark.parametrize("pattern", HELD)
def test_a_file_that_a_process_holds_is_waited_for_or_named_and_stops_the_till_no_longer(
    till: Till, pattern: str
) -> None:
    (path,) = till.folder.glob(pattern)
    with held_by_a_process(path, HELD[pattern]):
        done = till.launch(sell=1)
    assert "is open" in done.stdout or path.name in done.stderr, (done.stdout, done.stderr)
    done = till.launch(sell=1)
    assert "till 1.0 is open" in done.stdout, done.stderr
    assert till.lost_receipts() == []


@pytest.mark.skipif(sys.platform != "win32", reason="share modes are of Windows")
def test_a_scanner_that_holds_a_file_for_a_second_is_not_noticed(till: Till) -> None:
    with held_by_a_process(till.state().journal_path, Share.NOTHING) as process:
        assert process.stdin is not None
        threading.Timer(1.0, process.stdin.close).start()
        assert till.status()["phase"] == "IDLE"


SCANNED_SECONDS: Final = 3.0


@pytest.mark.skipif(sys.platform != "win32", reason="share modes are of Windows")
def test_an_update_while_a_scanner_holds_every_new_file_for_three_seconds(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    with scanned(till.folder / "program", till.folder / "state", seconds=SCANNED_SECONDS) as files:
        checked = till.run("check")
        assert "SWAPPED" in checked.stdout, (checked.stdout, checked.stderr)
        done = till.launch(sell=2)
        assert "till 1.1 is open" in done.stdout, (done.stdout, done.stderr)
        checked = till.run("check")
        assert "NOTHING_NEW" in checked.stdout, (checked.stdout, checked.stderr)
    assert any(path.endswith("till.py") for path in files)
    assert any("journal" in path for path in files)
    status = till.status()
    assert (status["phase"], status["starts"]["version"]) == ("IDLE", "1.1")
    assert version_of_database(till.database) == 4
    assert till.lost_receipts() == []


KILLED: Final = {
    "look, download, stage": AGENT, "first launch, migration": LAUNCHER, "confirm": KEEPER, "crash and way back": APP,
}  # fmt: skip
"""A sample of `tests/drills/terminate.py`: a flow, and which of its processes is killed."""


@pytest.mark.parametrize("name", KILLED)
def test_a_process_that_is_killed_at_a_random_moment_costs_no_sale(
    name: str, first_release: Vendor, tmp_path: Path
) -> None:
    flow = next(flow for flow in FLOWS if flow.name == name)
    with staged(tmp_path, first_release) as stage:
        calibrate(stage, flow)
        found = play(stage, flow, KILLED[name], random.Random(list(KILLED).index(name)))
        assert found.met, found
        assert found.violations == (), found
