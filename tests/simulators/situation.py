"""A situation: the world between two runs of an actor, with copies of it and a key that equal situations share.

Two situations are equal if nothing that an actor could do would differ: identities are ranks, sales are told apart by
the copies that hold them only, receipts by their order, boots by whether they are the present one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

from dbsync.database.flight_recorder import tried_by
from tests.simulators.world import App, Backup, Database, Violated, World
from updater.decisions.agent import RETRY_DAYS
from updater.decisions.claims import composed
from updater.decisions.moment import utc
from updater.model import By, Choice, Issued, Journal, ProvenBy, Release, Ruling, Trial, Verdict

DROPPED: Final = frozenset({"reason", "losses", "not_known", "made_at"})
"""Fields that no decision reads."""
BEGINNING: Final = datetime(2026, 1, 1, tzinfo=UTC)
KINDS: Final = {
    "trial_id": "identity", "intent_id": "identity", "migrated_by": "identity", "created_by": "identity",
    "backup": "copy", "set_aside": "copy", "base": "copy", "raised_from": "copy",
    "boot_id": "boot", "content_sha256": "digest", "marks": "receipt", "last": "number", "number": "number",
    "last_choice": "choice", "at": "age",
}  # fmt: skip
"""Fields whose values mean something only beside others of their kind."""
FOLDERS: Final = {
    "trial": "identity", "intent": "identity", "issued": "identity", "verdicts": "identity", "choices": "choice",
}  # fmt: skip
"""Folders whose files are named by an identity or by the number of a choice."""
IGNORED: Final = frozenset({
    "log", "ticks", "told", "started", "notices", "armed", "violations", "flight", "releases", "ids", "boot", "sales",
    "acknowledged", "errors_count", "keep_pending_on_cut", "behaviour", "broken_migrations", "readable_from", "sells",
    "clock_seconds", "carries", "highest_number", "refused", "sold", "alarms", "files", "pending", "backups",
    "database", "app", "transaction", "acknowledged_confirms",
})  # fmt: skip
"""Fields of a world that are no part of a key, or are in it in another form."""


@dataclass
class Situation(World):
    """A world with what an explorer remembers about it."""

    left: dict[str, int] = field(default_factory=dict)
    """The events that may still happen in this trace, by kind."""
    forged: bool = False
    """Whether a hostile account has written lies: then promises hold that do not rest on its word."""
    urgent: bool = False
    """Whether the vendor says of its offers that no terminal may be kept from them."""
    recalled: set[str] = field(default_factory=set)
    """Ids of releases that the vendor took back."""
    heard: set[str] = field(default_factory=set)
    """Those of them that the agent has heard of."""
    paused: bool = False
    """Whether the vendor paused all updates."""
    heard_pause: bool = False
    """Whether the agent has heard of that."""
    mixes: bool = True
    """Whether other actors, and errors, come in between the effects of one."""
    hung: set[str] = field(default_factory=set)
    """Processes that do nothing any more and keep their locks."""
    alarms: set[str] = field(default_factory=set)
    """The outcomes that people were told of while the till settled."""
    agent_alive: bool = True
    sold: bool = False
    """Whether an app sold in the last round of settling."""
    refused: dict[str, str] = field(default_factory=dict)
    """Trials and rollbacks with a durable end, and the release that must not be tried again; "" once it is allowed."""

    def copied(self) -> Situation:
        """A copy that shares no mutable value; what nothing decides by is left out of it."""
        made: Situation = object.__new__(type(self))
        values = made.__dict__
        for name, value in self.__dict__.items():
            kind = type(value)
            values[name] = kind(value) if kind in (dict, set, list) else value
        made.backups = {name: Backup(**one.__dict__) for name, one in self.backups.items()}
        made.app = App(**self.app.__dict__) if self.app is not None else None
        made.armed, made.log, made.told, made.notices, made.started, made.violations = {}, [], [], [], [], []
        made.ticks = 0
        return made

    def key(self) -> int:
        """One number for everything that a further step could depend on."""
        return hash(_Key(self).value())

    def spend(self, kind: str) -> None:
        """One thing less of that kind may happen from now on."""
        self.left[kind] -= 1

    def may(self, kind: str) -> bool:
        """Whether one more thing of that kind may happen."""
        return self.left.get(kind, 0) > 0

    def behave(self, behaviour: str) -> None:
        """The way in which every release behaves that starts on trial from now on."""
        if self.app is None or self.app.trial_id is None:
            broken = behaviour == "broken"
            self.behaviour = dict.fromkeys(self.behaviour, "good" if broken else behaviour)
            self.broken_migrations = {one.schema for one in self.releases.values()} if broken else set()

    def remember(self) -> None:
        """Take note of what is durable, and must stay so."""
        for name, value in self.files.items():
            folder, _, rest = name.partition("/")
            if folder in ("trial", "verdicts"):
                trial = self.trial(rest)
                if trial is not None and trial.verdict is Verdict.GIVEN_UP and not trial.back_stays:
                    self.refused.setdefault(rest, trial.candidate.release_id)
            elif folder == "rejected":
                self.refused.setdefault(value.intent_id or value.trial_id or rest, value.release.release_id)

    def allow(self, release_id: str) -> None:
        """A person allows a release."""
        self.refused = {name: "" if one == release_id else one for name, one in self.refused.items()}

    # ------------------------------------------------------------------------------------------------------- claims

    def trial(self, trial_id: str) -> Trial | None:
        """A trial as the agent's records and the claims of the till's account give it together."""
        seen = self.visible()
        issued, claim = seen.get(f"issued/{trial_id}"), seen.get(f"trial/{trial_id}")
        claim = claim if isinstance(claim, Trial) else None
        return composed(issued, claim, seen.get(f"verdicts/{trial_id}")) if issued is not None else None

    def has_gone(self, trial_id: str) -> bool:
        """Whether the database has left a trial, or stays as it is on purpose."""
        claim = self.visible().get(f"trial/{trial_id}")
        return self.database.trial_id != trial_id or (isinstance(claim, Trial) and claim.back is not None)

    # ----------------------------------------------------------------------------------------------------- promises

    def check_confirms(self) -> None:
        """A confirm that was acknowledged stands, unless a person goes back."""
        for trial_id in self.acknowledged_confirms:
            trial = self.trial(trial_id)
            stands = trial is None or trial.verdict is not Verdict.GIVEN_UP or trial.by is By.PERSON
            self.need(stands or self.forged, f"{trial_id} was acknowledged as confirmed and is given up")

    def check_notice(self, release: Release, notice: str) -> None:
        """A notice is true beside the app that gets it; a release that was given up once may have worked since."""
        proofs = [value for name, value in self.visible().items() if name.startswith("proofs/")]
        if not self.forged and not any(proof.release == release for proof in proofs):
            super().check_notice(release, notice)

    def check_counted(self, trial_id: str | None, act: str) -> None:
        """A start on trial is on record, durably, before it happens."""
        if trial_id is not None:
            name = f"trial/{trial_id}"
            found = self.files.get(name)
            counted = isinstance(found, Trial) and found.act == act and found.boot_id == str(self.boot)
            self.need(counted and name not in self.pending, f"{trial_id} starts and is not counted")
            self.check_issued(trial_id)
            self.check_not_recalled(trial_id)

    def check_issued(self, trial_id: str) -> None:
        """Only what the agent issued, and did not end, goes on trial."""
        seen = self.visible()
        self.need(f"issued/{trial_id}" in seen, f"{trial_id} was never issued and goes on trial")
        ruling = seen.get(f"verdicts/{trial_id}")
        stays = isinstance(trial := seen.get(f"trial/{trial_id}"), Trial) and trial.back_stays
        over = isinstance(ruling, Ruling) and ruling.verdict is not Verdict.CONFIRMED
        self.need(not over or stays, f"the agent ended {trial_id}, and it goes on trial")

    def check_not_recalled(self, trial_id: str) -> None:
        """A release that the vendor took back does not go on trial once the agent has heard of it."""
        issued = self.visible()[f"issued/{trial_id}"]
        known = issued.candidate.release_id in self.heard
        self.need(not known, f"{issued.candidate.version} goes on trial although the vendor took it back")

    def check_not_paused(self, trial_id: str) -> None:
        """A trial does not begin once the agent has heard of a pause; one that has begun goes on."""
        claim = self.visible().get(f"trial/{trial_id}")
        begun = isinstance(claim, Trial) and claim.begun
        held = not self.heard_pause or begun or self.database.trial_id == trial_id
        self.need(held, f"{trial_id} begins although the vendor paused updates")

    def check_attempt(self, trial: Trial) -> None:
        """A trial begins in the moment, once the agent issued it, and not with what was refused for good."""
        self.remember()
        self.check_issued(trial.trial_id)
        self.check_not_recalled(trial.trial_id)
        self.check_not_paused(trial.trial_id)
        refused = trial.candidate.release_id in self.refused.values()
        self.need(not refused or self.forged, f"{trial.candidate.version} was given up or rejected, and is tried again")
        late = not self.in_moment and self.database.trial_id != trial.trial_id
        self.need(not late, f"{trial.candidate.version} changes the database outside of the moment")

    def wrong(self) -> str:
        """The promise that does not hold between two runs; empty if everything does."""
        try:
            self.check_sales()
            self.check_confirms()
            self.need(self.transaction is None or self.transaction[0] in self.hung, "a transaction is left open")
            self.check_records()
        except Violated as violated:
            return str(violated)
        return ""

    def check_records(self) -> None:
        """What is durable is in order: what a later record rests on was there first."""
        files = self.files
        issued = {value.trial_id: value for value in files.values() if isinstance(value, Issued)}
        known = {one.candidate.release_id for one in issued.values()}
        journal = files.get("journal")
        if isinstance(journal, Journal):
            named = journal.trial_id is None or journal.trial_id in issued
            self.need(named, f"the journal names {journal.trial_id}, which is not issued")
            for trial_id, one in issued.items():
                ended = one.number <= journal.last and journal.trial_id != trial_id
                claim = self.visible().get(f"trial/{trial_id}")
                begun = self.database.trial_id == trial_id or (isinstance(claim, Trial) and claim.begun)
                ruled = f"verdicts/{trial_id}" in files
                self.need(
                    not (ended and begun) or ruled or self.forged, f"the journal has left {trial_id} without a verdict"
                )
        for name, value in files.items():
            folder = name.partition("/")[0]
            if folder == "proofs":
                right = value.why == ProvenBy.INSTALLED or value.release.release_id in known
                right = right or value.release.release_id in {
                    one.release.release_id
                    for other, one in files.items()
                    if other.startswith("proofs/") and one.why == ProvenBy.INSTALLED
                }
                self.need(right, f"{value.release.version} is proven and was never issued")
            elif folder == "rejected":
                self.need(
                    value.release.release_id in known, f"{value.release.version} is rejected and was never issued"
                )
                ruled = value.by is not By.MACHINE or value.trial_id is None or f"verdicts/{value.trial_id}" in files
                self.need(ruled, f"{value.release.version} is rejected without a verdict on {value.trial_id}")
            elif folder == "verdicts":
                self.check_ruling(value)
            elif folder == "choices":
                self.check_choice(value)

    def check_ruling(self, ruling: Ruling) -> None:
        """A give-up is folded when the database has left it."""
        given_up = ruling.folded and ruling.verdict is Verdict.GIVEN_UP and ruling.by is By.MACHINE
        early = given_up and not self.has_gone(ruling.trial_id)
        self.need(not early or self.forged, f"{ruling.trial_id} is folded and the database is not back")

    def check_choice(self, choice: Choice) -> None:
        """A choice is folded when its restore is done."""
        proven = any(
            name.startswith("proofs/") and one.why == ProvenBy.CHOSEN and one.trial_id == choice.intent_id
            for name, one in self.files.items()
        )
        intent = self.visible().get(f"intent/{choice.intent_id}")
        done = choice.backup is None or (intent is not None and intent.done)
        self.need(not proven or done or self.forged, f"choice {choice.number} is folded and its restore is not done")


def time_at(seconds: float) -> str:
    """The time of a simulated clock, in the form of the state files."""
    return utc(BEGINNING + timedelta(seconds=seconds))


@lru_cache(maxsize=10_000)
def is_old(at: str, clock_seconds: float) -> bool:
    """Whether something was written so long ago that a decision depends on it."""
    now = BEGINNING + timedelta(seconds=clock_seconds)
    try:
        return now - datetime.fromisoformat(at) >= timedelta(days=RETRY_DAYS)
    except ValueError:
        return False


class Leaf(NamedTuple):
    """A part of a file whose meaning depends on the rest of the world."""

    kind: str
    value: Any


class Pieces(NamedTuple):
    """A value as what never changes its meaning, and the leaves that do, in order."""

    constant: Hashable
    leaves: tuple[Leaf, ...]


@lru_cache(maxsize=200_000)
def pieces(value: Any, name: str) -> Pieces:
    """Take a value of a file apart."""
    leaves: list[Leaf] = []

    def walk(value: Any, name: str) -> Hashable:
        if value is None or isinstance(value, bool):
            return value
        if name in KINDS and isinstance(value, str | int):
            leaves.append(Leaf(KINDS[name], value))
            return "leaf"
        if isinstance(value, Choice):
            leaves.append(Leaf("choice", value.number))
            value = value._replace(number=None)  # type: ignore[arg-type]
        if isinstance(value, Release):
            return value.version
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            fields = zip(value._fields, value, strict=True)
            return type(value).__name__, *(walk(one, field) for field, one in fields if field not in DROPPED)
        if isinstance(value, tuple):
            return tuple(walk(one, name) for one in value)
        return value  # type: ignore[no-any-return]

    constant = walk(value, name)
    return Pieces(constant, tuple(leaves))


@lru_cache(maxsize=10_000)
def digested(digest: str) -> tuple[int, tuple[int, ...], str | None]:
    """Take a digest of the simulator apart: version, sales, trial."""
    version, sales, trial_id = ast.literal_eval(digest)
    return version, tuple(sales), trial_id


class _Key:
    """The canonical form of one situation."""

    def __init__(self, world: Situation) -> None:
        self.world = world
        self.boot = str(world.boot)
        self.copies = {name: index for index, name in enumerate(world.backups)}
        self.contents = [world.database, *(one.content for one in world.backups.values())]
        self.sales: dict[int, int] = {}
        for place, content in enumerate(self.contents):
            for sale in content.sales:
                self.sales[sale] = self.sales.get(sale, 0) | 1 << place
        self.files = [
            (is_durable, *name.partition("/")[::2], pieces(value, name.partition("/")[0]))
            for is_durable, files in ((True, world.files), (False, world.pending))
            for name, value in files.items()
        ]
        self._rank()

    def _rank(self) -> None:
        world = self.world
        found: dict[str, set[Any]] = {"identity": set(), "number": set(), "choice": set(), "receipt": set()}
        for _, folder, rest, parts in self.files:
            for kind, value in parts.leaves:
                found.setdefault(kind, set()).add(value)
            if folder in FOLDERS:
                found[FOLDERS[folder]].add(int(rest) if FOLDERS[folder] == "choice" else rest)
        for content in self.contents:
            found["identity"].update((content.trial_id, content.migrated_by, content.created_by))
            found["receipt"].add(content.number)
        found["identity"].update(one.trial_id for one in world.backups.values())
        found["identity"].update((world.app and world.app.trial_id, *world.acknowledged_confirms))
        found["receipt"].add(world.highest_number)
        found["identity"].discard(None)
        self.ranks: dict[str, dict[Any, int]] = {
            kind: {value: rank for rank, value in enumerate(sorted(values, key=_by_number))}
            for kind, values in found.items() if kind in ("identity", "number", "choice", "receipt")
        }  # fmt: skip

    def value(self) -> Hashable:
        """The situation as nested tuples."""
        world, identities = self.world, self.ranks["identity"]
        app = world.app
        behaviour = world.behaviour.get(app.release.version) if app is not None else None
        return (
            frozenset(self.file(*one) for one in self.files),
            self.content(world.database),
            tuple(
                (self.content(one.content), one.kind, identities.get(one.trial_id or "", -1), one.durable, one.final)
                for one in world.backups.values()
            ),
            app
            and (app.release.version, identities.get(app.trial_id or "", -1), app.seconds, app.confirmed, app.asked),
            behaviour if app is not None and app.trial_id is not None and not app.confirmed else None,
            self.ranks["receipt"][world.highest_number],
            world.transaction and (world.transaction[0], self.content(world.transaction[1])),
            frozenset(self.tried()),
            frozenset(identities[one] for one in world.acknowledged_confirms),
            tuple(sorted((name, _plain(value)) for name, value in world.__dict__.items() if name not in IGNORED)),
        )

    def file(self, is_durable: bool, folder: str, rest: str, parts: Pieces) -> Hashable:
        """A file by its canonical name."""
        kind = FOLDERS.get(folder)
        name = self.ranks[kind].get(int(rest) if kind == "choice" else rest, -1) if kind else rest
        return is_durable, folder, name, parts.constant, tuple(self.leaf(*leaf) for leaf in parts.leaves)

    def leaf(self, kind: str, value: Any) -> Hashable:
        """A leaf as it is meant here."""
        match kind:
            case "boot":
                return bool(value == self.boot)
            case "age":
                return is_old(value, self.world.clock_seconds)
            case "copy":
                return self.copies.get(value, -1)
            case "digest":
                version, sales, trial_id = digested(value)
                held = frozenset(self.sales.get(one, 0) for one in sales)
                return version, held, self.ranks["identity"].get(trial_id or "", -1)
            case _:
                return self.ranks[kind].get(value, -1)

    def tried(self) -> Iterator[Hashable]:
        """What the flight record says of each run that a decision could ask for."""
        runs = {line.get("run") for line in self.world.flight}
        for run in runs:
            if isinstance(run, str):
                tried = tried_by(self.world.flight, run)
                if any(tried):
                    yield self.ranks["identity"].get(run, run), tried[0], tried[2]

    def content(self, content: Database) -> Hashable:
        """A database: its sales as the sets of copies that hold them."""
        identities = self.ranks["identity"]
        return (
            content.exists, content.version, content.readable_from, content.release_id,
            frozenset(self.sales.get(sale, 0) for sale in content.sales),
            self.ranks["receipt"].get(content.number, -1),
            identities.get(content.trial_id or "", -1),
            identities.get(content.migrated_by or "", -1),
            identities.get(content.created_by or "", -1),
        )  # fmt: skip


def _plain(value: Any) -> Hashable:
    if isinstance(value, dict):
        return tuple(sorted((one, _plain(other)) for one, other in value.items()))
    if isinstance(value, set | frozenset):
        return tuple(sorted(value))
    if isinstance(value, list):
        return tuple(value)
    return value  # type: ignore[no-any-return]


def _by_number(value: Any) -> tuple[bool, int, str]:
    """Order numbers, and trials apart from all other identities: how many of each there were does not matter."""
    if isinstance(value, int):
        return False, value, ""
    found = re.search(r"\d+", value)
    return "-" in value, int(found[0]) if found else -1, value
