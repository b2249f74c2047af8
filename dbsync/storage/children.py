"""The one place for the command, the folder and the environment of a child process.

A child of ours runs our code and what is installed, nothing else: isolated (`-I`), in a fixed folder, without variables
that bring code into it. The same holds where the product is a zip archive, where PyInstaller froze it (the child is
this very program), and where a host program embeds Python (a Python must be found beside its library, else refused).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbsync.errors import Refused

if TYPE_CHECKING:
    from dbsync.storage.platform.base import Account

FROZEN_WORD: Final = "--tillkeeper-child"
"""The first argument by which a frozen program is asked to be a child of itself."""
CODE: Final = Path(__file__).resolve().parent.parent.parent
"""The folder, or the zip archive, that holds our packages."""
FOLDER: Final = CODE if CODE.is_dir() else CODE.parent
"""The working folder of our children: it always exists, and belongs to the owner of the installation."""
SYSTEM_ENVIRONMENT: Final[Mapping[str, str]] = {"LC_ALL": "C"}
"""The whole environment of a tool of the system, which is started by its absolute path."""
_START: Final = "import sys; sys.path.insert(0, sys.argv.pop(1)); from {} import main; main()"
_CODE_BRINGERS: Final = ("PYTHON", "LD_", "DYLD_")
"""Prefixes of variables that bring code or settings into a child of ours."""
_KEPT_FOR_OTHERS: Final = frozenset({"LANG", "TZ", "SYSTEMROOT", "TILLKEEPER_BOOT_ID"})
_LIBRARY_PATHS: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LIBPATH")
_answering: list[bool] = []
"""Filled once the frozen program has shown that it would answer `FROZEN_WORD`."""


class NoPython(Refused):
    """The lack of a Python to run a child with: this process is no Python by itself."""

    hint_by_default = (
        "Install a Python and run the product with it, or freeze the product with `updater` as the program."
    )


def serve(words: Sequence[str]) -> bool:
    """Be the child that a frozen program asked itself to be; return whether this process was one.

    Called first by the command line. A program that was frozen around our packages and does not call this is never
    started as a child: it would run itself again instead.
    """
    if not _is_frozen():
        return False
    _answering.append(True)
    if list(words[:1]) != [FROZEN_WORD] or len(words) < 2:
        return False
    sys.argv[1:] = words[2:]
    import_module(words[1]).main()
    return True


def command(module: str) -> list[str]:
    """Return the command that runs `main` of a module of ours, and takes no code from anywhere else.

    Without `-I` the current folder, or one that the environment names, comes first on the path, and a file in it that
    is named like a module would run with this process's rights.

    Raises:
        NoPython: no Python was found, or the frozen program would not answer.
    """
    if _is_frozen():
        if not _answering:
            raise NoPython(operation="start a child", cause=f"{sys.executable} is a frozen program that starts none")
        return [sys.executable, FROZEN_WORD, module]
    return [python(), "-I", "-c", _START.format(module), str(CODE)]


def pinned_command(module: str) -> list[str]:
    """Return the command that runs `main` of a module of ours with the hash seed of its environment, UTF-8 in files.

    `-I` ignores all variables of Python, the seed too. The environment of our children has no others (`isolated`), so
    without it the same code is kept out.

    Raises:
        NoPython: as `command`.
    """
    isolated_command = command(module)
    return [part for word in isolated_command for part in (("-P", "-s", "-X", "utf8") if word == "-I" else (word,))]


def python() -> str:
    """Return the Python that runs this process, or the one beside its library if a host program embeds it.

    Raises:
        NoPython: there is none.
    """
    found = [] if _is_frozen() else [sys.executable, *_beside_the_library()]
    for program in found:
        name = Path(program or "").name.lower()
        if name.startswith(("python", "pypy")) and os.access(program, os.X_OK):
            return program
    host = sys.executable or "a host program"
    raise NoPython(operation="start a Python", cause=f"{host} is no Python, and there is none under {sys.exec_prefix}")


def inherited(**more: str) -> dict[str, str]:
    """Return the environment that this process was started with, for a program that is not ours.

    PyInstaller's start of a frozen program changes the paths of libraries, and names its own files.
    """
    found = dict(os.environ)
    if _is_frozen():
        for name in _LIBRARY_PATHS:
            found.pop(name, None)
            if f"{name}_ORIG" in found:
                found[name] = found.pop(f"{name}_ORIG")
        found = {name: value for name, value in found.items() if not name.startswith(("_PYI_", "_MEI"))}
    return {**found, **more}


def isolated(**more: str) -> dict[str, str]:
    """Return the environment of a child: as inherited, without variables that bring code into it."""
    kept = {name: value for name, value in inherited().items() if not name.startswith(_CODE_BRINGERS)}
    return {**kept, **more}


def of_account(account: Account) -> dict[str, str]:
    """Return the environment of a child that runs as another account: that account's, and nothing of this process's.

    Variables of this process may hold its secrets, and an account can read the environment of its own processes.
    """
    kept = {name: value for name, value in inherited().items() if name in _KEPT_FOR_OTHERS or name.startswith("LC_")}
    return {
        **kept,
        "PATH": os.defpath,
        "HOME": str(account.home),
        "USER": account.name,
        "LOGNAME": account.name,
    }


def _is_frozen() -> bool:
    return bool(vars(sys).get("frozen"))


def _beside_the_library() -> list[str]:
    """Return where an installation has its Python, by the library that this process has loaded."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    names = (f"bin/python{version}", "bin/python3", "python.exe", "Scripts/python.exe")
    return [str(Path(prefix) / name) for prefix in (sys.exec_prefix, sys.base_exec_prefix) for name in names]
