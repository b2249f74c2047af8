"""Calls on files that wait for another program which holds the file: the only ones that the product makes.

A virus scanner, an indexer or a copier may have any file open for moments, and Windows then refuses to open, to remove
or to rename it. Each call here is repeated within bounds (`Platform.patiently`), and raises what the system raises:
`FileNotFoundError` if there is no such file; any other OSError says nothing about its content. Callers give it words
(`files.disk_errors`), and try again later.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from dbsync.storage.platform import this_platform

if TYPE_CHECKING:
    from io import BufferedReader, FileIO
    from typing import BinaryIO, TextIO

Value = TypeVar("Value")


def patiently(call: Callable[[], Value]) -> Value:
    """Return what a call on files returns; while another program holds the file, repeat it, within bounds."""
    return this_platform().patiently(call)


def open_to_read(path: Path) -> BufferedReader:
    """Open a file to read bytes."""
    return patiently(lambda: path.open("rb"))


def open_unbuffered(path: Path) -> FileIO:
    """Open a file to read bytes, each read of which is one of the system's."""
    return patiently(lambda: path.open("rb", buffering=0))


def open_to_write(path: Path, mode: str, *, buffering: int = -1) -> BinaryIO:
    """Open a file to write bytes: `wb`, `x+b`, `r+b` or `w+b`; without buffering each write is the system's."""
    return cast("BinaryIO", patiently(lambda: path.open(mode, buffering=buffering)))


def read_bytes(path: Path) -> bytes:
    """Return the content of a file."""
    return patiently(path.read_bytes)


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8."""
    return patiently(lambda: path.read_text(encoding="utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file as it is, not durably: for folders that nobody uses before they have their final name."""
    patiently(lambda: path.write_bytes(data))


def open_to_append_text(path: Path) -> TextIO:
    """Open a file of text in UTF-8 to append to it, with line ends as they are written."""
    return cast("TextIO", patiently(lambda: path.open("a", encoding="utf-8", newline="")))


def rename(*, source: Path, target: Path) -> None:
    """Rename a file or folder; a file of the new name is replaced."""
    this_platform().replace(source=source, target=target)


def remove(path: Path, *, missing_ok: bool = True) -> None:
    """Remove a file or a link; do nothing if there is none."""
    patiently(lambda: path.unlink(missing_ok=missing_ok))


def remove_if_possible(path: Path) -> bool:
    """Remove a file that stops nothing where it stays; return whether there is none now."""
    try:
        this_platform().patiently(lambda: path.unlink(missing_ok=True), briefly=True)
    except OSError:
        return False
    return True


def remove_folder(folder: Path) -> None:
    """Remove an empty folder."""
    patiently(folder.rmdir)


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it; a link in its place is refused, never followed."""
    # A repetition removes the rest.
    import shutil

    patiently(lambda: shutil.rmtree(folder))


def remove_tree_if_possible(folder: Path) -> None:
    """Remove of a folder what can be removed, and the folder if that is all; a later run removes the rest."""
    import shutil

    with suppress(OSError):
        this_platform().patiently(lambda: shutil.rmtree(folder), briefly=True)
        return
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that lasts for the block; of what another program holds for longer, nothing fails and it stays."""
    import tempfile

    folder = Path(tempfile.mkdtemp())
    try:
        yield folder
    finally:
        try:
            remove_tree(folder)
        except OSError:
            remove_tree_if_possible(folder)


def move(*, source: Path, target: Path) -> None:
    """Move a file or folder, also to another file system."""
    import shutil

    patiently(lambda: shutil.move(source, target))


def touch_time(path: Path) -> None:
    """Set the time of the last write of a file or folder to now."""
    patiently(lambda: os.utime(path))
