"""The app outlives everything that started it: launcher, console, and reader of what it prints; and its keeper."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from dbsync.facts import ReleaseId
from dbsync.storage.locks import Lock
from dbsync.storage.platform import win32
from tests.helpers.places import ROOT
from tests.helpers.processes import KILL, resume, suspend
from tests.helpers.recorded import COMMITS, RecordedTerminal, unpack
from tests.recorder import BOOT
from updater.errors import AppAlreadyRunning
from updater.host import this_host
from updater.host.base import Life, Order
from updater.terminal.app_process import KEEPER

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals are POSIX's")
WITHOUT_CONSOLE = {"stdin": None, "stdout": None, "stderr": None, "creationflags": win32.DETACHED_PROCESS}
"""How Explorer starts a program of Windows."""

PATIENT_TILL = """\
import os, sqlite3, sys, time
from contextlib import closing
from pathlib import Path
STEPS = Path(os.environ["STEPS"])

def wait(name):
    while not (STEPS / name).exists():
        time.sleep(0.01)

(STEPS / "started.new").write_text(str(os.getpid()))
(STEPS / "started.new").replace(STEPS / "started")
file = os.environ.get("TILLKEEPER_CONFIRM_FILE")
if file:
    wait("confirm")
    temporary, answer = Path(f"{file}.new"), Path(f"{file}.ack")
    temporary.write_text(os.environ["TILLKEEPER_TRIAL_ID"])
    temporary.replace(file)
    (STEPS / "asked").touch()
    while not answer.exists():
        time.sleep(0.01)
    (STEPS / "answered.new").write_text(answer.read_text())
    (STEPS / "answered.new").replace(STEPS / "answered")
with closing(sqlite3.connect(os.environ["TILLKEEPER_DATABASE"], timeout=5)) as database:
    database.execute("BEGIN IMMEDIATE")
    database.execute("INSERT INTO sales (receipt, cents) VALUES ('R-in-the-middle', 250)")
    (STEPS / "selling").touch()
    wait("sell")
    for number in range(100):
        print("x" * 104_857, flush=True)
    database.commit()
(STEPS / "sold").touch()
wait("end")
print("a last word", file=sys.stderr)
sys.exit(7)
"""
PATIENCE_SECONDS = 120.0
SMALL_LOG = 200_000


class Shop:
    """A terminal whose app does each thing when it is told to."""

    def __init__(self, folder: Path, scene: str, started: ExitStack) -> None:
        self.terminal = unpack(COMMITS[-1], scene, folder / "till", url="http://127.0.0.1:9")
        self.steps = folder / "steps"
        self.steps.mkdir()
        self.shared = self.terminal.state / "shared"
        for path in (self.terminal.folder / "program" / "versions").glob("*/till.py"):
            path.write_text(PATIENT_TILL)
        settings = self.terminal.folder / "settings.toml"
        settings.write_text(settings.read_text().rstrip() + f"\napp_log_size_bytes = {SMALL_LOG}\n")
        self._started = started

    def launch(self, *, program: str = sys.executable, **more: Any) -> subprocess.Popen[str]:
        """Start a launcher; it and what it leaves end with the test."""
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "TILLKEEPER_BOOT_ID": BOOT, "STEPS": str(self.steps),
            "TILLKEEPER_SETTINGS": str(self.terminal.folder / "settings.toml"),
        }  # fmt: skip
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        launcher = subprocess.Popen(
            [program, "-m", "updater", "launch"], env=environment, cwd=ROOT, text=True, **streams
        )
        self._started.callback(self._end, launcher)
        return launcher

    def say(self, step: str) -> None:
        """Let the app go on."""
        (self.steps / step).touch()

    def wait(self, step: str) -> str:
        """Wait until the app has done something; return what it wrote about it."""
        until((self.steps / step).exists)
        return (self.steps / step).read_text()

    def note(self) -> dict[str, Any]:
        """The note in the app lock."""
        found: dict[str, Any] = json.loads((self.shared / "app.lock").read_bytes())
        return found

    def is_open(self) -> bool:
        """Whether the product sees an app."""
        return this_host().running_app(self.shared / "app.lock") is not None

    def _end(self, launcher: subprocess.Popen[str]) -> None:
        for name in ("pid", "keeper_pid") if (self.shared / "app.lock").exists() else ():
            if (pid := self.note().get(name)) and is_alive(pid):
                with suppress(OSError):
                    os.kill(pid, KILL)
        launcher.kill()
        launcher.wait()
        for stream in (launcher.stdout, launcher.stderr):
            if stream is not None:
                stream.close()


def is_alive(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    return this_host().life(pid, this_host().start_time(pid)) is Life.ALIVE


def until(holds: Any) -> None:
    """Wait for something that another process brings about."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A terminal on which a release is about to begin its trial."""
    monkeypatch.setenv("TILLKEEPER_BOOT_ID", BOOT)
    with ExitStack() as started:
        yield Shop(tmp_path, "swapped", started)


