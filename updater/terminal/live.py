"""The real effects of a terminal: files, locks, processes, the database, the repository."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbsync.errors import DiskProblem
from dbsync.storage import files
from dbsync.storage.locks import Lock
from dbsync.storage.platform import this_platform
from updater.bundles import version_folders
from updater.decisions.claims import compose
from updater.errors import Busy, LockHeld
from updater.flows.effects import AppEvent, OwnKit, Till
from updater.host import this_host
from updater.model import (
    Choice,
    Claims,
    Issued,
    Journal,
    Phase,
    ProcessKind,
    Proof,
    Rejection,
    Release,
    ReleaseId,
    Report,
    ReportPhase,
    Ruling,
    Seen,
    Trial,
    TrialId,
    View,
)
from updater.outcomes import TerminalOutcome
from updater.settings import Settings
from updater.terminal import launch_count, layout
from updater.terminal.app_process import Watch
from updater.terminal.sides import till_side_of
from updater.terminal.state_files import StateFolder, claims_of

if TYPE_CHECKING:
    from dbsync.commands.scheduled_backup import Done
    from dbsync.model import Backup, Migration
    from dbsync.progress import Progress
    from dbsync.upgrade.effects import Effects
    from updater.answers import Catalog, Offer, Unusable
    from updater.bundles.staging import Staging
    from updater.flows.confirm import ConfirmAnswer

REFUSED_SHOWN_COUNT: Final = 5
AGENTS: Final = (ProcessKind.AGENT, ProcessKind.INSTALL, ProcessKind.ALLOW)
"""Kinds of processes that run with the agent's rights, and record into its private folder."""


