"""The move of a terminal whose files all lie in the state folder, cut at every file call that it makes.

Each recorded terminal of before is moved in place. The cut is in this process: from the chosen call on, every call of
the process fails, as for one that has ended. What a power cut takes back is taken back then. The next process has to
finish the move, with every file once, and to tell the same as before.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from dbsync.errors import DiskFull
from dbsync.facts import TrialId
from dbsync.storage.locks import Lock
from tests.helpers.recorded import COMMITS, RecordedTerminal, read_json, scenes, unpack
from updater import settings as settings_files
from updater.model import ProcessKind, Report
from updater.outcomes import TerminalOutcome
from updater.reporting.status import status
from updater.settings import Settings
from updater.terminal import layout
from updater.terminal.live import Terminal

COMMIT: Final = COMMITS[0]
SCENES: Final = [name for name in scenes(COMMIT) if not name.startswith("dbsync_")]
SHORT: Final = ("trial", "owing", "swapped", "updated")
"""Scenes that each run has; `--long` has all of them."""
PARAMETERS: Final = [pytest.param(name, marks=[] if name in SHORT else [pytest.mark.long]) for name in SCENES]
GO_BACK: Final = ("owing", "owing_person", "owing_sales", "restored_person")
"""The launch finishes the restore that is owed, then starts 1.0."""
NOWHERE: Final = "http://127.0.0.1:9"
CALLS: Final = tuple(
    name
    for name in ("open", "write", "fsync", "mkdir", "rmdir", "unlink", "rename", "replace", "link", "chmod", "fchmod")
    if hasattr(os, name)
)
WRITING: Final = os.O_WRONLY | os.O_RDWR
CHANGING: Final = frozenset({"free_bytes"})
"""What `status` tells that is not the same twice."""
ADDED: Final = ("last", "last_choice", "permitted_choice")
"""What the journal knows since."""
STAYING: Final = ("journal.json", "proofs", "rejected", "reports", "terminal.lock")
TILLS: Final = ("trial", "choices", "starts.json", "app.lock")
TILLS_EVENTS: Final = ("events-launcher", "events-confirm", "events-rollback", "confirm-")


class Cut(BaseException):
    """The process ends here."""


class Machine:
    """The file calls of a process that ends before one of them, or for which they fail from there on; 0: none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, at: int = 0, full: bool = False) -> None:
        self._monkeypatch = monkeypatch
        self._at = at
        self._full = full
        self.calls: list[str] = []
        self.unsynced: list[tuple[Path, Path, bytes | None]] = []
        """Renames whose folder is not synced yet: source, target, and the content that the target had."""
        self.halves: list[tuple[Path, Path]] = []
        """Renames into a synced folder, whose source's folder is not synced yet."""
        self._paths: dict[int, Path] = {}

    @contextmanager
    def runs(self) -> Iterator[None]:
        """Run a process until it ends by itself or is cut."""
        with self._monkeypatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self._counted(name, getattr(os, name)))
            try:
                yield
            except Cut:
                return

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            opens = name == "open"
            if opens and not arguments[1] & WRITING:
                descriptor = call(*arguments, **options)
                self._paths[descriptor] = Path(arguments[0])
                return descriptor
            self.calls.append(f"{name} {arguments[0]}")
            if self._at and len(self.calls) >= self._at:
                raise OSError(errno.ENOSPC, "no space") if self._full else Cut
            if name in ("rename", "replace"):
                source, target = Path(arguments[0]), Path(arguments[1])
                was = target.read_bytes() if target.is_file() else None
                call(*arguments, **options)
                self.unsynced.append((source, target, was))
                return None
            result = call(*arguments, **options)
            if opens:
                self._paths[result] = Path(arguments[0])
            if name == "fsync":
                self._synced(self._paths[arguments[0]])
            return result

        return counted

    def _synced(self, folder: Path) -> None:
        late = [rename for rename in self.unsynced if folder in (rename[0].parent, rename[1].parent)]
        self.unsynced = [rename for rename in self.unsynced if rename not in late]
        self.halves = [rename for rename in self.halves if rename[0].parent != folder]
        self.halves += [(source, target) for source, target, _ in late if source.parent != folder]

    def take_back(self) -> None:
        """Take back the renames that a power cut takes back."""
        for source, target, was in reversed(self.unsynced):
            target.rename(source)
            if was is not None:
                target.write_bytes(was)

    def double(self) -> None:
        """Bring back the old name of what got a new one, for a system that syncs one folder without the other."""
        for source, target in self.halves:
            if target.is_dir():
                shutil.copytree(target, source)
            elif target.exists():
                shutil.copy2(target, source)


