"""The vendor's clock: every expiry and every time of signing comes from here."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """Return the time in UTC, in whole seconds, as metadata has it."""
    return datetime.now(UTC).replace(microsecond=0)
