"""A drill of files that another program holds: at every call of every flow, with each share mode, briefly and for good.

A flow runs once undisturbed, and its calls on files of the terminal are the cases. Then it runs again for each of them:
from that call on another program has the file open. The flow has to end as ever, to open the till with another version,
or to name the file; what runs goes on. After the program has let go, the till opens, and no receipt is lost.

`python -m tests.drills.sharing [FLOW...] [--every N]` prints the table of calls and modes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest import mock

from dbsync.errors import TillkeeperError
from tests.helpers.held import BRIEFLY, Holder, Share, holder
from tests.helpers.places import ROOT
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor, copy_of, served, serving
from updater.cli import rollback_conversation
from updater.flows.agent import cycle
from updater.flows.launch import launch
from updater.model import ProcessKind
from updater.terminal import events
from updater.terminal.live import Terminal

SALES: Final = 1
IDS: Final = re.compile(r"[0-9a-f]{12,}|\d{4}-\d\d-\d\dT[\d-]+Z?|\d{6,}")


class Mode(NamedTuple):
    """How another program has a file open."""

    share: Share
    for_good: bool

    def __str__(self) -> str:
        return f"{self.share.value} {'for good' if self.for_good else 'briefly'}"


MODES: Final = tuple(Mode(share, for_good) for share in Share for for_good in (False, True))


class Call(NamedTuple):
    """A call of a flow on a file; names that differ from run to run are left out of its path."""

    event: str
    path: str


class Result(NamedTuple):
    """How a flow ended."""

    word: str
    """Its outcome."""
    told: str
    """Everything that it said."""


Flow = Callable[[Till], Result]


def start(till: Till) -> Result:
    """The launcher, in this process; the app that it starts is a real one."""
    terminal = Terminal(till.settings, kind=ProcessKind.LAUNCHER, app_arguments=("--sell", str(SALES)))
    launched = launch(terminal, till.settings.limits)
    return Result(str(launched.outcome), launched.cause)


def check(till: Till) -> Result:
    """One cycle of the agent."""
    terminal = Terminal(till.settings, kind=ProcessKind.AGENT)
    try:
        found = cycle(terminal)
    except TillkeeperError as error:
        return Result(type(error).__name__, error.in_words)
    finally:
        terminal.close()
    return Result(str(found.outcome), found.reason)


def roll_back(till: Till) -> Result:
    """A person goes back."""
    lines: list[str] = []
    try:
        status = rollback_conversation.run(
            till.settings, listing=False, to=None, backup=None, dry_run=False, yes=True, accept_loss=False,
            as_json=False, ask=lambda _: True, say=lines.append,
        )  # fmt: skip
    except TillkeeperError as error:
        return Result(type(error).__name__, error.in_words)
    return Result(str(status), "\n".join(lines))


class Scene(NamedTuple):
    """A terminal and what is done on it."""

    till: Till
    flow: Flow


@contextlib.contextmanager
def scenes(folder: Path, first: Vendor, till: Till) -> Iterator[tuple[dict[str, Scene], str]]:
    """The scenes of all flows, by name, each on a terminal of its own; and the address of their vendor."""
    vendor = copy_of(first, folder / "vendor")
    with served(serving(vendor.public)) as url:
        with quiet(folder):
            idle = till.copy_to(folder / "idle", url)
            vendor.release("1.1", schema=4)
            found = {"start": Scene(idle, start), "check": Scene(till.copy_to(folder / "offered", url), check)}
            staged = till.copy_to(folder / "staged", url)
            with environment_of(staged):
                assert check(staged).word == "SWAPPED"
            found["launch"] = Scene(staged, start)
            tried = staged.copy_to(folder / "tried", url)
            with environment_of(tried):
                start(tried)
            found["fold"] = Scene(tried, check)
            worked = tried.copy_to(folder / "worked", url)
            with environment_of(worked):
                check(worked)
            found["rollback"] = Scene(worked, roll_back)
            vendor.release("1.2", schema=5, behaviour="crash")
            crashing = worked.copy_to(folder / "crashing", url)
            with environment_of(crashing):
                assert check(crashing).word == "SWAPPED"
            found["crash"] = Scene(crashing, start)
        yield found, url


@contextlib.contextmanager
def environment_of(till: Till) -> Iterator[None]:
    """The environment of a terminal's processes, in this process."""
    with mock.patch.dict(os.environ, till.environment()):
        yield


@contextlib.contextmanager
def quiet(folder: Path) -> Iterator[None]:
    """With the output of the apps, which goes to the descriptors of this process, in a file of a folder instead."""
    sys.stdout.flush()
    with (folder / "output.txt").open("ab") as output, contextlib.ExitStack() as kept:
        for number in (1, 2):
            before = os.dup(number)
            kept.callback(os.close, before)
            kept.callback(os.dup2, before, number)
            os.dup2(output.fileno(), number)
        yield


class Case(NamedTuple):
    """One call that another program is in the way of, and what became of it."""

    flow: str
    call: Call
    mode: Mode
    became: str
    """`as ever`, `opens`, `names it`; `not reached`; else what is wrong."""


