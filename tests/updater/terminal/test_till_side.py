"""The agent's access to what the till's account owns: with its rights, its limits, and no trust in the answer."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dbsync.commands.scheduled_backup import Done
from dbsync.errors import BackupUnusable, DiskFull, Locked, TryLater
from dbsync.facts import Facts, ReleaseId, SchemaNumber, Sha256, State, TrialId
from dbsync.model import Backup, BackupKind
from dbsync.storage.locks import lock_of
from tests.helpers.accounts import as_root
from tests.helpers.second_account import TwoTill, clerk, open_folder, python
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor, served, serving
from updater.errors import Busy
from updater.model import Running
from updater.settings import Settings
from updater.terminal import other_side
from updater.terminal import worker_messages as messages
from updater.terminal.other_side import OtherSide
from updater.terminal.own_side import OwnSide
from updater.terminal.sides import till_side_of
from updater.terminal.till_side import RawClaims, RawReports
from updater.terminal.worker import OPERATIONS

SIDE = "from updater.terminal.other_side import OtherSide; side = OtherSide(settings)\n"


@pytest.fixture
def two(first_release: Vendor) -> Iterator[TwoTill]:
    """A terminal of two accounts with 1.0; nobody is asked for another release."""
    python()
    with open_folder() as folder, served(serving(first_release.public)) as url:
        made = TwoTill(folder / "till")
        made.install(first_release.root, url)
        made.fill(items_count=5)
        yield made


def asked(two: TwoTill, expression: str) -> Any:
    """The value of an expression about `side`, in a process of root."""
    done = two.script(f"{SIDE}import json\nprint(json.dumps({expression}, default=str))")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def plant(two: TwoTill, name: str, value: object) -> Path:
    """A file of the clerk's in the shared folder."""
    path = two.settings.shared / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    for made in (path.parent, path):
        os.chown(made, clerk().user, clerk().group)
    return path


# -------------------------------------------------------------------------------------------------------------- rights


@as_root
def test_the_worker_has_the_rights_of_the_till_and_nothing_of_the_agent(two: TwoTill) -> None:
    text = (
        f"{SIDE}import os, json; from pathlib import Path\n"
        "os.environ['HTTPS_PROXY'] = 'http://secret@proxy'\n"
        "os.set_inheritable(os.open('/etc/shadow', os.O_RDONLY), True)\n"
        "side.look_at_database()\n"
        "place = Path('/proc') / str(side._process.pid)\n"
        "status = dict(line.split(':', 1) for line in (place / 'status').read_text().splitlines())\n"
        "print(json.dumps({\n"
        "    **{name: status[name].split() for name in ('Uid', 'Gid', 'Groups', 'Umask', 'CapEff', 'CapPrm')},\n"
        "    'files': sorted(entry.name for entry in (place / 'fd').iterdir()),\n"
        "    'leads': sorted({os.readlink(entry).split(':')[0] for entry in (place / 'fd').iterdir()}),\n"
        "    'folder': os.readlink(place / 'cwd'), 'environment': (place / 'environ').read_text(),\n"
        "    'session': os.getsid(side._process.pid) == side._process.pid}))\n"
    )
    done = two.script(text)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    user, group = str(clerk().user), str(clerk().group)
    assert (found["Uid"], found["Gid"]) == ([user] * 4, [group] * 4)
    assert set(found["Groups"]) == {str(number) for number in os.getgrouplist(clerk().name, clerk().group)}
    assert (found["CapEff"], found["CapPrm"]) == (["0000000000000000"], ["0000000000000000"])
    assert (found["Umask"], found["folder"], found["session"]) == (["0077"], "/", True)
    assert "secret" not in found["environment"]
    assert set(found["leads"]) == {"socket"}, found["leads"]


@as_root
def test_only_a_privileged_agent_of_another_account_asks_a_worker(two: TwoTill) -> None:
    settings = two.settings
    assert isinstance(till_side_of(settings), OtherSide)
    for other in (settings._replace(till_user=""), settings._replace(till_user="root")):
        assert isinstance(till_side_of(other), OwnSide)
    text = (
        "import sys; from pathlib import Path; from updater.settings import load\n"
        "from updater.terminal.sides import till_side_of\n"
        f"print(type(till_side_of(load(Path({str(two.settings_path)!r}), {{}}))).__name__)"
    )
    assert clerk().run(python(), "-I", "-c", text).stdout.strip() == "OwnSide"


