"""The check of a copy in a second thread, while the work that it is for goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Generic, TypeVar

from dbsync.errors import TillkeeperError
from dbsync.storage.background import Beside
from dbsync.storage.connections import Connection

AGAIN_SECONDS: Final = 0.05
"""The time between two interrupts of a migration whose backup is not sound."""
T = TypeVar("T")
Opened = Callable[[Connection], None]
"""Gets the connection of a check before the check begins."""


class ReadBeside(Generic[T]):
    """Reading of a finished copy that has begun in a second thread, and can be ended.

    It reads the copy alone, as immutable, so it takes no locks. The thread ends with the process.

    Args:
        read: reads it, through a connection that it passes on.
        failed: called in the second thread, again and again until `result` is called, if `read` raises.
    """

    def __init__(self, read: Callable[[Opened], T], *, failed: Callable[[], None] | None = None) -> None:
        self._read: Final = read
        self._failed: Final = failed
        self._connection: Connection | None = None
        self._cancelled = False
        self._awaited: Final = threading.Event()
        self._beside: Final = Beside(self._run)
        self._beside.begin()

    def result(self) -> T:
        """Wait for the end and return the result, or raise the error of `read`."""
        self._awaited.set()
        try:
            self._beside.end()
        except BaseException:
            # A person's Ctrl-C while it is waited for.
            self.cancel()
            raise
        return self._beside.result()

    def cancel(self) -> None:
        """End the reading, whose result nobody needs, and wait for its end."""
        self._cancelled = True
        self._awaited.set()
        if self._connection is not None:
            # Closed already: it has ended.
            with suppress(Exception):
                self._connection.interrupt()
        self._beside.end()

    def _run(self) -> T:
        try:
            return self._read(self._opened)
        except BaseException:
            # An interrupt between two statements is lost. A connection that is closed refuses it.
            with suppress(Exception):
                while self._failed is not None and not self._awaited.wait(AGAIN_SECONDS):
                    self._failed()
            raise

    def _opened(self, connection: Connection) -> None:
        self._connection = connection
        if self._cancelled:
            raise TillkeeperError(operation="check the copy", cause="it was cancelled")
