"""The count of launcher starts that did not reach the app: the program that starts kits counts, a launcher clears."""

from __future__ import annotations

import os
from pathlib import Path

from dbsync.storage import file_calls
from updater.host import stub


def reached() -> None:
    """Clear the count of this start: the app was reached, or somebody was told why it cannot be opened now."""
    path = os.environ.pop(stub.REACHED, "")
    if path and Path(path).name == stub.LAUNCHES:
        file_calls.remove_if_possible(Path(path))
