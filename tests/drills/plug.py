"""The drill in memory: one story of a till, with the plug pulled, a process killed or another actor at any effect.

    python -m tests.drills.plug [--twice STRIDE] [--story NAME]

runs every story with every single disturbance, and pairs of them with the given stride (1: all pairs), and prints how
many cases there were.
"""

from __future__ import annotations

import argparse
import itertools
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dbsync.errors import TillkeeperError
from dbsync.model import ReleaseId, SchemaNumber
from tests.simulators.till import SimulatedTill
from tests.simulators.world import Dead, Killed, PowerCut, Violated, World
from updater.decisions.launcher import owing_trial
from updater.flows.agent import cycle
from updater.flows.confirm import confirm
from updater.flows.first_install import first_version
from updater.flows.launch import launch
from updater.flows.rollback import allow, make_plan, perform
from updater.model import Journal, Limits, Phase, Release

OLD = Release(ReleaseId("1" * 64), "1.0", SchemaNumber(2))
NEW = Release(ReleaseId("2" * 64), "1.1", SchemaNumber(4))
NEWER = Release(ReleaseId("3" * 64), "1.2", SchemaNumber(5))
LIMITS = Limits(busy_seconds=0.3, confirm_seconds=60.0)
SETTLING_LAUNCHES = 4 + LIMITS.clean_exits_count


class Story(NamedTuple):
    """What happens on a till, step by step, when nothing goes wrong; and how the new release behaves."""

    name: str
    steps: tuple[str, ...]
    behaviour: str = "good"
    readable_from: int | None = None
    broken: bool = False
    sells: bool = True
    carries: bool = True
    """Whether what people did can be carried back to the older schema without loss."""
    pairs: tuple[str, ...] = ("cut", "cut, kept", "kill", "error")
    """What is done in pairs; no errors where a trial may have made the database, and has no backup to go back to."""
    ends_with: str = "1.1"
    """The version that sells when the story has settled undisturbed."""


STORIES = (
    Story("update", ("agent", "launch", "agent", "launch")),
    Story("update by command", ("agent", "launch", "agent"), behaviour="good_by_command"),
    Story("migration fails", ("agent", "launch", "agent", "launch"), broken=True, ends_with="1.0"),
    Story("app crashes", ("agent", "launch", "agent", "launch"), behaviour="crash", ends_with="1.0"),
    Story("app hangs", ("agent", "launch", "agent"), behaviour="hang", ends_with="1.0"),
    Story("app ends without a word", ("agent", *["launch"] * 7, "agent"), behaviour="exit0", ends_with="1.0"),
    Story("sells, then crashes", ("agent", "launch", "agent"), behaviour="sells_then_crash", ends_with="1.0"),
    Story(
        "sells, then crashes, with a loss", ("agent", "launch", "agent"),
        behaviour="sells_then_crash", carries=False, ends_with="1.0",
    ),
    Story(
        "sells, then crashes, readable", ("agent", "launch", "agent"),
        behaviour="sells_then_crash", readable_from=2, ends_with="1.0",
    ),
    Story("confirms while it is ended", ("agent", "launch", "agent"), behaviour="late_confirm"),
    Story("rollback", ("agent", "launch", "agent", "rollback", "launch", "agent", "launch"), ends_with="1.0"),
    Story("rollback, readable", ("agent", "launch", "agent", "rollback", "launch"), readable_from=2, ends_with="1.0"),
    Story("rollback, allow", ("agent", "launch", "agent", "rollback", "launch", "allow", "agent", "launch", "agent")),
    Story("rollback of a trial", ("agent", "begin", "rollback", "launch", "agent"), ends_with="1.0"),
    Story("newer comes before the trial", ("agent", "offer newer", "agent", "launch", "agent"), ends_with="1.2"),
    Story("journal lost in between", ("agent", "launch", "lose journal", "launch", "agent"), ends_with="1.1"),
    Story(
        "first install", ("install", "launch", "offer", "agent", "launch", "agent"),
        pairs=("cut", "cut, kept", "kill"),
    ),
)  # fmt: skip


def new_world(story: Story) -> World:
    """A till with 1.0 and some sales, or an empty one for the story of the first install."""
    world = World(sells=story.sells, carries=story.carries)
    for release in (OLD, NEW, NEWER):
        world.releases[release.release_id] = release
    world.offered = [OLD]
    world.behaviour["1.1"] = story.behaviour
    if story.readable_from is not None:
        world.readable_from[NEW.schema] = SchemaNumber(story.readable_from)
    world.broken_migrations = {4} if story.broken else set()
    if story.steps[0] != "install":
        _act(world, "install")
        _act(world, "launch")
        world.offered = [OLD, NEW]
    world.log.clear()
    world.ticks = 0
    return world


