"""The drill of killed processes: one process of a terminal ends at a random moment of every flow.

`python -m tests.drills.terminate [--count 200] [--seed N] [--flow NAME]` runs on Linux, with SIGKILL;
`./scripts/winbench run tests.drills.terminate …` under wine, with TerminateProcess. Agent, launcher, keeper, app, and
the children that download, test a release, and run the code of migrations take turns. After each kill come the next
starts, until the terminal is at rest: something complete starts, the schema fits it, no sale is lost, it settles. It
ends with 0 if that was true each time.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.storage.platform import this_platform
from tests.helpers.at_rest import Rest, come_to_rest
from tests.helpers.places import ROOT
from tests.helpers.processes import Family, kill
from tests.helpers.terminal import COMMAND_SECONDS, Till
from tests.helpers.vendor import Vendor, copy_of, served, serving
from updater.host.shared import read_note

AGENT, LAUNCHER, KEEPER, APP, ROLLBACK = "agent", "launcher", "keeper", "app", "rollback"
UNINSTALL, INSTALL = "uninstall", "install"
DOWNLOAD, MIGRATION, SELF_TEST, OTHER = "download child", "migration child", "self-test", "another child"
CHILDREN: Final = {
    "updater.terminal.keeper": KEEPER, "updater.repository.child": DOWNLOAD, "--self-test": SELF_TEST,
    "dbsync.migrations.code_child": MIGRATION,
}  # fmt: skip
"""Words by which a child is known in its command line."""
SCHEMAS: Final = {"1.0": 2, "1.1": 4, "1.2": 6}
ITEMS_COUNT: Final = 1500
POLL_SECONDS: Final = 0.05 if sys.platform == "win32" else 0.01
"""Under wine each look at the processes holds up all of them."""
END_SECONDS: Final = 180.0
"""So long a flow may go on after one of its processes was killed."""
GONE_SECONDS: Final = 30.0
"""So long what is left may take to notice that it is alone."""
OF_THE_SYSTEM: Final = "conhost.exe"
"""The program that serves the console of a process on Windows. The system starts it and ends it, wine not always."""
TRIES_COUNT: Final = 4
"""A victim that ended before its moment is met earlier in the next try."""
EARLIER: Final = 0.6


class Flow(NamedTuple):
    """Something that a terminal does, and the processes that do it."""

    name: str
    scene: str
    """How its folder is before."""
    words: tuple[str, ...]
    victims: tuple[str, ...]
    """The first is the process that is started."""
    opens: Callable[[Till], bool] = lambda till: True
    """Whether the part of it that is looked at has begun."""
    closes: Callable[[Till], bool] = lambda till: False


def _staged(till: Till) -> bool:
    return any((till.folder / "program" / "versions").glob("1.1-*"))


def _app_runs(till: Till) -> bool:
    note = read_note(till.folder / "state" / "shared" / "app.lock")
    return note.get("pid") != note.get("keeper_pid")


def _sells(till: Till) -> bool:
    return len(till.held_receipts()) > 0


LAUNCH: Final = ("-m", "updater", "launch", "--", "--sell")
CHECK: Final = ("-m", "updater", "check")
FLOWS: Final = (
    Flow("look, download, stage", "staging", CHECK, (AGENT, DOWNLOAD, SELF_TEST)),
    Flow("swap", "staging", CHECK, (AGENT,), opens=_staged),
    Flow("first launch, migration", "first launch", (*LAUNCH, "3"), (LAUNCHER, MIGRATION, KEEPER, APP)),
    Flow("confirm", "first launch", (*LAUNCH, "3"), (LAUNCHER, KEEPER, APP), opens=_app_runs, closes=_sells),
    Flow("crash and way back", "crashing", (*LAUNCH, "3"), (LAUNCHER, MIGRATION, KEEPER, APP)),
    Flow("closing of a trial", "folding", CHECK, (AGENT,)),
    Flow("rollback", "trade", (str(ROOT / "scripts" / "rollback.py"), "--yes"), (ROLLBACK, MIGRATION)),
    Flow("trade", "trade", (*LAUNCH, "5", "--pause", "0.1"), (LAUNCHER, KEEPER, APP)),
    Flow("uninstall", "trade", ("-m", "updater", "uninstall", "--yes"), (UNINSTALL,)),
    Flow("install again", "removed", (), (INSTALL, DOWNLOAD)),
)  # fmt: skip


class Stage:
    """One terminal, its folder as it is before each flow, and how long each process of a flow lives."""

    def __init__(self, folder: Path, vendor: Vendor, url: str) -> None:
        self.till: Final = Till(folder / "till")
        self._folder: Final = folder
        self._vendor: Final = vendor
        self._url: Final = url
        self.seconds: dict[tuple[str, str], float] = {}

    def make(self) -> None:
        """Play the life of the terminal, and keep what it was before each flow."""
        till = self.till
        till.install(self._vendor.root, self._url)
        till.fill(items_count=ITEMS_COUNT)
        self._vendor.release("1.1", schema=4)
        self._keep("staging")
        self._checked("SWAPPED")
        self._keep("first launch")
        done = till.launch(sell=3)
        assert done.returncode == 0, done.stderr
        self._keep("folding")
        till.check()
        self._keep("trade")
        assert self.run_whole(("-m", "updater", "uninstall", "--yes")) == 0
        self._keep("removed")

    def make_crashing(self, url: str) -> None:
        """The same terminal under another address, where a release is published that crashes."""
        self.set_up("trade")
        text = self.till.settings_path.read_text(encoding="utf-8")
        self.till.settings_path.write_text(text.replace(self._url, url), encoding="utf-8")
        self._checked("SWAPPED")
        self._keep("crashing")

    def _checked(self, wanted: str) -> None:
        found = self.till.check()
        assert found.outcome == wanted, found

    def _keep(self, scene: str) -> None:
        shutil.copytree(self.till.folder, self._folder / scene)

    def set_up(self, scene: str) -> None:
        """Make the terminal's folder as it was before a flow."""
        if self.till.folder.exists():
            # On Windows what has just ended may keep files for a moment.
            this_platform().patiently(lambda: shutil.rmtree(self.till.folder))
        shutil.copytree(self._folder / scene, self.till.folder)

    def words_of(self, flow: Flow) -> tuple[str, ...]:
        """Return the words of a flow's command."""
        till = self.till
        return flow.words or (
            "-m", "updater", "install", "--root", str(self._vendor.root), "--url", self._url,
            "--settings", str(till.settings_path), "--program", str(till.folder / "program"),
            "--state", str(till.folder / "state"), "--data", str(till.folder / "data"),
            "--backup-prefix", "auraswift", "--interpreter", f"python={sys.executable}",
        )  # fmt: skip

    def start(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a command of the terminal."""
        return subprocess.Popen(
            [sys.executable, *words], env=self.till.environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def run_whole(self, words: Sequence[str]) -> int:
        """Run a command of the terminal to its end."""
        with self.start(words) as process:
            return process.wait(COMMAND_SECONDS)

    def keep_for_a_person(self, into: Path, name: str) -> None:
        """Copy the terminal's folder aside."""
        shutil.copytree(self.till.folder, into / name, dirs_exist_ok=True)


@contextmanager
def staged(folder: Path, first_release: Vendor | None = None) -> Iterator[Stage]:
    """Make a terminal and its servers.

    Args:
        folder: where; must be empty.
        first_release: a vendor who has published 1.0; made if it is missing.
    """
    vendor = Vendor(folder / "vendor")
    if first_release is None:
        vendor.init()
        vendor.release("1.0", schema=2)
    else:
        vendor = copy_of(first_release, vendor.folder)
    with served(serving(vendor.public)) as url:
        found = Stage(folder, vendor, url)
        found.make()
        newer = copy_of(vendor, folder / "newer")
        newer.release("1.2", schema=6, mended=True, behaviour="crash")
        with served(serving(newer.public)) as newer_url:
            found.make_crashing(newer_url)
            yield found


class Played:
    """A flow that runs, with its processes by what they are."""

    def __init__(self, stage: Stage, flow: Flow) -> None:
        stage.set_up(flow.scene)
        self._stage: Final = stage
        self._flow: Final = flow
        self.process: Final = stage.start(stage.words_of(flow))
        self._family: Final = Family(self.process.pid)
        self._has_begun = False
        self._goes_on = True

    def look(self) -> dict[str, int]:
        """Return the processes that run now, in the part of the flow that is looked at: pid by role."""
        flow, till = self._flow, self._stage.till
        ended = self.process.poll() is not None
        running = self._family.look()
        self._goes_on = not ended or bool(set(running) - {self.process.pid})
        self._has_begun = self._has_begun or flow.opens(till)
        if not self._has_begun or flow.closes(till):
            return {}
        note = read_note(till.folder / "state" / "shared" / "app.lock")
        found: dict[str, int] = {}
        for pid, command in running.items():
            if pid == self.process.pid:
                role = flow.victims[0] if not ended else ""
            elif pid == note.get("keeper_pid"):
                role = KEEPER
            elif pid == note.get("pid"):
                role = APP
            else:
                role = next((role for word, role in CHILDREN.items() if word in command), OTHER)
            if role:
                found[role] = pid
        return found

    def seconds_of_roles(self) -> dict[str, float]:
        """Let it run to its end; return how long each role was there."""
        seen: dict[str, tuple[float, float]] = {}
        while self._goes_on:
            now = time.monotonic()
            for role in self.look():
                seen[role] = (seen.get(role, (now, now))[0], now)
            time.sleep(POLL_SECONDS)
        return {role: last - first for role, (first, last) in seen.items()}

    def is_over(self) -> bool:
        """Return whether nothing of it runs any more."""
        return self.process.poll() is not None and not set(self._own()) - {self.process.pid}

    def kill(self, role: str, *, after_seconds: float) -> bool:
        """Kill the process of a role, so long after the first of that role came; return whether it was met."""
        came: float | None = None
        while self._goes_on:
            found = self.look()
            if role in found:
                came = time.monotonic() if came is None else came
                if time.monotonic() - came >= after_seconds:
                    return kill(found[role])
            time.sleep(POLL_SECONDS)
        return False

    def end(self) -> list[str]:
        """Wait for the end of its first process, and end what still runs; return what should not."""
        violations = []
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            violations.append(f"{self._flow.victims[0]} goes on for {END_SECONDS:.0f} seconds")
            kill(self.process.pid)
            self.process.wait()
        return violations

    def _own(self) -> Mapping[int, str]:
        return {pid: command for pid, command in self._family.look().items() if OF_THE_SYSTEM not in command}

    def left(self) -> list[str]:
        """Wait until nothing of it runs; end what does after a while, and return it."""
        deadline = time.monotonic() + GONE_SECONDS
        while not self.is_over() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        found = self._own()
        for pid in found:
            kill(pid)
        return [f"still runs: {command}" for command in found.values()]


class Round(NamedTuple):
    """A kill and what came of it."""

    flow: str
    role: str
    met: bool
    rest: Rest | None
    violations: tuple[str, ...]


def calibrate(stage: Stage, flow: Flow) -> None:
    """Note how long each process of an undisturbed flow lives."""
    played = Played(stage, flow)
    seconds = played.seconds_of_roles()
    for role in flow.victims:
        stage.seconds[flow.name, role] = seconds.get(role, 0.0)


def play(stage: Stage, flow: Flow, role: str, chance: random.Random) -> Round:
    """Kill one process at a random moment of its life, and let the terminal come to rest."""
    share = chance.random()
    for _ in range(TRIES_COUNT):
        played = Played(stage, flow)
        met = played.kill(role, after_seconds=share * stage.seconds[flow.name, role])
        if met:
            break
        played.end()
        share *= EARLIER
    if not met:
        return Round(flow.name, role, met, None, ())
    found = played.end()
    if flow.victims[0] in (UNINSTALL, INSTALL):
        found += _repeated(stage, flow)
    rest = come_to_rest(stage.till, schemas=SCHEMAS)
    found += [*rest.violations, *played.left()]
    return Round(flow.name, role, met, rest, tuple(found))


def _repeated(stage: Stage, flow: Flow) -> list[str]:
    """A person types the command again, after an uninstall also that of the installation."""
    found = []
    owed = flow.victims[0] == UNINSTALL and stage.till.settings_path.exists()
    if owed and (code := stage.run_whole(flow.words)) != 0:
        found.append(f"uninstall, repeated, ended with {code}")
    again = next(flow for flow in FLOWS if flow.victims[0] == INSTALL)
    if (code := stage.run_whole(stage.words_of(again))) != 0:
        found.append(f"install, repeated, ended with {code}")
    return found


def rounds(stage: Stage, numbers: Iterable[int], seed: int, flows: Sequence[Flow] = FLOWS) -> Iterator[Round]:
    """Play these kills, flows and victims in turn; each has a chance of its own, by its number."""
    pairs = [(flow, role) for flow in flows for role in flow.victims]
    for number in numbers:
        flow, role = pairs[number % len(pairs)]
        if (flow.name, role) not in stage.seconds:
            calibrate(stage, flow)
        yield play(stage, flow, role, random.Random(f"{seed}-{number}"))


def table(played: Sequence[Round]) -> str:
    """The rounds by flow and process, as a table in Markdown."""
    lines = ["| flow | process | killed | at rest afterwards | violations |", "| --- | --- | --- | --- | --- |"]
    for flow, role in dict.fromkeys((found.flow, found.role) for found in played):
        own = [found for found in played if (found.flow, found.role) == (flow, role)]
        met = [found for found in own if found.met]
        ends = Counter(f"{found.rest.opened or 'none'} sells" for found in met if found.rest is not None)
        ending = ", ".join(f"{count} × {end}" for end, count in sorted(ends.items()))
        if missed := len(own) - len(met):
            ending += f" ({missed} × it was not met)"
        violations = sum(bool(found.violations) for found in own)
        lines.append(f"| {flow} | {role} | {len(met)} | {ending} | {violations} |")
    killed = sum(found.met for found in played)
    lines.append(f"| all | | {killed} | | {sum(bool(found.violations) for found in played)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the drill from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--flow", help="only this one")
    parser.add_argument("--first", type=int, default=1, metavar="NUMBER", help="of the first kill: to go on with a run")
    parser.add_argument("--seconds", type=float, default=math.inf, help="no kill begins after so long")
    parser.add_argument("--keep", type=Path, help="folder for terminals that broke a promise")
    options = parser.parse_args(arguments)
    flows = [flow for flow in FLOWS if options.flow in (None, flow.name)]
    began, played = time.monotonic(), list[Round]()
    with (
        tempfile.TemporaryDirectory(prefix="tillkeeper-terminate-", ignore_cleanup_errors=True) as folder,
        staged(Path(folder)) as stage,
    ):
        print(f"made in {time.monotonic() - began:.0f} seconds", flush=True)
        for found in rounds(stage, range(options.first - 1, options.count), options.seed, flows):
            played.append(found)
            ending = found.rest.opened if found.rest is not None else "not met"
            print(f"{options.first + len(played) - 1:4d} {found.flow}: {found.role}: {ending}", flush=True)
            for violation in found.violations:
                print(f"     VIOLATION {violation}", flush=True)
            if found.violations and options.keep is not None:
                stage.keep_for_a_person(options.keep, f"round-{len(played)}")
            if time.monotonic() - began > options.seconds:
                break
    print(f"{table(played)}\n{time.monotonic() - began:.0f} seconds")
    return 1 if any(found.violations for found in played) else 0


if __name__ == "__main__":
    sys.exit(main())