class Drill:
    """Runs cases of one flow."""

    def __init__(self, name: str, scene: Scene, url: str, folder: Path) -> None:
        self.name, self._scene, self._url, self._folder = name, scene, url, folder
        self.usual = Result("", "")

    def calls(self) -> list[Call]:
        """Run the flow undisturbed and return its calls on files of the terminal, each once."""
        with self._copy() as till, holder() as found:
            found.watches = True
            self.usual = self._scene.flow(till)
            found.watches = False
            seen = [plain(till, event, path) for event, path in found.calls]
        return list(dict.fromkeys(call for call in seen if call is not None))

    def run(self, call: Call, mode: Mode) -> Case:
        """Run the flow; from that call on the file is held."""
        with self._copy() as till:
            with holder() as found:
                arm(found, till, call, mode)
                result = self._scene.flow(till)
                found.watches = False
            result = result._replace(told=f"{result.told}\n{recorded(till)}")
            sold = len(till.held_receipts())
            became = self._judge(found, call, result, opened=sold > self._sold)
            self._scene.flow(till)
            last = start(till)
            wrong = [f"receipts lost: {till.lost_receipts()}"] if till.lost_receipts() else []
            if len(till.held_receipts()) <= sold:
                wrong.append(f"it does not open afterwards: {last.word}: {last.told}")
        return Case(self.name, call, mode, "; ".join(wrong) or became)

    def _judge(self, found: Holder, call: Call, result: Result, *, opened: bool) -> str:
        if not found.refused:
            return "not reached" if not found.paths else "as ever"
        if result.word == self.usual.word and (opened or self._scene.flow is not start):
            return "as ever"
        if self._scene.flow is start and opened:
            return "opens"
        # Of a folder that cannot be renamed the system does not say which file in it is open.
        held = {Path(path).name for path in (*found.paths, *(path for _, path in found.refused))}
        if any(name in result.told for name in held) or Path(call.path).parent.name in result.told:
            return "names it"
        return f"neither opens nor names the file: {result.word}: {result.told}"

    @contextlib.contextmanager
    def _copy(self) -> Iterator[Till]:
        folder = self._folder / "case"
        till = self._scene.till.copy_to(folder, self._url)
        self._sold = len(till.held_receipts())
        try:
            with environment_of(till), quiet(till.folder):
                yield till
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def recorded(till: Till) -> str:
    """Return the causes that are on record: where an app opened all the same, they say what was in the way."""
    found = events.read(till.settings.private, till.settings.shared)
    return "\n".join(str(event.get("cause", "")) for event in found)


def plain(till: Till, event: str, path: str) -> Call | None:
    """Return a call in words that are the same in every run; None for what is no file of the terminal."""
    place = Path(path)
    if not place.is_absolute() or not place.is_relative_to(till.folder) or place == till.folder / "receipts.txt":
        return None
    if event == "open" and place.is_dir():
        # To sync its names, or to list them without following a link: Windows opens no folder for that.
        return None
    return Call(event, IDS.sub("*", place.relative_to(till.folder).as_posix()))


def arm(found: Holder, till: Till, call: Call, mode: Mode) -> None:
    """Let another program open a file at that call."""
    see = found.see

    def watched(event: str, given: tuple[Any, ...]) -> None:
        if not found.paths and event == call.event:
            for path in (given[0], *(given[1:2] if event == "os.rename" else ())):
                if isinstance(path, str | os.PathLike) and plain(till, event, os.fspath(path)) == call:
                    found.paths.add(os.fspath(path))
        see(event, given)

    found.see = watched  # type: ignore[method-assign]
    found.share, found.failures_left, found.watches = mode.share, None if mode.for_good else BRIEFLY, True


def table(cases: list[Case]) -> str:
    """Return the calls and modes as a table."""
    rows: Mapping[tuple[str, Call], dict[Mode, str]] = {}
    for case in cases:
        rows.setdefault((case.flow, case.call), {})[case.mode] = case.became  # type: ignore[attr-defined]
    modes = list(dict.fromkeys(case.mode for case in cases))
    lines = [f"{'flow':9} {'call':10} {'file':58} " + " ".join(f"{mode!s:11}" for mode in modes)]
    for (flow, call), found in rows.items():
        cells = " ".join(f"{found.get(mode, '')[:11]:11}" for mode in modes)
        lines.append(f"{flow:9} {call.event.removeprefix('os.'):10} {call.path[-58:]:58} {cells}")
    return "\n".join(lines)


def wrong(cases: list[Case]) -> list[Case]:
    """Return the cases that broke a promise."""
    return [case for case in cases if case.became not in ("as ever", "opens", "names it", "not reached")]


def main(words: list[str]) -> int:
    """Run the drill and print its table."""
    every = int(words[words.index("--every") + 1]) if "--every" in words else 1
    names = [word for word in words if not word.startswith("-") and not word.isdigit()]
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as place:
        folder = Path(place)
        first = Vendor(folder / "first")
        first.init()
        first.release("1.0")
        till = Till(folder / "till")
        with served(serving(first.public)) as address:
            till.install(first.root, address)
        till.fill(items_count=40)
        cases: list[Case] = []
        with scenes(folder, first, till) as (found, url):
            for name in names or list(found):
                drill = Drill(name, found[name], url, folder)
                plan = [(call, mode) for call in drill.calls() for mode in MODES][::every]
                done = [drill.run(call, mode) for call, mode in plan]
                print(table(done), flush=True)
                cases += done
    bad = wrong(cases)
    for case in bad:
        print(f"WRONG: {case.flow}, {case.call.event} of {case.call.path}, {case.mode}: {case.became}")
    print(f"{len(cases)} cases, {len(bad)} wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
