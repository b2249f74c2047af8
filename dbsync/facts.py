"""Values that every start needs: identities, and the facts that one look at a database shows.

Separate from `model`, which has the others: creating their classes costs a launch more than the rest of its work.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple, NewType, TypeVar

SchemaNumber = NewType("SchemaNumber", int)
"""The number of a schema: that of the newest migration in it."""
NO_SCHEMA: Final = SchemaNumber(0)
"""The schema number of a database without a migration."""
Sha256 = NewType("Sha256", str)
"""A SHA-256 in hex."""
NO_SHA256: Final = Sha256("")
"""Placeholder where no hash is known."""
ReleaseId = NewType("ReleaseId", str)
"""The identity of a signed release: the SHA-256 of its manifest, in hex."""
TrialId = NewType("TrialId", str)
"""The name of a trial, as the journal, the trial's file, the database and the app have it."""
Member = TypeVar("Member", bound=StrEnum)


def known(kind: type[Member], text: str) -> Member | str:
    """Return the member of that value; the string itself if another version of this program wrote it."""
    try:
        return kind(text)
    except ValueError:
        return text


class State(StrEnum):
    """The states in which a look may find a database."""

    OK = "ok"
    MISSING = "missing"
    EMPTY = "empty"
    UNREADABLE = "unreadable"
    """What SQLite calls damaged, or no database at all."""
    UNAVAILABLE = "unavailable"
    """It cannot be read now: the disk, or a permission, is in the way. That says nothing about its content."""
    LOCKED = "locked"
    UNTRACKED = "untracked"


class Facts(NamedTuple):
    """The facts that one look at a database shows."""

    state: State
    version: SchemaNumber = NO_SCHEMA
    readable_from: SchemaNumber | None = None
    """The oldest schema number whose app may work on this schema; None: only its own."""
    trial_id: TrialId | None = None
    """The trial of the newest trial row."""
    release_id: ReleaseId | None = None
    detail: str = ""
    had_data: bool = False
    """Backups, copies or records show that there was a database with data here."""
    unparsed: str = ""
    """A sentence on an object that this SQLite cannot parse: the schema cannot be changed with it. Else empty."""

    @property
    def gone(self) -> str:
        """The sentence for a missing or empty database, with the traces of an earlier one."""
        what = "there is no such file" if self.state is State.MISSING else "there is nothing in it"
        return f"{what}, and there was something before: {self.detail}" if self.had_data else what


class Back(StrEnum):
    """The fates of a database after a give-up."""

    DONE = "done"
    KEPT = "kept"
    STAYS = "stays"