def _act(world: World, step: str) -> None:
    """One step by one actor; our own errors are what a command would say, and end it."""
    started, running, errors = len(world.started), world.app is not None, world.errors_count
    try:
        _actions()[step](world)
    except TillkeeperError as error:
        world.log.append(f"     {step}: {error}")
    except Unforeseen:
        if step.startswith("launch"):
            raise world.violated("a launch let an error through") from None
        if step == "install":
            # The person who installs repeats it.
            _act(world, step)
    finally:
        world.check_violations()
    shut = not running and len(world.started) == started
    if step.startswith("launch") and world.errors_count > errors and shut:
        journal = world.visible().get("journal")
        # A database that could not be checked after its commit is not opened in the same command, nor one whose
        # restore has no end on record.
        unproven = world.told[-1].outcome in ("COMMIT_FAILED", "RESTORE_PENDING")
        fits = isinstance(journal, Journal) and journal.good.schema == world.database.version
        if fits and not unproven and not _is_owed(world):
            raise world.violated("an error kept the till shut, though the good release fits")


def _is_owed(world: World) -> bool:
    """Whether the database waits for a return or a restore, which nothing may come before."""
    view = SimulatedTill(world, "launcher").look()
    undone = any(not rejection.done for rejection in view.rejections)
    return undone or owing_trial(view, view.journal) is not None


def _actions() -> dict[str, Callable[[World], object]]:
    return {
        "install": lambda world: first_version(SimulatedTill(world, "install")),
        "agent": lambda world: cycle(SimulatedTill(world, "agent")),
        "launch": lambda world: launch(SimulatedTill(world, "launcher"), LIMITS),
        "launch2": lambda world: launch(SimulatedTill(world, "launcher2"), LIMITS),
        "begin": _begin,
        "rollback": _rollback,
        "allow": lambda world: allow(SimulatedTill(world, "rollback"), "1.1"),
        "confirm": lambda world: confirm(SimulatedTill(world, "confirm"), world.app.trial_id if world.app else None),
        "offer": lambda world: world.offered.append(NEW),
        "offer newer": lambda world: world.offered.append(NEWER),
        "lose journal": lambda world: world.files.update({"journal": "garbage"}),
        "sell": lambda world: world.sell(),
        "clock jumps": lambda world: setattr(world, "clock_seconds", -1e9),
    }


def _begin(world: World) -> None:
    """A launch whose process dies, with the app, right after the app was started on trial."""

    def die(process: str, what: str) -> None:
        world.kill("launcher")
        world.end_app()
        raise Killed

    till = SimulatedTill(world, "launcher")
    till.await_app = lambda **_: die("launcher", "")  # type: ignore[assignment, method-assign]
    try:
        launch(till, LIMITS)
    except Killed:
        return


def _rollback(world: World) -> None:
    till = SimulatedTill(world, "rollback")
    backups = till.effects.backups_newest_first()
    perform(till, make_plan(till, to=None, backup=None, backups=backups, beside=Path("data")), accept_loss=True)


def run(story: Story, disturb: dict[int, str], *, order: str = "cashier", world: World | None = None) -> World:
    """Plays a story; at each numbered effect the named thing happens. Then lets the till settle and checks it.

    Args:
        story: the story.
        disturb: effects by number, and what happens at each.
        order: who comes first afterwards.
        world: a new world of the story, if one is made already.
    """
    world = world or new_world(story)
    for number, what in disturb.items():
        world.armed[number] = partial(_disturbance, world, what)
    steps = list(story.steps)
    while steps:
        _guarded(world, steps.pop(0), story)
    settle(world, story, order=order, exact=not disturb)
    return world


def _guarded(world: World, step: str, story: Story) -> None:
    try:
        _act(world, step)
    except Dead:
        if step == "install":
            _guarded(world, "install", story)


class Unforeseen(Exception):
    """What nothing in the product expects; its text cannot be made."""

    def __str__(self) -> str:
        raise ValueError("no text")


def _disturbance(world: World, what: str, process: str, _: str) -> None:
    if what == "error":
        world.errors_count += 1
        raise Unforeseen
    if what in ("cut", "cut, kept"):
        world.keep_pending_on_cut = what == "cut, kept"
        world.cut_power()
        raise PowerCut
    if what == "kill":
        world.kill(process)
        raise Killed
    if what in ("launch2", "agent", "rollback", "confirm") and process not in ("launcher2", "confirm"):
        world.log.append(f"---- {what} comes in between")
        _act(world, what)
        world.log.append(f"---- {what} went")
    elif what == "lose journal":
        if "journal" in world.files and "journal" not in world.pending:
            _act(world, what)
    elif what in ("sell", "clock jumps"):
        _act(world, what)