def test_the_launcher_is_killed_between_confirm_and_answer_and_the_keeper_answers(shop: Shop) -> None:
    launcher = shop.launch()
    shop.wait("started")
    keeper = shop.note()["keeper_pid"]
    suspend(keeper)
    shop.say("confirm")
    shop.wait("asked")
    launcher.kill()
    launcher.wait()
    assert not (shop.steps / "answered").exists()
    resume(keeper)
    assert shop.wait("answered") == "confirmed"
    assert shop.terminal.trials()[0][:2] == ("confirmed", "CONFIRMED")


def test_the_keeper_is_killed_too_and_the_next_launch_answers(shop: Shop) -> None:
    launcher = shop.launch()
    app = int(shop.wait("started"))
    os.kill(shop.note()["keeper_pid"], KILL)
    launcher.kill()
    launcher.wait()
    shop.say("confirm")
    shop.wait("asked")
    assert shop.is_open(), "the app runs without its keeper"
    done = shop.launch()
    assert shop.wait("answered") == "confirmed"
    assert (done.wait(), shop.note()["pid"]) == (0, app)


def test_the_keeper_is_killed_alone_and_the_launcher_keeps_the_log_small(shop: Shop) -> None:
    shop.say("confirm")
    # On Windows a launcher whose output nobody reads waits.
    shop.launch(stdout=subprocess.DEVNULL)
    shop.wait("selling")
    os.kill(shop.note()["keeper_pid"], KILL)
    shop.say("sell")
    shop.wait("sold")
    until(lambda: (shop.shared / "app.log").stat().st_size <= SMALL_LOG)
    assert (shop.shared / "app.log.1").stat().st_size <= 2 * SMALL_LOG
    assert shop.is_open()
    shop.say("end")


@pytest.mark.parametrize("launcher_alone", [True, False])
def test_the_app_goes_on_in_the_middle_of_a_sale_and_the_next_launch_attaches(shop: Shop, launcher_alone: bool) -> None:
    shop.say("confirm")
    launcher = shop.launch()
    app = int(shop.wait("started"))
    shop.wait("selling")
    launcher.kill()
    assert launcher.stdout is not None
    launcher.stdout.close()
    launcher.wait()
    if not launcher_alone:
        os.kill(shop.note()["keeper_pid"], KILL)
    shop.say("sell")
    shop.wait("sold")
    assert "R-in-the-middle" in shop.terminal.sales()
    done = shop.launch()
    assert (done.wait(), shop.note()["pid"]) == (0, app)
    assert "The till is open already." in done.stderr.read()  # type: ignore[union-attr]
    if launcher_alone:
        until(lambda: (shop.shared / "app.log").stat().st_size <= SMALL_LOG)
        assert (shop.shared / "app.log.1").stat().st_size <= 2 * SMALL_LOG
    running = this_host().running_app(shop.shared / "app.lock")
    assert running is not None
    shop.say("end")
    expected = 7 if launcher_alone else -1
    assert this_host().attach(running).wait(limit_seconds=PATIENCE_SECONDS) == expected
    assert not shop.is_open()