@as_root
@pytest.mark.parametrize("name", ["no-such-account", "root"])
def test_an_account_that_cannot_be_the_tills_is_refused(two: TwoTill, name: str) -> None:
    text = two.settings_path.read_text().replace(f'till = "{clerk().name}"', f'till = "{name}"')
    two.settings_path.write_text(text)
    done = two.script(f"{SIDE}side.running()")
    assert "Refused" in done.stderr
    assert name in done.stderr


@as_root
def test_a_python_that_the_till_cannot_run_is_named(two: TwoTill) -> None:
    closed = OtherSide(two.settings)
    with pytest.raises(TryLater) as raised:
        closed.running()
    assert "ermission denied" in raised.value.cause or "ended" in raised.value.cause


# ------------------------------------------------------------------------------------------------------ what it answers


@as_root
def test_both_sides_say_the_same(two: TwoTill) -> None:
    plant(two, "trial/000001-ab.json", {"format": 1, "reason": "é"})
    plant(two, "trial/000002-cd.json", "{")
    plant(two, "trial/000003-ef.json", {"format": 1})
    plant(two, "choices/000007.json", {"format": 1, "number": 7})
    ids = [TrialId("000001-ab"), TrialId("000002-cd"), TrialId("000009-00"), TrialId("../../journal")]
    own, words = OwnSide(two.settings), json.dumps(ids)
    assert asked(two, f"side.claims({words})._asdict()") == json.loads(json.dumps(own.claims(ids)._asdict()))
    assert own.claims(ids).trials == {"000001-ab": {"format": 1, "reason": "é"}, "000002-cd": None}
    assert own.claims(ids).choices == {7: {"format": 1, "number": 7}}
    assert asked(two, "side.look_at_database()._asdict()") == json.loads(json.dumps(own.look_at_database()._asdict()))
    assert asked(two, "[side.running(), side.restore_is_done('none'), side.back_up()]") == [None, False, None]
    assert asked(two, f"side.sync_claims({words})") is None


@as_root
def test_a_scheduled_backup_belongs_to_the_till(two: TwoTill) -> None:
    text = two.settings_path.read_text().replace("\n[accounts]", '\n[backup]\nkeep = "daily=7"\n\n[accounts]')
    two.settings_path.write_text(text)
    found = asked(two, "[side.try_database_lock(), str(side.back_up().made.path), side.release_database_lock()]")
    made = Path(found[1])
    assert made.parent == two.settings.backups
    assert {path.lstat().st_uid for path in two.settings.data.rglob("*")} == {clerk().user}
    assert "Busy" in two.script(f"{SIDE}side.back_up()").stderr, "the caller holds the lock"


@as_root
def test_settled_files_are_removed_by_the_till_itself(two: TwoTill) -> None:
    for name in ("trial/000001-ab.json", "trial/000002-cd.json", "choices/000001.json", "choices/000002.json"):
        plant(two, name, {})
    foreign = plant(two, "trial/notes.txt", "of the clerk's")
    assert asked(two, "side.tidy(issued=['000002-cd'], last_choice=1)") is None
    left = {str(path.relative_to(two.settings.shared)) for path in two.settings.shared.rglob("*.*")}
    assert {"trial/000002-cd.json", "choices/000002.json"} < left
    assert not left & {"trial/000001-ab.json", "choices/000001.json"}
    assert foreign.exists()


@as_root
def test_the_tills_lock_is_held_while_asked_and_free_when_the_agent_dies(two: TwoTill) -> None:
    lock = lock_of(two.database)
    text = f"{SIDE}import time\nprint(side.try_database_lock(), side._process.pid, flush=True)\ntime.sleep(100)"
    with subprocess.Popen(
        [python(), "-I", "-c", two.with_settings(text)], stdout=subprocess.PIPE, encoding="utf-8"
    ) as agent:
        assert agent.stdout is not None
        taken, pid = agent.stdout.readline().split()
        assert taken == "True"
        assert not lock.is_free()
        assert lock.path.stat().st_uid == clerk().user
        agent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not lock.is_free() or Path(f"/proc/{pid}/exe").exists():
        assert time.monotonic() < deadline, "the worker outlives the agent"
        time.sleep(0.02)


