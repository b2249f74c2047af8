"""The command line of the drill: `./scripts/drill trace | kill | errors | faults | disk [FLOW…]`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Queue
from typing import Any, Final

from tests.drills.faults import native_code, rare_states, small_disks
from tests.drills.faults.modes import ERRORS, KILLS, Mode
from tests.drills.faults.registry import wanted
from tests.drills.faults.report import Report, in_words
from tests.drills.faults.worker import Job
from tests.helpers.places import ROOT

KINDS: Final[dict[str, tuple[Mode, ...]]] = {
    "trace": (),
    "kill": KILLS,
    "errors": ERRORS,
    "faults": (*KILLS, *ERRORS),
    "disk": (),
}
DISK_LINES_COUNT: Final = 6
ON_DISKS: Final = ("rollback", "rollback-script", "db-downgrade", "db-restore")
"""The flows that a drill of small disks has, unless others are named: those that need space for several copies."""
DESCRIPTION: Final = """\
Every file call of a flow of the product is disturbed, and then four sentences must be true: something complete starts,
its database fits it, no recorded sale is lost, and it settles. No sentence shown to a person may be false."""


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="drill", description=DESCRIPTION)
    parser.add_argument(
        "kind", choices=list(KINDS),
        help="trace: the order of durable writes in one run of each flow; kill: the power is cut, or a process is "
        "killed, at each call; errors: each call fails, once and from there on; faults: both; disk: the flow "
        "runs on small disks",
    )  # fmt: skip
    parser.add_argument(
        "flows", nargs="*", metavar="FLOW", help="a flow, a family, or a beginning with *; default: all"
    )
    parser.add_argument(
        "--mode", action="append", choices=[mode.value for mode in Mode], help="only this fault; repeat"
    )
    parser.add_argument(
        "--sample", default="all", metavar="WHICH",
        help="all; smart: of a run of writes to one file the first, the last and every eighth; all/N, smart/N: every "
        "N-th of them; turns/N: each flow has every N-th kind of fault, at one point; or the numbers of points, such "
        "as 3,17 (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--twice", type=int, default=0, metavar="K", help="cut the power again, at K points of the next start"
    )
    parser.add_argument(
        "--free", type=float, action="append", metavar="X",
        help="disk: free space, in sizes of the database; may be repeated (default: 0.5, 1, 2, 3, 4, 6)",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=float, default=small_disks.SIZE_MEGABYTES, metavar="MEGABYTES", help="disk: of the database"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="workers at the same time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write each case as a line of JSON")
    parser.add_argument("--output", action="store_true", help="show the output of commands that broke a promise")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run the drill; the exit status is 0 if no promise was broken, 1 otherwise, 2 if it cannot run."""
    parser = arguments()
    options = parser.parse_args(words)
    modes = tuple(Mode(word) for word in options.mode) if options.mode else KINDS[options.kind]
    on_disks = options.kind == "disk"
    if on_disks and not small_disks.can_mount():
        print(f"SKIPPED  {small_disks.NO_MOUNT}")
        return 0
    try:
        flows = wanted(options.flows or (ON_DISKS if on_disks else ()))
        shim = native_code.shim()
    except (ValueError, native_code.CannotDrill) as cause:
        print(cause, file=sys.stderr)
        return 2
    began = time.monotonic()
    report = Report(twice=options.twice > 0)
    job = Job(
        tuple(flows), tuple(mode.value for mode in modes), options.sample, options.twice, 0, max(1, options.jobs),
        str(shim), tuple(options.free or small_disks.FACTORS) if on_disks else (), int(options.size * 1e6),
    )  # fmt: skip
    if on_disks:
        return _disks(job._replace(shares_count=1), options.json)
    for told in _told(job, options.json):
        report.add(told)
        if told["kind"] == "case" and told["violations"]:
            shown = in_words(told)
            if options.output:
                shown += [f"        | {line}" for line in told["output"].splitlines()]
            print("\n".join(shown), flush=True)
    expected = [state.name for state in rare_states.expected(flows, modes, twice=options.twice > 0)]
    if options.sample.replace(",", "").isdecimal():
        expected = []
    return _end(report, expected if modes else [], time.monotonic() - began)


def _disks(job: Job, record: Path | None) -> int:
    """Run flows on small disks, print what they say and what is the case after them, and return the exit status."""
    good = True
    for told in _told(job, record):
        if told["kind"] != "disk":
            print("\n".join(told["violations"]))
            good = False
            continue
        good = good and not told["violations"]
        status = "it did not end" if told["exit"] is None else f"exit status {told['exit']}"
        print(f"{told['flow']}, {told['factor']} x the database free: {status}, {told['seconds']:.1f} seconds")
        print("\n".join(f"        | {line}" for line in told["output"].splitlines()[-DISK_LINES_COUNT:]))
        print(f"        {told['state']}")
        for text in told["violations"]:
            print(f"BROKEN  {text}")
    print("no promise was broken" if good else "NOT GOOD", flush=True)
    return 0 if good else 1


def _end(report: Report, expected: Sequence[str], seconds: float) -> int:
    """Print the report and return the exit status."""
    for flow, texts in report.clean.items():
        for text in texts:
            print(f"BROKEN  {flow} without any fault: {text}")
    if report.lines:
        print("\n".join(report.table()))
    for flow, findings in report.findings.items():
        if findings or not report.lines:
            print(f"{flow:<18} {report.points[flow]:6d} calls, {len(findings)} in a wrong order")
        for finding in findings:
            print(f"        {finding}")
    for text in report.missed:
        print(f"MISSED  {text}")
    for name in expected:
        count = report.reached[name]
        print(f"{'reached' if count else 'NOT REACHED':<12} {count:5d}  {name}")
    good = report.is_good(expected)
    print(f"{'no promise was broken' if good else 'NOT GOOD'}, {seconds:.0f} seconds")
    return 0 if good else 1


def _told(job: Job, record: Path | None) -> Iterator[dict[str, Any]]:
    """Run the workers and yield what they tell, as it comes."""
    lines: Queue[dict[str, Any] | None] = Queue()
    workers = [_Worker(job._replace(share=share), lines) for share in range(job.shares_count)]
    running = len(workers)
    file = record.open("w", encoding="utf-8") if record is not None else None
    try:
        while running:
            told = lines.get()
            if told is None:
                running -= 1
                continue
            if file is not None:
                print(json.dumps(told), file=file, flush=True)
            yield told
    finally:
        for worker in workers:
            worker.end()
        if file is not None:
            file.close()


class _Worker:
    """One worker process and the thread that reads it."""

    def __init__(self, job: Job, lines: Queue[dict[str, Any] | None]) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TILLKEEPER_")}
        environment |= {"LD_PRELOAD": job.shim, "PYTHONPATH": str(ROOT)}
        self._process: Final = subprocess.Popen(
            [sys.executable, "-m", "tests.drills.faults.worker", json.dumps(job._asdict())],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, encoding="utf-8",
        )  # fmt: skip
        self._share: Final = job.share
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()

    def _read(self, lines: Queue[dict[str, Any] | None]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            lines.put(json.loads(line))
        if self._process.wait() != 0:
            text = f"the drill itself failed: worker {self._share} ended with {self._process.returncode}"
            lines.put(
                {"kind": "flow", "flow": f"worker {self._share}", "points": 0, "violations": [text], "findings": []}
            )
        lines.put(None)

    def end(self) -> None:
        """End the worker and what it started."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
