"""An undeclared difference, and its wording."""

from __future__ import annotations

from typing import Final, NamedTuple

_STRUCTURAL: Final = ("drop ", "redefine ", "rename ")
"""The beginnings of declarations after which other objects may fail."""


class Finding(NamedTuple):
    """An undeclared difference. Keys are named, values never: they may be personal."""

    what: str
    declare: str
    """The line that would allow it; empty if nothing can."""
    by: str = ""
    """The statements that wrote there; empty if unknown."""

    @property
    def told(self) -> str:
        """The difference, with the statements that wrote it."""
        return f"{self.what}, written by {self.by}" if self.by else self.what

    @property
    def sentence(self) -> str:
        """The finding for people, with the line that would allow it."""
        return f"{self.told} (allow it with `changes: {self.declare}`)" if self.declare else self.told

    @property
    def is_about_structure(self) -> bool:
        """Whether its line would allow that an object is gone, or is another one."""
        return self.declare.startswith(_STRUCTURAL)

    @property
    def without_structural_advice(self) -> Finding:
        """The finding without such a line."""
        return self._replace(declare="") if self.is_about_structure else self


def with_keys(what: str, keys: list[str]) -> str:
    """Return a sentence with a few keys, if there are any."""
    return f"{what}, keys {', '.join(keys)}" if keys else what
