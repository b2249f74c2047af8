"""Starting and watching the app: command, environment, confirm file, and the wait until it confirms or ends."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbsync.errors import Refused, TillkeeperError
from dbsync.storage import files as disk_files
from dbsync.storage.files import disk_errors
from updater.flows.effects import AppEvent, AppEventKind
from updater.host import this_host
from updater.host.base import App
from updater.manifest import Start
from updater.model import Release, TrialId, Verdict
from updater.settings import Settings
from updater.terminal.state_files import StateFolder

if TYPE_CHECKING:
    from updater.flows.confirm import ConfirmAnswer

POLL_SECONDS: Final = 0.05
ENVIRONMENT: Final = ("TRIAL_ID", "CONFIRM_FILE", "SETTINGS", "DATABASE", "NOTICE", "RELEASE")


class Watch:
    """The app that this launcher started or attached to."""

    def __init__(self, settings: Settings, files: StateFolder, app_arguments: tuple[str, ...] = ()) -> None:
        self._host: Final = this_host()
        self._settings: Final = settings
        self._files: Final = files
        self._app_arguments: Final = app_arguments
        self._lock_path: Final = settings.shared / "app.lock"
        self._starts_path: Final = settings.shared / "starts.json"
        self._app: App | None = None
        self._since: float = 0.0

    def start(self, folder: Path, start: Start, release: Release, *, trial_id: TrialId | None, notice: str) -> None:
        """Start the app of a version folder.

        Raises:
            Refused: its command cannot be run on this terminal.
            AppAlreadyRunning: another app holds the app lock.
        """
        if trial_id is not None:
            # A confirm file of an earlier launch under this trial must not confirm this launch.
            for path in (self.confirm_file(trial_id), self._answer_file(trial_id)):
                path.unlink(missing_ok=True)
        self._app = self._host.start_app(
            self._command(folder, start),
            env=self._environment(release, trial_id=trial_id, notice=notice),
            cwd=folder,
            lock_path=self._lock_path,
            note={"trial_id": trial_id, "release_id": release.release_id},
        )
        self._since = self._host.monotonic_seconds()
        gc.freeze()
        gc.enable()

    def attach(self) -> None:
        """Attach to an app that another launcher started; if it has just ended, the wait ends at once."""
        running = self._host.running_app(self._lock_path)
        if running is None:
            self._app = None
            return
        self._app = self._host.attach(running)
        self._since = self._host.monotonic_seconds() - running.seconds

    def await_app(self, *, trial_id: TrialId | None, limit_seconds: float | None) -> AppEvent:
        """Wait for the app's end; on trial, also for a confirm by file or command, or for the limit."""
        app = self._app
        if app is None:
            return AppEvent(AppEventKind.EXITED, -1)
        if trial_id is None:
            code = app.wait()
            return AppEvent(AppEventKind.EXITED, code, self._seconds())
        while True:
            exit_code = app.poll()
            if self.asks_confirm(trial_id):
                return AppEvent(AppEventKind.ASKS, seconds=self._seconds())
            trial = self._files.read_trial(trial_id)
            if trial is not None and trial.verdict is Verdict.CONFIRMED:
                return AppEvent(AppEventKind.CONFIRMED, seconds=self._seconds())
            if exit_code is not None:
                return AppEvent(AppEventKind.EXITED, exit_code, self._seconds())
            if limit_seconds is not None and self._seconds() >= limit_seconds:
                return AppEvent(AppEventKind.OVERDUE, seconds=self._seconds())
            time.sleep(POLL_SECONDS)

    def confirm_file(self, trial_id: TrialId) -> Path:
        """Return the file in which the app writes its trial's id to confirm."""
        return self._settings.shared / f"confirm-{trial_id}"

    def answer_confirm(self, trial_id: TrialId, answer: ConfirmAnswer) -> None:
        """Answer a confirm by file; after a crash before this, the app waits and the next launcher answers."""
        with disk_errors("answer the confirm", self.confirm_file(trial_id)):
            disk_files.write_durably(self._answer_file(trial_id), answer.encode(), like=self._settings.shared)
            self.confirm_file(trial_id).unlink(missing_ok=True)

    def end_app(self) -> bool:
        """End the app and all processes it started; return whether all of them are gone."""
        grace_seconds = self._settings.limits.end_grace_seconds
        return self._app is None or self._host.end_tree(self._app, grace_seconds=grace_seconds)

    def note_start(self, release: Release, *, failed: bool) -> int:
        """Record a start and return the number of consecutive failed starts; a good start usually writes nothing."""
        count = self._failed_starts(release) + 1 if failed else 0
        if not failed and not self._starts_path.exists():
            return 0
        try:
            if failed:
                disk_files.write_json(
                    self._starts_path,
                    {"release_id": release.release_id, "failed_count": count},
                    like=self._starts_path.parent,
                )
            else:
                self._starts_path.unlink(missing_ok=True)
        except (TillkeeperError, OSError):
            # The count only alerts support: failing to write it must not stop the till.
            return count
        return count

    def _failed_starts(self, release: Release) -> int:
        try:
            noted = disk_files.read_json(self._starts_path)
            return int(noted["failed_count"]) if noted["release_id"] == release.release_id else 0
        except (FileNotFoundError, TillkeeperError, KeyError, TypeError, ValueError):
            return 0

    def _command(self, folder: Path, start: Start) -> list[str]:
        entry = str(folder / start.entry)
        if start.interpreter is None:
            return [entry, *start.arguments, *self._app_arguments]
        interpreter = self._settings.interpreters.get(start.interpreter)
        if interpreter is None:
            raise Refused(
                operation="start",
                path=folder / start.entry,
                cause=f"the settings name no interpreter for the role {start.interpreter!r}",
                hint=f"Add it under [interpreters] in {self._settings.path}.",
            )
        return [interpreter, entry, *start.arguments, *self._app_arguments]

    def _environment(self, release: Release, *, trial_id: TrialId | None, notice: str) -> dict[str, str]:
        ours = {f"TILLKEEPER_{name}" for name in ENVIRONMENT}
        values = {name: value for name, value in _inherited().items() if name not in ours}
        values["TILLKEEPER_SETTINGS"] = str(self._settings.path)
        values["TILLKEEPER_DATABASE"] = str(self._settings.database)
        values["TILLKEEPER_RELEASE"] = release.version
        if notice:
            values["TILLKEEPER_NOTICE"] = notice
        if trial_id is not None:
            values["TILLKEEPER_TRIAL_ID"] = trial_id
            values["TILLKEEPER_CONFIRM_FILE"] = str(self.confirm_file(trial_id))
        return values

    def asks_confirm(self, trial_id: TrialId) -> bool:
        """Return whether the app has written its confirm file; answering removes it."""
        try:
            return self.confirm_file(trial_id).read_text(encoding="utf-8").strip() == trial_id
        except (OSError, ValueError):
            return False

    def _answer_file(self, trial_id: TrialId) -> Path:
        return self._settings.shared / f"confirm-{trial_id}.ack"

    def _seconds(self) -> float:
        return self._host.monotonic_seconds() - self._since


def _inherited() -> Mapping[str, str]:
    """Return the environment that this launcher was started with."""
    if not vars(sys).get("frozen"):
        return os.environ
    # Here, because no other start needs it: the start of a frozen program changes its environment.
    from dbsync.storage import children

    return children.inherited()
