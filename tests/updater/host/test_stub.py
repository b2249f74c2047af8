"""The program of a kit's home: whatever the pointer says, a whole kit starts; trials and launches are counted first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.helpers.held import Share, held_by_a_process
from updater.host import stub
from updater.publish.kit.programs import program
from updater.terminal import launch_count

SCRIPT: Final = """\
import os, sys
def main():
    print({name!r}, *sys.argv[1:], os.environ.get("TILLKEEPER_AGENT_OVER", "-"), flush=True)
    {then}
"""
WAITS: Final = "sys.stdin.buffer.read(); print('asked to end', flush=True)"
on_posix = pytest.mark.skipif(
    sys.platform == "win32",
    reason="signals, links and FIFOs are of POSIX, and the count of a till is the same everywhere",
)
on_windows = pytest.mark.skipif(sys.platform != "win32", reason="share modes are of Windows")


SOON_SECONDS: Final = 20 if sys.platform == "win32" else 1
"""Longer than a start takes, which is seconds under wine."""


class Home:
    """A home with kits that say their names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared = folder / "shared"
        self.shared.mkdir(parents=True)
        (folder / "start").write_text(program(settings="/nowhere/settings.toml"), encoding="utf-8")

    def kit(self, name: str, then: str = "pass") -> None:
        site = self.folder / f"agent-{name}" / "site" / "updater"
        site.mkdir(parents=True)
        (site / "__init__.py").touch()
        (site / "__main__.py").write_text(SCRIPT.format(name=name, then=then))
        (site.parent.parent / "kit.json").write_text("{}")

    def point(self, **values: Any) -> None:
        document = {"format": 2, "stub": 1, "id": "a1", "before": "b2", "shared": str(self.shared), **values}
        (self.folder / "current.json").write_text(json.dumps(document))

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(self.folder / "start"), *words], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        )  # fmt: skip

    def run(self, *words: str) -> str:
        with self.start(*words) as process:
            said, _ = process.communicate(timeout=60)
        return said.strip()

    def attempts(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "attempts.json").read_text()))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path / "home")
    for name in ("a1", "b2"):
        found.kit(name)
        (found.folder / f"agent-{name}" / stub.MARK).touch()
    found.point()
    return found


def trial(**values: Any) -> dict[str, Any]:
    return {"id": "c3", "token": "t", "limit_seconds": 30, **values}


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE: dict[str, Callable[[Home], object]] = {
    "missing": lambda home: (home.folder / "current.json").unlink(),
    "empty": lambda home: (home.folder / "current.json").write_bytes(b""),
    "half": lambda home: (home.folder / "current.json").write_bytes(b'{"format": 2, "id": "a'),
    "binary": lambda home: (home.folder / "current.json").write_bytes(bytes(range(256))),
    "deep": lambda home: (home.folder / "current.json").write_text("[" * 50_000),
    "huge": lambda home: (home.folder / "current.json").write_text('{"id": "a1"' + " " * 100_000 + "}"),
    "a list": lambda home: (home.folder / "current.json").write_text('["a1"]'),
    "a folder": lambda home: folder(home.folder / "current.json"),
    "numbers": lambda home: home.point(id=1, before=[2], trial=3, shared=4),
    "a way out": lambda home: home.point(id="../../etc", before="a1/../b2"),
    "kits that are gone": lambda home: home.point(id="d4", before="e5"),
    "a trial without a kit": lambda home: home.point(trial=trial()),
    "a trial without a token": lambda home: home.point(trial={"id": "b2", "token": 7}),
}
if sys.platform == "win32":
    # A start takes a second under wine.
    DAMAGE = {name: DAMAGE[name] for name in ("half", "a folder")}
else:
    DAMAGE["a FIFO"] = lambda home: fifo(home.folder / "current.json")


@pytest.mark.parametrize("damage", DAMAGE)
def test_whatever_is_wrong_with_the_pointer_a_whole_kit_starts(home: Home, damage: str) -> None:
    DAMAGE[damage](home)
    for words in (["run"], ["launch"], ["status"]):
        said = home.run(*words)
        assert said.split()[:2] in (["a1", words[0]], ["b2", words[0]]), said


def test_without_a_pointer_a_kit_that_was_put_in_place_comes_before_one_that_only_lies_there(home: Home) -> None:
    home.kit("z9")
    (home.folder / "current.json").unlink()
    assert home.run("status").split()[0] in ("a1", "b2")
    for name in ("a1", "b2"):
        (home.folder / f"agent-{name}" / "kit.json").unlink()
    assert home.run("status").split()[0] == "z9"
    (home.folder / "agent-z9" / "site/updater/__main__.py").write_text("import nothing_of_that_name")
    with home.start("status") as process:
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, "no kit" in errors, "nothing_of_that_name" in errors) == (stub.NO_KIT, True, True)


