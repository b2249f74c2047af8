"""How asking the repository can end: every way has a name, and each but OK is an outcome."""

from __future__ import annotations

from enum import StrEnum

from dbsync.outcomes import NamedOutcome
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
