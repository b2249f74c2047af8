"""Work in a second thread while the caller does other work, such as reading the same file in two ways."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

T = TypeVar("T")


class Beside(Generic[T]):
    """Work in a second thread: `with Beside(work) as beside: …`, and after it `beside.result()`.

    SQLite and hashing release Python's lock, so two cores need the time of the longer task. The work must not open
    and close a file that this process has open through SQLite with locks: that would drop them
    (sqlite.org/howtocorrupt.html, 2.2). A finished copy that is opened as immutable has none.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work: Final = work
        self._thread: Final = threading.Thread(target=self._run, daemon=True)
        self._results: Final[list[T]] = []
        self._error: BaseException | None = None

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:  # noqa: BLE001 - `result` raises it in the caller's thread
            self._error = error

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Also when the caller's own part failed: the file is removed next, which Windows refuses while it is read.
        self.end()

    def begin(self) -> None:
        """Begin the work; `end` must follow, whatever happens meanwhile."""
        self._thread.start()

    def end(self) -> None:
        """Wait until the work has ended; repeatable."""
        self._thread.join()

    def result(self) -> T:
        """Return the result of the work, or raise the exception that it raised."""
        if self._error is not None:
            raise self._error
        return self._results[0]
