"""A trace that is told step by step: runs of real actors, each with its disturbance, and what is on disk afterwards."""

from __future__ import annotations

from typing import Any

from tests.simulators.moves import Actor, Moment, Watch, actors, cut, played
from tests.simulators.situation import Situation
from tests.simulators.world import Violated

MANY = 1000


class Replay:
    """A till, and what happens to it."""

    def __init__(self, world: Situation) -> None:
        self.world = world
        self.started: list[str] = []
        """Versions that were started, with a star if on trial."""
        self.told: list[str] = []
        world.left = {"disturbance": MANY, "person": MANY}

    def run(self, actor: str, *, behaviour: str = "good") -> Replay:
        """Run an actor undisturbed."""
        after, watch = self._played(actor, behaviour)
        self._take(after, watch.moments[-1].world)
        return self

    def kill(self, actor: str, at: str, *, behaviour: str = "good", which: int = -1) -> Replay:
        """Run an actor; its process dies at the last effect of that name, or another one of them."""
        moment = self._moment(actor, at, behaviour, which)
        copy = moment.world.copied()
        copy.kill(moment.process)
        self._take(moment.world, copy)
        return self

    def cut(self, actor: str, at: str, *, loses: tuple[str, ...] = (), behaviour: str = "good") -> Replay:
        """Run an actor; the power goes at the last effect of that name, and takes back those names."""
        moment = self._moment(actor, at, behaviour)
        self._take(moment.world, cut(moment.world, frozenset(self._named(moment.world, loses))))
        return self

    def lose(self, *names: str) -> Replay:
        """The power goes, and takes back those names; without any, all that is not durable."""
        loses = self._named(self.world, names) if names else set(self.world.pending)
        self._take(self.world, cut(self.world, frozenset(loses)))
        return self

    def between(self, actor: str, at: str, comes: str, *, behaviour: str = "good") -> Replay:
        """Run an actor; another one comes in at the last effect of that name."""
        moment = self._moment(actor, at, behaviour)
        other = self._actor(comes, behaviour)
        doing = self._actor(actor, behaviour)
        after = played(self.world, actor, doing, at=moment.number, between=comes, other=other).successor
        assert not after.violation, after.violation
        self._take(after.world, after.world)
        return self

    def put(self, name: str, value: Any) -> Replay:
        """A file has that content now, durably; None: it is removed."""
        copy = self.world.copied()
        copy.files.pop(name, None)
        if value is not None:
            copy.files[name] = value
        copy.forged = True
        self.world = copy
        return self

    def days(self, number: int) -> Replay:
        """Days pass."""
        self.world.clock_seconds += number * 86400.0
        return self

    @property
    def disk(self) -> dict[str, Any]:
        """Everything that is durable, by name."""
        return dict(self.world.files)

    def names(self, folder: str) -> list[str]:
        """The durable files of a folder."""
        return sorted(name.partition("/")[2] for name in self.world.files if name.startswith(f"{folder}/"))

    def _actor(self, name: str, behaviour: str) -> Actor:
        found = actors(self.world, behaviour=behaviour)
        return found[name]

    def _played(self, actor: str, behaviour: str) -> tuple[Situation, Watch]:
        run = played(self.world, actor, self._actor(actor, behaviour))
        if run.successor.violation:
            raise Violated("\n".join([run.successor.violation, *run.successor.world.log]))
        return run.successor.world, run.watch

    def _moment(self, actor: str, at: str, behaviour: str, which: int = -1) -> Moment:
        after, watch = self._played(actor, behaviour)
        found = [moment for moment in watch.moments if moment.what.startswith(at)]
        assert found, "\n".join([f"{actor} has no effect '{at}'", *after.log])
        return found[which]

    @staticmethod
    def _named(world: Situation, names: tuple[str, ...]) -> set[str]:
        found = {one for one in world.pending if one.startswith(names)} if names else set()
        assert len(found) >= len(names), f"{names} are not all pending: {sorted(world.pending)}"
        return found

    def _take(self, seen: Situation, world: Situation) -> None:
        self.started += [f"{version}{'*' if trial_id else ''}" for version, trial_id in seen.started]
        self.told += [str(report.outcome) for report in seen.told]
        world.started, world.told = [], []
        self.world = world
