"""Files in a version folder that its release did not bring: found before the folder is removed, and moved aside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.errors import DiskFull, Refused, disk_problem, place_of
from dbsync.storage import file_calls, files
from updater.bundle_names import OWN_NAMES
from updater.host import this_host
from updater.manifest import MANIFEST_NAME, Manifest, entry_of, parse

KEPT_FOLDERS_COUNT: Final = 10
KEPT_SIZE_BYTES: Final = 200_000_000
"""The oldest folders are removed beyond these limits; the newest stays whatever its size is."""
SHOWN_COUNT: Final = 5
CACHES: Final = frozenset({"__pycache__"})
"""Folders that programs make again by themselves."""


class Kept(NamedTuple):
    """Files of one version folder that were moved aside."""

    folder: Path
    """Where they are now."""
    paths: tuple[str, ...]
    """Their paths inside the version folder."""
    problem: str = ""
    """Why they could not be moved; the version folder is not removed then."""

    @property
    def in_words(self) -> str:
        """The paths, the first few of many."""
        more = len(self.paths) - SHOWN_COUNT
        return ", ".join(self.paths[:SHOWN_COUNT]) + (f" and {more} more" if more > 0 else "")


def foreign(folder: Path) -> Iterator[str]:
    """Yield the paths of files and links that are not in the folder's manifest, or differ from it.

    Without a readable manifest all of them are yielded: nobody knows which of them the release brought.
    """
    try:
        manifest = parse(file_calls.read_bytes(folder / MANIFEST_NAME), installed=True)
    except (OSError, Refused):
        manifest = None
    for path in _walked(folder):
        relative = path.relative_to(folder).as_posix()
        if manifest is None or not _is_signed(path, relative, manifest):
            yield relative


def put_aside(*, folder: Path, into: Path, reserve_bytes: int) -> Kept:
    """Move the foreign files of a version folder into another one; return all that are there.

    A crash in between leaves each file in one of the two; a repeat moves the rest and returns all of them.

    Args:
        folder: the version folder.
        into: the folder that they are moved into.
        reserve_bytes: what stays free on its disk, if that is another one: files are copied there.
    """
    paths = tuple(foreign(folder))
    try:
        copies = bool(paths) and folder.stat().st_dev != files.nearest_folder(into).stat().st_dev
        for path in paths:
            if copies:
                ahead_bytes = (folder / path).lstat().st_size
                files.keep_free(into, operation="move", ahead_bytes=ahead_bytes, reserve_bytes=reserve_bytes)
            _move(path=folder / path, into=into, relative=path)
        if paths:
            file_calls.touch_time(into)
    except OSError as cause:
        problem = disk_problem("move", place_of(cause, folder), cause)
        return Kept(into, paths, str(problem))
    except DiskFull as error:
        return Kept(into, paths, str(error))
    return Kept(into, tuple(path.relative_to(into).as_posix() for path in _walked(into)))


def limit(kept: Path) -> None:
    """Remove the oldest folders of kept files beyond the limits.

    Raises:
        DiskProblem: the folder cannot be read.
    """
    folders = [path for path in files.listed(kept, "*") if path.is_dir() and not path.is_symlink()]
    folders.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    size_bytes = 0
    for number, folder in enumerate(folders):
        size_bytes += sum(path.lstat().st_size for path in _walked(folder))
        if number and (number >= KEPT_FOLDERS_COUNT or size_bytes > KEPT_SIZE_BYTES):
            file_calls.remove_tree_if_possible(folder)


def _walked(folder: Path) -> Iterator[Path]:
    """Yield files and links below a folder, sorted; sockets and the like have no content to keep."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in CACHES)
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in sorted((*names, *links)):
            path = Path(parent, name)
            ours = path.parent == folder and name in OWN_NAMES
            if (path.is_symlink() or path.is_file()) and not ours:
                yield path


def _is_signed(path: Path, relative: str, manifest: Manifest) -> bool:
    entry = manifest.files.get(relative)
    if entry is None:
        return False
    if entry.link is None and path.lstat().st_size != entry.size_bytes:
        return False
    try:
        found = entry_of(path, relative)
    except Refused:
        return False
    keeps_bit = this_host().keeps_executable_bit
    return (found if keeps_bit else found._replace(mode=entry.mode)) == entry


def _move(*, path: Path, into: Path, relative: str) -> None:
    target = into / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    while os.path.lexists(target):
        number += 1
        target = (into / relative).with_name(f"{path.name}.{number}")
    # The folder may be on another file system; a link is moved as a link.
    file_calls.move(source=path, target=target)
    files.sync_folder(target.parent)
