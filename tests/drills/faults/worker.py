"""One worker of the drill: a process with the shim preloaded that runs its share of the cases and prints JSON lines.

    python -m tests.drills.faults.worker '{"job": …}'

The command line starts it; the job is a JSON object with the fields of `Job`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.drills.faults import cases, rare_states, small_disks, trace_rules
from tests.drills.faults.calls import Call, in_turn, sampled, smart, turns_in
from tests.drills.faults.cases import Case
from tests.drills.faults.engine import Engine
from tests.drills.faults.flow import Flow
from tests.drills.faults.modes import Mode
from tests.drills.faults.product import import_all
from tests.drills.faults.registry import FAMILIES, NAMES
from tests.drills.faults.stage import Stage

IN_MEMORY: Final = Path("/dev/shm")
TURNS_APART: Final = 3
"""How far the places of two faults in one flow are apart, in eighths of the flow."""


class Job(NamedTuple):
    """What a worker is asked for."""

    flows: Sequence[str]
    modes: Sequence[str]
    """Empty: only the order of calls is checked."""
    sample: str
    twice: int
    share: int
    """This worker takes the cases whose number leaves this rest."""
    shares_count: int
    shim: str
    factors: Sequence[float] = ()
    """Not empty: the flows run on small disks, with free space of so many sizes of the database each."""
    size_bytes: int = 0


def work(job: Job) -> Iterator[dict[str, Any]]:
    """Run all cases of a job; yield what the command line is told."""
    place = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
    for name, family in FAMILIES.items():
        names = [flow for flow in job.flows if flow in family.names]
        if not names:
            continue
        import_all(publish=family.publish)
        folder = Path(tempfile.mkdtemp(prefix=f"drill-{name}-", dir=place))
        engine = Engine(folder, Path(job.shim))
        try:
            flows = {flow.name: flow for flow in family.build(Stage(folder, engine))}
            for flow in names:
                yield from _disks(job, flows[flow]) if job.factors else _flow(job, flows[flow])
        finally:
            engine.close()
            shutil.rmtree(folder, ignore_errors=True)


def _flow(job: Job, flow: Flow) -> Iterator[dict[str, Any]]:
    calls, violations = cases.clean(flow)
    findings = [str(found) for found in trace_rules.findings(calls, flow.rules)]
    yield {
        "kind": "flow", "flow": flow.name, "points": sum(call.number > 0 for call in calls),
        "violations": [str(violation) for violation in violations], "findings": findings,
    }  # fmt: skip
    for mode in (Mode(word) for word in job.modes):
        if mode not in flow.modes or not (_has_turn(job, flow.name, mode) or _states(job, flow.name, mode)):
            continue
        points = cases.clean(flow, reading=True)[0] if mode.reading else calls
        forced = _forced(job, flow.name, mode, points)
        chosen = cases.chosen(_sampled(job, flow.name, mode, points), forced, mode)
        yield {"kind": "mode", "flow": flow.name, "mode": mode.value, "points": sum(map(mode.fits, points))}
        for number, call in enumerate(chosen):
            if number % job.shares_count == job.share:
                for case in _cases(job, flow, mode, call):
                    yield _told(case, _reached(case, points))


def _disks(job: Job, flow: Flow) -> Iterator[dict[str, Any]]:
    grown, database = flow.grown(job.size_bytes)
    for factor in job.factors:
        found = small_disks.run(grown, database, factor)
        yield {
            "kind": "disk", "flow": flow.name, "factor": factor, "free_bytes": found.free_bytes,
            "exit": found.ran.exit_code, "state": found.state, "output": found.ran.output, "seconds": found.ran.seconds,
            "violations": [str(violation) for violation in found.violations],
        }  # fmt: skip


def _cases(job: Job, flow: Flow, mode: Mode, call: Call) -> Iterator[Case]:
    if job.twice:
        yield from cases.play_twice(flow, mode, call, count=job.twice)
    else:
        yield cases.play(flow, mode, call)


def _sampled(job: Job, flow: str, mode: Mode, points: Sequence[Call]) -> list[Call]:
    """Return the points of the job's sample."""
    if not turns_in(job.sample):
        return sampled(points, job.sample)
    if not _has_turn(job, flow, mode):
        return []
    fitting = [call for call in smart(points) if mode.fits(call)]
    return in_turn(fitting, TURNS_APART * list(Mode).index(mode) + NAMES.index(flow))


def _has_turn(job: Job, flow: str, mode: Mode) -> bool:
    """Return whether a fault is one of those that a flow has in the job's sample."""
    turns = turns_in(job.sample)
    return not turns or (NAMES.index(flow) + list(Mode).index(mode)) % turns == 0


def _states(job: Job, flow: str, mode: Mode) -> list[rare_states.RareState]:
    """Return the rare states that this flow and mode are to reach."""
    modes = [Mode(word) for word in job.modes]
    return [
        state
        for state in rare_states.expected(job.flows, modes, twice=job.twice > 0)
        if rare_states.chosen_by(state, job.flows, modes, twice=job.twice > 0) == (flow, mode)
    ]


def _forced(job: Job, flow: str, mode: Mode, calls: Sequence[Call]) -> list[Call]:
    """Return a point for each of these states."""
    return [call for state in _states(job, flow, mode) for call in state.points(calls, mode)[:1]]


def _reached(case: Case, calls: Sequence[Call]) -> list[str]:
    """Return the rare states that a case was in."""
    if not case.was_hit:
        return []
    return [
        state.name
        for state in rare_states.STATES
        if state.fits(case.flow, case.mode, twice=case.second > 0)
        and case.call.number in {call.number for call in state.points(calls, case.mode)}
    ]


def _told(case: Case, reached: list[str]) -> dict[str, Any]:
    return {
        "kind": "case", "flow": case.flow, "mode": case.mode.value, "point": case.call.number, "call": str(case.call),
        "second": case.second, "hit": case.was_hit, "exit": case.exit_code, "seconds": round(case.seconds, 3),
        "violations": [{"promise": found.promise.name, "found": str(found)} for found in case.violations],
        "output": case.output[-1500:] if case.violations else "", "rare": reached,
    }  # fmt: skip


def main() -> int:
    """Run the job on the command line."""
    # The command line ends a worker so; what it made has to go, and its processes have to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    fields: dict[str, Any] = json.loads(sys.argv[1])
    job = Job(**fields)
    # The engine's runs have their own output; this one is the command line's alone.
    for line in work(job):
        print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
