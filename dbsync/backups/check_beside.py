"""The check of a copy in a second thread, while the migration that it is for runs in its transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from dbsync.backups import snapshot
from dbsync.errors import TillkeeperError
from dbsync.model import Backup
from dbsync.storage.background import Beside
from dbsync.storage.connections import Connection, Thoroughness

AGAIN_SECONDS: Final = 0.05
"""The time between two interrupts of a migration whose backup is not sound."""


class CheckBeside:
    """A check of a finished copy that has begun. It reads the copy alone, as immutable, so it takes no locks.

    The thread ends with the process: a crash leaves a part, which the next run clears.

    Args:
        part: the copy.
        thoroughness: how well it is checked.
        failed: called in the second thread, again and again, if the copy does not pass: it ends the work beside.
    """

    def __init__(self, part: Backup, thoroughness: Thoroughness, *, failed: Callable[[], None]) -> None:
        self._part: Final = part
        self._thoroughness: Final = thoroughness
        self._failed: Final = failed
        self._connection: Connection | None = None
        self._cancelled = False
        self._awaited: Final = threading.Event()
        self._beside: Final = Beside(self._checked)
        self._beside.begin()

    @property
    def part(self) -> Backup:
        """The copy that is checked."""
        return self._part

    def result(self) -> Backup:
        """Wait for the end and return the facts of the copy.

        Raises:
            TillkeeperError: as `snapshot.check_part`; nothing is left of the copy.
        """
        self._awaited.set()
        try:
            self._beside.end()
        except BaseException:
            # A person's Ctrl-C while it is waited for.
            self.cancel()
            raise
        return self._beside.result()

    def cancel(self) -> None:
        """End the check, whose result nobody needs, and wait for its end."""
        self._cancelled = True
        self._awaited.set()
        if self._connection is not None:
            # Closed already: the check has ended.
            with suppress(Exception):
                self._connection.interrupt()
        self._beside.end()

    def _checked(self) -> Backup:
        try:
            return snapshot.check_part(self._part, self._thoroughness, opened=self._opened)
        except BaseException:
            # An interrupt between two statements is lost. A connection that is closed refuses it.
            with suppress(Exception):
                while not self._awaited.wait(AGAIN_SECONDS):
                    self._failed()
            raise

    def _opened(self, connection: Connection) -> None:
        self._connection = connection
        if self._cancelled:
            raise TillkeeperError(operation="check the backup", path=self._part.path, cause="it was cancelled")