def test_an_agent_on_trial_is_counted_before_it_starts_and_the_one_before_follows(home: Home) -> None:
    home.kit("c3", then="sys.exit(9)")
    home.point(trial=trial())
    for count in (1, 2, 3):
        assert home.run("run") == "c3 run -"
        assert home.attempts() == {"token": "t", "count": count, "late": False}
        assert home.run("status") == "a1 status -", "people's commands are those of the agent that is in place"
    assert home.run("run") == "a1 run t", "it is told which trial is over"
    assert home.attempts()["count"] == 3
    (home.folder / "attempts.json").write_text("damaged")
    (home.folder / "attempts.json").chmod(0o000)
    assert home.run("run").split()[0] in ("a1", "c3")
    (home.folder / "attempts.json").chmod(0o600)
    (home.folder / "attempts.json").unlink()
    (home.folder / "attempts.json").mkdir()
    assert home.run("run") == "a1 run t", "a start that cannot be counted is not made"


def test_an_agent_that_does_not_confirm_in_time_is_ended_and_one_that_has_goes_on(home: Home) -> None:
    home.kit("c3", then=WAITS)
    home.point(trial=trial(limit_seconds=SOON_SECONDS))
    assert home.run("run").splitlines() == ["c3 run -", "a1 run t"]
    assert home.attempts() == {"token": "t", "count": 3, "late": True}
    confirms = f"open({str(home.folder / 'current.json')!r}, 'w').write('{{\"id\": \"c3\"}}')"
    (home.folder / "agent-c3/site/updater/__main__.py").write_text(
        SCRIPT.format(name="c3", then=f"{confirms}; import time; time.sleep(2); print('still here')")
    )
    (home.folder / "attempts.json").unlink()
    assert home.run("run").splitlines() == ["c3 run -", "still here"], "the limit is that of an open trial"


@on_windows
@pytest.mark.parametrize("name", ["current.json", "attempts.json", "attempts.json.new"])
def test_a_file_that_a_scanner_holds_is_waited_for(home: Home, name: str) -> None:
    home.kit("c3")
    home.point(trial=trial())
    (home.folder / "attempts.json").write_text('{"token": "t", "count": 1, "late": false}')
    (home.folder / "attempts.json.new").write_bytes(b"a cut has left it")
    with held_by_a_process(home.folder / name, Share.NOTHING) as process:
        assert process.stdin is not None
        threading.Timer(0.5, process.stdin.close).start()
        assert stub.trial(home.folder) == trial()
        assert stub._counted(home.folder, "t")
    assert home.attempts() == {"token": "t", "count": 2, "late": False}


@on_posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_reaches_an_agent_on_trial(home: Home, number: int) -> None:
    home.kit("c3", then=WAITS)
    home.point(trial=trial())
    with home.start("run") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "c3 run -\n"
        process.send_signal(number)
        assert process.communicate(timeout=60)[0] == "asked to end\n"
    assert process.returncode == 0


def test_an_agent_on_trial_ends_with_the_program_that_watches_it(home: Home) -> None:
    home.kit("c3", then=WAITS)
    home.point(trial=trial())
    with home.start("run") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "c3 run -\n"
        process.kill()
        assert process.stdout.readline() == "asked to end\n"


def test_launchers_that_do_not_reach_the_app_lead_to_the_kit_before(home: Home) -> None:
    for count in (1, 2, 3):
        assert home.run("launch") == "a1 launch -"
        assert json.loads((home.shared / "launcher.json").read_text()) == {"id": "a1", "count": count}
    assert home.run("launch") == "b2 launch -"
    assert home.run("run") == "a1 run -", "the agent is another matter"
    (home.shared / "launcher.json").unlink()
    assert home.run("launch") == "a1 launch -", "a launcher that has reached the app removes it"
    home.kit("c3")
    home.point(trial=trial())
    for _ in range(3):
        assert home.run("launch") == "c3 launch -"
    assert home.run("launch") == "a1 launch -"


@on_posix
@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"id": "a1", "count": "9"}', b'{"id": "a1", "count": -5}', b'{"id": "a1", "count": 1e99}',
                b'{"id": 7, "count": true}', b"[" * 60_000, b"\xff" * 100]
)  # fmt: skip
def test_what_an_attacker_writes_into_the_count_starts_one_of_the_two(home: Home, content: bytes) -> None:
    (home.shared / "launcher.json").write_bytes(content)
    assert home.run("launch").split()[0] in ("a1", "b2")


@on_posix
@pytest.mark.parametrize("kind", ["link", "folder", "fifo"])
def test_what_stands_in_the_place_of_the_count_is_not_followed(home: Home, kind: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("launcher.json", "launcher.json.new"):
        place = home.shared / name
        if kind == "link":
            place.symlink_to(victim)
        elif kind == "folder":
            place.mkdir()
        else:
            os.mkfifo(place)
    assert home.run("launch").split()[0] == "a1"
    assert victim.read_text() == "mine"
    assert not (home.folder / "attempts.json").exists(), "the till's account counts in the folder that it may write"


def test_a_launcher_clears_the_count_that_the_starter_makes() -> None:
    assert (launch_count.PLACE, launch_count.NAME) == (stub.REACHED, stub.LAUNCHES)
