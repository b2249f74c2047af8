"""The till's side in this process: with one account, and inside the worker that has the till's rights."""

from __future__ import annotations

import re
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbsync.errors import DiskProblem, TillkeeperError
from dbsync.facts import Facts, State
from dbsync.storage import claims, file_calls, files
from dbsync.storage.locks import lock_of
from updater.errors import Busy
from updater.host import this_host
from updater.model import Running, TrialId
from updater.settings import Settings
from updater.terminal.till_side import RawClaims, RawReports, TillSide

if TYPE_CHECKING:
    from dbsync.commands.scheduled_backup import Done
    from dbsync.progress import Progress

TRIAL_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,100}")
"""Before it becomes a part of a path."""
CHOICE_NAME: Final = r"[0-9]{1,9}\.json"
CLAIM_LIMIT_BYTES: Final = 32 * 1024
CHOICES_LIMIT: Final = 50
"""Choices that are read, the newest; a person makes a few in the life of a terminal."""
REPORT_NAME: Final = r"[0-9A-Za-z_-][0-9A-Za-z._-]{0,150}\.json"
REPORTS_LIMIT: Final = 50
REPORT_LIMIT_BYTES: Final = 64 * 1024


class OwnSide(TillSide):
    """The till's side with the rights of this process."""

    def __init__(
        self, settings: Settings, *, progress: Progress | None = None, reads_only: bool = False, is_worker: bool = False
    ) -> None:
        self._is_worker: Final = is_worker
        self._settings: Final = settings
        self._progress: Final = progress
        self._reads_only: Final = reads_only
        self._trials: Final = settings.shared / "trial"
        self._choices: Final = settings.shared / "choices"
        self._outbox: Final = settings.shared / "outbox"
        self._database_lock: Final = lock_of(settings.database)

    def claims(self, trial_ids: Collection[TrialId], *, lost_if_unavailable: bool = False) -> RawClaims:
        refused: list[str] = []
        trials: dict[TrialId, dict[str, Any] | None] = {}
        for trial_id in filter(TRIAL_ID.fullmatch, trial_ids):
            with suppress(FileNotFoundError):
                trials[trial_id] = self._claim(
                    self._trials / f"{trial_id}.json", refused, lost_if_unavailable=lost_if_unavailable
                )
        choices: dict[int, dict[str, Any] | None] = {}
        for name in self._choice_names(refused):
            with suppress(FileNotFoundError):
                choices[int(name.removesuffix(".json"))] = self._claim(
                    self._choices / name, refused, lost_if_unavailable=lost_if_unavailable
                )
        return RawClaims(trials, choices, tuple(refused))

    def sync_claims(self, trial_ids: Collection[TrialId]) -> None:
        paths = [self._trials / f"{trial_id}.json" for trial_id in filter(TRIAL_ID.fullmatch, trial_ids)]
        for path in (*paths, *(self._choices / name for name in self._choice_names([]))):
            with suppress(FileNotFoundError, claims.NotOurs), self._closed_passed_over():
                claims.sync(path)
        for folder in (self._trials, self._choices):
            if folder.is_dir() and not folder.is_symlink():
                with self._closed_passed_over():
                    files.sync_folder(folder)

    def look_at_database(self) -> Facts:
        from updater.terminal.database import look_at

        if self._is_worker and not _is_file_or_none(self._settings.database):
            # SQLite waits for ever for the first page from a FIFO.
            return Facts(State.UNREADABLE, detail="it is no regular file")
        return look_at(self._settings, reads_only=self._reads_only)

    def running(self) -> Running | None:
        try:
            found = this_host().running_app(self._settings.shared / "app.lock")
        except DiskProblem as error:
            if not self._is_closed(error):
                raise
            # Only what he does with his own app depends on it.
            found = None
        return None if found is None else Running(found.pid, found.trial_id, found.release_id, found.seconds)

    def restore_is_done(self, intent_id: str) -> bool:
        from updater.terminal.database import restore_is_done

        return restore_is_done(self._settings, intent_id)

    def try_database_lock(self) -> bool:
        return self._database_lock.try_take()

    def release_database_lock(self) -> None:
        self._database_lock.release()

    def back_up(self) -> Done | None:
        if not self._settings.backup_keep:
            return None
        if not self._database_lock.held:
            raise Busy(operation="back up", path=self._database_lock.path, cause="the lock is no longer held")
        from updater.terminal.database import back_up

        return back_up(self._settings)

    def tidy(self, *, issued: Collection[TrialId], last_choice: int) -> None:
        settled: list[Path] = []
        with suppress(claims.NotOurs), self._closed_passed_over():
            names = claims.names(self._trials, rf"{TRIAL_ID.pattern}\.json").names
            settled += [self._trials / name for name in names if name.removesuffix(".json") not in set(issued)]
        with suppress(claims.NotOurs), self._closed_passed_over():
            names = claims.names(self._choices, CHOICE_NAME).names
            settled += [self._choices / name for name in names if int(name.removesuffix(".json")) <= last_choice]
        for path in settled:
            _remove(path)
        # A run that holds the lock has files of its own there.
        if not self._database_lock.held and self.try_database_lock():
            from updater.terminal.database import clear_leftovers

            try:
                clear_leftovers(self._settings)
            finally:
                self.release_database_lock()

    def self_test(self, command: Sequence[str], *, folder: Path, timeout_seconds: float) -> tuple[int | None, str]:
        return this_host().run_and_wait(command, timeout_seconds=timeout_seconds, env=None, cwd=folder)

    def read_reports(self) -> RawReports:
        documents: dict[str, dict[str, Any]] = {}
        refused: dict[str, str] = {}
        try:
            listed = claims.names(self._outbox, REPORT_NAME)
        except (claims.NotOurs, DiskProblem) as error:
            return RawReports({}, {"": str(error)})
        for name in listed.names[:REPORTS_LIMIT]:
            try:
                documents[name] = claims.read_json(self._outbox / name, limit_bytes=REPORT_LIMIT_BYTES)
            except FileNotFoundError:
                continue
            except TillkeeperError as error:
                refused[name] = str(error)
        if not listed.complete:
            refused[""] = f"could not read {self._outbox}: it has more than {claims.NAMES_LIMIT} entries"
        return RawReports(documents, refused)

    def remove_reports(self, names: Collection[str]) -> None:
        for name in names:
            if re.fullmatch(REPORT_NAME, name):
                _remove(self._outbox / name)

    def close(self) -> None:
        self.release_database_lock()

    def _claim(self, path: Path, refused: list[str], *, lost_if_unavailable: bool) -> dict[str, Any] | None:
        try:
            return claims.read_json(path, limit_bytes=CLAIM_LIMIT_BYTES)
        except claims.NotOurs as error:
            refused.append(str(error))
        except DiskProblem as error:
            if not (self._is_closed(error) or lost_if_unavailable):
                raise
            refused.append(str(error))
        return None

    def _is_closed(self, error: DiskProblem) -> bool:
        """Return whether the till's account has closed an entry of its own to itself: no disk is in trouble then."""
        return self._is_worker and isinstance(error.__cause__, PermissionError)

    @contextmanager
    def _closed_passed_over(self) -> Iterator[None]:
        try:
            yield
        except DiskProblem as error:
            if not self._is_closed(error):
                raise

    def _choice_names(self, refused: list[str]) -> tuple[str, ...]:
        try:
            listed = claims.names(self._choices, CHOICE_NAME)
        except claims.NotOurs as error:
            refused.append(str(error))
            return ()
        except DiskProblem as error:
            if not self._is_closed(error):
                raise
            refused.append(str(error))
            return ()
        names = sorted(listed.names, key=lambda name: int(name.removesuffix(".json")))
        if not listed.complete or len(names) > CHOICES_LIMIT:
            refused.append(f"could not read all of {self._choices}: it has more entries than a person makes")
        return tuple(names[-CHOICES_LIMIT:])


def _is_file_or_none(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def _remove(path: Path) -> None:
    """Remove an entry, as far as possible: what stays is looked at again and refused again."""
    with suppress(OSError):
        file_calls.remove(path)
