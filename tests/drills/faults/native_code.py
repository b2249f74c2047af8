"""The drill's C code: the fault shim and the native till, compiled on first use."""

from __future__ import annotations

import ctypes.util
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.helpers.places import ROOT

SOURCES: Final = Path(__file__).parent / "native"
CACHE: Final = ROOT / ".cache" / "drill"
COMPILERS: Final = ("cc", "gcc", "clang")
NO_COMPILER: Final = "The drill needs a C compiler (Debian: apt-get install gcc libc6-dev)."
ANOTHER_SYSTEM: Final = "The drill needs Linux: it preloads a library and finds the processes of a case in /proc."


class CannotDrill(Exception):
    """This machine cannot run the drill; the text says why."""


def compiler() -> str:
    """Return the path of the C compiler.

    Raises:
        CannotDrill: there is none, or this is no Linux.
    """
    if sys.platform != "linux":
        raise CannotDrill(ANOTHER_SYSTEM)
    found = next((path for name in COMPILERS if (path := shutil.which(name)) is not None), None)
    if found is None:
        raise CannotDrill(NO_COMPILER)
    return found


def shim() -> Path:
    """Return the fault shim, a library to preload."""
    return _compiled("shim.c", "shim.so", "-shared", "-fPIC", "-Wno-nonnull-compare")


def till() -> Path:
    """Return the native till."""
    return _compiled("till.c", "till", f'-DSQLITE_LIBRARY="{sqlite_library()}"')


def sqlite_library() -> str:
    """Return the SQLite library that this Python has loaded, or else the system's.

    Raises:
        CannotDrill: there is none; this Python has SQLite built in.
    """
    assert sqlite3.sqlite_version
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        path = line.split(maxsplit=5)[-1]
        if Path(path).name.startswith("libsqlite3.so"):
            return path
    found = ctypes.util.find_library("sqlite3")
    if found is None:
        raise CannotDrill("The drill's till needs the SQLite library (Debian: apt-get install libsqlite3-0).")
    return found


def _compiled(source: str, target: str, *options: str) -> Path:
    """Return a compiled file; its folder is named by all that it is made from."""
    text = (SOURCES / source).read_bytes()
    command = [compiler(), "-O2", "-Wall", "-Wextra", "-Werror", *options]
    key = hashlib.sha256(text + "\0".join(command).encode()).hexdigest()[:16]
    path = CACHE / key / target
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{target}.{os.getpid()}")
        made = subprocess.run(
            [*command, "-o", str(part), str(SOURCES / source), "-ldl"], capture_output=True, text=True, check=False
        )
        if made.returncode != 0:
            raise CannotDrill(f"{source} could not be compiled:\n{made.stderr}")
        part.replace(path)
    return path
