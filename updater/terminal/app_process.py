"""Starting and watching the app: command, environment, confirm file, and the wait until it confirms or ends."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbsync.errors import Refused, TillkeeperError
from dbsync.storage import files as disk_files
from updater.flows.effects import AppEvent, AppEventKind
from updater.host import this_host
from updater.host.base import App, Order
from updater.manifest import Start
from updater.model import Release, TrialId, Verdict
from updater.settings import Settings
from updater.terminal import app_log
from updater.terminal.app_log import LogView
from updater.terminal.confirm_file import ConfirmFile
from updater.terminal.state_files import StateFolder

if TYPE_CHECKING:
    from updater.flows.confirm import ConfirmAnswer

POLL_SECONDS: Final = 0.05
SHOW_SECONDS: Final = 0.1
"""How often what the app prints is shown, where anybody can read it."""
STALLED_SECONDS: Final = 2.0
REST_SECONDS: Final = 5.0
KEEPER: Final = "updater.terminal.keeper"
ENVIRONMENT: Final = ("TRIAL_ID", "CONFIRM_FILE", "SETTINGS", "DATABASE", "NOTICE", "RELEASE")


class Watch:
    """The app that this launcher started or attached to."""

    def __init__(self, settings: Settings, files: StateFolder, app_arguments: tuple[str, ...] = ()) -> None:
        self._host: Final = this_host()
        self._settings: Final = settings
        self._files: Final = files
        self._app_arguments: Final = app_arguments
        self._lock_path: Final = settings.shared / "app.lock"
        self._log_path: Final = settings.shared / "app.log"
        self._starts_path: Final = settings.shared / "starts.json"
        self._app: App | None = None
        self._since: float = 0.0
        self._log = LogView(self._log_path)

    def start(self, folder: Path, start: Start, release: Release, *, trial_id: TrialId | None, notice: str) -> None:
        """Start the app of a version folder.

        Raises:
            Refused: its command cannot be run on this terminal.
            AppAlreadyRunning: another app runs.
        """
        if trial_id is not None:
            ConfirmFile(self._settings.shared, trial_id).clear()
        order = Order(
            command=tuple(self._command(folder, start)),
            environment=self._environment(release, trial_id=trial_id, notice=notice),
            folder=folder,
            lock_path=self._lock_path,
            log_path=self._log_path,
            log_size_bytes=self._settings.limits.app_log_size_bytes,
            settings_path=self._settings.path,
            trial_id=trial_id,
            release_id=release.release_id,
        )
        self._log = LogView(self._log_path)
        self._app = self._host.start_app(order, keeper=KEEPER)
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
            return self._await_end(app)
        while True:
            exit_code = app.wait(limit_seconds=POLL_SECONDS)
            self._follow_log(app)
            if self.asks_confirm(trial_id) and not app.is_kept():
                return AppEvent(AppEventKind.ASKS, seconds=self._seconds())
            trial = self._files.read_trial(trial_id)
            if trial is not None and trial.verdict is Verdict.CONFIRMED:
                return AppEvent(AppEventKind.CONFIRMED, seconds=self._seconds())
            if exit_code is not None:
                return self._exited(exit_code)
            if limit_seconds is not None and self._seconds() >= limit_seconds:
                return AppEvent(AppEventKind.OVERDUE, seconds=self._seconds())

    def _await_end(self, app: App) -> AppEvent:
        rest_seconds = SHOW_SECONDS if self._log.is_seen() else REST_SECONDS
        with app.ended_with_us():
            while (exit_code := app.wait(limit_seconds=rest_seconds)) is None:
                self._follow_log(app)
        return self._exited(exit_code)

    def _follow_log(self, app: App) -> None:
        self._log.show()
        limit_bytes = self._settings.limits.app_log_size_bytes
        # Not after the app's end, which is its keeper's too: its last words are read from here.
        alone = self._log.size_bytes() > limit_bytes and not app.is_kept() and app.wait(limit_seconds=0) is None
        if alone:
            app_log.keep_small(self._log_path, size_limit_bytes=limit_bytes)

    def _exited(self, exit_code: int) -> AppEvent:
        self._log.show(stalled_seconds=STALLED_SECONDS)
        words = self._log.tail() if exit_code != 0 else ""
        return AppEvent(AppEventKind.EXITED, exit_code, self._seconds(), words)

    def confirm_file(self, trial_id: TrialId) -> Path:
        """Return the file in which the app writes its trial's id to confirm."""
        return ConfirmFile(self._settings.shared, trial_id).path

    def answer_confirm(self, trial_id: TrialId, answer: ConfirmAnswer) -> None:
        """Answer a confirm by file that no keeper answers."""
        ConfirmFile(self._settings.shared, trial_id).answer(answer)

    def asks_confirm(self, trial_id: TrialId) -> bool:
        """Return whether the app has written its confirm file; answering removes it."""
        return ConfirmFile(self._settings.shared, trial_id).asks()

    def end_app(self) -> bool:
        """End the app and all processes it started; return whether all of them are gone."""
        grace_seconds = self._settings.limits.end_grace_seconds
        return self._app is None or self._host.end_tree(self._app, grace_seconds=grace_seconds)

    def end_left(self) -> bool:
        """End what the last app has left running; return whether all of it is gone."""
        return self._host.end_left(self._lock_path, grace_seconds=self._settings.limits.end_grace_seconds)

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

    def _seconds(self) -> float:
        return self._host.monotonic_seconds() - self._since


def _inherited() -> Mapping[str, str]:
    """Return the environment that this launcher was started with."""
    if not vars(sys).get("frozen"):
        return os.environ
    # Here, because no other start needs it: the start of a frozen program changes its environment.
    from dbsync.storage import children

    return children.inherited()
