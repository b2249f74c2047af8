"""Differences between operating systems, one module per system: no other module of dbsync asks which one this is.

`base.Platform` is the interface. `linux`, `macos` and `windows` implement all of it; `posix` is the part that the first
two share. Every module can be imported on every system. A new system is a module with one class, and a line in SYSTEMS.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from dbsync.storage.platform.base import Platform

SYSTEMS: Final = {
    "linux": ("linux", "LinuxPlatform"),
    "darwin": ("macos", "MacPlatform"),
    "win32": ("windows", "WindowsPlatform"),
}
"""`sys.platform` to the module in this package and its class."""


@cache
def this_platform() -> Platform:
    """Return the platform that this process runs on; the first call loads its module.

    Raises:
        UnsupportedSystem: no module here knows this system.
    """
    return cast("Platform", of_this_system(SYSTEMS, package=__name__))


def of_this_system(systems: Mapping[str, tuple[str, str]], *, package: str) -> object:
    """Return what a package has for this system: an instance of the class on its line of the table.

    Raises:
        UnsupportedSystem: there is no line for this system.
    """
    if sys.platform not in systems:
        from dbsync.errors import UnsupportedSystem

        cause = f"the operating system {sys.platform} is not supported"
        raise UnsupportedSystem(operation="run", cause=cause, hint=f"Supported: {', '.join(systems)}.")
    module, name = systems[sys.platform]
    # Not importlib.import_module: nothing else on the till's start-up path loads importlib.
    found: object = getattr(__import__(f"{package}.{module}", fromlist=[name]), name)()
    return found
