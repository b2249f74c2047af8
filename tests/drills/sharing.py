"""A drill of files that another program holds: at every call of every flow, with each share mode, briefly and for good.

A flow runs once undisturbed, and its calls on files of the terminal, in each of its effects, are the cases. Then it
runs again for each of them: from that call on another program has the file open. The flow has to end as ever, to open
the till with another version, or to name the file; what runs goes on. After the program has let go, the till opens,
no receipt is lost, and no release is given up that is not given up in the undisturbed run: a held file says nothing
about a release.

`python -m tests.drills.sharing [FLOW...] [--every N]` prints the table of calls and modes, on any system: the calls of
the flow's process fail as they fail on Windows. With `--real`, on Windows or under wine, another process opens the
file, with share 0 and 1: at the first call of each kind in each effect, in the first flow that has it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest import mock

from dbsync.database import transaction
from dbsync.database.live import LiveEffects
from dbsync.errors import TillkeeperError
from dbsync.storage.platform import windows
from dbsync.upgrade import effects as database_effects
from tests.helpers.held import BRIEFLY, NEVER, Grip, Holder, Seen, Share, holder, watcher
from tests.helpers.places import ROOT
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor, copy_of, served, serving
from updater.cli import rollback_conversation
from updater.flows import effects
from updater.flows.agent import cycle
from updater.flows.confirm import confirm
from updater.flows.first_install import first_version
from updater.flows.launch import launch
from updater.model import ProcessKind, TrialId, Verdict
from updater.terminal import events
from updater.terminal.live import Terminal

SALES: Final = 1
CONFIRM: Final = "state/shared/confirm-"
"""An app has not confirmed if nobody can read its confirm file while it waits: that release may be given up."""
PROOF: Final = "check_committed"
"""A committed database that cannot be read for 15 seconds is not proven: its release may be given up."""
IDS: Final = re.compile(r"[0-9a-f]{12,}|\d{4}-\d\d-\d\dT[\d-]+Z?|\d{6,}")


class Mode(NamedTuple):
    """How another program has a file open."""

    share: Share
    for_good: bool

    def __str__(self) -> str:
        return f"{self.share.value} {'for good' if self.for_good else 'briefly'}"


SCANNED_SECONDS: Final = 0.5
"""So long a process has a file open that holds it briefly."""
SHORT_WAITS_SECONDS: Final = (0.05, 0.1)
REAL_SHARES: Final = (Share.NOTHING, Share.READ)
MODES: Final = tuple(Mode(share, for_good) for share in Share for for_good in (False, True))


class Call(NamedTuple):
    """A call of a flow on a file; names that differ from run to run are left out of its path."""

    effect: str
    """The effect that makes it; empty for what a flow does by itself."""
    event: str
    path: str


class Result(NamedTuple):
    """How a flow ended."""

    word: str
    """Its outcome."""
    told: str
    """Everything that it said."""


Flow = Callable[[Till], Result]


def refused(error: TillkeeperError) -> Result:
    """Sentence of a command that ends with an error of ours."""
    return Result(type(error).__name__, error.in_words)


def start(till: Till) -> Result:
    """The launcher, in this process; the app that it starts is a real one."""
    try:
        terminal = Terminal(till.settings, kind=ProcessKind.LAUNCHER, app_arguments=("--sell", str(SALES)))
    except TillkeeperError as error:
        # As the command: without its settings there is no launch.
        return refused(error)
    launched = launch(terminal, terminal.settings.limits)
    return Result(str(launched.outcome), launched.cause)


def check(till: Till) -> Result:
    """One cycle of the agent."""
    try:
        terminal = Terminal(till.settings, kind=ProcessKind.AGENT)
    except TillkeeperError as error:
        return refused(error)
    try:
        found = cycle(terminal)
    except TillkeeperError as error:
        return refused(error)
    finally:
        terminal.close()
    return Result(str(found.outcome), found.reason)


def roll_back(till: Till) -> Result:
    """A person goes back."""
    lines: list[str] = []
    try:
        settings = till.settings
        status = rollback_conversation.run(
            settings, listing=False, to=None, backup=None, dry_run=False, yes=True, accept_loss=False,
            as_json=False, ask=lambda _: True, say=lines.append,
        )  # fmt: skip
    except TillkeeperError as error:
        return refused(error)
    return Result(str(status), "\n".join(lines))


def installs(till: Till) -> Result:
    """The first version of a terminal whose installation was cut before it had one."""
    try:
        terminal = Terminal(till.settings, kind=ProcessKind.INSTALL)
    except TillkeeperError as error:
        return refused(error)
    try:
        journal = first_version(terminal)
    except TillkeeperError as error:
        return refused(error)
    finally:
        terminal.close()
    return Result(journal.good.version, "")


def confirms(till: Till) -> Result:
    """The app's `updater confirm`, or its keeper on its behalf."""
    try:
        terminal = Terminal(till.settings, kind=ProcessKind.CONFIRM)
        (trial,) = (terminal.settings.shared / "trial").glob("[!.]*.json")
        return Result(str(confirm(terminal, TrialId(trial.stem))), "")
    except TillkeeperError as error:
        return refused(error)


