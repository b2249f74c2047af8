"""Lets this process wait for others: for work that must not slow a till that is selling."""

from __future__ import annotations

import os
import sys
from typing import Final

NICER_BY: Final = 10
_BELOW_NORMAL: Final = 0x4000
"""BELOW_NORMAL_PRIORITY_CLASS (learn.microsoft.com, SetPriorityClass). The background mode below it can starve."""


def lower() -> None:
    """Lowers the priority of this process, and with it that of its reading and writing where the system ties them.

    Linux takes the I/O priority from the nice value (man7.org, ioprio_set(2)). There is no way back without privileges,
    so only a process that does nothing else may call this. A system that refuses is no failure.
    """
    try:
        if sys.platform == "win32":
            import ctypes

            kernel = ctypes.windll.kernel32
            kernel.SetPriorityClass(kernel.GetCurrentProcess(), _BELOW_NORMAL)
        else:
            os.nice(NICER_BY)
    except OSError:
        return
