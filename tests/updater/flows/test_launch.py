"""The launcher's last boundary: whatever is raised, an app runs in the same command, and nothing of ours ends it."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbsync.errors import DiskFull
from dbsync.outcomes import CANNOT_OPEN
from tests.drills import plug
from tests.helpers.places import ROOT
from tests.helpers.raised import HARD, INTERRUPTIONS
from tests.helpers.recorded import RecordedTerminal, unpack
from tests.helpers.shop import version
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from tests.simulators.till import SimulatedTill
from tests.simulators.world import World
from updater import settings
from updater.cli import start
from updater.flows.agent import cycle
from updater.flows.launch import Launched, launch
from updater.model import Limits, ProcessKind
from updater.outcomes import TerminalOutcome
from updater.terminal.live import Terminal

STORY = plug.Story("swapped", ("agent",))
BEFORE = (
    "take_terminal_lock", "sync", "try_database_lock", "look", "boot_id", "write_trial", "read_trial", "database",
    "migrations", "backup_of", "tell", "start_app", "release_database_lock", "release_terminal_lock",
)  # fmt: skip
"""Effects of a first launch before the app runs."""
WHILE_IT_RUNS = ("await_app", "answer_confirm", "write_trial", "read_trial", "tell", "note_start", "take_terminal_lock")


def swapped() -> World:
    """A till whose next launch is the first one of 1.1."""
    world = plug.new_world(STORY)
    cycle(SimulatedTill(world, "agent"))
    world.started.clear()
    world.told.clear()
    return world


def failing(
    till: Any, name: str, error: BaseException, *, times: int, armed: Callable[[], bool] = lambda: True
) -> None:
    """Make an effect raise: so often, or always (-1), and only while that holds."""
    right, left = getattr(till, name), [times]

    def fail(*args: Any, **kwargs: Any) -> Any:
        if left[0] and armed():
            left[0] -= 1
            if name.startswith("release_"):
                right(*args, **kwargs)  # the system lets go also where it reports an error
            raise error
        return right(*args, **kwargs)

    setattr(till, name, fail)


def launched(world: World, till: SimulatedTill) -> Launched:
    """Launch, and hold what the world has seen against it."""
    done = launch(till, plug.LIMITS)
    world.check_violations()
    world.check_sales()
    assert world.terminal_lock is None
    assert world.database_lock is None
    assert done.cause.encode() is not None
    return done


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("place", BEFORE)
def test_an_error_before_an_app_runs_does_not_keep_the_till_shut(place: str, kind: str) -> None:
    world, error = swapped(), HARD[kind]()
    till = SimulatedTill(world, "launcher")
    failing(till, place, error, times=1, armed=lambda: world.app is None)
    launched(world, till)
    assert world.started, [str(report) for report in world.told]
    plug.settle(world, STORY, order="agent", exact=False)


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("place", WHILE_IT_RUNS)
def test_an_error_while_the_app_runs_does_not_end_it(place: str, kind: str) -> None:
    world, error = swapped(), HARD[kind]()
    till = SimulatedTill(world, "launcher")
    failing(till, place, error, times=3, armed=lambda: world.app is not None)
    done = launched(world, till)
    assert (done.outcome, done.exit_code) == (TerminalOutcome.APP_ENDED, 0)
    assert [version for version, _ in world.started] == ["1.1"]
    assert world.acknowledged_confirms, "it confirmed all the same"


@pytest.mark.parametrize("kind", INTERRUPTIONS)
@pytest.mark.parametrize("place", ["look", "write_trial", "await_app", "note_start"])
def test_a_persons_ctrl_c_ends_the_launcher_and_leaves_no_lock(place: str, kind: str) -> None:
    world, error = swapped(), INTERRUPTIONS[kind]()
    till = SimulatedTill(world, "launcher")
    failing(till, place, error, times=1)
    with pytest.raises(type(error)):
        launch(till, plug.LIMITS)
    assert (world.terminal_lock, world.database_lock) == (None, None)


@pytest.mark.parametrize("place", ["sync", "write_trial", "database", "tell"])
def test_an_error_that_lasts_leaves_the_good_release(place: str) -> None:
    world = swapped()
    till = SimulatedTill(world, "launcher")
    failing(till, place, DiskFull(operation="write", cause="no space"), times=-1)
    done = launched(world, till)
    assert done.outcome == TerminalOutcome.APP_ENDED
    notices = {
        "tell": ("1.1", ""),
        "database": ("1.0", "The disk is full. Please call support. Code U-3004."),
    }
    assert world.notices[-1] == notices.get(place, ("1.0", "You can sell. Please call support. Code U-3021."))


@pytest.mark.parametrize("place", ["take_terminal_lock", "look", "try_database_lock", "boot_id"])
def test_an_error_that_lasts_and_leaves_nothing_ends_the_command_with_its_name(place: str) -> None:
    world = swapped()
    till = SimulatedTill(world, "launcher")
    if place == "boot_id":
        world.folders.clear()
        place = "sync"
    failing(till, place, RuntimeError("caf\udce9"), times=-1)
    done = launched(world, till)
    assert (done.outcome, done.exit_code, world.started) == (TerminalOutcome.CANNOT_START, 4, [])
    assert "RuntimeError: caf\\udce9" in done.cause
    assert world.told[-1].done == "nothing was started"
    assert {report.outcome for report in world.told} == {TerminalOutcome.CANNOT_START}


def test_a_candidate_that_cannot_be_started_leads_to_the_good_release_in_the_same_command() -> None:
    world = swapped()
    till = SimulatedTill(world, "launcher")
    right = till.start_app

    def start_app(release: Any, **rest: Any) -> None:
        if release.version == "1.1":
            raise OSError(8, "Exec format error", "app")
        right(release, **rest)

    till.start_app = start_app  # type: ignore[method-assign]
    done = launched(world, till)
    assert (done.outcome, world.started[-1][0], world.database.version) == (TerminalOutcome.APP_ENDED, "1.0", 2)
    told = [report.outcome for report in world.told]
    assert told == ["STATE_NOT_WRITABLE"] * 2 + ["APP_FAILED", "RESTORED"]


def test_an_app_whose_database_somebody_holds_is_not_the_release_that_fails() -> None:
    world = swapped()
    till = SimulatedTill(world, "launcher")
    held = "pos_system.db cannot be written now: Backup (4312) has it open"
    till.held_database = lambda: held  # type: ignore[method-assign]
    world.behaviour["1.1"] = "crash"
    for number in range(1, 4):
        done = launched(world, till)
        assert (done.outcome, done.exit_code, held in done.cause) == ("MACHINE_PROBLEM", 75, True)
        (trial,) = (value for name, value in world.visible().items() if name.startswith("trial/"))
        assert (trial.verdict, trial.launches_count, trial.interruptions_count) == ("open", 0, number)
    assert [report.outcome for report in world.told if report.phase == "start"] == ["MACHINE_PROBLEM"] * 3
    assert trial.running_seconds == 0.0, "nor does it run out of the time in which it must confirm"
    world.behaviour["1.1"] = "good"
    assert launched(world, till).outcome == TerminalOutcome.APP_ENDED
    assert world.started[-1][0] == "1.1"


# ------------------------------------------------------------------------------------------------------ for real


def test_an_update_waits_for_what_the_older_app_left_running_and_nothing_is_counted() -> None:
    world = swapped()
    world.helper = True
    till = SimulatedTill(world, "launcher")
    till.end_left = lambda: False  # type: ignore[method-assign]
    times = plug.LIMITS.refusals_count + 1
    for _ in range(times):
        world.app, world.helper = None, True
        launched(world, till)
        assert world.started[-1] == ("1.0", None)
    assert [report.outcome for report in world.told if report.phase == "preflight"] == ["LOCKED"] * (
        plug.LIMITS.refusals_count + 1
    )
    (trial,) = (value for name, value in world.visible().items() if name.startswith("trial/"))
    assert (trial.attempts_count, trial.refusals_count, trial.verdict, trial.act) == (0, 0, "open", "")
    launched(world, SimulatedTill(world, "launcher"))
    assert world.started[-1][0] == "1.1"


def test_a_candidate_with_spoilt_migrations_leaves_the_old_one_open(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    till.check()
    (folder,) = (till.settings.program / "versions").glob("1.1-*")
    spoilt = min((folder / "migrations").glob("0004*"))
    spoilt.rename(spoilt.with_name("0009_later.sql"))
    done = till.launch(sell=1)
    assert (done.returncode, "till 1.0 is open" in done.stdout) == (0, True), done.stderr
    assert till.report("BAD_MIGRATIONS")["done"].endswith("1.0 starts")
    assert (till.check().outcome, till.lost_receipts()) == ("REJECTED_HERE", [])


HELD = """
import pathlib, sys
from dbsync.storage import file_calls
read = file_calls.read_bytes
def held(path):
    if path == pathlib.Path(sys.argv[1]):
        raise PermissionError(13, "used by another program", str(path))
    return read(path)
