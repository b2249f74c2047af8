"""Sentences that hold after every case, and violations of them."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Promise(Enum):
    """A sentence that must be true after a case."""

    STARTS = "something complete starts"
    FITS = "the database fits what starts"
    NOTHING_LOST = "no recorded sale is lost"
    SETTLES = "it settles within the allowed starts"
    TRUTH = "no sentence shown to a person was false"
    WHOLE = "every file under a final name is whole"
    NAMED = "what the journal names is there"
    COUNTED = "a launch on trial is counted before it begins"
    NO_TRACEBACK = "no traceback is shown"
    NO_HANG = "every command ends"
    NO_LITTER = "no unfinished file is left after settling"
    NUMBERS = "no number is lower than it was seen"
    EXPLAINED = "every skipped number is explained"
    PUT_BACK = "what an older schema cannot hold is kept, and put back"
    REPEATABLE = "the same command can be repeated"


class Violation(NamedTuple):
    """A broken promise, with what was found."""

    promise: Promise
    found: str

    def __str__(self) -> str:
        return f"{self.promise.value}: {self.found}"
