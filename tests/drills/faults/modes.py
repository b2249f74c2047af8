"""Kinds of faults, and which calls each of them fits."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tests.drills.faults.calls import Call


class Mode(Enum):
    """A kind of fault; the number is the shim's."""

    PLUG = ("plug", 0)
    """The power is cut: every process ends before this call."""
    KILL = ("kill", 1)
    """This process is killed before this call; the others go on."""
    EIO = ("eio", 2)
    """The call fails once with "Input/output error"."""
    ENOSPC = ("enospc", 3)
    """The call fails once with "No space left on device"."""
    SHORT = ("short", 4)
    """The call writes half of what it was given, and says so."""
    EIO_ON = ("eio_on", 5)
    """This call and all later ones fail with "Input/output error"."""
    FULL_ON = ("full_on", 6)
    """The disk is full from here on: calls that take space fail."""
    READ = ("read", 2)
    """A call that opens or reads an existing file fails once with "Input/output error"."""

    number: int

    def __new__(cls, word: str, number: int = 0) -> Self:
        """Make a member whose value is its word: READ and EIO share a number."""
        member = object.__new__(cls)
        member._value_ = word
        member.number = number
        return member

    @property
    def reading(self) -> bool:
        """Whether the points are calls that read."""
        return self is Mode.READ

    @property
    def ends_processes(self) -> bool:
        """Whether a process ends without a chance to react."""
        return self in KILLS

    def fits(self, call: Call) -> bool:
        """Return whether this fault can happen at this call."""
        if call.number == 0:
            return False
        if not self.ends_processes and call.program != "python":
            # An error in the app's own writes is the app's affair; a cut or a kill of it is ours.
            return False
        if self in (Mode.ENOSPC, Mode.FULL_ON):
            return call.takes_space
        return call.is_write if self is Mode.SHORT else True


KILLS = (Mode.PLUG, Mode.KILL)
ERRORS = (Mode.EIO, Mode.ENOSPC, Mode.SHORT, Mode.EIO_ON, Mode.FULL_ON, Mode.READ)
