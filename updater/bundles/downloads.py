"""The folder of downloads and its one owner: an archive per release, used again, removed when nothing wants it."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

from dbsync.storage import file_calls, files
from dbsync.storage.files import disk_errors
from updater.model import Release

ARCHIVE, PART = ".archive", ".part"


class Downloads:
    """Archives that are being downloaded, or wait to be unpacked; each has the name of its version folder."""

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder

    def path_of(self, release: Release) -> Path:
        """Return where the archive of a release is put; while it is not whole, `.part` is added."""
        return self._folder / f"{release.folder}{ARCHIVE}"

    def here_bytes(self, release: Release) -> int:
        """Return how much of an archive is here."""
        path = self.path_of(release)
        return files.size_of(path, path.with_name(path.name + PART))

    def remove(self, release: Release) -> None:
        """Remove the archive of a release."""
        self._remove(self.path_of(release))

    def tidy(self, keep: AbstractSet[str]) -> None:
        """Remove everything but the archives of some releases, by the names of their version folders.

        Links are removed, not followed. A folder is left: nothing of the product makes one here.
        """
        for path in files.listed(self._folder, "*"):
            name = path.name.removesuffix(PART)
            if (name == path.name or name.endswith(ARCHIVE)) and name.removesuffix(ARCHIVE) in keep:
                continue
            if path.is_symlink() or not path.is_dir():
                self._remove(path)

    @staticmethod
    def _remove(path: Path) -> None:
        with disk_errors("remove", path):
            file_calls.remove(path)
