"""The agent updates itself on Windows: 1 → 2 → 3, which lives and cannot look → 2 → 4, which crashes → 2 → 5.

`python -m tests.drills.kit_agents --wheels DIR --python ZIP` takes an empty wine prefix, as `tests.drills.kit` does: a
setup program brings agent 1, its service runs, and the others come by `updater publish agent` alone. A till is open all
the while. Then a trial of the app is open, and agent 5 waits for its end; the uninstaller of agent 1, which is gone by
then, removes what is there. Prints what it saw and the seconds, and ends with 0 if all of it was as it must be.

With `--cuts` it is 1 → 2 → 3, which crashes → 2, and all programs of the kit are killed at every step of it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tests.drills.kit import DESCRIPTION, FILL, PYTHON_ROLE, STEP_SECONDS, Wine, seen, size_of, step
from tests.helpers.kits import BROKEN
from tests.helpers.places import ROOT
from tests.helpers.vendor import PASSWORD, Vendor, served
from tests.sample_till.bundles import APP
from updater.host import stub
from updater.publish.kit import payload
from updater.publish.serve import make_server
from updater.terminal import kit

AGENTS_PORT: Final = 8767
"""Of its own, so that both drills can run at the same time."""
LAUNCHER: Final = r"C:\Program Files\Corner Shop\tillkeeper.exe"
POLL_SECONDS, CLOSELY_SECONDS = 0.5, 0.01
LONG_SECONDS, SHORT_SECONDS, SOON_SECONDS = 900, 120, 20
"""Limits of trials: one that must confirm on a busy machine, and those that never will, of an agent and an app."""


class Agents:
    """The vendor's kits, made from the folder of the first one."""

    def __init__(self, vendor: Vendor, first: Path) -> None:
        self.vendor = vendor
        self.first = first
        self.ids = {"1": first.name.removeprefix("agent-")}
        self.password_file = vendor.folder / "password"
        self.password_file.write_text(f"{PASSWORD}\n", encoding="utf-8")

    def publish(self, version: str, behaviour: str) -> None:
        """`updater publish agent` with the first kit, changed in one line."""
        new = self.vendor.folder / "kits" / f"new-{version}"
        shutil.copytree(self.first, new)
        place, line, instead = BROKEN[behaviour]
        if place:
            text = (new / "site" / place).read_text(encoding="utf-8")
            assert line in text, f"{place} has the line that is broken here"
            (new / "site" / place).write_text(text.replace(line, instead, 1), encoding="utf-8")
        document = json.loads((new / "kit.json").read_bytes())
        identity = hashlib.sha256(f"{document['id']} {version}".encode()).hexdigest()[: payload.ID_LENGTH]
        (new / "kit.json").write_text(json.dumps({**document, "id": identity, "version": version}), encoding="utf-8")
        folder = new.with_name(f"agent-{identity}")
        new.rename(folder)
        payload.seal(payload.Payload(folder, identity, APP, ""))
        words = ["publish", "agent", "--repository", str(self.vendor.repository), str(folder)]
        print(
            seen([sys.executable, "-m", "updater", *words, "--password-file", str(self.password_file)], cwd=ROOT),
            end="",
        )
        self.ids[version] = identity


