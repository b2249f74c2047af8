"""Programs of a kit's home on Windows: launchers of distlib with the program that starts kits behind them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Final

import distlib

from updater.model import Sha256
from updater.publish.kit.bill import Part
from updater.publish.kit.programs import program

CONSOLE, WINDOWED = "t64.exe", "w64.exe"
WINDOWS_SETTINGS: Final = r"%PROGRAMDATA%\Tillkeeper\{app}\settings.toml"


def starter(app: str, *, windowed: bool) -> bytes:
    """Return a program that runs `updater`, or the launcher without a console, with the Python of the rescue folder."""
    text = program(settings=WINDOWS_SETTINGS.format(app=app), first_word="launch" if windowed else "")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py", (1980, 1, 1, 0, 0, 0)), text)
    # The folder of the program; quotes only where a space follows, which there is none.
    python = "pythonw.exe" if windowed else "python.exe"
    line = f"#!<launcher_dir>\\rescue\\python\\{python} -I\r\n"
    return _launcher(windowed=windowed).read_bytes() + line.encode() + packed.getvalue()


def part() -> Part:
    """Return the launcher, for the bill of materials."""
    sha256 = Sha256(hashlib.sha256(_launcher(windowed=False).read_bytes()).hexdigest())
    return Part("distlib-launcher", distlib.__version__, "PSF-2.0", sha256)


def _launcher(*, windowed: bool) -> Path:
    assert distlib.__file__ is not None
    return Path(distlib.__file__).parent / (WINDOWED if windowed else CONSOLE)
