"""The count of launcher starts that did not reach the app: the program that starts kits counts, a launcher clears."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from dbsync.storage import file_calls

PLACE: Final = "TILLKEEPER_LAUNCHES"
NAME: Final = "launcher.json"
"""As the program that starts kits has them (`updater.host.stub`), which a launch need not load."""


def reached() -> None:
    """Clear the count of this start: the app was reached, or somebody was told why it cannot be opened now."""
    path = os.environ.pop(PLACE, "")
    if path and Path(path).name == NAME:
        file_calls.remove_if_possible(Path(path))