class Terminal:
    """The installed kit, seen from outside: its files."""

    def __init__(self, wine: Wine, agents: Agents) -> None:
        self.wine = wine
        self.agents = agents

    def pointer(self) -> tuple[str, str, str]:
        """Return the versions that start, started before, and are on trial."""
        names = {identity: version for version, identity in self.agents.ids.items()}
        found = stub.pointer(self.wine.home)
        trial = found.get("trial") or {}
        return tuple(names.get(str(value), "") for value in (found.get("id"), found.get("before"), trial.get("id")))  # type: ignore[return-value]

    def kits(self) -> list[str]:
        """Return the versions whose folders are there."""
        there = {path.name.removeprefix("agent-") for path in self.wine.home.glob("agent-*")}
        return sorted(version for version, identity in self.agents.ids.items() if identity in there)

    def events(self) -> list[dict[str, Any]]:
        """Return what is on record."""
        lines = [
            line
            for path in self.wine.state.rglob("events-*.jsonl")
            for line in path.read_text(encoding="utf-8").splitlines()
        ]
        return sorted((json.loads(line) for line in lines), key=lambda event: str(event["at"]))

    def last(self, outcome: str) -> dict[str, Any]:
        """Return the newest event with an outcome."""
        return [event for event in self.events() if event["outcome"] == outcome][-1]

    def count(self, outcome: str) -> int:
        """Return how often something was reported."""
        return sum(event["outcome"] == outcome for event in self.events())

    def wait(self, what: str, is_so: Callable[[], bool], *, each: Callable[[], None] = lambda: None) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + STEP_SECONDS
        while not is_so():
            if time.monotonic() > deadline:
                self.wine.missing(f"{what}: pointer {self.pointer()}, {self.wine.updater('status')}")
            each()
            time.sleep(POLL_SECONDS)
        print(f"  seen: {what}", flush=True)

    def must_point(self, now: str, before: str) -> None:
        """The pointer must name these, and no trial."""
        if self.pointer() != (now, before, ""):
            self.wine.missing(f"the pointer at {now}: it is {self.pointer()}")
        print(f"  seen: agent {now} starts; the one before: {before or 'none'}; no trial", flush=True)

    def attempts(self) -> int:
        """Return how often the agent on trial was started."""
        token = (stub.pointer(self.wine.home).get("trial") or {}).get("token")
        return stub.attempts(self.wine.home, token)[0] if token else 0

    def kill(self) -> int:
        """Kill every process of a program in the home, as TerminateProcess does; return how many there were."""
        count = 0
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words, there = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
                if b"Corner Shop" in words and os.fsencode(self.wine.prefix) in there:
                    os.kill(int(folder.name), signal.SIGKILL)
                    count += 1
        return count

    def limit(self, name: str, seconds: int) -> None:
        """Put a limit into the settings."""
        path = self.wine.drive / "ProgramData" / "Tillkeeper" / APP / "settings.toml"
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if name not in line]
        place = lines.index("[limits]") + 1
        text = "\n".join([*lines[:place], f"{name} = {seconds}", *lines[place:]])
        path.write_text(f"{text}\n", encoding="utf-8")

    def look(self) -> None:
        """Let the service look now."""
        self.wine.must("is stopped", "service", "stop")
        self.wine.must("runs", "service", "start")

    @contextmanager
    def open_till(self, *, until: str) -> Iterator[subprocess.Popen[str]]:
        """The app, open until the block ends."""
        with self.wine.start(LAUNCHER, "launch", "--", "--sell", "0", "--pause", "2") as till:
            assert till.stdout is not None
            said = []
            while until not in (line := till.stdout.readline()):
                said.append(line)
                assert line, "".join(said)
            yield till
            if till.poll() is not None:
                self.wine.missing("an open till")
            self.wine.end_app()
            till.communicate(timeout=STEP_SECONDS)


def begin(wine: Wine, vendor: Vendor, scratch: Path) -> Terminal:
    """Install agent 1, and what the shop needs to sell."""
    with step("setup.exe /S, agent 1"):
        code = wine.setup(str(scratch / "setup.exe"), "/S")
    if code != 0 or not (wine.state / "journal.json").exists():
        wine.missing(f"the terminal ({code})")
    (first,) = (scratch / "kits").glob("agent-*")
    terminal = Terminal(wine, Agents(vendor, first))
    terminal.must_point("1", "")
    wine.must("running", "service", "status")
    shutil.copy(ROOT / "tests/sample_till/fill.py", wine.drive / "fill.py")
    text = FILL.format(folder="C:/", database=rf"C:\ProgramData\Tillkeeper\{APP}\data\pos_system.db")
    (wine.drive / "fill_it.py").write_text(text, encoding="utf-8")
    wine.must("the shop has no products", "launch", "--", "--sell", "2")
    wine.run(r"C:\Program Files\Corner Shop\rescue\python\python.exe", r"C:\fill_it.py")
    return terminal


def story(terminal: Terminal) -> None:
    """From the first agent to the removal."""
    wine = terminal.wine
    with terminal.open_till(until="is open"):
        app = (wine.state / "shared" / "app.lock").read_bytes()
        _follow(terminal)
        if (wine.state / "shared" / "app.lock").read_bytes() != app:
            wine.missing("the same app all the while")
    _app_first(terminal)
    _removed(terminal)