class Scene(NamedTuple):
    """A terminal and what is done on it."""

    till: Till
    flow: Flow


@contextlib.contextmanager
def scenes(folder: Path, first: Vendor, till: Till) -> Iterator[tuple[dict[str, Scene], str]]:
    """The scenes of all flows, by name, each on a terminal of its own; and the address of their vendor."""
    vendor = copy_of(first, folder / "vendor")
    with served(serving(vendor.public)) as url:
        with quiet():
            idle = till.copy_to(folder / "idle", url)
            vendor.release("1.1", schema=4)
            found = {"start": Scene(idle, start), "check": Scene(till.copy_to(folder / "offered", url), check)}
            bare = till.copy_to(folder / "bare", url)
            without_a_version(bare)
            found["install"] = Scene(bare, installs)
            staged = till.copy_to(folder / "staged", url)
            with environment_of(staged):
                assert check(staged).word == "SWAPPED"
            found["launch"] = Scene(staged, start)
            waiting = staged.copy_to(folder / "waiting", url)
            cut = mock.patch.object(Terminal, "start_app", side_effect=KeyboardInterrupt)
            with environment_of(waiting), cut, contextlib.suppress(KeyboardInterrupt):
                # The trial is prepared and counted; its app asks before anything else of it is known.
                start(waiting)
            found["confirm"] = Scene(waiting, confirms)
            tried = staged.copy_to(folder / "tried", url)
            with environment_of(tried):
                start(tried)
            found["fold"] = Scene(tried, check)
            worked = tried.copy_to(folder / "worked", url)
            with environment_of(worked):
                check(worked)
            found["rollback"] = Scene(worked, roll_back)
            # At a vendor of its own: the others go on to see 1.1 as the newest release.
            later = copy_of(vendor, folder / "later")
            later.release("1.2", schema=5, behaviour="crash")
            with served(serving(later.public)) as address:
                crashing = worked.copy_to(folder / "crashing", address)
                with environment_of(crashing):
                    assert check(crashing).word == "SWAPPED"
            found["crash"] = Scene(crashing, start)
        yield found, url


def without_a_version(till: Till) -> None:
    """Leaves of a terminal what an installation has made that was cut before its first version."""
    settings = till.settings
    shutil.rmtree(settings.program / "versions")
    shutil.rmtree(settings.state / "proofs")
    for name in ("journal.json", "moment.json"):
        (settings.state / name).unlink()


