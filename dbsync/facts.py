"""The values that every start needs: identities, and what one look at a database shows.

Apart from `model`, which has the others, because making their classes costs a launch more than all else that it does.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple, NewType, TypeVar

SchemaNumber = NewType("SchemaNumber", int)
"""The number of a schema: that of the newest migration in it."""
NO_SCHEMA: Final = SchemaNumber(0)
"""Of a database without a migration."""
Sha256 = NewType("Sha256", str)
"""A SHA-256 in hex."""
NO_SHA256: Final = Sha256("")
"""Stands where none is known."""
ReleaseId = NewType("ReleaseId", str)
"""The identity of a signed release: the SHA-256 of its manifest, in hex."""
TrialId = NewType("TrialId", str)
"""The name of a trial: the journal, its file, the database and the app know it by this."""
Member = TypeVar("Member", bound=StrEnum)


def known(kind: type[Member], text: str) -> Member | str:
    """Return the member of that value; the text as it is where another version of this program wrote it."""
    try:
        return kind(text)
    except ValueError:
        return text


class State(StrEnum):
    """What kind of thing lies where the database should be."""

    OK = "ok"
    MISSING = "missing"
    EMPTY = "empty"
    UNREADABLE = "unreadable"
    LOCKED = "locked"
    UNTRACKED = "untracked"


class Facts(NamedTuple):
    """What one look at a database shows."""

    state: State
    version: SchemaNumber = NO_SCHEMA
    readable_from: SchemaNumber | None = None
    """The oldest schema number whose app may work on this schema; None: only its own."""
    trial_id: TrialId | None = None
    """Of the newest trial row."""
    release_id: ReleaseId | None = None
    detail: str = ""
    had_data: bool = False
    """Backups, copies or records show that there was a database with data here."""

    @property
    def gone(self) -> str:
        """In words, of a database that is missing or empty: that it is, and what shows that there was one."""
        what = "there is no such file" if self.state is State.MISSING else "there is nothing in it"
        return f"{what}, and there was something before: {self.detail}" if self.had_data else what


class Back(StrEnum):
    """What became of a database after a give-up."""

    DONE = "done"
    KEPT = "kept"
    STAYS = "stays"
