"""The product, imported once for all cases."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Final

LEFT_OUT: Final = ("windows", "macos", "__main__")
ALSO: Final = (
    "argparse", "email.utils", "fnmatch", "glob", "hashlib", "http.client", "platform", "runpy", "shutil", "ssl",
    "tarfile", "tempfile", "urllib.request", "zlib",
)  # fmt: skip
"""Modules of the standard library that the product imports inside functions."""


def import_all(*, publish: bool) -> None:
    """Import every module of the product, so that a forked case has nothing left to import.

    Args:
        publish: also the vendor's side, which is large: forks of a smaller process are faster.
    """
    import dbsync
    import updater

    for package in (dbsync, updater):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if any(part in LEFT_OUT for part in module.name.split(".")):
                continue
            if module.name.startswith("updater.publish") and not publish and module.name != "updater.publish.serve":
                continue
            importlib.import_module(module.name)
    for name in (*ALSO, "dbsync.__main__", "updater.__main__"):
        importlib.import_module(name)
