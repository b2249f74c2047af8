"""A Python that finds the newest python-tuf before everything else of this environment, as terminals have it.

The publisher's pins hold this environment on an older one. Children of ours run isolated, so a path in the environment
does not reach them: it takes a Python of its own.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

NEWER = "tuf>=7,<8"
NO_LINKS = """\
import os
def _refuse(*values, **options): raise PermissionError(1, "no symbolic links here")
os.symlink = _refuse
"""
"""As on exFAT, on some shares, and on Windows for an account that may not make them."""


def make_library(folder: Path) -> Path | None:
    """Installs the newest library into a folder; None where it cannot be had, or no Python can be made with it."""
    if find_spec("venv") is None:
        # The embeddable Python of Windows has none.
        return None
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), NEWER]
    return folder if subprocess.run(command, capture_output=True, check=False).returncode == 0 else None


def make_python(folder: Path, library: Path, *, links: bool = True) -> Path:
    """Makes a Python with that library; without `links` it can make no symbolic link."""
    import venv

    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    # Lines of a .pth file come onto the path in their order.
    (site / "a_newer.pth").write_text(f"{library}\n{sysconfig.get_path('purelib')}\n")
    if not links:
        (site / "no_links.py").write_text(NO_LINKS)
        (site / "b_no_links.pth").write_text("import no_links\n")
    python = folder / "bin" / "python"
    code = "import tuf; print(tuf.__version__)"
    told = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("7."), "children of ours would find another library"
    return python