file_calls.read_bytes = held
from updater.__main__ import main
sys.exit(main(["launch", "--", "--sell", "1"]))
"""
"""A launch while a virus scanner holds a migration for longer than the launcher waits."""


def test_a_migration_that_another_program_holds_puts_the_trial_off_and_does_not_end_it(
    vendor: Vendor, till: Till
) -> None:
    vendor.release("1.1", schema=4)
    assert till.check().outcome == "SWAPPED"
    (held,) = (till.settings.program / "versions").glob("1.1-*/migrations/0004*")
    words = [sys.executable, "-c", HELD, str(held)]
    done = subprocess.run(words, env=till.environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, "till 1.0 is open" in done.stdout) == (0, True), done.stderr
    assert str(held) in till.report("MACHINE_PROBLEM")["cause"]
    assert (till.check().outcome, version(till.database)) == ("ON_TRIAL", 2)
    done = till.launch(sell=1)
    assert "till 1.1 is open" in done.stdout
    assert (version(till.database), till.lost_receipts()) == (4, [])


CUT = """
import os
from updater.flows import prepare_database
prepare_database._end_attempt = lambda *_: os._exit(9)
from updater.__main__ import main
main(["launch", "--", "--sell", "1"])
"""
"""A launch that is killed between the failure of the database's run, which is on record, and its verdict."""


