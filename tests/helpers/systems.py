"""A real process with the name of another operating system, and the words of this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.helpers.places import ROOT


def on(system: str, text: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a Python program in which `sys.platform` is `system` before any module of ours is imported."""
    program = f"import sys\nsys.platform = {system!r}\nsys.path.insert(0, {str(ROOT)!r})\n{text}"
    words = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def missing(folder: Path) -> str:
    """Return what this system says of a folder that does not exist."""
    try:
        list(folder.iterdir())
    except FileNotFoundError as cause:
        return cause.strerror or ""
    raise AssertionError(f"{folder} exists")