@pytest.mark.skipif(sys.platform != "win32", reason="Jobs are of Windows")
def test_a_job_that_nothing_may_leave_does_not_keep_the_till_shut(shop: Shop) -> None:
    job = win32.Job(kills_on_close=True)
    launcher = shop.launch()
    job.add(int(launcher._handle))  # type: ignore[attr-defined]
    shop.say("confirm")
    app = int(shop.wait("started"))
    shop.wait("selling")
    assert {app, shop.note()["keeper_pid"]} <= set(job.pids()), "the keeper could not leave it"
    shop.say("sell")
    shop.wait("sold")
    job.close()
    launcher.wait()
    until(lambda: not shop.is_open())
    assert "R-in-the-middle" in shop.terminal.sales()


@pytest.mark.skipif(sys.platform != "win32", reason="programs without a console are of Windows")
def test_the_app_of_a_launcher_without_a_console_goes_on_in_the_middle_of_a_sale(shop: Shop) -> None:
    windowed = str(Path(sys.executable).with_name("pythonw.exe"))
    shop.say("confirm")
    launcher = shop.launch(program=windowed, **WITHOUT_CONSOLE)
    app = int(shop.wait("started"))
    shop.wait("selling")
    launcher.kill()
    launcher.wait()
    shop.say("sell")
    shop.wait("sold")
    assert "R-in-the-middle" in shop.terminal.sales()
    attached = shop.launch(program=windowed, **WITHOUT_CONSOLE)
    assert (attached.wait(), shop.note()["pid"]) == (0, app)
    until(lambda: (shop.shared / "app.log").stat().st_size <= SMALL_LOG)
    running = this_host().running_app(shop.shared / "app.lock")
    assert running is not None
    shop.say("end")
    assert this_host().attach(running).wait(limit_seconds=PATIENCE_SECONDS) == 7