class Moved:
    """A recorded terminal, with a state folder that is put back before each cut."""

    def __init__(self, scene: str, folder: Path) -> None:
        self.till: Final[RecordedTerminal] = unpack(COMMIT, scene, folder / "terminal", url=NOWHERE)
        self.settings: Final[Settings] = settings_files.load(self.till.folder / "settings.toml")
        furnish(self.till)
        self._kept: Final = folder / "kept"
        shutil.copytree(self.till.state, self._kept)
        self.before: Final = {
            name: text for name, text in contents(self.till.state).items() if not name.startswith(".new-")
        }
        self.told: Final = told(self.settings)
        self._as_told: Final = [self.before]
        self._finished: Final[set[str]] = set()

    def put_back(self) -> None:
        shutil.rmtree(self.till.state)
        shutil.copytree(self._kept, self.till.state)

    def cut(self, monkeypatch: pytest.MonkeyPatch, at: int) -> Machine:
        self.put_back()
        machine = Machine(monkeypatch, at=at)
        with machine.runs():
            layout.settled(self.settings, reads_only=False)
        return machine

    def assert_told(self) -> None:
        """Compare what `updater status` tells with what it told at first, once for files that are the same."""
        now = {name: undated(text) for name, text in contents(self.till.state).items()}
        if now not in self._as_told:
            assert told(self.settings) == self.told
            self._as_told.append(now)

    def is_new(self) -> bool:
        """Return whether no cut has left exactly this before: the same files go on in the same way."""
        found = {path.relative_to(self.till.state): path.is_dir() for path in self.till.state.rglob("*")}
        seen = repr((sorted(found.items()), [undated(text) for text in contents(self.till.state).values()]))
        known = seen in self._finished
        self._finished.add(seen)
        return not known

    def go_on(self) -> None:
        assert layout.settled(self.settings, reads_only=False) == self.settings
        assert_moved(self.till.state, self.before)
        self.assert_told()


@pytest.fixture(params=PARAMETERS)
def moved(request: pytest.FixtureRequest, tmp_path: Path) -> Moved:
    """Return a terminal of before, in each phase."""
    return Moved(request.param, tmp_path)


