"""macOS: folders that iCloud and other services copy. Written from Apple's documents; untested."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from updater.decisions.places import Hazard, Zone


def zones(home: Path) -> Iterator[Zone]:
    """Yield the folders of an account that are copied to other machines."""
    library = home / "Library"
    yield Zone(str(library / "Mobile Documents"), Hazard.SYNCED, "iCloud Drive")
    yield Zone(
        str(library / "CloudStorage"), Hazard.SYNCED, "a file provider, such as OneDrive, Dropbox or Google Drive"
    )
    for name in ("Desktop", "Documents"):
        # There where the account keeps both in iCloud.
        if (library / "Mobile Documents/com~apple~CloudDocs" / name).exists():
            yield Zone(str(home / name), Hazard.SYNCED, "iCloud Drive", is_sure=False)