def cuts(terminal: Terminal) -> None:
    """Every step of an update that succeeds, and of one that goes back: whatever runs is killed there."""
    wine, agents = terminal.wine, terminal.agents
    terminal.limit("agent_trial_seconds", LONG_SECONDS)
    wine.must("is stopped", "service", "stop")
    agents.publish("2", "good")
    new, downloads, own = agents.ids["2"], wine.state / "private" / "downloads", wine.state / "private" / "agent"
    known = {path.name for path in wine.home.iterdir()}
    _cut(terminal, "it is downloaded", lambda: any(downloads.iterdir()))
    _cut(terminal, "it is unpacked", lambda: bool({path.name for path in wine.home.iterdir()} - known))
    _cut(terminal, "its folder is there", (wine.home / f"agent-{new}").exists)
    _cut(terminal, "it is on trial", lambda: terminal.pointer()[2] == "2")
    _cut(terminal, "its start is counted", lambda: terminal.attempts() > 0)
    _cut(terminal, "it is confirmed", lambda: terminal.pointer()[0] == "2")
    wine.updater("service", "start")
    # Its report may have been cut off, and comes no more: what starts tells it.
    terminal.must_point("2", "1")
    wine.must("running", "service", "status")
    wine.must("is stopped", "service", "stop")
    agents.publish("3", "crash")
    _cut(terminal, "agent 3 is on trial", lambda: terminal.pointer()[2] == "3")
    tried = own / "releases.json"
    _cut(terminal, "its starts are spent", lambda: terminal.attempts() >= stub.ATTEMPTS_LIMIT)
    _cut(terminal, "its failure is on record", lambda: tried.exists() or terminal.pointer()[2] == "")
    # After a kill, wine's list of services still says that it runs.
    wine.updater("service", "start")
    terminal.wait("AGENT_WENT_BACK", lambda: terminal.count("AGENT_WENT_BACK") > 0 and terminal.pointer()[2] == "")
    terminal.must_point("2", "1")
    wine.must("running", "service", "status")


def _cut(terminal: Terminal, where: str, is_there: Callable[[], bool]) -> None:
    """Kill everything of the kit there; what starts then is a whole kit, and the till opens."""
    wine = terminal.wine
    begun, again = time.monotonic(), 0.0
    with ExitStack() as starts:
        while not is_there():
            if time.monotonic() > begun + STEP_SECONDS:
                wine.missing(f"{where}: pointer {terminal.pointer()}, {wine.updater('status')}")
            # As the recovery actions of the service, which wine keeps and does not perform.
            if time.monotonic() > again:
                starts.enter_context(wine.start(LAUNCHER, "service", "start"))
                again = time.monotonic() + SOON_SECONDS
            time.sleep(CLOSELY_SECONDS)
        killed = terminal.kill()
    for identity in filter(None, stub.pointer(wine.home).values()):
        if isinstance(identity, str) and (folder := wine.home / f"agent-{identity}").exists():
            kit.verify(kit.read(folder))
    pointer = terminal.pointer()
    wine.must("is open", "launch", "--", "--sell", "1")
    print(f"cut where {where}: {killed} processes; pointer {pointer}; the till opened", flush=True)


def _follow(terminal: Terminal) -> None:
    wine, agents = terminal.wine, terminal.agents
    agents.publish("2", "good")
    terminal.limit("agent_trial_seconds", LONG_SECONDS)
    with step("agent 2: found, tested, on trial, confirmed"):
        terminal.look()
        terminal.wait("AGENT_CONFIRMED", lambda: terminal.count("AGENT_CONFIRMED") == 1)
    terminal.must_point("2", "1")
    wine.must("running", "service", "status")
    agents.publish("3", "blind")
    terminal.limit("agent_trial_seconds", SHORT_SECONDS)
    with step(f"agent 3, which cannot look: ended after {SHORT_SECONDS} s, agent 2 again"):
        terminal.look()
        terminal.wait("agent 3 on trial", lambda: terminal.pointer()[2] == "3")
        terminal.wait("AGENT_WENT_BACK", lambda: terminal.count("AGENT_WENT_BACK") == 1)
    print(f"  cause: {terminal.last('AGENT_WENT_BACK')['cause']}", flush=True)
    terminal.must_point("2", "1")
    wine.must("running", "service", "status")
    agents.publish("4", "crash")
    terminal.limit("agent_trial_seconds", LONG_SECONDS)
    with step("agent 4, which crashes: started three times, agent 2 again"):
        terminal.look()
        terminal.wait("agent 4 on trial", lambda: terminal.pointer()[2] == "4")
        # The recovery actions of the service, which wine keeps and does not perform.
        terminal.wait(
            "AGENT_WENT_BACK", lambda: terminal.count("AGENT_WENT_BACK") == 2, each=lambda: _recovered(terminal)
        )
    print(f"  cause: {terminal.last('AGENT_WENT_BACK')['cause']}", flush=True)
    terminal.must_point("2", "1")
    wine.must("running", "service", "status")
    if terminal.kits() != ["1", "2"]:
        wine.missing(f"only agents 1 and 2: there are {terminal.kits()}")


def _recovered(terminal: Terminal) -> None:
    if "running" not in terminal.wine.updater("service", "status"):
        terminal.wine.updater("service", "start")


