"""The one address for differences between operating systems: chosen once, here."""

from __future__ import annotations

import sys

from updater.host.base import Host


def _choose() -> Host:
    if sys.platform == "win32":
        from updater.host.windows import WindowsHost

        return WindowsHost()
    if sys.platform == "darwin":
        from updater.host.macos import MacHost

        return MacHost()
    from updater.host.linux import LinuxHost

    return LinuxHost()


host: Host = _choose()