def test_a_migration_that_failed_twice_without_a_verdict_ends_its_trial_at_the_next_start(
    vendor: Vendor, till: Till
) -> None:
    vendor.release("1.1", schema=6)
    assert till.check().outcome == "SWAPPED"
    for _ in range(2):
        cut = subprocess.run(
            [sys.executable, "-c", CUT], env=till.environment(), capture_output=True, text=True, check=False
        )
        assert cut.returncode == 9, cut.stderr
    done = till.launch(sell=1)
    assert (done.returncode, "till 1.0 is open" in done.stdout) == (0, True), done.stderr
    assert "notice: You can sell. Please call support. Code U-3023." in done.stdout
    assert till.report("FAILED_BEFORE")["clerk"] == "You can sell. Please call support. Code U-3023."
    again = till.launch(sell=1)
    assert ("till 1.0 is open" in again.stdout, "notice" in again.stdout) == (True, False)
    assert (till.check().outcome, till.outcomes().count("FAILED_BEFORE")) == ("REJECTED_HERE", 1)


def recorded(tmp_path: Path, scene: str) -> RecordedTerminal:
    return unpack("c0885e1", scene, tmp_path / "till", url="http://127.0.0.1:9")


@pytest.mark.parametrize("place", ["sync", "look", "database", "await_app", "answer_confirm", "tell", "note_start"])
def test_the_real_app_runs_and_its_end_is_the_end_of_the_command(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    till = recorded(tmp_path, "swapped")
    monkeypatch.setenv("SMALL_TILL_RECEIPTS", str(till.folder / "receipts.txt"))
    terminal = Terminal(
        settings.load(till.folder / "settings.toml"), kind=ProcessKind.LAUNCHER, app_arguments=("--sell", "1")
    )
    before = len(till.receipts())
    failing(terminal, place, HARD["a text that cannot be made"](), times=2)
    done = launch(terminal, Limits())
    assert (done.outcome, done.exit_code) == (TerminalOutcome.APP_ENDED, 0), done
    assert len(till.receipts()) == before + 1
    assert till.sales() == till.receipts()


@pytest.mark.parametrize("kind", HARD)
def test_what_is_raised_before_the_launcher_looks_is_two_lines_for_people(
    kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        error = HARD[kind]()
        raise error

    monkeypatch.setattr(settings, "find", fail)
    monkeypatch.setenv("TILLKEEPER_TRIAL_ID", "t1")
    for command in (start.launch, start.confirm):
        status = command([])
        shown = capfd.readouterr().err
        assert status in (4, 75)
        assert shown.startswith(CANNOT_OPEN) or "Code U-" in shown
        assert "Traceback" not in shown


def test_ctrl_c_is_130_and_no_traceback(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def fail(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(settings, "find", fail)
    assert start.launch([]) == 130
    assert "Traceback" not in capfd.readouterr().err


STREAMS = """
import sys
{spoil}
from updater.__main__ import main
main(["launch", "--", "--sell", "1"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="/dev/full and closed streams are POSIX's")
@pytest.mark.parametrize(
    "spoil",
    [
        "sys.stdout = sys.stderr = open('/dev/full', 'w')",
        "sys.stdout = sys.stderr = None",
        "sys.stdout.close(); sys.stderr.close()",
        "import os; r, w = os.pipe(); os.close(r); sys.stdout = sys.stderr = os.fdopen(w, 'w')",
        "sys.stdout = open('log.txt', 'w', encoding='ascii')",
        "sys.stdout = open('log.txt', 'w', encoding='cp1252')",
        "sys.stdout = open('log.txt', 'w', encoding='latin-1')",
    ],
    ids=["full", "none", "closed", "broken pipe", "ascii", "cp1252", "latin-1"],
)
@pytest.mark.parametrize("scene", ["swapped", "failing"])
def test_a_log_that_takes_nothing_stops_no_launch(tmp_path: Path, spoil: str, scene: str) -> None:
    till = recorded(tmp_path, scene)
    before = len(till.receipts())
    done = till.run("-c", STREAMS.format(spoil=spoil))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(till.receipts()) == before + 1
    assert till.sales() == till.receipts()


@pytest.mark.skipif(sys.platform == "win32", reason="closed streams are POSIX's")
def test_a_launch_without_standard_streams_gives_them_to_the_app_and_keeps_the_lock(vendor: Vendor, till: Till) -> None:
    words = f'exec "{sys.executable}" -m updater launch -- --pause 0.05 <&- >&- 2>&-'
    with subprocess.Popen(["sh", "-c", words], env=till.environment(), cwd=ROOT) as launcher:
        try:
            while not till.held_receipts():
                assert launcher.poll() is None, "the app runs"
            assert till.status()["app_running"] is True
            if sys.platform == "linux":
                pid = json.loads((till.settings.shared / "app.lock").read_bytes())["pid"]
                keeper = json.loads((till.settings.shared / "app.lock").read_bytes())["keeper_pid"]
                for process, number in itertools.product((keeper, launcher.pid), range(3)):
                    assert Path(f"/proc/{process}/fd/{number}").readlink() == Path(os.devnull)
                streams = [Path(f"/proc/{pid}/fd/{number}").readlink() for number in range(3)]
                log = till.settings.shared / "app.log"
                assert streams == [Path(os.devnull), log, log]
            assert "The till is open already." in till.launch().stderr
        finally:
            launcher.terminate()
    assert till.lost_receipts() == []


@pytest.mark.skipif(sys.platform == "win32", reason="SIGCHLD is POSIX's")
def test_a_launcher_that_was_started_without_interest_in_children_learns_how_the_app_ended(tmp_path: Path) -> None:
    till = recorded(tmp_path, "idle")
    ignoring = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    done = till.run("-c", STREAMS.format(spoil=ignoring))
    assert done.returncode == 0, done.stderr
    done = till.run("-c", STREAMS.format(spoil=ignoring), mood="crashes")
    assert done.returncode == 1, done.stderr
