"""Free space on every disk that the agent writes: needs on one disk are added, and its reserve stays free."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dbsync.errors import DiskFull
from dbsync.storage import files
from dbsync.storage.files import disk_errors


class Need(NamedTuple):
    """Bytes that are to be written into a folder."""

    folder: Path
    size_bytes: int


def shortage(needs: Sequence[Need], *, reserve_bytes: int) -> DiskFull | None:
    """Return the disk that these would fill into its reserve, as an error with the numbers; None if there is none."""
    on_disk: dict[int, list[Need]] = {}
    for need in needs:
        folder = files.nearest_folder(need.folder)
        with disk_errors("look at", folder):
            on_disk.setdefault(folder.stat().st_dev, []).append(need)
    for together in on_disk.values():
        needed_bytes = sum(need.size_bytes for need in together) + reserve_bytes
        free_bytes = files.free_bytes(together[0].folder)
        if free_bytes < needed_bytes:
            return DiskFull(
                operation="make room for the release", path=together[0].folder,
                cause=f"{needed_bytes / 1e6:.1f} MB are needed, {free_bytes / 1e6:.1f} MB are free"
                f" ({reserve_bytes / 1e6:.1f} MB stay free for the till)",
            )  # fmt: skip
    return None


def is_under_pressure(folder: Path, *, reserve_bytes: int) -> bool:
    """Return whether the disk of a folder has less than its reserve free."""
    return files.free_bytes(folder) < reserve_bytes
