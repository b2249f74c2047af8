"""Running the cases of one flow and one kind of fault: reset, disturb, judge."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.drills.faults.calls import Call, is_same_place
from tests.drills.faults.engine import Fault, Ran
from tests.drills.faults.flow import Course, Flow
from tests.drills.faults.modes import Mode
from tests.drills.faults.promises import Promise, Violation


class Case(NamedTuple):
    """One judged case."""

    flow: str
    mode: Mode
    call: Call
    second: int
    """The point of the recovery at which the power was cut again; 0 for none."""
    was_hit: bool
    exit_code: int | None
    violations: tuple[Violation, ...]
    output: str
    seconds: float


def play(flow: Flow, mode: Mode, call: Call, *, second: int = 0) -> Case:
    """Run one case: the flow with one fault, perhaps its recovery with a cut, then the judge."""
    began = time.monotonic()
    flow.reset()
    ran = _disturbed(flow, mode, call)
    again: Ran | None = None
    if second:
        boot = 1 if mode is Mode.PLUG else 0
        again = flow.engine.run(flow.recovery(), flow.environment(boot), fault=Fault(Mode.PLUG, second))
        flow.engine.end_all()
    was_hit = ran.was_hit and (again is None or again.was_hit)
    violations: list[Violation] = []
    if was_hit:
        violations = flow.judge(Course(Fault(mode, call.number), call, ran, again))
    flow.engine.end_all()
    seconds = time.monotonic() - began
    return Case(flow.name, mode, call, second, was_hit, ran.exit_code, tuple(violations), ran.output, seconds)


def play_twice(flow: Flow, mode: Mode, call: Call, *, count: int) -> Iterator[Case]:
    """Run cases in which the recovery from a fault is cut, too: at the same place, if it comes again, and by chance."""
    flow.reset()
    if not _disturbed(flow, mode, call).was_hit:
        return
    nth = sum(is_same_place(call, earlier) for earlier in flow.engine.calls() if earlier.number <= call.number)
    boot = 1 if mode is Mode.PLUG else 0
    _, recovery = flow.engine.trace(flow.recovery(), flow.environment(boot))
    flow.engine.end_all()
    points = [later.number for later in recovery if later.number]
    again = [later.number for later in recovery if later.number and is_same_place(call, later)][nth - 1 : nth]
    by_chance = [point for point in random.Random(call.number).sample(points, len(points)) if point not in again]
    for second in [*again, *by_chance][:count]:
        yield play(flow, mode, call, second=second)


def _disturbed(flow: Flow, mode: Mode, call: Call) -> Ran:
    ran = flow.engine.run(flow.command(), flow.environment(0), fault=Fault(mode, call.number))
    if mode is not Mode.KILL:
        # Where a process is killed, the app that it started goes on.
        flow.engine.end_all()
    return ran


def clean(flow: Flow, *, reading: bool = False) -> tuple[list[Call], list[Violation]]:
    """Return the calls of the undisturbed flow, and what is wrong with it already."""
    flow.engine.watch(flow.folder)
    flow.reset()
    ran, calls = flow.engine.trace(flow.command(), flow.environment(0), mode=Mode.READ if reading else Mode.PLUG)
    violations = flow.judge_clean(ran, calls)
    flow.engine.end_all()
    if not any(call.number for call in calls):
        violations.append(Violation(Promise.STARTS, f"the flow makes no calls: {ran.output[-300:]!r}"))
    return calls, violations


def chosen(points: Sequence[Call], forced: Sequence[Call], mode: Mode) -> list[Call]:
    """Return the points of a sample that fit a mode, and those that reach a rare state, in their order."""
    found = {call.number: call for call in (*points, *forced) if mode.fits(call)}
    return [found[number] for number in sorted(found)]
