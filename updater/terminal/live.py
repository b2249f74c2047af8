"""The real effects of a terminal: files, locks, processes, the database, the repository."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbsync.errors import DiskProblem
from dbsync.storage import files
from dbsync.storage.locks import Lock, lock_of
from updater.bundles import version_folders
from updater.errors import Busy
from updater.flows.effects import AppEvent, Till
from updater.host import this_host
from updater.model import (
    Journal,
    Phase,
    ProcessKind,
    Proof,
    Rejection,
    Release,
    ReleaseId,
    Report,
    Running,
    Trial,
    TrialId,
    View,
)
from updater.settings import Settings
from updater.terminal.app_process import Watch
from updater.terminal.state_files import StateFolder

if TYPE_CHECKING:
    from dbsync.commands.scheduled_backup import Done
    from dbsync.model import Backup, Facts, Migration
    from dbsync.progress import Progress
    from dbsync.upgrade.effects import Effects
    from updater.answers import Catalog, Offer
    from updater.bundles.staging import Staging
    from updater.flows.confirm import ConfirmAnswer


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
        self.settings: Final = settings
        self.files: Final = StateFolder(settings.state)
        self.versions: Final = version_folders.Versions(settings.program)
        self.app_lock_path: Final = settings.state / "app.lock"
        self._terminal_lock: Final = Lock(settings.state / "terminal.lock")
        self._database_lock: Final = lock_of(settings.database)
        self._agent_lock: Final = Lock(settings.state / "agent.lock")
        self._kind: Final = kind
        self._reads_only: Final = reads_only or kind is ProcessKind.STATUS
        self._download_progress: Final = download_progress
        self._database_progress: Final = database_progress
        self._watch: Final = Watch(settings, self.files, app_arguments)
        self._was_unavailable = kind is ProcessKind.STATUS
        """Whether a look has failed because a file could not be read; `status` shows what it can at once."""
        self._effects: Effects | None = None
        self._staging: Staging | None = None

    # ----------------------------------------------------------------------------------------------------- records

    def take_terminal_lock(self) -> None:
        if not self._terminal_lock.take(timeout_seconds=self.settings.limits.lock_seconds):
            raise Busy(operation="lock", path=self._terminal_lock.path, cause="another process of Tillkeeper keeps it")

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
        unavailable = False
        try:
            journal, broken = self.files.read_journal()
        except DiskProblem:
            journal, broken, unavailable = None, False, True
        return View(
            journal=journal,
            trials=self.files.read_trials(journal),
            proofs=self.files.read_proofs(),
            rejections=self.files.read_rejections(self._restore_is_done),
            database=self._look_at_database(),
            running=self._running(),
            boot_id=self._host.boot_id(),
            installed=self.versions.names(),
            journal_broken=broken,
            journal_unavailable=unavailable,
        )

    def sync(self) -> None:
        self.files.sync()

    def read_trial(self, trial_id: TrialId) -> Trial | None:
        return self.files.read_trial(trial_id)

    def write_trial(self, trial: Trial) -> None:
        self.files.write_trial(trial)

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

        events = Events(
            self.settings.state,
            kind=self._kind,
            size_limit_bytes=self.settings.limits.events_size_bytes,
            reports_kept_count=self.settings.limits.reports_kept_count,
        )
        events.tell(report, now=self.now(), terminal_id=self.settings.terminal_id)

    def now(self) -> str:
        from datetime import UTC, datetime

        return files.utc_text(datetime.now(UTC))

    def new_id(self) -> str:
        return os.urandom(8).hex()

    def boot_id(self) -> str:
        return self._host.boot_id()

    # ---------------------------------------------------------------------------------------------------- database

    def try_database_lock(self) -> bool:
        return self._database_lock.try_take()

    def release_database_lock(self) -> None:
        self._database_lock.release()

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

    def _look_at_database(self) -> Facts:
        from updater.terminal.database import look_at

        return look_at(self.settings, reads_only=self._reads_only)

    def _restore_is_done(self, intent_id: str) -> bool:
        from updater.terminal.database import restore_is_done

        return restore_is_done(self.settings, intent_id)

    # --------------------------------------------------------------------------------------------------------- app

    def start_app(self, release: Release, *, trial_id: TrialId | None, notice: str) -> None:
        manifest = self.versions.manifest(release.folder)
        self._watch.start(self.versions.folder(release.folder), manifest, release, trial_id=trial_id, notice=notice)

    def attach_app(self) -> None:
        self._watch.attach()

    def await_app(self, *, trial_id: TrialId | None, limit_seconds: float | None) -> AppEvent:
        return self._watch.await_app(trial_id=trial_id, limit_seconds=limit_seconds)

    def asks_confirm(self, trial_id: TrialId) -> bool:
        return self._watch.asks_confirm(trial_id)

    def answer_confirm(self, trial_id: TrialId, answer: ConfirmAnswer) -> None:
        self._watch.answer_confirm(trial_id, answer)

    def end_app(self) -> bool:
        return self._watch.end_app()

    def note_start(self, release: Release, *, failed: bool) -> int:
        return self._watch.note_start(release, failed=failed)

    def pause(self, seconds: float) -> None:
        import time

        time.sleep(seconds)

    def _running(self) -> Running | None:
        found = self._host.running_app(self.app_lock_path)
        if found is None:
            return None
        return Running(found.pid, found.trial_id, found.release_id, found.seconds)

    # ------------------------------------------------------------------------------------------------------- agent

    def try_agent_lock(self) -> bool:
        return self._agent_lock.try_take()

    def release_agent_lock(self) -> None:
        self._agent_lock.release()

    def find_releases(self) -> Catalog:
        return self._stage().find_releases(self.files.read_journal()[0])

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

    def tidy(self, keep: frozenset[ReleaseId]) -> None:
        self._stage().tidy(keep)
        journal, _ = self.files.read_journal()
        named = {journal.trial_id if journal else None, self._look_at_database().trial_id}
        self.files.forget_trials(
            keep_count=self.settings.limits.trials_kept_count,
            keep=frozenset(trial_id for trial_id in named if trial_id is not None),
        )
        # A run that holds the lock has files of its own there.
        if self.try_database_lock():
            from updater.terminal.database import clear_leftovers

            try:
                clear_leftovers(self.settings)
            finally:
                self.release_database_lock()

    def back_up(self) -> Done | None:
        if not self.settings.backup_keep:
            return None
        from updater.terminal.database import back_up

        return back_up(self.settings)

    def in_window(self) -> bool:
        from datetime import datetime

        now = datetime.now().astimezone().strftime("%H:%M")
        start, end = self.settings.window_from, self.settings.window_until
        if start == end:
            return True
        return start <= now < end if start < end else now >= start or now < end

    def _stage(self) -> Staging:
        if self._staging is None:
            from updater.bundles.staging import Staging

            self._staging = Staging(self.settings, self.versions, self._download_progress)
        return self._staging