def furnish(till: RecordedTerminal) -> None:
    """Add what a terminal may have as well, with the names that versions of before gave."""
    state = till.state
    for name, text in {
        "reports/loss-2026.json": "{}",
        "downloads/3.0.tar.part": "half",
        "outbox/2026-11-01T10-00-00-000Z-U-3019-1.json": "{}",
        "events-agent.jsonl.1": '{"at": "2026-01-01"}\n',
        "events-launcher.jsonl.1": '{"at": "2026-01-01"}\n',
        "events-confirm.jsonl": '{"at": "2026-01-01"}\n',
        "confirm-0123456789abcdef": "asked",
        "app.lock": "",
        "agent.lock": "",
        ".new-starts.json": "half",
    }.items():
        (state / name).parent.mkdir(exist_ok=True)
        if not (state / name).exists():
            (state / name).write_text(text)
    for path in state.glob("trial/*.json"):
        # One that was closed long ago.
        old = {**read_json(path), "trial_id": "00000000000000aa", "verdict": "given_up", "by": "machine",
               "outcome": "APP_FAILED", "back": "done", "closed": True}  # fmt: skip
        (state / "trial" / "00000000000000aa.json").write_text(json.dumps(old))
        os.utime(state / "trial" / "00000000000000aa.json", (1, 1))


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content."""
    found = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(found)}


def undated(text: bytes) -> bytes:
    """Return a record without the time of the move."""
    return re.sub(rb'"at": "20[^"]*"', b"", text)


def place(name: str) -> str:
    """Return where a file of before belongs."""
    first = name.split("/", maxsplit=1)[0]
    if first in STAYING:
        return name
    return f"{'shared' if first in TILLS or first.startswith(TILLS_EVENTS) else 'private'}/{name}"


def assert_moved(state: Path, before: dict[str, bytes]) -> None:
    """Compare what is there with what there was: every file once, and the agent's records of the trials."""
    after = contents(state)
    assert json.loads(after.pop("layout.json")) == {"format": 2}
    trials = {Path(name).stem: json.loads(text) for name, text in before.items() if name.startswith("trial/")}
    journal = json.loads(after["journal.json"])
    named = {*trials, *filter(None, [journal["trial_id"]])}
    issued = [json.loads(after.pop(f"issued/{trial_id}.json")) for trial_id in named]
    assert sorted(record["number"] for record in issued) == list(range(1, len(named) + 1))
    assert journal.get("last", 0) == len(named)
    assert {record["trial_id"]: record["candidate"] for record in issued} == {
        **{record["trial_id"]: journal["candidate"] for record in issued if record["trial_id"] not in trials},
        **{trial_id: trial["candidate"] for trial_id, trial in trials.items()},
    }
    for trial_id in (trial_id for trial_id, trial in trials.items() if trial["closed"]):
        ruling = json.loads(after.pop(f"verdicts/{trial_id}.json"))
        assert (ruling["verdict"], ruling["folded"]) == (trials[trial_id]["verdict"], True)
    assert sorted(after) == sorted(place(name) for name in before)
    was = json.loads(before["journal.json"])
    assert {name: value for name, value in journal.items() if name not in ADDED} == {
        name: value for name, value in was.items() if name not in ADDED
    }
    assert after == {**{place(name): text for name, text in before.items()}, "journal.json": after["journal.json"]}
    assert {path.name for path in state.iterdir() if path.is_dir()} <= {
        "private", "shared", "issued", "verdicts", "proofs", "rejected", "reports",
    }  # fmt: skip


def told(settings: Settings) -> dict[str, Any]:
    """Return what `updater status` tells; it moves nothing."""
    before = contents(settings.state)
    found = status(Terminal(settings, kind=ProcessKind.STATUS))
    assert contents(settings.state) == before, "status only reads"
    return {name: value for name, value in found.items() if name not in CHANGING}


# ----------------------------------------------------------------------------------------------------------- the move


