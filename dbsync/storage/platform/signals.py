"""Signals that ask a process to end, handled for the length of a block; all systems share this."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def handled(numbers: Iterable[signal.Signals], handler: Callable[[int], NoReturn]) -> Iterator[None]:
    """Call `handler` for these signals inside the block; a signal that has a handler already keeps it."""

    def came(number: int, _frame: FrameType | None) -> NoReturn:
        handler(number)

    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, came)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
