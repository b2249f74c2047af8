"""The moment in which an update may begin: windows in local time become UTC intervals. Pure functions of values.

The agent writes the intervals; the launcher compares UTC and nothing else, so neither a time zone nor a change of the
clocks for summer is judged while the till starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from updater.model import Moment, ReleaseId

if TYPE_CHECKING:
    # Kept off the start-up path: a launch compares strings.
    from datetime import date, datetime

UTC_FORM: Final = "%Y-%m-%dT%H:%M:%SZ"
DAYS: Final = 14
"""So many windows are written: an agent that is dead for longer begins no more updates."""


def moment_of(
    *,
    window_from: str,
    window_until: str,
    today: date,
    to_utc: Callable[[date, str], datetime],
    recalled: tuple[ReleaseId, ...] = (),
) -> Moment:
    """Return the next windows.

    Args:
        window_from: local time of day, "HH:MM".
        window_until: local time of day; equal to the other means always, earlier means past midnight.
        today: the local date.
        to_utc: returns the UTC time of a local date and time of day.
        recalled: releases that the vendor withdrew.
    """
    from datetime import timedelta

    if window_from == window_until:
        return Moment(True, (), recalled)
    windows = []
    # From yesterday: its window may reach past midnight.
    for day in (today + timedelta(days=number) for number in range(-1, DAYS)):
        end = day + timedelta(days=1) if window_until < window_from else day
        windows.append((utc(to_utc(day, window_from)), utc(to_utc(end, window_until))))
    return Moment(False, tuple(windows), recalled)


def is_in(moment: Moment, at: str) -> bool:
    """Return whether an update may begin at that UTC time; strings of the form of `utc` sort by time."""
    return moment.always or any(begin <= at < end for begin, end in moment.windows)


def next_window(moment: Moment, at: str) -> str:
    """Return the UTC time at which the next window begins; empty if none is known, or that time is in one."""
    return "" if is_in(moment, at) else next((begin for begin, _ in moment.windows if begin > at), "")


def utc(moment: datetime) -> str:
    """Return a time as a UTC string; strings of this form sort by time."""
    from datetime import UTC

    return moment.astimezone(UTC).strftime(UTC_FORM)
