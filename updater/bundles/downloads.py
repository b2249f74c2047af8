"""The folder of downloads and its one owner: archives, packs, deltas, used again, removed when nothing wants them."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

from dbsync.storage import file_calls, files
from dbsync.storage.files import disk_errors
from updater.model import Release, Sha256

ARCHIVE, PACK, PART = ".archive", ".pack", ".part"


class Downloads:
    """Files that are being downloaded, or wait to be unpacked; each begins with the name of its version folder."""

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder

    def path_of(self, release: Release) -> Path:
        """Return where the archive of a release is put; while it is not whole, `.part` is added."""
        return self._folder / f"{release.folder}{ARCHIVE}"

    def path_of_pack(self, release: Release, sha256: Sha256) -> Path:
        """Return where a pack or a delta of a release is put; they are told apart by their hashes."""
        return self._folder / f"{release.folder}.{sha256[:12]}{PACK}"

    @staticmethod
    def here_bytes(path: Path) -> int:
        """Return how much of a download is here."""
        return files.size_of(path, path.with_name(path.name + PART))

    def remove(self, release: Release) -> None:
        """Remove everything that was downloaded for a release."""
        for path in files.listed(self._folder, "*"):
            if _folder_of(path.name) == release.folder:
                self.remove_file(path)

    def remove_file(self, path: Path) -> None:
        """Remove a download and its beginning."""
        self._remove(path)
        self._remove(path.with_name(path.name + PART))

    def tidy(self, keep: AbstractSet[str]) -> None:
        """Remove everything but the downloads of some releases, by the names of their version folders.

        Links are removed, not followed. A folder is left: nothing of the product makes one here.
        """
        for path in files.listed(self._folder, "*"):
            if _folder_of(path.name) in keep:
                continue
            if path.is_symlink() or not path.is_dir():
                self._remove(path)

    @staticmethod
    def _remove(path: Path) -> None:
        with disk_errors("remove", path):
            file_calls.remove(path)


def _folder_of(name: str) -> str:
    """Return the version folder that a download is for; empty for what is none of ours."""
    name = name.removesuffix(PART)
    if name.endswith(ARCHIVE):
        return name.removesuffix(ARCHIVE)
    return name.removesuffix(PACK).rpartition(".")[0] if name.endswith(PACK) else ""
