"""Differences between operating systems, one module per system; no other module of the updater checks the system.

`base.Host` is the interface. `linux`, `macos` and `windows` implement all of it; `shared` is the part common to all,
`posix` the part common to Linux and macOS. Every module can be imported on every system. A new system is a module
with one class, and a line in SYSTEMS.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, cast

from dbsync.storage.platform import of_this_system

if TYPE_CHECKING:
    from updater.host.base import Host

SYSTEMS: Final = {
    "linux": ("linux", "LinuxHost"),
    "darwin": ("macos", "MacHost"),
    "win32": ("windows", "WindowsHost"),
}
"""`sys.platform` → module in this package and its class."""


@cache
def this_host() -> Host:
    """Return the host that this process runs on; the first call loads its module.

    Raises:
        UnsupportedSystem: no module here supports this system.
    """
    return cast("Host", of_this_system(SYSTEMS, package=__name__))
