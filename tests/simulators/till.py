"""The Till protocol in memory, one object per process, over one shared World."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dbsync.commands.scheduled_backup import Done
from dbsync.model import Backup as BackupFacts
from dbsync.model import Migration, ReleaseId, TrialId
from tests.simulators.database import SimulatedEffects
from tests.simulators.world import App, Killed, PowerCut, World
from updater.answers import Answer, Catalog, Offer, Unusable
from updater.decisions.claims import compose, composed
from updater.errors import Busy
from updater.flows.confirm import ConfirmAnswer, confirm
from updater.flows.effects import AppEvent, AppEventKind, Till
from updater.model import (
    Choice,
    Claims,
    Issued,
    Journal,
    Moment,
    Proof,
    Rejection,
    Release,
    Report,
    Ruling,
    Running,
    Seen,
    Trial,
    Verdict,
    View,
)

KINDS = ("trial", "choices", "issued", "verdicts", "proofs", "rejected", "intent")
"""Folders of state files; every other file has a name of its own."""


class SimulatedTill(Till):
    """One process's hands on the world."""

    def __init__(self, world: World, process: str) -> None:
        self.world = world
        self.process = process
        self.effects = SimulatedEffects(world, process)

    def _tick(self, what: str) -> None:
        self.world.tick(self.process, what)

    # ------------------------------------------------------------------------------------------------------ records

    def take_terminal_lock(self) -> None:
        self._tick("take terminal lock")
        if self.world.terminal_lock is not None:
            raise Busy(operation="lock", cause=f"{self.world.terminal_lock} keeps it")
        self.world.terminal_lock = self.process

    def release_terminal_lock(self) -> None:
        # The kernel does this for a dead process: no tick, nothing can come in between.
        if self.world.terminal_lock == self.process:
            self.world.terminal_lock = None

    def look(self) -> View:
        self._tick("look")
        seen = self.world.visible()
        app = self.world.app
        kinds: dict[str, list[Any]] = {name: [] for name in KINDS}
        for name in sorted(seen):
            kinds.setdefault(name.partition("/")[0], []).append(seen[name])
        restored = {one.intent_id for one in kinds["intent"] if one.done}
        claims = Claims(
            tuple(one for one in kinds["trial"] if isinstance(one, Trial)),
            frozenset(TrialId(name[6:]) for name in seen if name.startswith("trial/") and seen[name] == "garbage"),
            tuple(one._replace(done=one.backup is None or one.intent_id in restored) for one in kinds["choices"]),
        )
        return compose(
            Seen(
                journal=seen.get("journal") if seen.get("journal") != "garbage" else None,
                issued=tuple(sorted(kinds["issued"], key=lambda one: one.number)),
                rulings=tuple(kinds["verdicts"]),
                proofs=tuple(sorted(kinds["proofs"], key=lambda p: p.sequence)),
                rejections=tuple(
                    one._replace(done=one.backup is None or one.intent_id in restored) for one in kinds["rejected"]
                ),
                moment=seen.get("moment"),
                claims=claims,
                database=self.world.database.facts(),
                running=Running(1, app.trial_id, app.release.release_id, app.seconds) if app else None,
                boot_id=str(self.world.boot),
                installed=frozenset(self.world.folders),
                journal_broken=seen.get("journal") == "garbage",
            )
        )

    def sync(self) -> None:
        self._tick("sync")
        self.world.sync_all()

    def read_trial(self, trial_id: TrialId) -> Trial | None:
        seen = self.world.visible()
        issued, claim = seen.get(f"issued/{trial_id}"), seen.get(f"trial/{trial_id}")
        claim = claim if isinstance(claim, Trial) else None
        return composed(issued, claim, seen.get(f"verdicts/{trial_id}")) if issued is not None else None

    def write_trial(self, trial: Trial) -> None:
        self._locked()
        self.world.need(not self.process.startswith("agent"), "the agent writes nothing in the shared folder")
        verdict = Verdict.GIVEN_UP if trial.verdict is Verdict.TAKEN_BACK else trial.verdict
        self.world.write(self.process, f"trial/{trial.trial_id}", trial._replace(verdict=verdict))

    def write_choice(self, choice: Choice) -> None:
        self._locked()
        self.world.write(self.process, f"choices/{choice.number:06d}", choice._replace(done=True))

    def write_issued(self, issued: Issued) -> None:
        self._records()
        self.world.write(self.process, f"issued/{issued.trial_id}", issued)

    def write_ruling(self, ruling: Ruling) -> None:
        self._records()
        self.world.write(self.process, f"verdicts/{ruling.trial_id}", ruling)

    def write_moment(self, recalled: tuple[ReleaseId, ...] | None) -> None:
        self._records()
        known = self.world.visible().get("moment")
        if recalled is None:
            recalled = known.recalled if known is not None else ()
        moment = Moment(self.world.always, (), recalled)
        if moment != known:
            self.world.write(self.process, "moment", moment)

    def read_unusable(self) -> tuple[Unusable, ...]:
        found: tuple[Unusable, ...] = self.world.visible().get("unusable", ())
        return found

    def write_unusable(self, unusable: tuple[Unusable, ...]) -> None:
        self._records()
        self.world.write(self.process, "unusable", unusable)

    def may_write_records(self) -> bool:
        return self.process != "clerk"

    def _records(self) -> None:
        """The agent's files: the launcher never writes them, and a clerk's account may not."""
        self._locked()
        till = self.process.startswith("launcher") or self.process in ("clerk", "confirm", "keeper")
        self.world.need(not till, "the till's account never writes the agent's files")

    def write_journal(self, journal: Journal) -> None:
        self._records()
        self.world.write(self.process, "journal", journal)

    def put_aside_journal(self) -> None:
        self._records()
        self.world.write(self.process, "journal", None)

    def write_proof(self, proof: Proof) -> None:
        self._records()
        name = f"proofs/{proof.sequence}-{proof.release.release_id}"
        self.world.need(name not in self.world.visible(), "a proof is never rewritten")
        self.world.write(self.process, name, proof)

    def write_rejection(self, rejection: Rejection) -> None:
        self._records()
        self.world.write(self.process, f"rejected/{rejection.release.release_id}", rejection)

    def remove_rejection(self, release_id: ReleaseId) -> None:
        self._records()
        self.world.write(self.process, f"rejected/{release_id}", None)

    def tell(self, report: Report) -> None:
        self._tick(f"tell {report.outcome}")
        self.world.told.append(report)

    def now(self) -> str:
        return f"clock {self.world.clock_seconds}"

    def new_id(self) -> str:
        self.world.ids += 1
        return f"id{self.world.ids}"

    def boot_id(self) -> str:
        return str(self.world.boot)

    def _locked(self) -> None:
        held = self.world.terminal_lock == self.process
        self.world.need(held, "state files change under the terminal lock only")

    # ----------------------------------------------------------------------------------------------------- database

    def try_database_lock(self) -> bool:
        self._tick("try database lock")
        if self.world.database_lock is not None:
            return False
        self.world.database_lock = self.process
        return True

    def release_database_lock(self) -> None:
        if self.world.database_lock == self.process:
            self.world.database_lock = None

    def database(self) -> SimulatedEffects:
        return self.effects

    def migrations(self, release: Release) -> tuple[Migration, ...]:
        return self.effects.migrations_up_to(release.schema)

    def backup_of(self, trial: Trial) -> BackupFacts | None:
        return self.effects.backup_for(trial.trial_id)

    # ---------------------------------------------------------------------------------------------------------- app

    def start_app(self, release: Release, *, trial_id: TrialId | None, notice: str) -> None:
        self._tick(f"start {release.version}")
        # Beside a process that keeps the lock and does not end, an app that needs nothing written starts.
        held = self.world.terminal_lock == self.process or (self.world.terminal_lock is not None and trial_id is None)
        self.world.need(held, "a start without the terminal lock")
        self.world.need(self.world.database_lock == self.process, "a start without the database lock")
        self.world.check_start(release)
        self.world.check_notice(release, notice)
        self.world.notices.append((release.version, notice))
        self.world.app = App(release, trial_id)
        self.world.started.append((release.version, trial_id))

    def attach_app(self) -> None:
        self._tick("attach")

    def await_app(self, *, trial_id: TrialId | None, limit_seconds: float | None) -> AppEvent:
        self._tick("await app")
        app = self.world.app
        if app is None:
            return AppEvent(AppEventKind.EXITED, -1)
        behaviour = self.world.behaviour.get(app.release.version, "good")
        if trial_id is None or app.confirmed:
            self.world.sell()
            self.world.end_app()
            return AppEvent(AppEventKind.EXITED, 0, 3600.0)
        return self._on_trial(app, behaviour, limit_seconds or 0.0)

    def _on_trial(self, app: App, behaviour: str, limit_seconds: float) -> AppEvent:
        if behaviour == "good":
            app.asked = True
            if app.kept:
                self._be_keeper(app)
            if app.kept:
                return AppEvent(AppEventKind.CONFIRMED, seconds=1.0) if app.confirmed else self._exit(0)
            return AppEvent(AppEventKind.ASKS, seconds=1.0)
        if behaviour == "good_by_command":
            self.confirm_by_command(app)
            return AppEvent(AppEventKind.CONFIRMED, seconds=1.0) if app.confirmed else self._exit(0)
        if behaviour == "sells_then_crash":
            self.world.sell()
        if behaviour in ("hang", "late_confirm"):
            app.seconds = limit_seconds
            return AppEvent(AppEventKind.OVERDUE, seconds=max(limit_seconds, 1.0))
        return self._exit(0 if behaviour == "exit0" else 1)

    def _be_keeper(self, app: App) -> None:
        """The keeper answers; one that dies, or cannot, leaves the app to the launcher."""
        # With the rights of the same account, whatever this class makes of them.
        keeper = type(self)(self.world, "keeper")
        try:
            answer = confirm(keeper, app.trial_id)
            keeper._tick(f"answer {answer}")
            self._answered(app, answer)
        except PowerCut:
            raise
        except (Killed, Exception):
            self.world.kill("keeper")
            app.kept = False

    def _exit(self, code: int) -> AppEvent:
        self.world.end_app()
        return AppEvent(AppEventKind.EXITED, code, 1.0)

    def confirm_by_command(self, app: App) -> None:
        """The app runs `updater confirm`, as often as it takes."""
        answer = confirm(SimulatedTill(self.world, "confirm"), app.trial_id)
        self._answered(app, answer)

    def _answered(self, app: App, answer: ConfirmAnswer) -> None:
        if answer is ConfirmAnswer.CONFIRMED:
            app.confirmed = True
            self.world.acknowledged_confirms.add(app.trial_id or "")
            self.world.sell()

    def asks_confirm(self, trial_id: TrialId) -> bool:
        self._tick("asks confirm?")
        app = self.world.app
        return app is not None and app.asked and not app.confirmed

    def answer_confirm(self, trial_id: TrialId, answer: ConfirmAnswer) -> None:
        self._tick(f"answer {answer}")
        app = self.world.app
        if app is not None and app.trial_id == trial_id:
            self._answered(app, answer)
            if answer is not ConfirmAnswer.CONFIRMED:
                self.world.end_app()

    def end_app(self) -> bool:
        self._tick("end app")
        app = self.world.app
        if app is not None and self.world.behaviour.get(app.release.version) == "late_confirm":
            # The race: the app confirms at the very moment at which it is ended.
            self.confirm_by_command(app)
        self.world.app = None
        return True

    def end_left(self) -> bool:
        self._tick("end what was left")
        self.world.helper = False
        return True

    def held_database(self) -> str:
        return ""

    def note_start(self, release: Release, *, failed: bool) -> int:
        return 0

    def pause(self, seconds: float) -> None:
        self._tick("pause")

    # -------------------------------------------------------------------------------------------------------- agent

    def try_agent_lock(self) -> bool:
        self._tick("try agent lock")
        if self.world.agent_lock is not None:
            return False
        self.world.agent_lock = self.process
        return True

    def release_agent_lock(self) -> None:
        if self.world.agent_lock == self.process:
            self.world.agent_lock = None

    def own_kit(self) -> None:
        """It runs from no kit."""

    def find_releases(self) -> Catalog:
        self._tick("ask the repository")
        journal = self.world.visible().get("journal")
        good = journal.good.version if isinstance(journal, Journal) else ""
        newer = tuple(Offer(one, 1) for one in self.world.offered if one.version > good)
        return Catalog(Answer.OK, "", newer, frozenset(one.release_id for one in self.world.releases.values()))

    def reuse(self, offer: Offer) -> bool:
        self._tick("reuse")
        return offer.release.folder in self.world.folders

    def download(self, offer: Offer) -> Path:
        self._tick("download")
        return Path("archive")

    def unpack(self, offer: Offer, archive: Path) -> Path:
        self._tick("unpack")
        return Path("staging")

    def copy_bundle(self, offer: Offer, folder: Path) -> Path:
        self._tick("copy bundle")
        return Path("staging")

    def check_unpacked(self, offer: Offer, staging: Path) -> None:
        self._tick("check")

    def shelve(self, offer: Offer, staging: Path) -> None:
        self._tick("shelve")
        # Synced before the rename, and the rename is synced: a folder that is visible is complete and durable.
        self.world.folders.add(offer.release.folder)

    def tidy(self, keep: frozenset[ReleaseId], *, downloads: frozenset[str] | None) -> None:
        self._tick("tidy")
        self.world.folders = {one for one in self.world.folders if one.split("-")[1] in {it[:12] for it in keep}}

    def back_up(self) -> Done | None:
        return None

    def in_moment(self) -> bool:
        return self.world.in_moment

    def two_accounts(self) -> bool:
        return self.world.two_accounts

    def take_in(self) -> None:
        self._tick("take in")