def settle(world: World, story: Story, *, order: str, exact: bool) -> None:
    """Nothing goes wrong any more: an app sells within a few launches, and everything the promises say holds."""
    world.armed.clear()
    if order == "agent":
        _act(world, "agent")
    for _ in range(SETTLING_LAUNCHES):
        close_app(world)
        before = len(world.started)
        _act(world, "launch")
        _act(world, "agent")
        sold = world.app is None and len(world.started) > before
        journal = world.visible().get("journal")
        if sold and isinstance(journal, Journal) and journal.phase is Phase.IDLE:
            break
    else:
        raise Violated("it does not settle: no app sells with the journal at rest")
    world.check_sales()
    world.check_confirms()
    if world.transaction is not None or world.terminal_lock or world.database_lock:
        raise Violated("a transaction or a lock is left")
    if world.pending:
        raise Violated(f"not durable: {sorted(world.pending)}")
    if exact and world.started[-1][0] != story.ends_with:
        raise Violated(f"{world.started[-1][0]} sells in the end, not {story.ends_with}")


def close_app(world: World) -> None:
    """The cashier closes an app that outlived its launcher; one on trial asks again, or waits for the next launcher."""
    if (
        world.app is not None
        and not world.app.confirmed
        and world.behaviour.get(world.app.release.version) in ("good_by_command", "late_confirm")
    ):
        SimulatedTill(world, "launcher").confirm_by_command(world.app)
    if world.app is not None and (world.app.trial_id is None or world.app.confirmed):
        world.sell()
        world.end_app()


ORDERS = ("cashier", "agent")
"""The process that comes first when the disturbance is over."""
SINGLE = (
    "cut",
    "cut, kept",
    "kill",
    "launch2",
    "agent",
    "rollback",
    "confirm",
    "clock jumps",
    "lose journal",
    "error",
)


def length_of(story: Story) -> int:
    """How many effects the undisturbed story has, settling not included."""
    world = new_world(story)
    for step in story.steps:
        _guarded(world, step, story)
    return world.ticks


def cases(story: Story, *, stride: int, both_orders: bool = True) -> Iterator[tuple[dict[int, str], str]]:
    """Every single disturbance with both orders of recovery, or with one of them in turn; every stride-th pair."""
    length = length_of(story)
    for number, (index, what) in itertools.product(range(1, length + 1), enumerate(SINGLE)):
        for order in ORDERS if both_orders else ORDERS[(number + index) % 2 :][:1]:
            yield {number: what}, order
    if stride:
        pairs = itertools.product(itertools.combinations(range(1, length + 20), 2), story.pairs, story.pairs)
        for index, ((first, second), one, other) in enumerate(pairs):
            if index % stride == 0:
                yield {first: one, second: other}, ORDERS[index // stride % 2]


def play(story: Story, *, stride: int, both_orders: bool = True, every: int = 1) -> int:
    """Runs all cases of a story, or every so many of them; returns how many. A violation carries its log."""
    count = 0
    made = pickle.dumps(new_world(story))
    for disturb, order in itertools.islice(cases(story, stride=stride, both_orders=both_orders), 0, None, every):
        count += 1
        try:
            run(story, disturb, order=order, world=pickle.loads(made))
        except Violated as violation:
            replay = _log_of(story, disturb, order)
            raise Violated(f"{story.name}, {disturb}, {order} first: {violation}\n{replay}") from violation
    return count


def _log_of(story: Story, disturb: dict[int, str], order: str) -> str:
    world = new_world(story)
    logs = world.log
    try:
        for number, what in disturb.items():
            world.armed[number] = partial(_disturbance, world, what)
        for step in story.steps:
            logs.append(f"== {step}")
            _guarded(world, step, story)
        logs.append("== settle")
        settle(world, story, order=order, exact=False)
    except Violated:
        pass
    return "\n".join(logs[-150:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the drill from the command line."""
    parser = argparse.ArgumentParser(description="Pull the plug everywhere, in memory.")
    parser.add_argument("--twice", type=int, default=0, metavar="STRIDE", help="also pairs, every STRIDE-th; 1: all")
    parser.add_argument("--story", help="only this one")
    options = parser.parse_args(arguments)
    total = 0
    for story in STORIES:
        if options.story in (None, story.name):
            count = play(story, stride=options.twice)
            total += count
            print(f"{count:8d} cases  {story.name}", flush=True)
    print(f"{total:8d} cases, no violation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
