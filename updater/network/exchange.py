"""One request in a thread of its own: its caller can stop waiting at any moment.

No timeout of a socket bounds a name server that is silent, headers that come byte by byte, or chunks whose lengths do.
A thread that is left behind ends with the process, which is short-lived.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from queue import Empty, Full, Queue
from typing import Final, Generic, TypeVar

Opened = TypeVar("Opened")
CHUNKS_COUNT: Final = 16
"""Chunks that may wait to be read: more would be memory, and speed that nobody limits."""
_LOOK_SECONDS: Final = 0.5


class Late(Exception):
    """Nothing came in time."""


class Exchange(Generic[Opened]):
    """A request that runs beside its caller: first its head, then the chunks of its body.

    Args:
        steps: yields the head, then the body; runs in the thread, also its end.
    """

    def __init__(self, steps: Iterator[Opened | bytes]) -> None:
        self._steps: Final = steps
        self._items: Final[Queue[Opened | bytes | BaseException | None]] = Queue(CHUNKS_COUNT)
        self._left = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def next(self, *, until: float) -> Opened | bytes | None:
        """Return what comes next, None at the end.

        Args:
            until: monotonic time.

        Raises:
            Late: nothing came until then.
        """
        try:
            found = self._items.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            raise Late from None
        if isinstance(found, BaseException):
            raise found
        return found

    def leave(self) -> None:
        """Stop waiting; the thread ends with its next chunk."""
        self._left.set()

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            for item in self._steps:
                if not self._put(item):
                    break
        except BaseException as cause:  # noqa: BLE001 - the caller raises it
            end = cause
        finally:
            self._steps.close()  # type: ignore[attr-defined]
        self._put(end)

    def _put(self, item: Opened | bytes | BaseException | None) -> bool:
        while not self._left.is_set():
            try:
                self._items.put(item, timeout=_LOOK_SECONDS)
            except Full:
                continue
            return True
        return False
