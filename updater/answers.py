"""Results of asking the repository: an answer, and the releases that it offers."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from dbsync.outcomes import NamedOutcome
from updater.model import Release, ReleaseId, SchemaNumber
from updater.outcomes import TerminalOutcome, named


class Answer(StrEnum):
    """The result of a look at the repository, or of a download from it."""

    OK = "OK"
    OFFLINE = "OFFLINE"
    """No connection, or the connection broke off."""
    SERVER_WRONG = "SERVER_WRONG"
    """Something other than the repository answered: a portal's page, a missing file, another server."""
    SERVER_BUSY = "SERVER_BUSY"
    """The server is overloaded or closed for now, and may have said until when."""
    REFUSED = "REFUSED"
    """The answer does not pass verification."""
    CLOCK_SUSPECT = "CLOCK_SUSPECT"
    """Metadata expired by this terminal's clock, which the server contradicts."""
    TRUST_LOST = "TRUST_LOST"
    """This terminal does not know any more which metadata it has seen, so an old copy could pass for the newest."""
    TIMED_OUT = "TIMED_OUT"
    NO_SPACE = "NO_SPACE"
    TROUBLE = "TROUBLE"
    """A problem of this machine: a folder that cannot be written, a child that could not start."""

    @property
    def outcome(self) -> NamedOutcome:
        """Outcome with the same name; NOTHING_NEW for OK."""
        return TerminalOutcome.NOTHING_NEW if self is Answer.OK else named(self)


class Summary(NamedTuple):
    """The fields of a release's manifest that decide whether a terminal can use it."""

    app: str
    version: str
    platform: str
    schema: SchemaNumber
    least_agent: str
    least_sqlite: str
    interpreter: str | None
    urgent: bool


class Unusable(NamedTuple):
    """A signed release that this terminal cannot use, and that is newer than what it can."""

    version: str
    outcome: NamedOutcome
    cause: str
    """In words, with the version."""


class Offer(NamedTuple):
    """A release that the vendor's signed metadata lists."""

    release: Release
    size_bytes: int
    urgent: bool = False
    """Whether the vendor says that no terminal may be kept from it, such as for a security problem."""


NONE_WITHDRAWN: Final[Mapping[ReleaseId, str]] = MappingProxyType({})


class Catalog(NamedTuple):
    """Result of one look at the repository."""

    verdict: Answer
    detail: str
    newer: tuple[Offer, ...] = ()
    """Releases newer than the good one that this terminal can use, newest last: from a repository, the newest alone."""
    signed: frozenset[ReleaseId] = frozenset()
    """Release ids of all releases that are signed now."""
    unusable: tuple[Unusable, ...] = ()
    """Releases that are newer than those, and that this terminal cannot use, newest first."""
    recalled: tuple[ReleaseId, ...] = ()
    """Releases that worked here and that the vendor withdrew: an older one is still signed."""
    withdrawn: Mapping[ReleaseId, str] = NONE_WITHDRAWN
    """Releases that the vendor withdrew by name, each with the reason, which may be empty; known without a look too."""
    unwanted: frozenset[ReleaseId] = frozenset()
    """Signed releases that the vendor does not mean for this terminal, such as those of another channel."""
    paused: str = ""
    """Why the vendor wants nothing to begin anywhere now; empty if updates are not paused. Known without a look too."""
    agent: Offer | None = None
    """The newest release of the agent above the one that runs; None also where it does not update itself."""
    stays: str = ""
    """Why what the vendor says cannot be followed, so that nothing new begins; empty if it can."""
