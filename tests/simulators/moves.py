"""The moves of an explorer: one run of one real actor, undisturbed or with one disturbance at one of its effects.

A power cut or a kill needs no run of its own: it leaves a copy of the world at that effect, without the process.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from dbsync.errors import TillkeeperError
from dbsync.model import ReleaseId, TrialId
from tests.simulators.clerk import lies
from tests.simulators.situation import Situation, time_at
from tests.simulators.till import SimulatedTill
from tests.simulators.world import Dead, Killed, Violated
from updater.answers import Catalog
from updater.flows.agent import cycle
from updater.flows.launch import journal_of, launch
from updater.flows.rollback import allow, current_release, make_plan, perform
from updater.model import Act, By, Choice, Limits, Rejection, Release, Report, Trial
from updater.outcomes import TerminalOutcome

LIMITS: Final = Limits(
    attempts_count=2, refusals_count=2, launches_count=2, clean_exits_count=2, interruptions_count=2, busy_seconds=0.2
)
BEHAVIOURS: Final = ("crash", "hang", "exit0", "sells_then_crash", "good_by_command", "late_confirm", "broken")
"""Ways of a candidate beside "good"; broken: its migration fails."""
PAUSES_LIMIT: Final = 40
"""More than any wait that the product bounds: one that comes in between would wait for the other one for ever."""
PERSONS: Final = ("rollback", "choice", "allow")
SHARED: Final = ("trial", "choices", "intent", "marks")
"""Folders and files of the till's account."""
SUBSETS_LIMIT: Final = 5
"""Visible names that are not durable, of which every subset is lost; of more, each alone, all but one, and all."""


class Move(NamedTuple):
    """One step of a trace, as a person reads it."""

    actor: str
    disturbance: str = ""
    """Empty, or what happened and at which effect."""

    def __str__(self) -> str:
        return f"{self.actor}, {self.disturbance}" if self.disturbance else self.actor


class Moment(NamedTuple):
    """A copy of the world in the middle of a run."""

    number: int
    process: str
    what: str
    world: Situation
    changed: bool
    """Whether anything that outlives a process differs from the moment before."""


class Abandoned(Dead):
    """The run is of no interest: what came in between changed nothing."""


class Unforeseen(Exception):
    """An error that nothing in the product expects."""


class ExploredTill(SimulatedTill):
    """A process whose promises are checked where it keeps them."""

    world: Situation
    pauses_count = 0
    found_pause: bool | None = None
    """Whether the vendor had paused updates when this process asked; None before it has."""
    agreed: Release | None = None
    """The release that a person saw and agreed to leave."""

    def pause(self, seconds: float) -> None:
        """Wait for another process; one that waits for a process that stands still until its own end is killed."""
        super().pause(seconds)
        self.pauses_count += 1
        if self.pauses_count > PAUSES_LIMIT:
            self.world.kill(self.process)
            raise Killed

    def start_app(self, release: Release, *, trial_id: TrialId | None, notice: str) -> None:
        """Start the app, which must be counted before, and which no choice has left."""
        self.world.check_counted(trial_id, Act.LAUNCH)
        left = QuietTill(self.world, "").look().rejection(release.release_id)
        self.world.need(left is None or self.world.owes(), f"{release.version} starts and was left by a choice")
        super().start_app(release, trial_id=trial_id, notice=notice)

    def write_trial(self, trial: Trial) -> None:
        """Write a trial, which begins at the right moment and not a second time."""
        before = self.world.visible().get(f"trial/{trial.trial_id}")
        counted = before.attempts_count if isinstance(before, Trial) else 0
        if trial.act == Act.ATTEMPT and trial.attempts_count > counted:
            self.world.check_attempt(trial)
        super().write_trial(trial)

    def write_choice(self, choice: Choice) -> None:
        """Write a choice of a person, who leaves what they saw."""
        self._check_agreed()
        super().write_choice(choice)

    def write_rejection(self, rejection: Rejection) -> None:
        """Write a rejection; a person's is of what they saw."""
        if rejection.by is By.PERSON:
            self._check_agreed()
        super().write_rejection(rejection)

    def _check_agreed(self) -> None:
        """The first of these writes decides; those after it fold what was decided."""
        agreed, self.agreed = self.agreed, None
        if agreed is not None:
            quiet = QuietTill(self.world, "")
            view = quiet.look()
            runs = current_release(view, journal_of(view, now=quiet.now()))
            self.world.need(runs == agreed, f"a person agreed to leave {agreed.version}, not {runs and runs.version}")

    def sync(self) -> None:
        """Make durable what this account may write: the till's account syncs no file of the agent."""
        if not self.world.two_accounts or self.process in ("agent", "rollback", "install"):
            super().sync()
            return
        self._tick("sync")
        for name in list(self.world.pending):
            if name.partition("/")[0] in SHARED:
                self.world.sync_name(name)
        for backup in self.world.backups.values():
            backup.durable = backup.durable or backup.final

    def tell(self, report: Report) -> None:
        """Record an outcome: an urgent release that is tried again is not refused any more."""
        if report.outcome is TerminalOutcome.URGENT_RETRIED and report.release is not None:
            self.world.need(self.world.urgent, f"{report.release.version} is tried again and is not urgent")
            self.world.allow(report.release.release_id)
        super().tell(report)

    def now(self) -> str:
        """The time by the simulated clock."""
        return time_at(self.world.clock_seconds)

    def find_releases(self) -> Catalog:
        """The repository's answer, with what the vendor took back and how much it hurries."""
        found = super().find_releases()
        newer = tuple(one._replace(urgent=self.world.urgent) for one in found.newer)
        self.found_pause = self.world.paused
        if self.world.paused:
            found, newer = found._replace(paused="the vendor paused updates"), ()
        return found._replace(newer=newer, recalled=tuple(ReleaseId(one) for one in sorted(self.world.recalled)))


