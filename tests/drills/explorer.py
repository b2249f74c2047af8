"""The drill that explores: from each situation of a till every move, breadth first, until nothing new comes.

    python -m tests.drills.explorer [--seconds N] [--seeded] [--only NAME]

The actors are the product's own flows and decisions, over the till in memory. A scenario says which releases there are
and what may happen in a trace; what is not limited there, launches and cycles, may happen as often as it likes. The
shortest trace that violates a promise is printed.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import pytest

from dbsync.model import ReleaseId, SchemaNumber
from tests.drills.mistakes import MISTAKES, Mistake
from tests.simulators.demands import Demands
from tests.simulators.moves import LIMITS, Move, Player
from tests.simulators.situation import Situation
from tests.simulators.till import SimulatedTill
from updater.flows.first_install import first_version
from updater.flows.launch import launch
from updater.model import Release


class Shop(NamedTuple):
    """The releases of a scenario and their database."""

    schemas: tuple[int, int, int] = (2, 4, 5)
    readable_from: tuple[tuple[int, int], ...] = ()
    carries: bool = True


SHOPS: Final = {
    "schema": Shop(),
    "readable": Shop(readable_from=((4, 2), (5, 2))),
    "same": Shop(schemas=(2, 2, 5)),
    "lossy": Shop(carries=False),
}


class Scenario(NamedTuple):
    """The events that may happen in a trace."""

    name: str
    shop: str = "schema"
    left: tuple[tuple[str, int], ...] = (("disturbance", 1),)
    two_accounts: bool = True
    urgent: bool = False
    mixes: bool = True
    """Whether other actors, and errors, come in between the effects of one."""


SCENARIOS: Final = (
    Scenario("one disturbance, one account", two_accounts=False),
    *(Scenario(f"one halt, {shop}", shop, mixes=False) for shop in SHOPS),
    *(Scenario(f"a choice and a halt, {shop}", shop, (("disturbance", 1), ("choice", 1)), mixes=False)
      for shop in SHOPS),
    *(Scenario(f"a choice and a forged one, {shop}", shop, (("forged choice", 1), ("choice", 1))) for shop in SHOPS),
    *(Scenario(f"one disturbance, {shop}", shop) for shop in SHOPS),
    *(Scenario(f"a person and a halt, {shop}", shop, (("disturbance", 1), ("person", 1)), mixes=False)
      for shop in SHOPS),
    *(Scenario(f"the vendor and a halt, {shop}", shop, (("disturbance", 1), ("vendor", 1)), mixes=False)
      for shop in SHOPS),
    *(Scenario(f"a lost journal and a halt, {shop}", shop, (("journal", 1), ("disturbance", 1)), mixes=False)
      for shop in SHOPS),
    *(Scenario(f"a person and a lost journal, {shop}", shop, (("journal", 1), ("person", 1))) for shop in SHOPS),
    *(Scenario(f"a person and forged choices, {shop}", shop, (("forged choice", 1), ("person", 1))) for shop in SHOPS),
    *(Scenario(f"two halts, {shop}", shop, (("disturbance", 2),), mixes=False) for shop in SHOPS),
    *(Scenario(f"two persons, {shop}", shop, (("person", 2), ("vendor", 1))) for shop in SHOPS),
    Scenario("lies", left=(("lie", 1), ("vendor", 1))),
    Scenario("lies about what is urgent", left=(("lie", 2), ("days", 1)), urgent=True),
    Scenario("lies and a disturbance", left=(("lie", 1), ("disturbance", 1))),
    Scenario("an agent that hangs", left=(("disturbance", 1), ("hang", 1)), mixes=False),
    *(Scenario(f"the moment, {shop}", shop, (("disturbance", 1), ("moment", 2))) for shop in SHOPS),
    *(Scenario(f"the vendor, {shop}", shop, (("disturbance", 1), ("vendor", 1))) for shop in SHOPS),
    *(Scenario(f"a person, {shop}", shop, (("disturbance", 1), ("person", 1))) for shop in SHOPS),
    *(Scenario(f"a person and two halts, {shop}", shop, (("disturbance", 2), ("person", 1)), mixes=False)
      for shop in SHOPS),
    Scenario("three halts", left=(("disturbance", 3),), mixes=False),
    *(Scenario(f"two disturbances, {shop}", shop, (("disturbance", 2),)) for shop in SHOPS),
)  # fmt: skip


def new_situation(scenario: Scenario) -> Situation:
    """A till that sells with the oldest release, and the next one is offered."""
    shop = SHOPS[scenario.shop]
    world = Situation(carries=shop.carries)
    releases = [
        Release(ReleaseId(str(number) * 64), f"1.{number}", SchemaNumber(schema))
        for number, schema in enumerate(shop.schemas)
    ]
    world.releases = {one.release_id: one for one in releases}
    world.behaviour = {one.version: "good" for one in releases}
    world.readable_from = {schema: SchemaNumber(oldest) for schema, oldest in shop.readable_from}
    world.offered = releases[:1]
    first_version(SimulatedTill(world, "install"))
    launch(SimulatedTill(world, "launcher"), LIMITS)
    world.offered = releases[:2]
    world.left = dict(scenario.left)
    world.two_accounts = scenario.two_accounts
    world.urgent = scenario.urgent
    world.mixes = scenario.mixes
    return world.copied()


class Found(NamedTuple):
    """The result of an exploration."""

    scenario: Scenario
    violation: str
    trace: tuple[Move, ...]
    situations_count: int
    transitions_count: int
    settling_count: int
    seconds: float
    is_complete: bool
    others: tuple[tuple[str, tuple[Move, ...]], ...] = ()
    """Further violations, each with its shortest trace, if the exploration goes on after the first."""

    def __str__(self) -> str:
        end = f"VIOLATION: {self.violation}" if self.violation else "complete" if self.is_complete else "CUT OFF"
        head = (
            f"{self.scenario.name:32s} {self.situations_count:7d} situations {self.transitions_count:9d} transitions "
            f"{self.settling_count:7d} settling runs {self.seconds:5.0f} s  {end}"
        )
        lines = [head, *_numbered(self.trace)]
        for violation, trace in self.others:
            lines += [f"   ALSO: {violation}", *_numbered(trace)]
        return "\n".join(lines)


def _numbered(trace: tuple[Move, ...]) -> list[str]:
    return [f"      {number:2d} {move}" for number, move in enumerate(trace, start=1)]


def explore(
    scenario: Scenario, *, seconds: float = math.inf, transitions_count: float = math.inf, goes_on: bool = False
) -> Found:
    """Explore a scenario breadth first, until nothing new comes, a promise is violated, or it has been long enough."""
    return _Exploration(scenario, seconds, transitions_count).run(goes_on=goes_on)


class _Exploration:
    """The situations that were seen, each with the move that led there first, and those whose moves are to be made."""

    def __init__(self, scenario: Scenario, seconds: float, transitions_count: float) -> None:
        self.scenario = scenario
        self.limit_count = transitions_count
        self.began = time.monotonic()
        self.ends = self.began + seconds
        first = new_situation(scenario)
        self.player, self.demands = Player(), Demands()
        self.seen: dict[int, tuple[int, Move] | None] = {first.key(): None}
        self.waiting = deque([(first.key(), first)])
        self.transitions_count = 0
        self.violations: dict[str, tuple[Move, ...]] = {}

    def run(self, *, goes_on: bool) -> Found:
        """Explore."""
        while self.waiting:
            key, world = self.waiting.popleft()
            for successor in self.player.successors(world):
                self.reach(key, *successor)
                enough = time.monotonic() > self.ends or self.transitions_count >= self.limit_count
                if enough or (self.violations and not goes_on):
                    return self.found(is_complete=False)
        return self.found(is_complete=True)

    def reach(self, key: int, move: Move, after: Situation, violation: str) -> None:
        """Look at what a move led to."""
        self.transitions_count += 1
        reached = after.key()
        if reached in self.seen and not violation:
            return
        if not violation:
            self.seen[reached] = (key, move)
            after.remember()
        wrong = violation or after.wrong() or self.demands.failure(after)
        if not wrong:
            self.waiting.append((reached, after))
        elif wrong not in self.violations:
            self.violations[wrong] = (*self.trace_of(key), move)

    def found(self, *, is_complete: bool) -> Found:
        """The result until now."""
        first, *others = self.violations.items() or [("", ())]
        return Found(
            self.scenario, *first, len(self.seen), self.transitions_count, self.demands.runs_count,
            time.monotonic() - self.began, is_complete, tuple(others),
        )  # fmt: skip

    def trace_of(self, key: int) -> tuple[Move, ...]:
        """The moves that lead to a situation."""
        moves: list[Move] = []
        step = self.seen[key]
        while step is not None:
            moves.append(step[1])
            step = self.seen[step[0]]
        return tuple(reversed(moves))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the drill from the command line."""
    parser = argparse.ArgumentParser(description="Explore every situation of a till, in memory.")
    parser.add_argument("--seconds", type=float, default=120.0, metavar="N", help="at most for each scenario")
    parser.add_argument("--seeded", action="store_true", help="the seeded mistakes instead")
    parser.add_argument("--go-on", action="store_true", help="go on after a violation, and print one trace of each")
    parser.add_argument("--only", metavar="NAME", help="the scenarios or mistakes whose names contain this")
    options = parser.parse_args(arguments)
    only = options.only or ""
    if options.seeded:
        return _seeded([one for one in MISTAKES if only in one.name], options.seconds)
    is_good = True
    for scenario in SCENARIOS:
        if only in scenario.name:
            result = explore(scenario, seconds=options.seconds, goes_on=options.go_on)
            is_good = is_good and not result.violation
            print(result, flush=True)
    return 0 if is_good else 1


def scenario_named(name: str) -> Scenario:
    """The scenario of that name."""
    return next(scenario for scenario in SCENARIOS if scenario.name == name)


def notice(mistake: Mistake, *, seconds: float = math.inf) -> Found:
    """Explore the scenario in which a mistake must be noticed, with the mistake made."""
    with pytest.MonkeyPatch.context() as patch:
        mistake.make(patch)
        return explore(scenario_named(mistake.scenario), seconds=seconds)


def _seeded(mistakes: Sequence[Mistake], seconds: float) -> int:
    missed = 0
    for mistake in mistakes:
        found = notice(mistake, seconds=seconds)
        missed += not found.violation
        print(f"{'noticed' if found.violation else 'NOT NOTICED'}: {mistake.name}\n{found}", flush=True)
    print(f"{len(mistakes) - missed} of {len(mistakes)} mistakes noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
