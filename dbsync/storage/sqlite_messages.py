"""SQLite's messages about names that it does not find, as values: its error codes do not tell them apart."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NamedTuple


class About(StrEnum):
    """The subjects of the messages that are known."""

    FUNCTION = "function"
    COLLATION = "collation"
    MODULE = "module"
    TOKENIZER = "tokenizer"
    CONSTRUCTOR = "constructor"
    """The module of a virtual table could not open it; newer versions do not say why."""
    TABLE = "table"
    COLUMN = "column"
    COLUMN_OF_TABLE = "column of a table"
    COLUMN_COUNT = "number of columns"
    """An INSERT without names of columns has too few or too many values."""
    MISMATCH = "foreign key mismatch"
    VIEW = "view"
    """A view cannot be written without a trigger that does it."""
    READ_ONLY = "read-only table"
    """Its module does not write it."""
    OTHER = "other"


class Message(NamedTuple):
    """One message."""

    about: About
    name: str = ""
    """The part that is missing, or the object that the message is about."""
    of: str = ""
    """A column's table, or the alias before it, as far as it is named; the child table of a mismatch."""


_PATTERNS: Final = {
    About.FUNCTION: r"(?:no such|unknown) function: (?P<name>.+?)(?:\(\))?",
    About.COLLATION: r"no such collation sequence: (?P<name>.+)",
    About.MODULE: r"no such module: (?P<name>.+)",
    About.TOKENIZER: r"(?:no such|unknown) tokenizer: (?P<name>.+)",
    About.CONSTRUCTOR: r"vtable constructor failed: (?P<name>.+)",
    About.TABLE: r"no such table: (?:main\.)?(?P<name>.+)",
    About.COLUMN: r"no such column: (?:(?P<of>.+)\.)?(?P<name>[^.]+)",
    About.COLUMN_OF_TABLE: r"table (?P<of>.+) has no column named (?P<name>.+)",
    About.COLUMN_COUNT: r"table (?P<name>.+) has \d+ columns but \d+ values were supplied",
    About.MISMATCH: r'foreign key mismatch - "(?P<of>.+)" referencing "(?P<name>.+)"',
    About.VIEW: r"cannot modify (?P<name>.+) because it is a view",
    About.READ_ONLY: r"table (?P<name>.+) may not be modified",
}


def message_of(text: str) -> Message:
    """Return the subject of a message and the names in it; OTHER for a message that is not known."""
    for about, pattern in _PATTERNS.items():
        found = re.fullmatch(pattern, text)
        if found:
            names = found.groupdict()
            return Message(about, names["name"], names.get("of") or "")
    return Message(About.OTHER)
