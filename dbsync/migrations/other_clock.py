"""Python's clocks made to stand at a moment, for the second run of a check; only in the process for code."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Any

_Real = dt.datetime


def stand_at(day: str) -> None:
    """Make every clock that names a time stand at `day`, in UTC, for modules that ask from now on."""
    seconds = _Real.fromisoformat(day).replace(tzinfo=dt.UTC).timestamp()

    class Standing(_Real, metaclass=_Kind):
        """The type of times. It makes plain ones: they compare, print and are bound as ever."""

        def __new__(cls, *arguments: Any, **values: Any) -> _Real:  # type: ignore[misc]
            return _Real(*arguments, **values)

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> _Real:  # type: ignore[override]
            return _Real.fromtimestamp(seconds, tz)

        @classmethod
        def today(cls) -> _Real:  # type: ignore[override]
            return _Real.fromtimestamp(seconds)

        @classmethod
        def utcnow(cls) -> _Real:  # type: ignore[override]
            return _Real.fromtimestamp(seconds, dt.UTC).replace(tzinfo=None)

    # `date.today` asks `time.time`.
    replaced: dict[str, Callable[..., Any]] = {"time": lambda: seconds, "time_ns": lambda: int(seconds * 10**9)}
    for function in (time.localtime, time.gmtime, time.ctime):
        replaced[function.__name__] = _with_default(function, seconds)
    local, written = time.localtime, time.strftime
    replaced["strftime"] = lambda form, at=None: written(form, local(seconds) if at is None else at)
    for name, standing in replaced.items():
        setattr(time, name, standing)
    dt.datetime = Standing  # type: ignore[misc]


class _Kind(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _Real)

    def __subclasscheck__(cls, kind: type) -> bool:
        return issubclass(kind, _Real)


def _with_default(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    return lambda at=None: function(seconds if at is None else at)
