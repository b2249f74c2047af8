"""Programs that start the Python of a kit: launchers of distlib with a script behind them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Final

import distlib

from updater.model import Sha256
from updater.publish.kit.bill import Part

CONSOLE, WINDOWED = "t64.exe", "w64.exe"
SCRIPT: Final = """\
import os
import sys

places = os.environ.get("PROGRAMDATA") or r"C:\\ProgramData"
os.environ.setdefault("TILLKEEPER_SETTINGS", os.path.join(places, "Tillkeeper", {app!r}, "settings.toml"))
from updater.__main__ import {function}

{function}()
"""


def starter(app: str, *, windowed: bool) -> bytes:
    """Return a program that runs `updater`, or the launcher without a console; `{agent}` in it is the kit's folder."""
    text = SCRIPT.format(app=app, function="launch" if windowed else "main")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py", (1980, 1, 1, 0, 0, 0)), text)
    # The folder of the program; quotes only where a space follows, which there is none.
    python = "pythonw.exe" if windowed else "python.exe"
    line = f"#!<launcher_dir>\\{{agent}}\\python\\{python} -I\r\n"
    return _launcher(windowed=windowed).read_bytes() + line.encode() + packed.getvalue()


def part() -> Part:
    """Return the launcher, for the bill of materials."""
    sha256 = Sha256(hashlib.sha256(_launcher(windowed=False).read_bytes()).hexdigest())
    return Part("distlib-launcher", distlib.__version__, "PSF-2.0", sha256)


def _launcher(*, windowed: bool) -> Path:
    assert distlib.__file__ is not None
    return Path(distlib.__file__).parent / (WINDOWED if windowed else CONSOLE)
