"""A hostile account of the till: what it can write into the shared folder, one lie at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from dbsync.model import Back, ReleaseId, SchemaNumber, TrialId
from tests.simulators.situation import Situation, time_at
from updater.model import Act, Choice, Issued, Release, Trial, Verdict

FOREIGN: Final = Release(ReleaseId("e" * 64), "9.9", SchemaNumber(2))
"""A release that nobody signed; its folder is not there."""
UNISSUED: Final = TrialId("000009-forged")


def lies(world: Situation) -> Iterator[tuple[str, Situation]]:
    """Yield all lies that may be told now, each with the situation after it."""
    for name, written in _lies(world):
        kind = "lie" if world.may("lie") else "forged choice"
        if kind == "forged choice" and not name.startswith("choice"):
            continue
        copy = world.copied()
        copy.spend(kind)
        copy.forged = True
        for path, value in written.items():
            copy.pending.pop(path, None)
            if value is None:
                copy.files.pop(path, None)
            else:
                copy.files[path] = value
        yield name, copy
    if world.terminal_lock is None and world.may("lie"):
        copy = world.copied()
        copy.spend("lie")
        copy.forged = True
        copy.terminal_lock = "a stranger"
        yield "a stranger takes the terminal lock", copy


def _lies(world: Situation) -> Iterator[tuple[str, dict[str, Any]]]:
    seen = world.visible()
    issued = [value for name, value in seen.items() if name.startswith("issued/")]
    known = {(one.trial_id, one.candidate, one.good) for one in issued if isinstance(one, Issued)}
    releases = sorted(world.releases.values(), key=lambda release: release.version)
    known.add((UNISSUED, releases[-1], releases[0]))
    for trial_id, candidate, good in sorted(known):
        path = f"trial/{trial_id}"
        yield from (
            (f"trial {trial_id} is {name}", {path: trial}) for name, trial in _trials(trial_id, candidate, good)
        )
        if path in seen:
            yield f"the file of trial {trial_id} is removed", {path: None}
            yield f"the file of trial {trial_id} is garbage", {path: "garbage"}
    number = 1 + max((int(name.partition("/")[2]) for name in seen if name.startswith("choices/")), default=0)
    for of in (*releases, FOREIGN):
        for to in (*releases, FOREIGN):
            choice = Choice(number, of, to, time_at(world.clock_seconds), None, "forged")
            yield f"choice {of.version} to {to.version}", {f"choices/{number:06d}": choice}
    for name in seen:
        if name.startswith("choices/"):
            yield f"{name} is removed", {name: None}


def _trials(trial_id: TrialId, candidate: Release, good: Release) -> Iterator[tuple[str, Trial]]:
    begun = Trial(trial_id, candidate, good, attempts_count=1, act=Act.ATTEMPT, boot_id="forged")
    ended = begun._replace(act=Act.NONE, launches_count=1)
    yield "begun", begun
    yield "confirmed", ended._replace(verdict=Verdict.CONFIRMED)
    yield "given up", ended._replace(verdict=Verdict.GIVEN_UP, outcome="APP_FAILED", reason="forged")
    yield "given up and back", ended._replace(verdict=Verdict.GIVEN_UP, outcome="APP_FAILED", back=Back.DONE)
    yield "given up and kept", ended._replace(verdict=Verdict.GIVEN_UP, outcome="APP_FAILED", back=Back.KEPT)
    yield "given up and stays", ended._replace(verdict=Verdict.GIVEN_UP, outcome="APP_FAILED", back=Back.STAYS)
    yield "confirmed, of a foreign release", ended._replace(candidate=FOREIGN, verdict=Verdict.CONFIRMED)
    yield "given up, to a foreign release", ended._replace(good=FOREIGN, verdict=Verdict.GIVEN_UP, outcome="APP_FAILED")