def test_a_terminal_of_before_is_moved_once(moved: Moved, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = moved.cut(monkeypatch, at=0)
    assert_moved(moved.till.state, moved.before)
    assert len(machine.calls) > 20
    assert "layout.json" in [call for call in machine.calls if call.startswith("replace")][-1]
    moved.go_on()
    again = Machine(monkeypatch)
    with again.runs():
        layout.settled(moved.settings, reads_only=False)
    assert again.calls == []


def test_a_move_that_is_cut_at_any_call_is_finished_by_the_next_process(
    moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = moved.cut(monkeypatch, at=0).calls
    for at in range(1, len(calls) + 1):
        machine = moved.cut(monkeypatch, at)
        taken = [Machine.take_back] if machine.unsynced else []
        doubled = [Machine.double] if machine.halves else []
        for loses in (None, *taken, *doubled):
            if loses is not None:
                loses(moved.cut(monkeypatch, at))
            if not moved.is_new():
                continue
            try:
                # While it is half moved as well.
                moved.assert_told()
                moved.go_on()
            except BaseException:
                print(f"cut at call {at} of {len(calls)}: {calls[at - 1]}; {loses}")
                raise


@pytest.mark.parametrize("scene", PARAMETERS)
def test_a_till_that_was_half_moved_starts_what_it_would_have_started(
    scene: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = Moved(scene, tmp_path)
    calls = moved.cut(monkeypatch, at=0).calls
    quarter = SCENES.index(scene) % 4 + 1
    moved.cut(monkeypatch, at=len(calls) * quarter // 4)
    status, version = moved.till.launch()
    assert (status, version) == (0, "1.0" if scene in GO_BACK else moved.told["starts"]["version"])
    assert layout.marker(moved.settings).exists()
    assert moved.till.sales() == moved.till.receipts()


def test_a_cut_move_is_cut_again_at_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = Moved("trial", tmp_path)
    calls = moved.cut(monkeypatch, at=0).calls
    for first in range(len(calls) // 3, len(calls) + 1, 5):
        for second in range(1, len(calls), 3):
            moved.cut(monkeypatch, first)
            machine = Machine(monkeypatch, at=second)
            with machine.runs():
                layout.settled(moved.settings, reads_only=False)
            moved.go_on()


# ------------------------------------------------------------------------------------------------------- it cannot be


def test_a_till_whose_move_fails_goes_on_where_its_files_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = Moved("trial", tmp_path)
    calls = moved.cut(monkeypatch, at=0).calls
    (trial_id,) = {Path(name).stem for name in moved.before if name.startswith("trial/f")}
    # The till's own move fails at each call, or an agent's has failed there before it and the disk is still full.
    for at, after_agent in [(at, after_agent) for at in range(1, len(calls) + 1) for after_agent in (False, True)]:
        moved.put_back()
        if after_agent:
            with Machine(monkeypatch, at=at, full=True).runs(), pytest.raises(DiskFull):
                layout.settled(moved.settings, reads_only=False, insists=True)
            moved.assert_told()
        with Machine(monkeypatch, at=2 if after_agent else at, full=True).runs():
            till = Terminal(moved.settings, kind=ProcessKind.LAUNCHER)
        trial = till.read_trial(TrialId(trial_id))
        assert trial is not None, f"full at call {at}: {calls[at - 1]}"
        till.write_trial(trial._replace(launches_count=7))
        (till.settings.shared / "starts.json").write_text("{}")
        till.tell(Report(TerminalOutcome.APP_FAILED, cause=f"at {at}"))
        assert layout.settled(moved.settings, reads_only=False) == moved.settings
        assert told(moved.settings)["trial"]["launches_count"] == 7, f"full at call {at}: {calls[at - 1]}"
        assert told(moved.settings)["last_outcome"]["cause"] == f"at {at}"
        names = {place(name) for name in moved.before} | {"shared/starts.json", "shared/events-launcher.jsonl"}
        assert names == {
            name for name in contents(moved.till.state)
            if not name.startswith(("issued/", "verdicts/", "layout.json")) and (name in names or "outbox" not in name)
        }  # fmt: skip


def test_of_two_files_of_one_name_none_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = Moved("idle", tmp_path)
    calls = 1
    at = 0
    while at <= calls:
        moved.put_back()
        for name, text in {
            "shared/events-launcher.jsonl": "1\n", "events-launcher.jsonl": "2\n",
            "shared/starts.json": "old", "starts.json": "new", "shared/app.lock": "", "app.lock": "",
            "shared/choices/000001.json": "1", "choices/000002.json": "2",
        }.items():  # fmt: skip
            (moved.till.state / name).parent.mkdir(parents=True, exist_ok=True)
            (moved.till.state / name).write_bytes(text.encode())
        machine = Machine(monkeypatch, at=at)
        with machine.runs():
            layout.settled(moved.settings, reads_only=False)
        calls, at = max(calls, len(machine.calls)), at + 1
        layout.settled(moved.settings, reads_only=False)
        found = contents(moved.till.state)
        assert "events-launcher.jsonl" not in found
        assert {name: found[f"shared/{name}"].decode() for name in (
            "events-launcher.jsonl", "starts.json", "choices/000001.json", "choices/000002.json",
        )} == {
            "events-launcher.jsonl": "1\n2\n", "starts.json": "new", "choices/000001.json": "1",
            "choices/000002.json": "2",
        }  # fmt: skip
        assert not {"starts.json", "app.lock", "choices"} & names_in(moved.till.state)
    assert calls > 20


HOLDER: Final = """
import fcntl, json, os, sys
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
print("holds it", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock in a process of its own, as an app does."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds it\n"
        try:
            yield
        finally:
            process.kill()


def names_in(state: Path) -> set[str]:
    return {path.name for path in state.iterdir() if not path.name.startswith("events-")}


@pytest.mark.skipif(os.name == "nt", reason="flock")
def test_nothing_is_moved_under_an_app_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    till = unpack(COMMIT, "trial", tmp_path / "terminal", url=NOWHERE)
    (trial_id,) = [path.stem for path in till.state.glob("trial/*.json")]
    before = names_in(till.state)
    # A note that names no process: then the lock alone says whether an app runs.
    (till.state / "app.lock").write_text("{}")
    with held(till.state / "app.lock"):
        assert till.says() == ("SWAPPED", "2.0", 3, True)
        assert till.status()["app_running"]
        with monkeypatch.context() as patch:
            patch.setenv("TILLKEEPER_TRIAL_ID", trial_id)
            confirmed = till.run("-m", "updater", "confirm")
        assert confirmed.returncode == 0, confirmed.stderr
        assert till.trials() == [("confirmed", "CONFIRMED", None, False)]
        assert till.launch() == (0, ""), "it is open already"
        asked = till.run("-m", "updater", "check")
        assert (asked.returncode, "an app or a command of updater is at work" in asked.stderr) == (75, True)
        assert names_in(till.state) == before
    assert till.check() == (75, "OFFLINE", ["the trial of 2.0 is settled: confirmed"])
    assert till.launch() == (0, "2.0")
    assert names_in(till.state) - {"moment.json"} == {
        "journal.json", "proofs", "terminal.lock", "layout.json", "issued", "verdicts", "private", "shared",
    }  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="flock")
@pytest.mark.parametrize(("scene", "version"), [("idle", "1.0"), ("swapped", "2.0"), ("owing", "1.0")])
def test_nothing_is_moved_under_an_agent_of_before_and_the_till_starts(
    tmp_path: Path, scene: str, version: str
) -> None:
    till = unpack(COMMIT, scene, tmp_path / "terminal", url=NOWHERE)
    before = names_in(till.state)
    with held(till.state / "agent.lock"):
        assert till.launch() == (0, version)
        assert till.run("-m", "updater", "check").returncode == 75
        assert not layout.marker(settings_files.load(till.folder / "settings.toml")).exists()
        assert names_in(till.state) >= before
    status, _, done = till.check()
    assert status == 75
    assert ["settled" in deed for deed in done] == ([] if scene == "idle" else [True])
    assert layout.marker(settings_files.load(till.folder / "settings.toml")).exists()
    assert till.launch() == (0, version)
    assert till.sales() == till.receipts()


def test_nothing_is_moved_while_the_terminal_lock_is_held(tmp_path: Path) -> None:
    moved = Moved("trial", tmp_path)
    limits = moved.settings.limits._replace(lock_seconds=0)
    with Lock(moved.till.state / "terminal.lock"):
        lying = layout.settled(moved.settings._replace(limits=limits), reads_only=False)
    assert (lying.shared, lying.private) == (lying.state, lying.state)
    assert contents(moved.till.state).items() >= moved.before.items()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away")
def test_what_root_moves_stays_that_of_the_account_that_has_the_state_folder(tmp_path: Path) -> None:
    moved = Moved("confirmed", tmp_path)
    for path in (moved.till.state, *moved.till.state.rglob("*")):
        os.chown(path, 4711, 4711)
    layout.settled(moved.settings, reads_only=False)
    assert {path.name: path.stat().st_uid for path in moved.till.state.rglob("*") if path.stat().st_uid != 4711} == {}
    for folder in (moved.settings.shared, moved.settings.private):
        assert folder.stat().st_mode & 0o777 == 0o700
