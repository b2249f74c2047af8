"""Differences between operating systems, one module per system: no other module of dbsync asks which one this is.

`base.Platform` is the interface. `linux`, `macos` and `windows` implement all of it; `posix` is the part that the first
two share. Every module can be imported on every system. A new system is a module with one class, and a line in SYSTEMS.
"""

from __future__ import annotations

import sys
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
    if sys.platform not in SYSTEMS:
        from dbsync.errors import UnsupportedSystem

        cause = f"the operating system {sys.platform} is not supported"
        raise UnsupportedSystem(operation="run", cause=cause, hint=f"Supported: {', '.join(SYSTEMS)}.")
    module, name = SYSTEMS[sys.platform]
    # Not importlib.import_module: on the till's start-up path importlib is loaded for nothing else.
    found = __import__(f"{__name__}.{module}", fromlist=[name])
    return cast("Platform", getattr(found, name)())
