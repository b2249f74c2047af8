"""A till in memory whose plug can be pulled: files that are visible before they are durable, a database, processes.

Every effect calls `World.tick` first, and every durable write calls it again between "visible" and "durable". A test
arms the world with what happens at the n-th tick: the power goes, one process is killed, or another actor runs there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dbsync.model import NO_SCHEMA, BackupKind, Facts, ReleaseId, SchemaNumber, State, TrialId
from updater.model import Release


class Dead(KeyboardInterrupt):
    """The process this is raised in is gone: nothing catches it on the way out but the test.

    Of the one type that the product's last boundaries let through.
    """


class PowerCut(Dead):
    """Everything is gone but what is durable."""


class Killed(Dead):
    """One process is gone; what it made visible stays visible."""


class Violated(AssertionError):
    """One of the four sentences does not hold."""


@dataclass
class Database:
    """The content of a database: what matters of it for the promises."""

    version: SchemaNumber = NO_SCHEMA
    sales: frozenset[int] = frozenset()
    number: int = 0
    """The counter of its receipts."""
    readable_from: SchemaNumber | None = None
    trial_id: TrialId | None = None
    release_id: ReleaseId | None = None
    exists: bool = True
    migrated_by: TrialId | None = None
    """The trial that brought it to its version."""
    created_by: TrialId | None = None
    """The trial that made it."""

    def copy(self, **changes: Any) -> Database:
        """A copy with changes."""
        return Database(**{**self.__dict__, **changes})

    def facts(self) -> Facts:
        """What one look shows."""
        if not self.exists:
            return Facts(State.MISSING)
        return Facts(State.OK, self.version, self.readable_from, self.trial_id, self.release_id)


@dataclass
class App:
    """The running app, and whether its keeper lives."""

    release: Release
    trial_id: TrialId | None
    seconds: float = 0.0
    confirmed: bool = False
    asked: bool = False
    kept: bool = True


@dataclass
class Backup:
    """A copy of the database under a name."""

    content: Database
    kind: BackupKind
    trial_id: TrialId | None
    durable: bool = False
    final: bool = False
    reported: bool = False


@dataclass
class World:
    """Everything that outlives a process, and what dies with the power."""

    releases: dict[str, Release] = field(default_factory=dict)
    behaviour: dict[str, str] = field(default_factory=dict)
    """Release id → how its app behaves: good, crash, hang, exit0, sells_then_crash, late_confirm."""
    readable_from: dict[int, SchemaNumber] = field(default_factory=dict)
    broken_migrations: set[int] = field(default_factory=set)
    offered: list[Release] = field(default_factory=list)
    files: dict[str, Any] = field(default_factory=dict)
    """Durable content by name."""
    pending: dict[str, Any] = field(default_factory=dict)
    """Visible, not durable yet; None is a removal."""
    folders: set[str] = field(default_factory=set)
    database: Database = field(default_factory=lambda: Database(exists=False))
    backups: dict[str, Backup] = field(default_factory=dict)
    transaction: tuple[str, Database] | None = None
    """Who has a write transaction open, and what it would commit."""
    terminal_lock: str | None = None
    database_lock: str | None = None
    agent_lock: str | None = None
    app: App | None = None
    helper: bool = False
    """Whether what an app has left running lives: each app that ends leaves a process with its schema in mind."""
    boot: int = 1
    ids: int = 0
    sales: int = 0
    highest_number: int = 0
    """The highest number of a receipt that was ever given out."""
    acknowledged: set[int] = field(default_factory=set)
    acknowledged_confirms: set[str] = field(default_factory=set)
    started: list[tuple[str, str | None]] = field(default_factory=list)
    told: list[Any] = field(default_factory=list)
    ticks: int = 0
    armed: dict[int, Callable[[str, str], None]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    keep_pending_on_cut: bool = False
    always: bool = True
    in_moment: bool = True
    two_accounts: bool = False
    clock_seconds: float = 0.0
    sells: bool = True
    carries: bool = True
    """Whether what people did can be carried back to the older schema without loss."""

    errors_count: int = 0
    """How many effects have raised what nobody expects."""
    violations: list[Violated] = field(default_factory=list)
    """What was seen not to hold: the product's last boundaries catch it where it is raised."""
    notices: list[tuple[str, str]] = field(default_factory=list)
    """The version that opened, and the notice that it got."""
    flight: list[dict[str, Any]] = field(default_factory=list)
    """The flight record: each line is durable when it is written."""

    def violated(self, text: str) -> Violated:
        """Something that does not hold, to be raised at once and again when the step has ended."""
        self.violations.append(Violated(text))
        return self.violations[-1]

    def need(self, holds: bool, text: str) -> None:
        """It holds, or it is violated."""
        if not holds:
            raise self.violated(text)

    def check_violations(self) -> None:
        """Raises what a step has violated, also if the step went on."""
        if self.violations:
            raise self.violations[0]

    # --------------------------------------------------------------------------------------------------- the plug

    def tick(self, process: str, what: str) -> None:
        """The moment before an effect, or between its two halves."""
        self.ticks += 1
        self.log.append(f"{self.ticks:4d} {process:9s} {what}")
        action = self.armed.pop(self.ticks, None)
        if action is not None:
            action(process, what)

    def cut_power(self) -> None:
        """The power goes and comes back: processes, locks, open transactions and what was not durable are gone."""
        self.log.append("---- power cut")
        if self.keep_pending_on_cut:
            for name, value in self.pending.items():
                self._settle(name, value)
        self.pending.clear()
        self.backups = {
            name: one for name, one in self.backups.items() if one.durable or (one.final and self.keep_pending_on_cut)
        }
        for process in ("agent", "launcher", "launcher2", "rollback", "install", "confirm", "keeper"):
            self.kill(process)
        self.app = None
        self.helper = False
        self.boot += 1

    def kill(self, process: str) -> None:
        """One process is gone: its locks and its open transaction go with it, what it made visible stays."""
        if self.terminal_lock == process:
            self.terminal_lock = None
        if self.database_lock == process:
            self.database_lock = None
        if self.agent_lock == process:
            self.agent_lock = None
        if self.transaction is not None and self.transaction[0] == process:
            self.transaction = None

    # ------------------------------------------------------------------------------------------------------ files

    def write(self, process: str, name: str, value: Any) -> None:
        """A durable write: visible by the rename, durable by the fsync of the folder."""
        self.tick(process, f"write {name}")
        self.pending[name] = value
        self.tick(process, f"sync {name}")
        self.sync_name(name)

    def sync_name(self, name: str) -> None:
        """What is visible under a name becomes durable."""
        if name in self.pending:
            self._settle(name, self.pending.pop(name))

    def sync_all(self) -> None:
        """What is visible becomes durable."""
        for name in list(self.pending):
            self.sync_name(name)
        for backup in self.backups.values():
            backup.durable = backup.durable or backup.final

    def visible(self) -> dict[str, Any]:
        """What a process sees."""
        merged = {**self.files, **self.pending}
        return {name: value for name, value in merged.items() if value is not None}

    def _settle(self, name: str, value: Any) -> None:
        if value is None:
            self.files.pop(name, None)
        else:
            self.files[name] = value

    # -------------------------------------------------------------------------------------------------------- app

    def end_app(self) -> None:
        """The app's main process ends; what it started does not."""
        self.app = None
        self.helper = True

    # ------------------------------------------------------------------------------------------------------ sales

    def sell(self) -> None:
        """The running app commits a sale and tells the customer so."""
        if self.app is None or not self.sells:
            return
        if self.transaction is not None:
            raise self.violated("a sale came while a migration was open: the app runs beside it")
        self.sales += 1
        number = self.database.number + 1
        self.database = self.database.copy(sales=self.database.sales | {self.sales}, number=number)
        self.highest_number = max(self.highest_number, number)
        self.acknowledged.add(self.sales)

    # --------------------------------------------------------------------------------------------- the four sentences

    def check_start(self, release: Release) -> None:
        """What is true whenever an app starts: complete, not rejected, alone, and its schema fits the database."""
        if release.folder not in self.folders:
            raise self.violated(f"{release.version} started and is not complete")
        if self.app is not None:
            raise self.violated("two apps run")
        if f"rejected/{release.release_id}" in self.visible() and not self.owes():
            raise self.violated(f"{release.version} was rejected and started")
        if self.transaction is not None:
            raise self.violated("an app started during a migration")
        version, oldest = self.database.version, self.database.readable_from
        readable = oldest is not None and oldest <= release.schema < version
        if release.schema and version != release.schema and not readable:
            raise self.violated(f"{release.version} (schema {release.schema}) started on schema {version}")

    def owes(self) -> bool:
        """Whether a person's rollback is decided and its restore is not done: the till opens meanwhile on what fits."""
        seen = self.visible()
        return any(
            one.backup is not None and not (f"intent/{one.intent_id}" in seen and seen[f"intent/{one.intent_id}"].done)
            for name, one in seen.items()
            if name.startswith(("rejected/", "choices/"))
        )

    def check_notice(self, release: Release, notice: str) -> None:
        """A notice is true beside the app that gets it: it opens, and what was undone is not what opens."""
        if "cannot open" in notice or "try again" in notice:
            raise self.violated(f"{release.version} opens and says: {notice}")
        given_up = {
            one.candidate.release_id for name, one in self.visible().items()
            if name.startswith("trial/") and one.verdict == "given_up"
        }  # fmt: skip
        if "was undone" in notice and (release.release_id in given_up or not given_up):
            raise self.violated(f"{release.version} opens and says: {notice}")

    def check_sales(self) -> None:
        """No recorded sale is lost: live, or in a copy that was put aside and reported."""
        aside: set[int] = set()
        for one in self.backups.values():
            if one.kind is BackupKind.BEFORE_RESTORE and one.durable:
                aside |= one.content.sales
        missing = self.acknowledged - set(self.database.sales)
        if missing - aside:
            raise self.violated(f"sales {sorted(missing - aside)} are lost")

    def check_confirms(self) -> None:
        """A confirm that was acknowledged stands."""
        for trial_id in self.acknowledged_confirms:
            trial = self.visible().get(f"trial/{trial_id}")
            if trial is not None and trial.verdict == "given_up" and trial.by == "machine":
                raise self.violated(f"trial {trial_id} was acknowledged as confirmed and given up")
