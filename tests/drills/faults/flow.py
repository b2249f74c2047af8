"""Interface of a flow: one command of the product, the state before it, its recovery, and the judge of what it leaves.

To add flows, write a module with a subclass of `Flow` and a function `flows(stage)`, and name it in `registry.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from tests.drills.faults.calls import Call
from tests.drills.faults.engine import TRACEBACK, Engine, Fault, Ran
from tests.drills.faults.modes import Mode
from tests.drills.faults.promises import Promise, Violation
from tests.drills.faults.trace_rules import GENERAL, Rule

Command = Callable[[], object]


class Course(NamedTuple):
    """What happened in one case until it was judged."""

    fault: Fault
    call: Call
    """The call that was disturbed."""
    ran: Ran
    again: Ran | None = None
    """The recovery in which the power was cut a second time."""
    lasting: bool = False
    """Whether the cause of a failure is still there: a command that is repeated may fail again."""

    @property
    def same_boot(self) -> bool:
        """Whether the machine went on: a process was killed, or a call failed."""
        return self.fault.mode is not Mode.PLUG

    @property
    def starts_before(self) -> int:
        """How many boots the case has used up."""
        return (0 if self.same_boot else 1) + (1 if self.again is not None else 0)


class Flow(ABC):
    """One command that is disturbed at each of its calls."""

    name: str
    folder: Path
    """The folder whose calls are points: the disk of the flow."""
    engine: Engine
    modes: ClassVar[frozenset[Mode]] = frozenset(Mode)
    rules: tuple[Rule, ...] = GENERAL
    """The rules that the order of its calls obeys."""

    @abstractmethod
    def reset(self) -> None:
        """Put the state before the command in place."""

    @abstractmethod
    def command(self) -> Command:
        """Return the command."""

    @abstractmethod
    def environment(self, boot: int) -> Mapping[str, str]:
        """Return the environment of commands in a boot of the machine; 0 is the one that is disturbed."""

    @abstractmethod
    def recovery(self) -> Command:
        """Return what a person or the machine does next: the run that a second fault disturbs."""

    def grown(self, size_bytes: int) -> tuple[Flow, Path]:
        """Return this flow with a database of about that size, and the path of the database.

        Raises:
            NotImplementedError: small disks are nothing to this flow.
        """
        raise NotImplementedError

    def state(self) -> str:
        """Return what is live and what is kept beside it, in words."""
        return ""

    @abstractmethod
    def judge(self, course: Course) -> list[Violation]:
        """Let the state settle, and return every promise that was broken; the processes are ended by the caller."""

    def judge_clean(self, ran: Ran, calls: Sequence[Call]) -> list[Violation]:
        """Return the promises that the undisturbed run broke; it is judged like a case without a fault."""
        nothing = Call(0, 0, "", 0, "nothing", "")
        return self.judge(Course(Fault(Mode.KILL, 0), nothing, ran))

    def command_violations(self, ran: Ran, what: str) -> list[Violation]:
        """Return what is always wrong with a run: it hung, or showed a traceback."""
        found = []
        if ran.hung:
            found.append(Violation(Promise.NO_HANG, f"{what} did not end: {ran.output[-200:]!r}"))
        if TRACEBACK in ran.output:
            last = ran.output.strip().splitlines()[-1]
            found.append(Violation(Promise.NO_TRACEBACK, f"{what}: {last[:300]}"))
        return found