def _app_first(terminal: Terminal, *, app: str = "1.1", agent: str = "5") -> None:
    """A trial of the app is open: a newer agent waits, and changes nothing of it."""
    wine = terminal.wine
    terminal.limit("confirm_seconds", LONG_SECONDS)
    terminal.agents.vendor.release(app, schema=4, behaviour="sells_then_hangs")
    terminal.look()
    wine.wait_for_phase("SWAPPED")
    with wine.start(LAUNCHER, "launch", "--", "--sell", "1") as till:
        terminal.wait("the app's trial is open", lambda: _trial(wine) is not None)
        before = _trial(wine)
        terminal.agents.publish(agent, "good")
        wine.must("is stopped", "service", "stop")
        with step(f"two looks with agent {agent} published, while the app's trial is open"):
            for _ in range(2):
                wine.must("ON_TRIAL", "check")
        wine.must("runs", "service", "start")
        if _trial(wine) != before:
            wine.missing(f"the trial as it was: {before} became {_trial(wine)}")
        if terminal.kits() != ["1", "2"] or till.poll() is not None:
            wine.missing(f"the kits as they were, and the app: {terminal.kits()}, {till.poll()}")
        terminal.must_point("2", "1")
        wine.end_app()
        till.communicate(timeout=STEP_SECONDS)
    terminal.limit("confirm_seconds", SOON_SECONDS)
    wine.must("till 1.0 is open", "launch", "--", "--sell", "1")
    _after(terminal, agent)


def _after(terminal: Terminal, agent: str) -> None:
    """The app's trial is over: the agent that waited for it comes, and the oldest one goes."""
    confirmed = terminal.count("AGENT_CONFIRMED")
    with step(f"agent {agent}, after the app's trial"):
        terminal.look()
        terminal.wait("AGENT_CONFIRMED", lambda: terminal.count("AGENT_CONFIRMED") > confirmed)
        terminal.wait("agent 1 is removed", lambda: terminal.kits() == ["2", agent])
    terminal.must_point(agent, "2")


def _trial(wine: Wine) -> Any:
    found = json.loads(wine.updater("status", "--json"))["trial"]
    return found if found and found["verdict"] == "open" else None


def _removed(terminal: Terminal) -> None:
    """The uninstaller of agent 1 removes agents 2 and 5."""
    wine = terminal.wine
    # As cuts leave them.
    (wine.home / ".gone-agent-0" / "site").mkdir(parents=True)
    for name in (".new-current.json", "attempts.json.new"):
        (wine.home / name).write_bytes(b"{")
    with step("uninstall.exe /S"):
        code = wine.uninstall()
    left = sorted(path.name for path in wine.home.iterdir()) if wine.home.exists() else []
    print(f"  exit status {code}, left: {left}, data: {(wine.state / 'journal.json').exists()}", flush=True)
    if code != 0 or left not in ([], ["uninstall.exe"]) or not (wine.state / "journal.json").exists():
        wine.missing("the removal, with the data kept")


def main() -> int:
    """Does what the words say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--python", type=Path, required=True, help="The embeddable Windows Python, as a zip archive.")
    parser.add_argument("--folder", type=Path, help="Where to work, and what to leave; without it nothing is left.")
    parser.add_argument("--cuts", action="store_true", help="Kill the programs of the kit at every step.")
    given = parser.parse_args()
    with ExitStack() as left:
        if given.folder is None:
            scratch = Path(left.enter_context(tempfile.TemporaryDirectory(prefix="tillkeeper-kit-")))
        else:
            given.folder.mkdir(parents=True)
            scratch = given.folder
        began = time.monotonic()
        vendor = Vendor(scratch / "vendor")
        vendor.init()
        vendor.release("1.0", schema=2)
        (scratch / "kit.toml").write_text(
            DESCRIPTION.format(version="1", port=AGENTS_PORT) + PYTHON_ROLE, encoding="utf-8"
        )
        sha256 = hashlib.sha256(given.python.read_bytes()).hexdigest()
        words = [
            sys.executable, "-m", "updater", "publish", "kit", "--repository", str(vendor.repository),
            "--platform", "windows-x86_64", "--settings", str(scratch / "kit.toml"), "--output",
            str(scratch / "setup.exe"), "--wheels", str(given.wheels), "--payload", str(scratch / "kits"),
            "--python", str(given.python), "--python-sha256", sha256, "--stub", "amd64",
        ]  # fmt: skip
        with step("setup.exe made"):
            print(seen(words, cwd=ROOT), end="", flush=True)
        wine = Wine(scratch)
        with step("an empty Windows"):
            wine.run("wineboot", "-i")
            wine.run("winecfg", "-v", "win10")
        try:
            # Its services end with wine's last process.
            with served(make_server(vendor.public, port=AGENTS_PORT)), wine.hold() as holder:
                try:
                    (cuts if given.cuts else story)(begin(wine, vendor, scratch))
                finally:
                    holder.kill()
        finally:
            wine.stop()
        print(f"the agent's own update: good, {time.monotonic() - began:.0f} seconds, {size_of(scratch):.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
