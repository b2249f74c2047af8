"""The drill's table: one line for each flow and kind of fault, then each violation, then the rare states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

HEAD: Final = f"{'flow':<18} {'fault':<8} {'points':>6} {'cases':>6} {'hit':>6} {'broken':>6} {'seconds':>8}"
MISSED_SHARE: Final = 0.02
"""Flows in which two processes take turns differ by a call now and then; more than this is a fault of the drill."""


class Line:
    """Counts of one flow and one kind of fault."""

    def __init__(self, flow: str, mode: str) -> None:
        self.flow = flow
        self.mode = mode
        self.points = 0
        self.cases = 0
        self.hits = 0
        self.broken = 0
        self.seconds = 0.0

    def __str__(self) -> str:
        return (
            f"{self.flow:<18} {self.mode:<8} {self.points:6d} {self.cases:6d} {self.hits:6d} {self.broken:6d}"
            f" {self.seconds:8.1f}"
        )


class Report:
    """What the workers told."""

    def __init__(self, *, twice: bool) -> None:
        self.twice: Final = twice
        self.lines: Final[dict[tuple[str, str], Line]] = {}
        self.violations: Final[list[dict[str, Any]]] = []
        self.clean: Final[dict[str, list[str]]] = {}
        """What was wrong with flows that nothing disturbed."""
        self.findings: Final[dict[str, list[str]]] = {}
        self.points: Final[dict[str, int]] = {}
        self.reached: Final[Counter[str]] = Counter()

    def add(self, told: dict[str, Any]) -> None:
        """Take in one line of a worker."""
        match told["kind"]:
            case "flow":
                self.points[told["flow"]] = told["points"]
                self.clean[told["flow"]] = told["violations"]
                self.findings[told["flow"]] = told["findings"]
            case "mode":
                self._line(told).points = told["points"]
            case "case":
                self._case(told)

    def _line(self, told: dict[str, Any]) -> Line:
        mode = told["mode"] + ("+plug" if self.twice else "")
        return self.lines.setdefault((told["flow"], mode), Line(told["flow"], mode))

    def _case(self, told: dict[str, Any]) -> None:
        line = self._line(told)
        line.cases += 1
        line.hits += told["hit"]
        line.broken += bool(told["violations"])
        line.seconds += told["seconds"]
        self.reached.update(told["rare"])
        if told["violations"]:
            self.violations.append(told)

    @property
    def missed(self) -> list[str]:
        """The flows and faults of which too many cases were not disturbed."""
        return [
            f"{line.flow} {line.mode}: {line.cases - line.hits} of {line.cases} cases were not disturbed"
            for line in self.lines.values()
            if line.cases - line.hits > max(1, MISSED_SHARE * line.cases)
        ]

    def is_good(self, expected: Iterable[str]) -> bool:
        """Return whether no promise was broken and every expected rare state was reached."""
        wrong = any(self.clean.values()) or any(self.findings.values()) or self.missed or self.violations
        return not wrong and all(self.reached[name] for name in expected)

    def table(self) -> list[str]:
        """Return the table with a last line of sums."""
        total = Line("all", "")
        for line in self.lines.values():
            total.points += line.points
            total.cases += line.cases
            total.hits += line.hits
            total.broken += line.broken
            total.seconds += line.seconds
        return [HEAD, *map(str, self.lines.values()), str(total)]


def in_words(told: dict[str, Any]) -> list[str]:
    """Return a violation as people read it."""
    second = f", then power cut at call {told['second']} of the recovery" if told["second"] else ""
    status = "it did not end" if told["exit"] is None else f"exit status {told['exit']}"
    head = f"BROKEN  {told['flow']} {told['mode']} at {told['point']} ({told['call']}){second}; {status}"
    return [head, *(f"        {found['found']}" for found in told["violations"])]
