"""Lines for people on any console: wrapped at words, with a weight, and with letters for signs that it cannot show.

Small, because the agent prints one line in most of its cycles.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final, TextIO

from dbsync.outcomes import OutcomeName

PLAIN: Final = {
    "\N{LEFT-POINTING MAGNIFYING GLASS}": "[?]", "\N{ROCKET}": "[>]", "\N{PACKAGE}": "[b]",
    "\N{WHITE HEAVY CHECK MARK}": "[ok]", "\N{MEMO}": "[m]", "\N{CROSS MARK}": "[!!]",
    "\N{INFORMATION SOURCE}\N{VARIATION SELECTOR-16}": "[i]",
    "\N{ANTICLOCKWISE DOWNWARDS AND UPWARDS OPEN CIRCLE ARROWS}": "[..]",
}  # fmt: skip
"""Replacements for signs that a console cannot show."""
PROSE_CELLS: Final = 100
"""Longest line on a wide terminal: the eye loses the way back to the next line after more."""
_UNPRINTABLE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_WORDS: Final = re.compile(r"(\s*)((?:`[^`]*`|(?<=\d) (?=(?:ms|s|min|h|MB|GB|rows?)\b)|\S)+)")
"""Words with the space before them: a command in backticks is one, and so is a number with its unit."""
_WEIGHTS: Final = {
    ("❌", "LOST:", "NOT ", "ROTTEN", "UNFINISHED", "refused:", "Error:", "IT WOULD FAIL", OutcomeName.STAYS): "1;31",
    ("⚠️", "going back would lose"): "1;35",
    ("✅ All", "nothing to say against it"): "1",
}  # fmt: skip
"""Beginnings of lines, and how a terminal shows them: select graphic rendition (ECMA-48, 8.3.117).

Yellow cannot be read on a light background; red and magenta can, on both.
"""


def printable(text: str) -> str:
    """Return a string without characters that steer a terminal or break a page: names come from databases and files."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def wrapped_at_words(line: str, cells: int, *, hang: int = 0) -> list[str]:
    """Return a line in parts that fit a terminal, the further ones indented; one that fits is left as it is.

    Text between backticks stays together, however long it is: it is a command to paste.

    Args:
        line: the line.
        cells: the width of the terminal.
        hang: the column at which further parts begin, where every word fits behind it; 0: two more than the first.
    """
    if cells_of(line) <= cells:
        return [line]
    if hang and hang + max(cells_of(word) for _, word in _WORDS.findall(line)) > cells:
        hang = 0
    deeper = " " * (hang or len(line) - len(line.lstrip()) + 2)
    parts = [""]
    for space, word in _WORDS.findall(line):
        if parts[-1].strip() and cells_of(parts[-1] + space + word) > cells:
            parts.append(deeper + word)
        else:
            parts[-1] += space + word
    return parts


def cells_of(text: str) -> int:
    """Return the width of a string on a terminal: a wide letter or sign takes two cells (unicode.org/reports/tr11)."""
    if text.isascii():
        return len(text)
    import unicodedata

    return len(text) + sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)


def weighted(line: str, environment: Mapping[str, str]) -> str:
    """Return a line as a terminal shows it: what failed or was lost in red, what needs a look in magenta.

    Plain where the terminal says that it cannot (TERM), or a person asks for none (no-color.org).
    """
    if environment.get("NO_COLOR") or environment.get("TERM", "dumb") == "dumb":
        return line
    code = next((code for begins, code in _WEIGHTS.items() if line.lstrip().startswith(begins)), "")
    return f"\x1b[{code}m{line}\x1b[0m" if code else line


def say(line: str, stream: TextIO, *, exactly: bool = False, tail: str = "", hang: int = 0) -> None:
    """Print a line on any console, with letters for signs that its code page lacks.

    Args:
        line: the line; for a person `tail` stands at its end, or below it on a terminal that is too narrow for both.
        stream: where to.
        exactly: whether a program reads it.
        tail: the last part of a row of columns, such as a path.
        hang: the column of a value behind its name, as in `wrapped_at_words`.

    On a terminal it is wrapped at words and has the weight of its meaning. In a pipe or a file, and for programs
    (`exactly`), it is as it is.
    """
    line, tail = printable(line), printable(tail)
    whole = f"{line}  {tail}" if tail else line
    if not exactly and stream.isatty():
        import shutil

        columns = shutil.get_terminal_size().columns
        parts = [whole]
        if not tail or cells_of(whole) > columns:
            rows = [line, f"  {tail}"] if tail else [line]
            parts = [part for row in rows for part in wrapped_at_words(row, min(columns, PROSE_CELLS), hang=hang)]
        line = weighted("\n".join(parts), os.environ)
    else:
        line = whole
    try:
        stream.write(f"{line}\n")
    except UnicodeEncodeError:
        for sign, plain in PLAIN.items():
            line = line.replace(sign, plain)
        encoding = stream.encoding or "ascii"
        stream.write(line.encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()
