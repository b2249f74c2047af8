"""Recordings of terminals: made by make.py, read by tests/helpers/recorded.py. Both need what is said here."""

from __future__ import annotations

from typing import Final

BOOT: Final = "recorded-boot"
"""The boot in which every command ran."""
TERMINAL, PYTHON, URL = "@TERMINAL@", "@PYTHON@", "@URL@"
"""Placeholders in text files for the terminal's folder, the interpreter, and the vendor's address."""
BINARY: Final = (".db", ".zst", "-wal", "-shm", "-journal")
"""How the names of files end that are no texts: they hold no such place, and are copied as they are."""
