"""Everything that dbsync is measured by, for several sizes, as tables for docs/benchmarks.md.

In every round each side runs after the other on a fresh copy of the same shop; each round begins with another side.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

from _bench_dbsync import Run, _fresh, _made, _make, _migrations, _run, _settle, _turned
from _bench_steps import STEPS
from _environment import say

COPIES = {"backup_alone": ("copy", 1.2), "backup_of_migration": ("backup, checked and digested", 2.5)}
GOALS = {"add a column": 1.2, "UNIQUE rebuild": 1.2, "backfill": 1.5}
BACK_SECONDS_A_GIGABYTE = {"add a column": 15.0, "UNIQUE rebuild": 30.0}
TOLD_SHARE = 0.02
"""Steps below this share of their run, in every size, are left out."""


class Measured:
    """The runs of one size, by what ran."""

    def __init__(self, megabytes: float) -> None:
        self.megabytes = megabytes
        self.runs: dict = {}

    def add(self, name: object, run: Run) -> None:
        """Takes one run."""
        self.runs.setdefault(name, []).append(run)


def table(sizes_megabytes: "list[int]", rounds_count: int) -> None:
    """Measures every size, says after each how long the others will take, and prints the tables at the end."""
    began, measured = time.monotonic(), []
    for place, size in enumerate(sizes_megabytes):
        size_began = time.monotonic()
        say(f"{size} MB; load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
        measured.append(_measured(size, rounds_count))
        took = time.monotonic() - size_began
        left = took / size * sum(sizes_megabytes[place + 1 :])
        more = f"; about {left / 60:.0f} minutes left" if left else ""
        say(f"{size} MB took {took / 60:.1f} minutes, load {os.getloadavg()[0]:.1f}{more}")
    say(f"\n{rounds_count} rounds in {(time.monotonic() - began) / 60:.0f} minutes; s: least, median; x: median of")
    say("the rounds' ratios, in brackets the least and the most; CPU: of the process, median; memory, disk: the most\n")
    for lines in (_sides(measured), _going_back(measured), _steps(measured)):
        say("\n".join(lines) + "\n")


def _measured(size_megabytes: int, rounds_count: int) -> Measured:
    with tempfile.TemporaryDirectory(prefix="tillkeeper-bench-") as place:
        folder = Path(place)
        shop = _make(folder, size_megabytes, speak=lambda _: None)
        found = Measured(shop.stat().st_size / 1e6)
        for number in range(rounds_count):
            for name in _turned(dict.fromkeys(("cp", *COPIES)), number):
                with tempfile.TemporaryDirectory(dir=folder) as runs:
                    _settle()
                    found.add(name, _run(Path(runs), name, shop, Path(runs) / "copy.db"))
            for step, (changes, sql) in STEPS.items():
                migrations = _migrations(folder, changes, sql)
                for side in _turned(dict.fromkeys(("plain", "dbsync")), number):
                    with tempfile.TemporaryDirectory(dir=folder) as runs:
                        _migrate(found, shop, Path(runs), step, side, migrations)
    return found


def _migrate(found: Measured, shop: Path, place: Path, step: str, side: str, migrations: Path) -> None:
    """Migrates a fresh copy; what dbsync migrated also goes back, after two days of trade."""
    database = _fresh(shop, _made(place / "data"))
    found.add((step, side), _run(place, side, database, migrations, step))
    if side == "dbsync" and step in BACK_SECONDS_A_GIGABYTE:
        traded = _run(place, "trade", database).told
        _settle()
        back = _run(place, "downgrade", database, migrations, step)
        assert back.told["totals"] == traded["totals"], "not everything is there"
        found.add((step, "back"), back)


def _sides(measured: "list[Measured]") -> "list[str]":
    lines = [
        "| size | what | cp or sqlite3 | CPU | dbsync | CPU | x | goal | memory | more disk |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in measured:
        works = [("cp", name, label, goal) for name, (label, goal) in COPIES.items()]
        works += [((step, "plain"), (step, "dbsync"), step, goal) for step, goal in GOALS.items()]
        for theirs, ours, label, goal in works:
            other, mine = one.runs[theirs], one.runs[ours]
            ratios = [run.seconds / beside.seconds for run, beside in zip(mine, other, strict=True)]
            ratio = statistics.median(ratios)
            lines.append(
                f"| {one.megabytes:.0f} MB | {label} | {_seconds(other)} | {_cpu(other)}"
                f" | {_seconds(mine)} | {_cpu(mine)} | {ratio:.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
                f" | {goal}: {_met(ratio <= goal)} | {_memory(mine)} | {_disk(mine)} |"
            )
    return lines


def _going_back(measured: "list[Measured]") -> "list[str]":
    lines = [
        "| size | going back over | wall | CPU | goal | memory | more disk |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in measured:
        for step, seconds in BACK_SECONDS_A_GIGABYTE.items():
            runs, goal = one.runs[step, "back"], seconds * one.megabytes / 1000
            middle = statistics.median(run.seconds for run in runs)
            lines.append(
                f"| {one.megabytes:.0f} MB | {step} | {_seconds(runs)} | {_cpu(runs)}"
                f" | {goal:.1f} s: {_met(middle <= goal)} | {_memory(runs)} | {_disk(runs)} |"
            )
    return lines


def _steps(measured: "list[Measured]") -> "list[str]":
    heads = " | ".join(f"{one.megabytes:.0f} MB" for one in measured)
    lines = [f"| run | step | {heads} |", "| --- | --- | " + " | ".join("---" for _ in measured) + " |"]
    names = [*((step, "dbsync") for step in STEPS), *((step, "back") for step in BACK_SECONDS_A_GIGABYTE)]
    for name in names:
        label = name[0] if name[1] == "dbsync" else f"back over {name[0]}"
        sizes = [_by_step(one.runs[name]) for one in measured]
        wholes = [statistics.median(run.seconds for run in one.runs[name]) for one in measured]
        for step in dict.fromkeys(step for found in sizes for step in found):
            each = [found.get(step, 0.0) for found in sizes]
            if any(seconds >= TOLD_SHARE * whole for seconds, whole in zip(each, wholes, strict=True)):
                lines.append(f"| {label} | {step} | " + " | ".join(f"{seconds:.2f} s" for seconds in each) + " |")
    return lines


def _by_step(runs: "list[Run]") -> "dict[str, float]":
    """The median seconds of each step; tables are one step."""
    found: dict = {}
    for run in runs:
        times: dict = {}
        for name, seconds, _ in run.told["steps"]:
            group = "verify: rows" if name.startswith("verify: ") and name.split(": ")[1] not in CHECKS else name
            times[group] = times.get(group, 0.0) + seconds
        for name, seconds in times.items():
            found.setdefault(name, []).append(seconds)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


CHECKS = ("soundness", "foreign keys", "structure", "objects work", "needs declared")


def _met(is_met: bool) -> str:
    return "met" if is_met else "not met"


def _seconds(runs: "list[Run]") -> str:
    seconds = [run.seconds for run in runs]
    return f"{min(seconds):.2f}, {statistics.median(seconds):.2f} s"


def _cpu(runs: "list[Run]") -> str:
    return f"{statistics.median(run.cpu_seconds for run in runs):.2f} s"


def _memory(runs: "list[Run]") -> str:
    return f"{max(run.memory_megabytes for run in runs):.0f} MB"


def _disk(runs: "list[Run]") -> str:
    return f"{max(run.disk_megabytes for run in runs):.0f} MB"
