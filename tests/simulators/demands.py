"""The demands on a till where nothing goes wrong any more: it sells within a few launches, and what is owed is done."""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.simulators.moves import LIMITS, QuietTill, actors, played
from tests.simulators.situation import Situation
from updater.model import Journal, Phase

LAUNCHES_COUNT: Final = 4 + LIMITS.clean_exits_count


ALARMS: Final = frozenset({"TRIAL_STALLED", "URGENT_RETRIED"})


class Rest(NamedTuple):
    """How everything behaves from a moment on."""

    behaviour: str = "good"
    agent_alive: bool = True
    moment: bool = True

    def __str__(self) -> str:
        agent = "" if self.agent_alive else ", the agent is dead"
        return f"{self.behaviour}{agent}{'' if self.moment else ', outside of the moment'}"


RESTS: Final = (
    Rest(), Rest("crash"), Rest(agent_alive=False), Rest("crash", agent_alive=False), Rest("hang"), Rest("exit0"),
    Rest("broken"), Rest("broken", agent_alive=False), Rest(moment=False),
)  # fmt: skip


class Demands:
    """Settles situations, and remembers which ones do."""

    def __init__(self) -> None:
        self.settled: dict[tuple[int, Rest], bool] = {}
        """Situations that settle, and whether a candidate's behaviour mattered on the way."""
        self.runs_count = 0

    def failure(self, world: Situation) -> str:
        """Why a situation does not settle; empty if it does in all ways."""
        if world.forged:
            why = self._blocked(world)
            return f"afterwards: {why}" if why else ""
        tried: set[tuple[bool, bool]] = set()
        for rest in RESTS:
            if (rest.agent_alive, rest.moment) in tried:
                # No candidate was tried: it does not matter how it would have behaved.
                continue
            why, tries = self._fails(world, rest)
            if why:
                return f"afterwards ({rest}): {why}"
            if not tries:
                tried.add((rest.agent_alive, rest.moment))
        return ""

    def _fails(self, world: Situation, rest: Rest) -> tuple[str, bool]:
        world = world.copied()
        world.left = {}
        world.agent_alive, world.in_moment = rest.agent_alive, rest.moment
        passed: list[tuple[int, Rest]] = []
        tries = False
        for _ in range(LAUNCHES_COUNT):
            key = (world.key(), rest)
            if key in self.settled:
                tries = tries or self.settled[key]
                break
            passed.append(key)
            world, why, is_trial = self._round(world, rest)
            tries = tries or is_trial
            if why:
                return why, tries
            if self._rests(world, rest):
                if why := unfinished(world, rest):
                    return why, tries
                break
        else:
            if world.terminal_lock in world.hung and world.database.trial_id is not None:
                # A trial goes on only with a count and a confirm, which need the lock: the till waits for the restart.
                return "", tries
            end = " with all at rest" if rest.agent_alive else ""
            return f"after {LAUNCHES_COUNT} launches no app sells{end}", tries
        self.settled.update(dict.fromkeys(passed, tries))
        return "", tries

    def _blocked(self, world: Situation) -> str:
        """Why lies keep a release away for ever, and nobody is told; empty if they do not."""
        for is_launched in (True, False):
            if why := self._waits(world, is_launched=is_launched):
                return why if is_launched else f"without a launch, {why}"
        return ""

    def _waits(self, world: Situation, *, is_launched: bool) -> str:
        world = world.copied()
        world.left, world.in_moment, world.paused = {}, True, False
        world.terminal_lock = None if world.terminal_lock == "a stranger" else world.terminal_lock
        rest = Rest() if is_launched else Rest("no launch")
        passed: list[tuple[int, Rest]] = []
        for number in range(LAUNCHES_COUNT):
            key = (world.key(), rest)
            if key in self.settled:
                break
            passed.append(key)
            world, why, _ = self._round(world, rest, is_launched=is_launched)
            if why:
                return why
            if "ALL_REJECTED" in world.alarms:
                return "lies leave no release to start"
            newest = max(world.offered, key=lambda release: release.version)
            journal = world.visible().get("journal")
            is_good = isinstance(journal, Journal) and journal.good.version >= newest.version
            if is_good or world.alarms & ALARMS:
                break
            if not world.urgent and f"rejected/{newest.release_id}" in world.files:
                break
            world.clock_seconds += 8 * 86400.0 * (number > 1)
        else:
            return f"{newest.version} is kept away for ever, and nobody is told"
        self.settled.update(dict.fromkeys(passed, False))
        return ""

    def _round(self, world: Situation, rest: Rest, *, is_launched: bool = True) -> tuple[Situation, str, bool]:
        """A launch by the till, until its app is closed, and a cycle of the agent."""
        sells = tries = False
        for name in ("launch", "agent") if is_launched else ("agent",):
            if is_launched:
                close(world)
            actor = actors(world, behaviour=rest.behaviour).get(name)
            if actor is None:
                continue
            self.runs_count += 1
            (_, world, why), watch = played(world, name, actor)
            world.alarms |= {str(report.outcome) for report in world.told}
            tries = tries or watch.migrated or any(trial_id for _, trial_id in world.started)
            if why:
                return world, why, tries
            if name == "launch":
                sells = bool(world.started) and world.app is None
            if why := world.wrong():
                return world, why, tries
        world.sold = sells
        return world, "", tries

    def _rests(self, world: Situation, rest: Rest) -> bool:
        if not world.sold:
            return False
        journal = world.visible().get("journal")
        resting = (Phase.IDLE, Phase.STAGED) if world.paused else (Phase.IDLE,)
        at_rest = isinstance(journal, Journal) and journal.phase in resting
        return at_rest or not rest.agent_alive or not rest.moment or world.terminal_lock in world.hung


def close(world: Situation) -> None:
    """The cashier closes an app that outlived its launcher; one on trial asks first."""
    app = world.app
    if app is not None and app.trial_id is not None and not app.confirmed:
        confirm = actors(world)["confirm"]
        confirm(world)
    if world.app is not None and (world.app.trial_id is None or world.app.confirmed):
        world.sell()
        world.app = None


def unfinished(world: Situation, rest: Rest) -> str:
    """The work that is left undone although the till sells and all is at rest; empty if nothing is."""
    if world.terminal_lock in world.hung:
        # The till sells, and everything else waits for the process that hangs.
        return ""
    if world.terminal_lock or world.database_lock:
        return "a lock is left"
    if not rest.agent_alive:
        return ""
    if world.pending:
        return f"not durable: {sorted(world.pending)}"
    view = QuietTill(world, "").look()
    if view.choice is not None or view.dead_choices:
        return "a choice is not finished"
    owing = [one.trial_id for one in view.trials if one.ends_back and not one.closed]
    if owing:
        return f"{owing} went back and is not folded"
    if rest != Rest():
        return ""
    newest = max(world.offered, key=lambda release: release.version)
    journal = world.files["journal"]
    refused = newest.release_id in world.refused.values() or view.rejection(newest.release_id) is not None
    if world.paused:
        held = journal.good != newest and journal.phase is Phase.SWAPPED and not view.trials
        return f"{newest.version} would begin although the vendor paused updates" if held else ""
    if not refused and journal.good != newest and newest.version > journal.good.version:
        return f"{newest.version} is allowed and does not become good"
    return ""
