"""The program of a kit's home that starts kits: `updater.host.stub` with two lines filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from updater.host import stub

FILLED: Final = ('SETTINGS = ""\n', 'FIRST_WORD = ""\n')


def program(*, settings: str, first_word: str = "") -> str:
    """Return the program that starts kits, for one terminal."""
    text = Path(stub.__file__).read_text(encoding="utf-8")
    for line, value in zip(FILLED, (settings, first_word), strict=True):
        assert text.count(line) == 1, "the program has one line to be filled in"
        text = text.replace(line, line.replace('""', repr(value)))
    return f"{text}\n\nraise SystemExit(main(sys.argv[1:]))\n"
