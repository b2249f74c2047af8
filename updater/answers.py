"""What comes of asking the repository: an answer, and the releases that it offers."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from dbsync.outcomes import NamedOutcome
from updater.model import Release, ReleaseId
from updater.outcomes import TerminalOutcome, named


class Answer(StrEnum):
    """The result of a look at the repository, or of a download from it."""

    OK = "OK"
    OFFLINE = "OFFLINE"
    """No connection, or it broke off."""
    SERVER_WRONG = "SERVER_WRONG"
    """Somebody answered, and it was not the repository: a portal's page, a missing file, another server."""
    REFUSED = "REFUSED"
    """What came does not pass verification."""
    CLOCK_SUSPECT = "CLOCK_SUSPECT"
    """It expired by this terminal's clock, which the server contradicts."""
    TIMED_OUT = "TIMED_OUT"
    NO_SPACE = "NO_SPACE"
    TROUBLE = "TROUBLE"
    """Something on this machine: a folder that cannot be written, a child that could not start."""

    @property
    def outcome(self) -> NamedOutcome:
        """The outcome of that name; of OK, that nothing is new."""
        return TerminalOutcome.NOTHING_NEW if self is Answer.OK else named(self)


class Offer(NamedTuple):
    """A release that the vendor's signed metadata lists."""

    release: Release
    size_bytes: int


class Catalog(NamedTuple):
    """What one look at the repository showed."""

    verdict: Answer
    detail: str
    newer: tuple[Offer, ...] = ()
    """Releases above the good one that this terminal can run, newest last."""
    signed: frozenset[ReleaseId] = frozenset()
    """Release ids of everything that is signed now."""