@POSIX
def test_the_end_of_the_console_is_not_the_end_of_the_app(shop: Shop) -> None:
    import fcntl
    import pty
    import termios

    ours, console = pty.openpty()
    shop.say("confirm")
    launcher = shop.launch(
        stdin=console, stdout=console, stderr=console, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(console)
    shop.wait("selling")
    os.close(ours)
    assert launcher.wait() == -signal.SIGHUP
    shop.say("sell")
    shop.wait("sold")
    assert shop.is_open()


def test_what_the_app_prints_is_shown_and_its_status_is_that_of_the_command(shop: Shop) -> None:
    for step in ("confirm", "sell", "end"):
        shop.say(step)
    done = shop.launch()
    out, _ = done.communicate()
    assert (done.returncode, "a last word" in out) == (7, True)


def test_a_crash_on_trial_is_reported_with_its_code_and_its_last_words(shop: Shop) -> None:
    for path in (shop.terminal.folder / "program" / "versions").glob("2.0*/till.py"):
        path.write_text("import sys\nprint('nothing')\nraise ValueError('the printer has no paper')\n")
    launcher = shop.launch()
    shop.wait("selling")
    shop.say("sell")
    shop.say("end")
    launcher.communicate()
    reports = [json.loads(path.read_text()) for path in shop.terminal.state.rglob("outbox/*.json")]
    (report,) = (report for report in reports if report["code"] == "U-2004")
    assert "it ended with code 1: " in report["cause"]
    assert "ValueError: the printer has no paper" in report["cause"]


# ------------------------------------------------------------------------------------------------- what an app leaves


HELPER = """\
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(600)
"""
APP_WITH_HELPER = f"""\
import subprocess, sys
helper = subprocess.Popen([sys.executable, "-c", {HELPER!r}], stdout=subprocess.PIPE, close_fds=False)
open("helper", "wb").write(helper.stdout.readline())
"""


@contextmanager
def helper_of_an_app_that_ended(folder: Path, lock_path: Path) -> Iterator[int]:
    """An app that ended, and a helper of it that lives; its pid."""
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    order = Order(
        command=(sys.executable, "-c", APP_WITH_HELPER), environment=dict(os.environ), folder=folder,
        lock_path=lock_path, log_path=folder / "log", log_size_bytes=SMALL_LOG, settings_path=folder / "none",
        trial_id=None, release_id=ReleaseId("r"),
    )  # fmt: skip
    app = this_host().start_app(order, keeper=KEEPER)
    assert app.wait(limit_seconds=PATIENCE_SECONDS) == 0
    pid = int((folder / "helper").read_text())
    try:
        yield pid
    finally:
        if is_alive(pid):
            os.kill(pid, KILL)


def test_a_helper_of_an_app_that_ended_is_no_app(tmp_path: Path) -> None:
    lock_path = tmp_path / "app.lock"
    with helper_of_an_app_that_ended(tmp_path, lock_path) as pid:
        assert this_host().running_app(lock_path) is None
        assert is_alive(pid)
        with helper_of_an_app_that_ended(tmp_path, lock_path):
            pass


def test_a_helper_that_inherited_the_lock_of_an_earlier_version_does_not_keep_the_till_shut(tmp_path: Path) -> None:
    lock_path = tmp_path / "app.lock"
    with helper_of_an_app_that_ended(tmp_path, lock_path):
        lock = Lock(lock_path)
        assert lock.try_take()
        assert this_host().running_app(lock_path) is None
        with helper_of_an_app_that_ended(tmp_path, lock_path):
            assert lock.held


def test_a_lock_that_somebody_holds_without_a_note_is_an_app(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "app.lock")
    assert lock.try_take()
    running = this_host().running_app(lock.path)
    assert running is not None
    assert running.pid is None


def test_a_helper_of_the_older_app_is_ended_before_a_migration(shop: Shop, tmp_path: Path) -> None:
    with helper_of_an_app_that_ended(tmp_path, shop.shared / "app.lock") as pid:
        shop.launch()
        shop.wait("started")
        assert not is_alive(pid)
        assert shop.terminal.schema() == 3


def test_two_starts_at_once_are_one_app(tmp_path: Path) -> None:
    lock_path = tmp_path / "app.lock"
    order = Order(
        command=(sys.executable, "-c", "import sys; sys.stdin.read(); import time; time.sleep(600)"),
        environment=dict(os.environ), folder=tmp_path, lock_path=lock_path, log_path=tmp_path / "log",
        log_size_bytes=SMALL_LOG, settings_path=tmp_path / "none", trial_id=None, release_id=ReleaseId("r"),
    )  # fmt: skip
    app = this_host().start_app(order, keeper=KEEPER)
    try:
        with pytest.raises(AppAlreadyRunning):
            this_host().start_app(order, keeper=KEEPER)
        os.kill(json.loads(lock_path.read_bytes())["keeper_pid"], KILL)
        with pytest.raises(AppAlreadyRunning):
            this_host().start_app(order, keeper=KEEPER)
        assert app.poll() is None
    finally:
        assert this_host().end_tree(app, grace_seconds=5.0)
    assert app.wait(limit_seconds=5.0) == -1


# ------------------------------------------------------------------------------------------------------ random moments


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_launch_that_is_killed_at_any_moment_is_finished_by_the_next(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setenv("TILLKEEPER_BOOT_ID", BOOT)
    terminal = unpack(COMMITS[-1], "swapped", tmp_path, url="http://127.0.0.1:9")
    words = [sys.executable, "-m", "updater", "launch", "--", "--sell", "1"]
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "TILLKEEPER_SETTINGS": str(tmp_path / "settings.toml"),
        "SMALL_TILL_RECEIPTS": str(tmp_path / "receipts.txt"),
    }  # fmt: skip
    for _ in range(3):
        launcher = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            launcher.wait(timeout=chance.uniform(0.0, 1.2))
        except subprocess.TimeoutExpired:
            _kill_one(chance, launcher, terminal)
    assert terminal.launch()[0] == 0, "it opens, or answers an app that waits for nobody else"
    until(lambda: this_host().running_app(terminal.state / "shared" / "app.lock") is None)
    assert terminal.launch() in ((0, "2.0"), (0, "1.0"))
    assert terminal.sales() == terminal.receipts()


def _kill_one(chance: random.Random, launcher: subprocess.Popen[bytes], terminal: RecordedTerminal) -> None:
    lock_path = terminal.state / "shared" / "app.lock"
    if chance.random() < 0.5 and lock_path.exists() and lock_path.read_bytes():
        note = json.loads(lock_path.read_bytes())
        if is_alive(note.get("keeper_pid", 0)):
            os.kill(note["keeper_pid"], KILL)
    launcher.kill()
    launcher.wait()