class Terminal(Till):
    """One terminal.

    Args:
        settings: paths and limits.
        kind: kind of this process; names its event file.
        download_progress: receives bytes done and bytes in all during a download.
        database_progress: receives dbsync's events.
        app_arguments: arguments for the app, after those of its manifest.
        reads_only: the database is looked at so that no file beside it changes, as `updater status` does.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        kind: ProcessKind,
        download_progress: Callable[[int, int], None] | None = None,
        database_progress: Progress | None = None,
        app_arguments: tuple[str, ...] = (),
        reads_only: bool = False,
    ) -> None:
        self._host: Final = this_host()
        reads_only = reads_only or kind is ProcessKind.STATUS
        settings = layout.settled(settings, reads_only=reads_only, insists=kind in AGENTS)
        self.settings: Final = settings
        self.files: Final = StateFolder(settings.state, shared=settings.shared)
        self.versions: Final = version_folders.Versions(
            settings.program, reserve_bytes=settings.limits.least_free_bytes
        )
        self._till_side: Final = till_side_of(settings, progress=database_progress, reads_only=reads_only)
        self._refused: Final[dict[str, None]] = {}
        """Sentences about entries of the shared folder that are none of ours, in order, until they are told."""
        self._terminal_lock: Final = Lock(settings.state / "terminal.lock")
        self._agent_lock: Final = Lock(settings.private / "agent.lock", like=settings.private)
        self._kind: Final = kind
        self._reads_only: Final = reads_only
        self._download_progress: Final = download_progress
        self._database_progress: Final = database_progress
        self._watch: Final = Watch(settings, self.files, app_arguments)
        self._was_unavailable = kind is ProcessKind.STATUS
        """Whether a look has failed because a file could not be read; `status` shows what it can at once."""
        self._lies_as_before: Final = settings.shared == settings.state
        self._effects: Effects | None = None
        self._staging: Staging | None = None

    def close(self) -> None:
        """End the children of this process: the one that looks at what the till's account owns, and the asking one."""
        if self._staging is not None:
            self._staging.close()
        self._till_side.close()

    # ----------------------------------------------------------------------------------------------------- records

    def take_terminal_lock(self) -> None:
        if not self._terminal_lock.take(timeout_seconds=self.settings.limits.lock_seconds):
            path = self._terminal_lock.path
            holder = this_platform().holder_of(path)
            raise LockHeld(
                operation="lock", path=path,
                cause=f"{f'process {holder}' if holder is not None else 'another process'} keeps it",
            )  # fmt: skip

    def release_terminal_lock(self) -> None:
        self._terminal_lock.release()

    def look(self) -> View:
        try:
            return self._look()
        except DiskProblem:
            # The till must start: what cannot be read twice counts as lost for it. Every other process waits.
            if self._kind not in (ProcessKind.LAUNCHER, ProcessKind.STATUS) or not self._was_unavailable:
                self._was_unavailable = True
                raise
            self.files.tolerates_unavailable = True
            return self._look()

    def _look(self) -> View:
        unavailable = ""
        try:
            journal, broken = self.files.read_journal()
        except DiskProblem as problem:
            journal, broken, unavailable = None, False, problem.located
        issued, rulings = self.files.read_issued(), self.files.read_rulings()
        if self._lies_as_before:
            from updater.decisions.adoption import adopted

            journal, issued, rulings = adopted(journal, self.files.read_first_trials(), now="")
        return compose(
            Seen(
                journal=journal,
                issued=issued,
                rulings=rulings,
                proofs=self.files.read_proofs(),
                rejections=self.files.read_rejections(self._till_side.restore_is_done),
                moment=self.files.read_moment(),
                claims=self._claims([trial.trial_id for trial in issued]),
                database=self._till_side.look_at_database(),
                running=self._till_side.running(),
                boot_id=self._host.boot_id(),
                installed=self.versions.names(),
                journal_broken=broken,
                journal_unavailable=unavailable,
            )
        )

    def _claims(self, trial_ids: list[TrialId]) -> Claims:
        found = self._till_side.claims(trial_ids, lost_if_unavailable=self.files.tolerates_unavailable)
        read = claims_of(found.trials, found.choices, self._till_side.restore_is_done)
        known = {choice.number for choice in read.choices}
        wrong = [f"trial/{name}.json" for name in read.lost if found.trials[name] is not None]
        wrong += [f"choices/{number}" for number, value in found.choices.items() if value and number not in known]
        sentences = [f"could not read {self.settings.shared / name}: it is no record of ours" for name in sorted(wrong)]
        self._refused.update(dict.fromkeys((*found.refused, *sentences)))
        return read

    def sync(self) -> None:
        self.files.sync()
        self._till_side.sync_claims([trial.trial_id for trial in self.files.read_issued()])

    def read_trial(self, trial_id: TrialId) -> Trial | None:
        if self._lies_as_before:
            return next((trial for trial in self.files.read_first_trials() if trial.trial_id == trial_id), None)
        claimed = self._claims([trial_id]).trials
        return self.files.read_composed(trial_id, claimed[0] if claimed else None)

    def write_trial(self, trial: Trial) -> None:
        self.files.write_trial(trial)

    def write_choice(self, choice: Choice) -> None:
        self.files.write_choice(choice)

    def write_issued(self, issued: Issued) -> None:
        self.files.write_issued(issued)

    def write_ruling(self, ruling: Ruling) -> None:
        self.files.write_ruling(ruling)

    def write_moment(self, recalled: tuple[ReleaseId, ...] | None) -> None:
        from updater.terminal import moments

        known = self.files.read_moment()
        if recalled is None:
            recalled = known.recalled if known is not None else ()
        moment = moments.moment(self.settings, recalled)
        if known != moment:
            self.files.write_moment(moment)

    def read_unusable(self) -> tuple[Unusable, ...]:
        return self.files.read_unusable()

    def write_unusable(self, unusable: tuple[Unusable, ...]) -> None:
        self.files.write_unusable(unusable)

    def may_write_records(self) -> bool:
        return os.access(self.settings.state, os.W_OK)

    def write_journal(self, journal: Journal) -> None:
        self.files.write_journal(journal)
        starts = journal.candidate if journal.phase is Phase.SWAPPED and journal.candidate else journal.good
        self.versions.write_current(starts.folder)

    def put_aside_journal(self) -> None:
        self.files.put_aside_journal()

    def write_proof(self, proof: Proof) -> None:
        self.files.write_proof(proof)

    def write_rejection(self, rejection: Rejection) -> None:
        self.files.write_rejection(rejection)

    def remove_rejection(self, release_id: ReleaseId) -> None:
        self.files.remove_rejection(release_id)

    def tell(self, report: Report) -> None:
        from updater.terminal.events import Events

        # The till's account cannot write into the agent's outbox: the agent takes over what it reports.
        own = not self.settings.till_user or self._kind in AGENTS
        events = Events(
            self.settings.private if self._kind in AGENTS else self.settings.shared,
            outbox=self.settings.outbox if own else self.settings.shared / "outbox",
            kind=self._kind,
            size_limit_bytes=self.settings.limits.events_size_bytes,
            reports_kept_count=self.settings.limits.reports_kept_count,
        )
        events.tell(report, now=self.now(), terminal_id=self.settings.terminal_id)

    def now(self) -> str:
        from datetime import UTC, datetime

        return files.utc_text(datetime.now(UTC))

    def new_id(self) -> str:
        return os.urandom(16).hex()

    def boot_id(self) -> str:
        return self._host.boot_id()

    # ---------------------------------------------------------------------------------------------------- database

    def try_database_lock(self) -> bool:
        return self._till_side.try_database_lock()

    def release_database_lock(self) -> None:
        self._till_side.release_database_lock()

    def database(self) -> Effects:
        if self._effects is None:
            from updater.terminal.database import open_effects

            self._effects = open_effects(self.settings, self._database_progress, reads_only=self._reads_only)
        return self._effects

    def migrations(self, release: Release) -> tuple[Migration, ...]:
        from updater.terminal.database import migrations_of

        return migrations_of(self.versions, release)

    def backup_of(self, trial: Trial) -> Backup | None:
        from updater.terminal.database import backup_of

        return backup_of(self.settings, trial)

    # --------------------------------------------------------------------------------------------------------- app

    def start_app(self, release: Release, *, trial_id: TrialId | None, notice: str) -> None:
        start, folder = self.versions.start(release.folder), self.versions.folder(release.folder)
        if self.settings.stable_path is not None and not self.settings.till_user:
            # No app runs now. Of two accounts the agent's leads it, in `tidy`.
            from updater.terminal import stable_path

            stable_path.follow(self, folder)
        self._watch.start(folder, start, release, trial_id=trial_id, notice=notice)
        launch_count.reached()

    def attach_app(self) -> None:
        self._watch.attach()
        launch_count.reached()

    def await_app(self, *, trial_id: TrialId | None, limit_seconds: float | None) -> AppEvent:
        return self._watch.await_app(trial_id=trial_id, limit_seconds=limit_seconds)

    def asks_confirm(self, trial_id: TrialId) -> bool:
        return self._watch.asks_confirm(trial_id)

    def answer_confirm(self, trial_id: TrialId, answer: ConfirmAnswer) -> None:
        self._watch.answer_confirm(trial_id, answer)

    def end_app(self) -> bool:
        return self._watch.end_app()

    def end_left(self) -> bool:
        return self._watch.end_left()

    def held_database(self) -> str:
        from updater.terminal.database import why_not_writable

        return why_not_writable(self.settings)

    def note_start(self, release: Release, *, failed: bool) -> int:
        return self._watch.note_start(release, failed=failed)

    def pause(self, seconds: float) -> None:
        import time

        time.sleep(seconds)

    # ------------------------------------------------------------------------------------------------------- agent

    def try_agent_lock(self) -> bool:
        if layout.is_first(self.settings):
            raise Busy(
                operation="move the files of this terminal", path=self.settings.state,
                cause="an app or a command of updater is at work",
                hint="Close the app; the next cycle moves them.",
            )  # fmt: skip
        return self._agent_lock.try_take()

    def release_agent_lock(self) -> None:
        if self._staging is not None:
            self._staging.close()
        self._agent_lock.release()

    def own_kit(self) -> OwnKit | None:
        from updater.terminal import kit_use

        if kit_use.own_folder() is None:
            return None
        from updater.terminal.own_kit import RealKit, version_here

        here = version_here()
        return None if here is None else RealKit(here[0], self.settings, self._stage())

    def find_releases(self) -> Catalog:
        worked = tuple(proof.release for proof in self.files.read_proofs())
        return self._stage().find_releases(self.files.read_journal()[0], worked)

    def reuse(self, offer: Offer) -> bool:
        return self._stage().reuse(offer)

    def download(self, offer: Offer) -> Path:
        return self._stage().download(offer)

    def unpack(self, offer: Offer, archive: Path) -> Path:
        return self._stage().unpack(offer, archive)

    def copy_bundle(self, offer: Offer, folder: Path) -> Path:
        return self._stage().copy_bundle(offer, folder)

    def check_unpacked(self, offer: Offer, staging: Path) -> None:
        self._stage().check_unpacked(offer, staging)

    def shelve(self, offer: Offer, staging: Path) -> None:
        self._stage().shelve(offer, staging)

    def tidy(self, keep: frozenset[ReleaseId], *, downloads: frozenset[str] | None) -> None:
        self._stage().tidy(keep, self.tell, downloads=downloads)
        if self.settings.stable_path is not None:
            from updater.terminal import stable_path

            stable_path.follow(self)
        journal, _ = self.files.read_journal()
        named = {journal.trial_id if journal else None, self._till_side.look_at_database().trial_id}
        self.files.forget_trials(
            keep_count=self.settings.limits.trials_kept_count,
            keep=frozenset(trial_id for trial_id in named if trial_id is not None),
        )
        self._till_side.tidy(
            issued=[trial.trial_id for trial in self.files.read_issued()],
            last_choice=journal.last_choice if journal is not None else 0,
        )

    def back_up(self) -> Done | None:
        return self._till_side.back_up()

    def in_moment(self) -> bool:
        from updater.terminal import moments

        return moments.is_now(self.settings, self.files.read_moment())

    def two_accounts(self) -> bool:
        return bool(self.settings.till_user)

    def take_in(self) -> None:
        if not self.two_accounts():
            return
        from updater.terminal.intake import take_in

        found = take_in(
            self._till_side,
            outbox=self.settings.outbox,
            account=self.settings.till_user,
            terminal_id=self.settings.terminal_id,
            now=self.now(),
            kept_count=self.settings.limits.reports_kept_count,
        )
        refused = [*self._refused, *found.refused]
        self._refused.clear()
        if refused:
            causes = "; ".join(refused[:REFUSED_SHOWN_COUNT])
            more = len(refused) - REFUSED_SHOWN_COUNT
            self.tell(
                Report(
                    TerminalOutcome.TILL_FILE_REFUSED,
                    phase=ReportPhase.LOOK,
                    cause=causes + (f"; and {more} more" if more > 0 else ""),
                    done="it counts as a damaged file",
                )
            )

    def _stage(self) -> Staging:
        if self._staging is None:
            from updater.bundles.staging import Staging
            from updater.terminal.own_kit import version_here

            here = version_here()
            self._staging = Staging(
                self.settings,
                self.versions,
                self._download_progress,
                self_test=self._till_side.self_test,
                told=self.tell,
                agent_version=here[1] if here is not None else "",
            )
        return self._staging
