"""Rare states that the drill must have reached: named places between two calls of a flow.

A selection of points always contains one for each state that its flows and modes can reach, however small the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

from tests.drills.faults.calls import Call
from tests.drills.faults.modes import Mode
from tests.drills.faults.trace_rules import DATABASE, JOURNAL, MARKER, WRITES, is_unfinished

Reaches = Callable[[Sequence[Call], int], bool]
"""Whether a fault at the call of that index brings the state about; the calls are those of the undisturbed run."""


class RareState(NamedTuple):
    """A state, and how it is reached."""

    name: str
    flows: tuple[str, ...]
    modes: tuple[Mode, ...]
    reaches: Reaches
    twice: bool = False
    """Whether a second power cut during the recovery belongs to it."""

    def fits(self, flow: str, mode: Mode, *, twice: bool) -> bool:
        """Return whether cases of a flow and a mode can reach it."""
        return flow in self.flows and mode in self.modes and (twice or not self.twice)

    def points(self, calls: Sequence[Call], mode: Mode) -> list[Call]:
        """Return the points at which it is reached."""
        return [
            call for index, call in enumerate(calls) if call.number and mode.fits(call) and self.reaches(calls, index)
        ]


def _is(name: str, path: str) -> Reaches:
    return lambda calls, index: calls[index].name == name and calls[index].path.startswith(path)


def _writes(path: str) -> Reaches:
    return lambda calls, index: calls[index].name in WRITES and calls[index].path == path


def _after(first: Reaches, then: Reaches) -> Reaches:
    """Return the places of `then` that come after one of `first`."""
    return lambda calls, index: then(calls, index) and any(first(calls, before) for before in range(index))


def _next_after(first: Reaches) -> Reaches:
    """Return the place right after one of `first`."""
    return lambda calls, index: index > 0 and first(calls, index - 1)


def _last(place: Reaches) -> Reaches:
    """Return the last of these places."""
    return lambda calls, index: (
        place(calls, index) and not any(place(calls, later) for later in range(index + 1, len(calls)))
    )


def _anywhere(calls: Sequence[Call], index: int) -> bool:
    return True


def _in_scratch(calls: Sequence[Call], index: int) -> bool:
    path = calls[index].path
    return calls[index].name in WRITES and is_unfinished(path) and path.startswith("data/") and ".new-" not in path


def _by_app(calls: Sequence[Call], index: int) -> bool:
    return calls[index].program == "till" and calls[index].path.startswith(DATABASE)


_ROLLBACKS: Final = ("rollback", "rollback-script", "rollback-repeat")
_CHOSEN: Final = _is("rename", "state/shared/choices/")
"""The commit point of a rollback, whoever goes back."""
_TRIAL: Final = _is("rename", "state/shared/trial/")
_RUNS: Final = _is("exec", "program/versions/")
_LAUNCHES: Final = ("launch", "launch-crash", "launch-exit")
_RAISING: Final = ("db-restore-counter", "db-downgrade-counter")
_MOVES: Final = ("move", "move-begin")
_GAPS: Final = "backups/reports/counters-"
_ONE_ERROR: Final = (Mode.EIO, Mode.ENOSPC)

STATES: Final = (
    RareState("a migration is cut while it writes the database", _LAUNCHES, (Mode.PLUG,), _writes(DATABASE)),
    RareState(
        "a commit is cut before its journal is gone", _LAUNCHES, (Mode.PLUG,), _is("unlink", f"{DATABASE}-journal")
    ),
    RareState(
        "a journal that is gone may come back: its folder is not synced", _LAUNCHES, (Mode.PLUG,),
        _next_after(_is("unlink", f"{DATABASE}-journal")),
    ),
    RareState("a checkpoint of the WAL is cut", ("launch-wal", "launch-crash-wal"), (Mode.PLUG,), _writes(DATABASE)),
    RareState("the attempt is counted and not begun", _LAUNCHES, (Mode.PLUG, Mode.KILL), _next_after(_TRIAL)),
    RareState(
        "the swap has its name and its folder is not synced", ("check",), (Mode.PLUG,),
        _next_after(_is("rename", JOURNAL)),
    ),
    RareState(
        "a version folder has its name and its folder is not synced", ("check",), (Mode.PLUG,),
        _next_after(_is("rename", "program/versions/")),
    ),
    RareState("a state file is written short", ("check", "fold"), (Mode.SHORT,), _is("write", "state/")),
    RareState(
        "the trials have moved and the rest has not", _MOVES, (Mode.PLUG, Mode.KILL),
        _next_after(_is("rename", "state/shared/trial")),
    ),
    RareState("everything has moved but the mark", _MOVES, (Mode.PLUG, Mode.KILL), _is("rename", MARKER)),
    RareState(
        "the swap is issued and the journal does not name it", ("check",), (Mode.PLUG,),
        _next_after(_is("rename", "state/issued/")),
    ),
    RareState(
        "a verdict is ruled and nothing is folded", ("fold", "fold-back"), (Mode.PLUG, Mode.EIO),
        _after(_is("rename", "state/verdicts/"), _is("write", "state/")),
    ),
    RareState("an app on trial was started and has done nothing yet", _LAUNCHES, (Mode.PLUG,), _next_after(_RUNS)),
    RareState(
        "the launcher is killed while its app runs", _LAUNCHES, (Mode.KILL,), _after(_RUNS, _is("write", "state/"))
    ),
    RareState("the app is killed while it sells", ("launch", "launch-wal"), (Mode.KILL,), _by_app),
    RareState("the power is cut while the app sells", ("launch", "launch-wal"), (Mode.PLUG,), _by_app),
    RareState(
        "a failed migration is cut before its verdict", ("launch-fail",), (Mode.PLUG, Mode.KILL),
        _after(_is("open", "data/pos_system.db-journal"), _TRIAL),
    ),
    RareState(
        "a failed migration is cut twice between its record and its verdict", ("launch-fail",), (Mode.PLUG, Mode.KILL),
        _next_after(_last(_is("write", "data/backups/dbsync-flight.jsonl"))),
        twice=True,
    ),
    RareState(
        "a trial is given up and its database is not back", ("launch-crash", "launch-exit"), (Mode.PLUG,),
        _after(_RUNS, _writes(DATABASE)),
    ),
    RareState(
        "a rollback is decided and its restore has not begun", _ROLLBACKS, (Mode.PLUG, Mode.KILL),
        _next_after(_CHOSEN),
    ),
    RareState(
        "a restore is cut while it copies", _ROLLBACKS, (Mode.PLUG, Mode.KILL), _after(_CHOSEN, _writes(DATABASE))
    ),
    RareState(
        "the disk is full after the commit point of a rollback", _ROLLBACKS, (Mode.FULL_ON,),
        _after(_CHOSEN, _anywhere),
    ),
    RareState(
        "an I/O error after the commit point of a rollback", _ROLLBACKS, (Mode.EIO, Mode.EIO_ON),
        _after(_CHOSEN, _writes(DATABASE)),
    ),
    RareState("an I/O error in a scratch copy", _ROLLBACKS, _ONE_ERROR, _in_scratch),
    RareState(
        "the set-aside copy cannot be synced", _ROLLBACKS, (Mode.EIO,),
        lambda calls, index: calls[index].name == "fsync" and "-before-" in calls[index].path,
    ),
    RareState(
        "a ruined database is moved aside and nothing is in its place", ("rollback-header",), (Mode.PLUG, Mode.KILL),
        lambda calls, index: index > 0 and calls[index - 1].name == "rename" and calls[index - 1].source == DATABASE,
    ),
    RareState("a state file cannot be read", ("check", "launch", "rollback"), (Mode.READ,), _is("read", "state/")),
    RareState("the live database cannot be read", ("rollback",), (Mode.READ,), _is("pread", DATABASE)),
    RareState(
        "a counter is raised in a copy, and the copy is not complete", ("db-restore-counter",), (Mode.PLUG, Mode.KILL),
        lambda calls, index: calls[index].name in WRITES and "-backup-raised-" in calls[index].path,
    ),
    RareState(
        "a gap is explained and the database is not replaced", _RAISING, (Mode.PLUG, Mode.KILL),
        _next_after(_is("rename", _GAPS)),
    ),
    RareState(
        "the database is replaced and the explanation of its gap has no end", _RAISING, (Mode.PLUG, Mode.KILL),
        _after(_is("unlink", "pos_system.db-journal"), _is("rename", _GAPS)),
    ),
    RareState(
        "kept values are put back and the commit is cut", ("db-up-again", "db-up-again-through"), (Mode.PLUG,),
        _writes("pos_system.db"),
    ),
    RareState("a second cut in the recovery of a launch", _LAUNCHES, (Mode.PLUG,), _anywhere, twice=True),
    RareState(
        "a second cut in the recovery of a rollback", _ROLLBACKS, (Mode.PLUG,), _after(_CHOSEN, _anywhere), twice=True
    ),
)  # fmt: skip


def expected(flows: Collection[str], modes: Collection[Mode], *, twice: bool) -> list[RareState]:
    """Return the states that a drill of these flows and modes must reach."""
    return [state for state in STATES if any(state.fits(flow, mode, twice=twice) for flow in flows for mode in modes)]


def chosen_by(state: RareState, flows: Sequence[str], modes: Sequence[Mode], *, twice: bool) -> tuple[str, Mode]:
    """Return the flow and the mode in which a drill makes sure that a state is reached: the first that fit."""
    return next((flow, mode) for flow in flows for mode in modes if state.fits(flow, mode, twice=twice))