@contextlib.contextmanager
def environment_of(till: Till) -> Iterator[None]:
    """The environment of a terminal's processes, in this process."""
    with mock.patch.dict(os.environ, till.environment()):
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the output of the apps, which goes to the descriptors of this process."""
    sys.stdout.flush()
    with Path(os.devnull).open("ab") as output, contextlib.ExitStack() as kept:
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
    """A member of GOOD; else what is wrong."""


NOT_IN_THE_WAY: Final = ("shared", "not there", "in use")
"""The handle shares all that the calls need; nobody holds what is about to be made; a file that the till itself has
open shares too little."""
GOOD: Final = ("as ever", "opens", "names it", *NOT_IN_THE_WAY)


class Hand(ABC):
    """The other program: how it comes to hold a file."""

    @abstractmethod
    def holds(self, till: Till, call: Call, mode: Mode) -> AbstractContextManager[Hold]:
        """The flow runs inside the block; from that call on the file is held, at its end no more."""


class Hold(NamedTuple):
    """File that was held, and whether that was in the way."""

    names: Callable[[], set[str]]
    was_in_the_way: Callable[[], bool]
    why_not: Callable[[], str]


class InMemory(Hand):
    """The calls of the flow fail as they fail on Windows, on every system."""

    @contextlib.contextmanager
    def holds(self, till: Till, call: Call, mode: Mode) -> Iterator[Hold]:
        with holder() as found, effects_named(found):
            found.share, found.failures_left = mode.share, None if mode.for_good else BRIEFLY
            watch_for(found, till, call, found.paths.add)
            found.watches = True
            yield Hold(
                # Of a folder that cannot be renamed the system does not say which file in it is open.
                lambda: {Path(path).name for path in (*found.paths, *(path for _, path in found.refused))},
                lambda: bool(found.refused),
                lambda: "as ever" if found.paths else "not there",
            )
            found.watches = False


class AnotherProcess(Hand):
    """Another process opens the file, on Windows; processes that the flow starts meet it too."""

    def __init__(self) -> None:
        self._grip = Grip()

    def close(self) -> None:
        """End the process."""
        self._grip.close()

    @contextlib.contextmanager
    def holds(self, till: Till, call: Call, mode: Mode) -> Iterator[Hold]:
        held: list[tuple[str, bool]] = []

        def hold(path: str) -> None:
            seconds = None if mode.for_good else SCANNED_SECONDS
            held.append((path, Path(path).is_file() and self._grip.hold(path, mode.share, seconds=seconds)))

        with contextlib.ExitStack() as kept:
            found = kept.enter_context(watcher())
            kept.enter_context(effects_named(found))
            if mode.for_good:
                # However long a call waits, it is held longer.
                for name in ("HELD_WAITS_SECONDS", "DENIED_WAITS_SECONDS"):
                    kept.enter_context(mock.patch.object(windows, name, SHORT_WAITS_SECONDS))
                kept.enter_context(mock.patch.object(transaction, "PROOF_WAITS_SECONDS", SHORT_WAITS_SECONDS))
            kept.callback(self._grip.let_go)
            watch_for(found, till, call, hold)
            found.watches = True
            yield Hold(
                lambda: {Path(path).name for path, _ in held},
                lambda: any(done for _, done in held),
                lambda: "in use" if any(Path(path).exists() for path, _ in held) else "not there",
            )
            found.watches = False


class Drill:
    """Runs cases of one flow."""

    def __init__(self, name: str, scene: Scene, url: str, folder: Path, *, hand: Hand | None = None) -> None:
        self.name, self._scene, self._url, self._folder = name, scene, url, folder
        self._hand = hand or InMemory()
        self.usual = Result("", "")
        self._given_up: set[str] = set()
        """The releases that are given up in the undisturbed run."""

    def calls(self) -> dict[Call, int]:
        """Run the flow undisturbed and return its calls on files of the terminal, each once in each effect.

        Each with the share mode that it and all later calls on the file need: a program that shares so much is in the
        way of none of them.
        """
        with self._copy() as till, watcher() as found, effects_named(found):
            found.watches = True
            self.usual = self._scene.flow(till)
            found.watches = False
            seen = [(plain(till, call.effect, call.event, call.path), call.path) for call in found.calls]
            self._afterwards(till)
            self._given_up = given_up(till)
        first: dict[Call, int] = {}
        for number, (call, path) in enumerate(seen):
            if call is not None and call not in first:
                first[call] = needed(path, found.calls[number:])
        return first

    def run(self, call: Call, mode: Mode) -> Case:
        """Run the flow; from that call on the file is held."""
        with self._copy() as till:
            try:
                with self._hand.holds(till, call, mode) as hold:
                    result = self._scene.flow(till)
                    why_not = hold.why_not()
            except OSError as error:
                return Case(self.name, call, mode, f"an error of the system goes through everything: {error}")
            sold = len(till.held_receipts())
            became = why_not
            if hold.was_in_the_way():
                said = result._replace(told=f"{result.told}\n{recorded(till)}")
                became = self._judge(hold.names() | {Path(call.path).parent.name}, said, opened=sold > self._sold)
            last = self._afterwards(till)
            wrong = [f"receipts lost: {till.lost_receipts()}"] if till.lost_receipts() else []
            if len(till.held_receipts()) <= sold:
                wrong.append(f"it does not open afterwards: {last.word}: {last.told}")
            if not call.path.startswith(CONFIRM) and call.effect != PROOF:
                wrong += [f"{version} is given up" for version in sorted(given_up(till) - self._given_up)]
        return Case(self.name, call, mode, "; ".join(wrong) or became)

    def _afterwards(self, till: Till) -> Result:
        """The flow again, after the program has let go, and a start."""
        if self._scene.flow is not start:
            self._scene.flow(till)
        return start(till)

    def _judge(self, names: set[str], result: Result, *, opened: bool) -> str:
        if result.word == self.usual.word and (opened or self._scene.flow is not start):
            return "as ever"
        if self._scene.flow is start and opened:
            return "opens"
        if any(name in result.told for name in names):
            return "names it"
        return f"neither opens nor names the file: {result.word}: {result.told}"

    @contextlib.contextmanager
    def _copy(self) -> Iterator[Till]:
        # A new name each: a holder that is just ended may keep its file for a moment.
        folder = Path(tempfile.mkdtemp(prefix="case-", dir=self._folder)) / "till"
        till = self._scene.till.copy_to(folder, self._url)
        self._sold = len(till.held_receipts())
        try:
            with environment_of(till), quiet():
                yield till
        finally:
            shutil.rmtree(folder.parent, ignore_errors=True)


def given_up(till: Till) -> set[str]:
    """Return the versions that failed on trial, or were rejected."""
    trials = [json.loads(path.read_bytes()) for path in (till.settings.shared / "trial").glob("*.json")]
    rejections = [json.loads(path.read_bytes()) for path in (till.settings.state / "rejected").glob("*.json")]
    failed = {trial["candidate"]["version"] for trial in trials if trial["verdict"] == Verdict.GIVEN_UP}
    return failed | {rejection["release"]["version"] for rejection in rejections}


def recorded(till: Till) -> str:
    """Return the causes that are on record: where an app opened all the same, they say what was in the way."""
    found = events.read(till.settings.private, till.settings.shared)
    return "\n".join(str(event.get("cause", "")) for event in found)


def plain(till: Till, effect: str, event: str, path: str) -> Call | None:
    """Return a call in words that are the same in every run; None for what is no file of the terminal."""
    place = Path(path)
    if not place.is_absolute() or not place.is_relative_to(till.folder) or place == till.folder / "receipts.txt":
        return None
    if event == "open" and place.is_dir():
        # To sync its names, or to list them without following a link: Windows opens no folder for that.
        return None
    return Call(effect, event, IDS.sub("*", place.relative_to(till.folder).as_posix()))


def needed(path: str, calls: list[Seen]) -> int:
    """Return the least share mode of a handle on a file that lets all these calls succeed."""
    return max(
        NEVER if call.event == "os.rename" and path.startswith(call.path + os.sep) else call.needs
        for call in calls
        if call.path == path or path.startswith(call.path + os.sep)
    )


def watch_for(found: Holder, till: Till, call: Call, reached: Callable[[str], object]) -> None:
    """Let `reached` have the path of a call when it is about to be made for the first time."""
    see = found.see
    done: list[str | os.PathLike[str]] = []

    def watched(event: str, given: tuple[Any, ...]) -> None:
        if not done and event == call.event and found.effect == call.effect:
            for path in (given[0], *(given[1:2] if event == "os.rename" else ())):
                if isinstance(path, str | os.PathLike) and plain(till, found.effect, event, os.fspath(path)) == call:
                    done.append(path)
                    reached(os.fspath(path))
        see(event, given)

    found.see = watched  # type: ignore[method-assign]


@contextlib.contextmanager
def effects_named(found: Holder) -> Iterator[None]:
    """Inside the block a holder knows the effect of the flow that is under way: the outermost one."""

    def named(name: str, effect: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: object, **more: object) -> Any:
            if found.effect:
                return effect(*given, **more)
            found.effect = name
            try:
                return effect(*given, **more)
            finally:
                found.effect = ""

        return call

    with contextlib.ExitStack() as kept:
        for interface, own in ((effects.Till, Terminal), (database_effects.Effects, LiveEffects)):
            for name in sorted(interface.__abstractmethods__):
                effect = getattr(own, name)
                if callable(effect) and name != "database":
                    kept.enter_context(mock.patch.object(own, name, named(name, effect)))
        yield


def table(cases: list[Case]) -> str:
    """Return the calls and modes as a table."""
    rows: dict[tuple[str, Call], dict[Mode, str]] = {}
    for case in cases:
        rows.setdefault((case.flow, case.call), {})[case.mode] = case.became
    modes = list(dict.fromkeys(case.mode for case in cases))
    lines = [f"{'flow':9} {'effect':22} {'call':6} {'file':50} " + " ".join(f"{mode!s:10}" for mode in modes)]
    for (flow, call), found in rows.items():
        cells = " ".join(f"{found.get(mode, '')[:10]:10}" for mode in modes)
        event = call.event.removeprefix("os.")
        lines.append(f"{flow:9} {call.effect[:22]:22} {event:6} {call.path[-50:]:50} {cells}")
    return "\n".join(lines)


def summary(cases: list[Case]) -> str:
    """Return how many cases of each flow and mode ended how, as a table in Markdown."""
    modes = [mode for mode in MODES if any(case.mode == mode for case in cases)]
    lines = [f"| flow | effects | calls | {' | '.join(map(str, modes))} |", f"|{' --- |' * (3 + len(modes))}"]
    for flow in dict.fromkeys(case.flow for case in cases):
        own = [case for case in cases if case.flow == flow]
        cells = []
        for mode in modes:
            counts = Counter(case.became if case.became in GOOD else "WRONG" for case in own if case.mode == mode)
            cells.append(", ".join(f"{count} {became}" for became, count in counts.most_common()))
        counted = (len({case.call.effect for case in own}), len({case.call for case in own}))
        lines.append(f"| {flow} | {' | '.join(map(str, (*counted, *cells)))} |")
    return "\n".join(lines)


def wrong(cases: list[Case]) -> list[Case]:
    """Return the cases that broke a promise."""
    return [case for case in cases if case.became not in GOOD]


def in_the_way(calls: dict[Call, int]) -> list[tuple[Call, Mode]]:
    """Return the cases of a flow in which another program is in the way of a call."""
    return [(call, mode) for call, needs in calls.items() for mode in MODES if mode.share < needs]


def shared(flow: str, calls: dict[Call, int]) -> list[Case]:
    """Return the cases of a flow in which the program shares enough: they need not run."""
    return [Case(flow, call, mode, "shared") for call, needs in calls.items() for mode in MODES if mode.share >= needs]


class Real:
    """The cases that run with real processes: of each kind of call of each effect the first, in the first flow."""

    def __init__(self) -> None:
        self._run: set[tuple[str, str]] = set()

    def cases(self, calls: dict[Call, int]) -> list[tuple[Call, Mode]]:
        """Return those of a flow."""
        new = []
        for call in calls:
            if (call.effect, call.event) not in self._run:
                self._run.add((call.effect, call.event))
                new.append(call)
        return [(call, mode) for call in new for mode in MODES if mode.share in REAL_SHARES]


def main(words: list[str]) -> int:
    """Run the drill and print its table."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills.sharing", description=__doc__)
    parser.add_argument("flows", nargs="*", help="all, unless some are named")
    parser.add_argument("--every", type=int, default=1, help="of so many cases one")
    parser.add_argument("--first", type=int, default=1, help="the case of each flow to begin with")
    parser.add_argument("--real", action="store_true", help="another process holds the file (Windows); share 0 and 1")
    asked = parser.parse_args(words)
    if asked.real and sys.platform != "win32":
        parser.error("Share modes are of Windows: ./scripts/winbench run python -m tests.drills.sharing --real")
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    cases: list[Case] = []
    with tempfile.TemporaryDirectory(dir=memory, ignore_cleanup_errors=True) as place, contextlib.ExitStack() as kept:
        # With its drive, on Windows.
        folder = Path(place).resolve()
        first = Vendor(folder / "first")
        first.init()
        first.release("1.0")
        till = Till(folder / "till")
        with served(serving(first.public)) as address:
            till.install(first.root, address)
        till.fill(items_count=40)
        hand: Hand = AnotherProcess() if asked.real else InMemory()
        if isinstance(hand, AnotherProcess):
            kept.callback(hand.close)
        found, url = kept.enter_context(scenes(folder, first, till))
        real = Real()
        for name in asked.flows or list(found):
            drill = Drill(name, found[name], url, folder, hand=hand)
            calls = drill.calls()
            plan = real.cases(calls) if asked.real else in_the_way(calls)
            done = []
            for call, mode in plan[asked.first - 1 :: asked.every]:
                done.append(drill.run(call, mode))
                if asked.real:
                    # Each takes many seconds.
                    print(f"{name}: {' '.join(call)}, {mode}: {done[-1].became}", flush=True)
            print(table(done), flush=True)
            cases += done if asked.real else [*done, *shared(name, calls)]
    bad = wrong(cases)
    for case in bad:
        print(f"WRONG: {case.flow}, {case.call}, {case.mode}: {case.became}")
    print(summary(cases))
    run = sum(case.became != "shared" for case in cases)
    print(f"{len(cases)} cases, {run} of them run, {len(bad)} wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