@as_root
def test_a_worker_that_the_clerk_stops_is_ended_and_started_again(two: TwoTill) -> None:
    text = (
        f"{SIDE}import os, subprocess; from updater.terminal import other_side\n"
        "from dbsync.errors import TryLater\n"
        "side.running(); first = side._process.pid; side.try_database_lock()\n"
        f"subprocess.run(['/bin/kill', '-STOP', str(first)], user={clerk().user}, check=True)\n"
        "try:\n    side._ask('running', print, limit_seconds=1.0)\n"
        "except TryLater as error:\n    print(error)\n"
        "print(side.running(), side._process.pid != first, side.try_database_lock())\n"
    )
    done = two.script(text)
    assert done.returncode == 0, done.stderr
    said, again = done.stdout.splitlines()
    assert f"ask the account {clerk().name}" in said
    assert again == "None True True"


# ---------------------------------------------------------------------------------------------------------- self-tests


@as_root
def test_a_self_test_runs_as_the_till_and_cannot_write_beside_its_program(two: TwoTill) -> None:
    folder = two.settings.program / "versions" / "x"
    folder.mkdir()
    folder.chmod(0o755)
    text = (
        "import os, pathlib, json\n"
        "told = {'user': os.getresuid(), 'home': os.environ.get('HOME'), 'names': sorted(os.environ)}\n"
        "try:\n    pathlib.Path('settings.ini').write_text('x')\n    told['wrote'] = True\n"
        "except PermissionError:\n    told['wrote'] = False\n"
        "print(json.dumps(told))\n"
    )
    command = [str(python()), "-I", "-c", text]
    code, output = asked(two, f"side.self_test({command!r}, folder=Path({str(folder)!r}), timeout_seconds=20)")
    found = json.loads(output)
    assert (code, found["user"], found["wrote"]) == (0, [clerk().user] * 3, False)
    assert "TILLKEEPER_SETTINGS" not in found["names"]


# ------------------------------------------------------------------------------------------- answers are not believed


