"""The file calls of one run as the shim logged them, and the selection of points among them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

TAKES_SPACE, IS_WRITE = 1, 2
EIGHTH = 8
PLACES_COUNT = 8
TURNS = "turns"
_VARIES = re.compile(r"\d{4}-\d\d-\d\dT[\d-]+Z|[0-9a-f]{16,}|\d+(?=\.json)")


class Call(NamedTuple):
    """A call that changed something, or would have."""

    number: int
    """Its place among the points of the run; 0 for a mark (exec), which is no point."""
    process: int
    """Number of its process in the order of first calls: process ids differ from run to run."""
    program: str
    kind: int
    name: str
    path: str
    """Relative to the folder of the case."""
    source: str = ""
    """For a rename: the old path."""

    @property
    def takes_space(self) -> bool:
        """Whether a full disk fails it."""
        return bool(self.kind & TAKES_SPACE)

    @property
    def is_write(self) -> bool:
        """Whether it can write less than it was given."""
        return bool(self.kind & IS_WRITE)

    def __str__(self) -> str:
        """Return the call in words."""
        return f"{self.name} {self.source} -> {self.path}" if self.source else f"{self.name} {self.path}"


def parsed(text: str, folder: Path) -> list[Call]:
    """Return the calls of a log in the order of their numbers; a mark keeps its place after the point before it."""
    lines = [line.split("\t") for line in text.split("\n") if line.count("\t") == 6]
    lines.sort(key=lambda line: (int(line[0]), line[4] == "exec"))
    processes: dict[str, int] = {}
    found = []
    for number, process, program, kind, name, path, source in lines:
        found.append(
            Call(
                0 if name == "exec" else int(number), processes.setdefault(process, len(processes)), program, int(kind),
                name, _below(path, folder), _below(source, folder),
            )
        )  # fmt: skip
    return found


def smart(calls: Sequence[Call]) -> list[Call]:
    """Return the points that matter: of a run of writes to one file the first, the last and every eighth; all else."""
    points = [call for call in calls if call.number]
    found = []
    run_length = 0
    for index, call in enumerate(points):
        same = index > 0 and _same(points[index - 1], call)
        last = index + 1 == len(points) or not _same(call, points[index + 1])
        run_length = run_length + 1 if same else 0
        if run_length % EIGHTH == 0 or last:
            found.append(call)
    return found


def in_turn(points: Sequence[Call], number: int) -> list[Call]:
    """Return one of some points: numbers that follow each other give places all over the flow."""
    place = (2 * (number % PLACES_COUNT) + 1) * len(points) // (2 * PLACES_COUNT)
    return list(points[place : place + 1])


def turns_in(sample: str) -> int:
    """Return the N of a sample "turns/N": each flow has every N-th fault; 0 for any other sample."""
    word, _, step = sample.partition("/")
    return int(step or 1) if word == TURNS else 0


def sampled(calls: Sequence[Call], sample: str) -> list[Call]:
    """Return the points of a sample: "all", "smart", "smart/N" or "all/N" (every N-th), or numbers with commas."""
    if sample.replace(",", "").isdecimal():
        wanted = {int(number) for number in sample.split(",") if number}
        return [call for call in calls if call.number in wanted]
    word, _, step = sample.partition("/")
    if word not in ("all", "smart"):
        raise ValueError(f"{sample} is no sample: all, smart, all/N, smart/N, turns/N, or numbers such as 3,17")
    chosen = smart(calls) if word == "smart" else [call for call in calls if call.number]
    return chosen[:: int(step or 1)]


def is_same_place(call: Call, later: Call) -> bool:
    """Return whether a call of another run is the same, but for times and random parts in names."""
    return (call.name, _VARIES.sub("", call.path)) == (later.name, _VARIES.sub("", later.path))


def _same(before: Call, after: Call) -> bool:
    return (before.name, before.path) == (after.name, after.path)


def _below(path: str, folder: Path) -> str:
    return "." if path == str(folder) else path.removeprefix(f"{folder}/")