class QuietTill(SimulatedTill):
    """A look that is no effect of any process."""

    def _tick(self, what: str) -> None:
        pass


class Watch(dict[int, Callable[[str, str], None]]):
    """Takes the place of the armed effects of a world: sees each of them, and does one thing at one."""

    def __init__(self, world: Situation, *, keeps: bool, at: int = 0, do: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self.world = world
        self.keeps = keeps
        self.at = at
        self.do = do
        self.moments: list[Moment] = []
        self.migrated = False
        self.count = 0
        self.before: Situation | None = None

    def pop(self, number: int, default: Any = None) -> Callable[[str, str], None]:
        """The action at the effect of that number: to see it."""
        self.count += 1
        return self._see

    def _see(self, process: str, what: str) -> None:
        number = self.count
        self.migrated = self.migrated or what.startswith("migrate to")
        if self.keeps and number > self.at:
            self.take(number, process, what)
        if number == self.at and self.do is not None:
            self.do(process)

    def take(self, number: int, process: str, what: str) -> None:
        """Keep a copy of the world of this moment."""
        copy = self.world.copied()
        copy.started, copy.told = list(self.world.started), list(self.world.told)
        if self.before is None or not _same(self.before, copy):
            self.before = copy
            self.moments.append(Moment(number, process, what, copy, changed=True))
        else:
            self.moments.append(Moment(number, process, what, self.before, changed=False))


def _same(one: Situation, other: Situation) -> bool:
    return (
        one.database is other.database
        and one.terminal_lock == other.terminal_lock
        and one.database_lock == other.database_lock
        and one.agent_lock == other.agent_lock
        and one.files == other.files
        and one.pending == other.pending
        and one.backups == other.backups
        and one.app == other.app
        and one.folders == other.folders
        and len(one.flight) == len(other.flight)
        and one.transaction == other.transaction
    )


class Successor(NamedTuple):
    """A situation that a move leads to; or how the move violated a promise."""

    move: Move
    world: Situation
    violation: str = ""


Actor = Callable[[Situation], object]


def _launch(process: str, behaviour: str) -> Actor:
    def run_it(world: Situation) -> object:
        world.behave(behaviour)
        return launch(ExploredTill(world, process), LIMITS)

    return run_it


def _agent(world: Situation) -> None:
    till = ExploredTill(world, "agent")
    ended = cycle(till)
    world.need(ended.outcome is not TerminalOutcome.GOES_IN_CIRCLES, "the agent goes in circles")
    world.heard = set(world.recalled)
    world.heard_pause = till.found_pause if till.found_pause is not None else world.heard_pause


def _rollback(world: Situation) -> None:
    _go_back(ExploredTill(world, "rollback"))


def _choose(world: Situation) -> None:
    _go_back(ExploredTill(world, "clerk"))


def _go_back(till: ExploredTill) -> None:
    backups = till.effects.backups_newest_first()
    plan = make_plan(till, to=None, backup=None, backups=backups, beside=Path("data"))
    till.agreed = plan.current
    perform(till, plan, accept_loss=True)


def _allow(release: Release) -> Actor:
    def run_it(world: Situation) -> None:
        world.allow(release.release_id)
        allow(ExploredTill(world, "rollback"), release.release_id)

    return run_it


def _confirm(world: Situation) -> None:
    app = world.app
    assert app is not None
    ExploredTill(world, "launcher").confirm_by_command(app)
    if not app.confirmed:
        # Its trial is over: it closes without selling.
        world.end_app()


def actors(world: Situation, *, behaviour: str = "good") -> dict[str, Actor]:
    """The actors that may run now, by name; a launch with candidates of that behaviour."""
    found: dict[str, Actor] = {}
    if world.agent_alive and "agent" not in world.hung:
        found["agent"] = _agent
    found["launch"] = _launch("launcher", behaviour)
    if world.app is not None and world.app.trial_id is not None and not world.app.confirmed:
        found["confirm"] = _confirm
    if world.two_accounts and world.app is None and (world.may("person") or world.may("choice")):
        found["choice"] = _choose
    if world.may("person") and world.app is None:
        found["rollback"] = _rollback
        for name, value in world.visible().items():
            if name.startswith("rejected/"):
                found[f"allow {value.release.version}"] = _allow(value.release)
    return found


def _others(world: Situation, actor: str) -> dict[str, Actor]:
    """The actors that may come in between."""
    found: dict[str, Actor] = {}
    if not actor.startswith("agent"):
        found["agent"] = _agent
    if actor.startswith("launch"):
        found["a second launch"] = _launch("launcher2", "good")
        found["a second launch, crash"] = _launch("launcher2", "crash")
    else:
        found["launch"] = _launch("launcher", "good")
        found["launch, crash"] = _launch("launcher", "crash")
    if world.may("person") and not actor.startswith("rollback"):
        found["rollback"] = _rollback
        if world.two_accounts and not actor.startswith("choice"):
            found["choice"] = _choose
    return found


def run(world: Situation, actor: Actor) -> str:
    """Run an actor on a world; return how it violated a promise, if it did."""
    try:
        actor(world)
    except (TillkeeperError, Dead, Unforeseen):
        pass
    except Violated as violated:
        return str(violated)
    return str(world.violations[0]) if world.violations else ""


class Played(NamedTuple):
    """A run: the situation after it, and what was seen on the way."""

    successor: Successor
    watch: Watch


def played(
    world: Situation, name: str, actor: Actor, *, at: int = 0, between: str = "", other: Actor | None = None
) -> Played:
    """Play a run on a copy of a situation.

    Args:
        world: the situation.
        name: the name of the actor, as it is in a trace.
        actor: the actor.
        at: the number of the effect before which something comes in between; 0 for nothing.
        between: what that is, as it is in a trace.
        other: the actor that comes in between; None for an error.
    """
    copy = world.copied()
    if name.startswith(PERSONS):
        copy.spend("person" if copy.may("person") else "choice")

    def come_in_between(process: str) -> None:
        if other is None:
            raise Unforeseen
        if between.startswith(PERSONS):
            copy.spend("person")
        run(copy, other)

    if at:
        copy.spend("disturbance")
    watch = Watch(copy, keeps=copy.may("disturbance"), at=at, do=come_in_between if at else None)
    copy.armed = watch
    violation = run(copy, actor)
    copy.armed = {}
    if watch.keeps:
        watch.take(watch.count + 1, "", "its end")
    return Played(Successor(Move(name, between), copy, violation), watch)


def halts(move: Move, moment: Moment, *, main: str) -> Iterator[Successor]:
    """Yield what is left if the power goes, or the process dies or hangs, at that moment."""
    if not moment.changed:
        return
    where = f"at '{moment.what}' ({moment.number})"
    before = f"{move.disturbance}, then " if move.disturbance else ""
    if moment.process == main:
        copy = moment.world.copied()
        copy.spend("disturbance")
        copy.kill(main)
        yield Successor(Move(move.actor, f"{before}killed {where}"), copy)
        if copy.may("hang") and moment.world.terminal_lock == main == "agent":
            copy = moment.world.copied()
            copy.spend("hang")
            copy.hung.add(main)
            yield Successor(Move(move.actor, f"{before}hangs {where}"), copy)
    for lost in subsets(moment.world):
        copy = cut(moment.world, lost)
        copy.spend("disturbance")
        loses = f", {', '.join(sorted(lost))} lost" if lost else ""
        yield Successor(Move(move.actor, f"{before}power cut {where}{loses}"), copy)


def subsets(world: Situation) -> Iterator[frozenset[str]]:
    """Yield the sets of visible names that a power cut now could lose."""
    names = [*world.pending, *(f"copy {name}" for name, one in world.backups.items() if one.final and not one.durable)]
    sizes = range(len(names) + 1) if len(names) <= SUBSETS_LIMIT else (0, 1, len(names) - 1, len(names))
    for size in sizes:
        yield from map(frozenset, itertools.combinations(names, size))


def cut(world: Situation, lost: frozenset[str]) -> Situation:
    """A copy of a world after a power cut that lost those names and no others."""
    copy = world.copied()
    for name in list(copy.pending):
        if name not in lost:
            copy.sync_name(name)
    for name, one in copy.backups.items():
        one.durable = one.durable or (one.final and f"copy {name}" not in lost)
    copy.keep_pending_on_cut = False
    copy.cut_power()
    copy.kill("clerk")
    copy.hung.clear()
    return copy


def instants(world: Situation) -> Iterator[Successor]:
    """Yield what happens without a process of the product."""
    app = world.app
    if app is not None:
        copy = world.copied()
        if app.trial_id is None or app.confirmed:
            copy.sell()
        copy.end_app()
        yield Successor(Move("the app is closed"), copy)
    if world.may("vendor"):
        for name, tell in VENDOR.items():
            copy = world.copied()
            copy.spend("vendor")
            if tell(copy):
                yield Successor(Move(name), copy)
    if world.may("moment"):
        copy = world.copied()
        copy.spend("moment")
        copy.in_moment = not world.in_moment
        yield Successor(Move("the moment begins" if copy.in_moment else "the moment ends"), copy)
    if world.may("days"):
        copy = world.copied()
        copy.spend("days")
        copy.clock_seconds += 8 * 86400.0
        yield Successor(Move("eight days pass"), copy)
    if world.may("lie") or world.may("forged choice"):
        for name, copy in lies(world):
            yield Successor(Move(f"a hostile account: {name}"), copy)
    if world.terminal_lock == "a stranger":
        copy = world.copied()
        copy.terminal_lock = None
        yield Successor(Move("the stranger lets go"), copy)
    kind = "journal" if world.may("journal") else "disturbance"
    if world.may(kind) and "journal" in world.files and "journal" not in world.pending:
        copy = world.copied()
        copy.spend(kind)
        copy.files["journal"] = "garbage"
        yield Successor(Move("the journal becomes unreadable"), copy)


def _offer_newer(world: Situation) -> bool:
    newest = max(world.releases.values(), key=lambda release: release.version)
    is_new = newest not in world.offered
    world.offered = [*world.offered, newest] if is_new else world.offered
    return is_new


def _recall(world: Situation) -> bool:
    newest = max(world.offered, key=lambda release: release.version)
    is_new = newest.release_id not in world.recalled and len(world.offered) > 1
    if is_new:
        world.recalled.add(newest.release_id)
        world.offered = [one for one in world.offered if one != newest]
        del world.releases[newest.release_id]
    return is_new


def _pause(world: Situation) -> bool:
    world.paused = not world.paused
    return True


VENDOR: Final[dict[str, Callable[[Situation], bool]]] = {
    "the vendor offers a newer release": _offer_newer,
    "the vendor recalls the newest release": _recall,
    "the vendor pauses updates, or resumes them": _pause,
}
PROCESSES: Final = {
    "launch": "launcher",
    "agent": "agent",
    "confirm": "confirm",
    "rollback": "rollback",
    "choice": "clerk",
}


def process_of(actor: str) -> str:
    """The process of an actor."""
    return PROCESSES.get(actor.partition(",")[0].partition(" ")[0], "rollback")


class Player:
    """All moves from a situation."""

    def __init__(self) -> None:
        self.idle: dict[tuple[int, str], bool] = {}
        """Whether an actor changes anything in the middle of a run of another one."""

    def successors(self, world: Situation) -> Iterator[Successor]:
        """Yield all situations that one move leads to."""
        for name, actor in actors(world).items():
            yield from self._of(world, name, actor)
        yield from instants(world)

    def _of(self, world: Situation, name: str, actor: Actor) -> Iterator[Successor]:
        ways = [(name, actor, played(world, name, actor))]
        good = ways[0][2]
        yield good.successor
        on_trial = any(trial_id is not None for _, trial_id in good.successor.world.started)
        if name == "launch" and (good.watch.migrated or on_trial):
            for behaviour in BEHAVIOURS:
                if behaviour != "broken" or good.watch.migrated:
                    way, doing = f"launch, {behaviour}", _launch("launcher", behaviour)
                    ways.append((way, doing, played(world, way, doing)))
                    yield ways[-1][2].successor
        for way, doing, seen in ways if world.may("disturbance") else ():
            for moment in seen.watch.moments:
                yield from halts(Move(way), moment, main=process_of(way))
            if world.mixes:
                yield from self._in_between(world, way, doing, seen.watch.moments)

    def _in_between(self, world: Situation, way: str, doing: Actor, moments: list[Moment]) -> Iterator[Successor]:
        for moment in moments:
            if not moment.process:
                continue
            for name, other in self._comers(world, way, moment):
                between = f"{name} at '{moment.what}' ({moment.number})"
                seen = played(world, way, doing, at=moment.number, between=between, other=other)
                yield seen.successor
                for later in seen.watch.moments:
                    yield from halts(seen.successor.move, later, main=process_of(way))

    def _comers(self, world: Situation, way: str, moment: Moment) -> Iterator[tuple[str, Actor | None]]:
        yield "error", None
        for name, other in _others(world, way).items():
            before = (moment.world.key(), name)
            if before not in self.idle:
                copy = moment.world.copied()
                self.idle[before] = not run(copy, other) and copy.key() == before[0]
            if not self.idle[before]:
                yield name, other