class Told:
    """A worker that says what a test wants."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.side = OtherSide(settings)
        self.ours, self.theirs = socket.socketpair()
        self.side._line = self.ours
        monkeypatch.setattr(self.side, "_start", lambda: pytest.fail("it was started"))

    def says(self, data: bytes) -> None:
        self.theirs.sendall(data)

    def close(self) -> None:
        self.side.close()
        self.theirs.close()


@pytest.fixture
def told(till: Till, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    made = Told(till.settings._replace(till_user="clerk"), monkeypatch)
    yield made
    made.close()


WRONG = {
    "nothing": b"",
    "an end in mid-line": b'{"id": 1, "answer": ',
    "deep": b'{"id": 1, "answer": ' + b"[" * 5000 + b"]" * 5000 + b"}\n",
    "another type": b'{"id": 1, "answer": 5}\n',
    "another state": messages.line({"id": 1, "answer": {**messages.facts_json(Facts(State.OK)), "state": "x"}}),
    "a huge number": b'{"id": 1, "answer": {"state": "ok", "version": 1e400}}\n',
    "no answer": b'{"id": 1}\n',
    "a field less": b'{"id": 1, "answer": {"state": "ok"}}\n',
    "an error that is none": b'{"id": 1, "error": [1]}\n',
    "a long text": messages.line({"id": 1, "answer": messages.facts_json(Facts(State.OK, detail="x" * 5000))}),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_answer_is_trouble_with_the_worker(told: Told, case: str) -> None:
    told.says(WRONG[case])
    told.theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(TryLater) as raised:
        told.side.look_at_database()
    assert "clerk" in str(raised.value)
    assert told.side._line is None, "nothing more is asked of it"


def test_noise_and_answers_to_other_requests_are_passed_over(told: Told) -> None:
    facts = messages.facts_json(Facts(State.OK, SchemaNumber(3)))
    told.says(b"a warning\n[]\n{}\n" + messages.line({"id": 0, "answer": {**facts, "version": 9}}))
    told.says(messages.line({"id": 1, "answer": facts}))
    assert told.side.look_at_database().version == 3


def test_an_answer_without_end_has_a_limit(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "ANSWER_LIMIT_BYTES", 1 << 16)
    told.says(b"x" * (1 << 17))
    with pytest.raises(TryLater, match="too long"):
        told.side.running()


def test_a_silent_worker_has_a_deadline(told: Told) -> None:
    told.says(b"noise\n")
    with pytest.raises(TryLater, match="did not answer in time"):
        told.side._ask("running", messages.read_running, limit_seconds=0.2)


def test_a_worker_that_does_not_read_has_a_deadline_too(told: Told) -> None:
    told.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with pytest.raises(TryLater):
        told.side._ask("tidy", print, limit_seconds=0.2, issued=["x" * 1000] * 1000)


def test_a_trial_that_was_not_asked_for_is_a_wrong_answer(told: Told) -> None:
    told.says(messages.line({"id": 1, "answer": {"trials": {"b": {}}, "choices": {}, "refused": []}}))
    with pytest.raises(TryLater, match="not asked for"):
        told.side.claims([TrialId("a")])


# ------------------------------------------------------------------------------------------------------------- messages

BACKUP = Backup(
    path=Path("/data/b.db"), kind=BackupKind.SCHEDULED, version=SchemaNumber(3), sha256=Sha256("ab"), size_bytes=4,
    sequence=5, made_at="2026-01-01T00:00:00Z", trial_id=TrialId("t"), database="shop.db",
)  # fmt: skip


def test_every_value_comes_back_as_it_was() -> None:
    facts = Facts(State.EMPTY, SchemaNumber(2), SchemaNumber(1), TrialId("t"), ReleaseId("r"), "why", True, "view v")
    running = Running(3, TrialId("t"), None, 2.5)
    claims = RawClaims({TrialId("t"): {"a": 1}, TrialId("u"): None}, {7: None, 8: {}}, ("a link",))
    reports = RawReports({"a.json": {"x": 1}}, {"b.json": "no"})
    done = Done(BACKUP, (Path("/a"),), (), (Path("/b"),), (), "away")

    def through(value: Any) -> Any:
        return json.loads(messages.line({"value": value}))["value"]

    assert messages.read_facts(through(messages.facts_json(facts))) == facts
    assert messages.read_facts(through(messages.facts_json(Facts(State.OK)))) == Facts(State.OK)
    assert messages.read_running(through(messages.running_json(running))) == running
    assert messages.read_running(through(messages.running_json(None))) is None
    assert messages.read_claims(through(messages.claims_json(claims)), frozenset(claims.trials)) == claims
    assert messages.read_reports(through(messages.reports_json(reports))) == reports
    for value in (done, Done(None), None):
        assert messages.read_done(through(messages.done_json(value))) == value


def test_an_error_comes_back_as_its_kind() -> None:
    for kind in (DiskFull, Locked, BackupUnusable, Busy):
        error = kind(operation="write", path=Path("/data/x"), cause="why", hint="do this")
        found = messages.read_error(json.loads(messages.line(messages.error_json(error))))
        assert (type(found), str(found), found.hint, found.path) == (kind, str(error), error.hint, error.path)
    unknown = {"kind": "dict", "operation": "x", "path": None, "cause": "\x1b[2Jwhy", "hint": ""}
    found = messages.read_error(unknown)
    assert (type(found), found.cause) == (TryLater, " [2Jwhy")


def test_every_operation_of_the_worker_is_asked_by_the_agent() -> None:
    source = Path(other_side.__file__).read_text(encoding="utf-8")
    assert {name for name in OPERATIONS if f'"{name}"' not in source} == set()


def test_a_database_is_read_as_before_with_one_account(till: Till) -> None:
    side = till_side_of(till.settings)
    assert side.look_at_database().version == 2
    with closing(sqlite3.connect(till.database)) as live:
        assert live.execute("PRAGMA integrity_check").fetchone() == ("ok",)
