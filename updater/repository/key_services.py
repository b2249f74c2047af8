"""Libraries of key services, with which nothing here signs: securesystemslib loads those of every cloud it finds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

NAMES: Final = ("azure", "boto3", "botocore", "google")


@contextmanager
def hidden() -> Iterator[None]:
    """A block in which these libraries are not found, unless they are loaded already."""
    names = [name for name in NAMES if name not in sys.modules]
    # None hides a module (docs.python.org/3/reference/import.html#the-module-cache).
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
