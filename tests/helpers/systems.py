"""A real process with the name of another operating system."""

from __future__ import annotations

import subprocess
import sys

from tests.helpers.places import ROOT


def on(system: str, text: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a Python program in which `sys.platform` is `system` before any module of ours is imported."""
    program = f"import sys\nsys.platform = {system!r}\nsys.path.insert(0, {str(ROOT)!r})\n{text}"
    words = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
