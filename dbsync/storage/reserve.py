"""Disk space that a file holds until it is needed.

A check of the free space is not enough: another program may take the space between the check and the write.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from dbsync.storage import file_calls
from dbsync.storage.files import disk_errors
from dbsync.storage.platform import this_platform


class Reserve:
    """One file of allocated blocks, without content.

    Args:
        path: the file, on the disk on which the space will be needed. A crash leaves it; the next run removes it.
        like: the database, whose owner and rights it gets.
    """

    def __init__(self, path: Path, *, like: Path) -> None:
        self._path: Final = path
        self._like: Final = like

    def hold(self, size_bytes: int) -> None:
        """Allocate that many bytes, instead of those that are held.

        Raises:
            DiskFull: there is not enough space; nothing is held.
            DiskProblem: the file cannot be made.
        """
        self.free()
        try:
            with disk_errors("reserve space in", self._path):
                descriptor = this_platform().create(self._path, like=self._like)
                try:
                    this_platform().allocate(descriptor, size_bytes)
                finally:
                    os.close(descriptor)
        except BaseException:
            file_calls.remove(self._path)
            raise

    def free(self) -> None:
        """Give the space back, if any is held.

        Raises:
            DiskProblem: the file cannot be removed.
        """
        with disk_errors("free the space of", self._path):
            file_calls.remove(self._path)
