"""The moment on a real terminal: the store's window in local time, and the clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from updater.decisions.moment import UTC_FORM, is_in, moment_of, next_window
from updater.model import Moment, ReleaseId
from updater.settings import Settings

if TYPE_CHECKING:
    from datetime import date, datetime


def moment(settings: Settings, recalled: tuple[ReleaseId, ...]) -> Moment:
    """Return when an update may begin from now on, by the settings and the time zone of this machine."""
    from datetime import datetime

    found = moment_of(
        window_from=settings.window_from,
        window_until=settings.window_until,
        today=datetime.now().astimezone().date(),
        to_utc=_to_utc,
        recalled=recalled,
    )
    return found._replace(till_may_roll_back=settings.till_may_roll_back or not settings.till_user)


def is_now(settings: Settings, known: Moment | None) -> bool:
    """Return whether an update may begin now; before the agent has written the windows, by the settings."""
    if known is not None and known.always:
        return True
    return is_in(known if known is not None else moment(settings, ()), _now())


def next_begin(known: Moment | None) -> str:
    """Return the UTC time at which the next window begins; empty in a window, or if none is known."""
    return next_window(known, _now()) if known is not None else ""


def _now() -> str:
    return time.strftime(UTC_FORM, time.gmtime())


def _to_utc(day: date, time_of_day: str) -> datetime:
    # A time that the clocks skip or repeat for summer becomes one of the two: the window moves by an hour at most.
    from datetime import UTC, datetime

    hours, _, minutes = time_of_day.partition(":")
    return datetime(day.year, day.month, day.day, int(hours), int(minutes)).astimezone(UTC)
