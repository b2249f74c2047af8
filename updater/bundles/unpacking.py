"""Making the files of a release from a pack or a delta: each file is written and hashed once, and compared at once."""

from __future__ import annotations

import hashlib
import lzma
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, Self, assert_never

from dbsync.storage import file_calls, files
from dbsync.storage.platform import this_platform
from updater.bundles.packs import Head, Moved, New, Part, Patched, Source, Stream, read_head, sources, unusable
from updater.bundles.patches import patched
from updater.manifest import FileEntry, Manifest
from updater.model import ReleaseId

DAMAGES: Final = (lzma.LZMAError, MemoryError, OverflowError, KeyError, ValueError)
Written = Callable[[str], None]


class Unpacking:
    """One pack that becomes a folder.

    Args:
        folder: the new folder; the folders of its files are made by `open_target`.
        manifest: the signed list of its files.
        base: the version folder that a delta continues; None for a pack.
        open_target: opens a file of the new folder to write it.
        keep_reserve: is told how many bytes are written next; raises DiskFull.
        written: is told each file that is complete.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        base: Path | None,
        open_target: Callable[[str, FileEntry], BinaryIO],
        keep_reserve: Callable[[int], None],
        written: Written,
    ) -> None:
        self._manifest: Final = manifest
        self._base: Final = base
        self._open: Final = open_target
        self._keep_reserve: Final = keep_reserve
        self._written: Final = written

    def run(self, pack: Path, *, release_id: ReleaseId, since: ReleaseId | None) -> None:
        """Write all files of the release.

        Raises:
            PackUnusable: the pack, or the old version folder, is not what the new files can be made of.
            DiskFull: the reserve of the disk would be used.
            OSError: the pack cannot be read, or a file not be written.
        """
        with file_calls.open_to_read(pack) as file:
            try:
                head = read_head(file)
                if (head.release_id, head.since) != (release_id, since):
                    raise unusable("it is for another release")
                self._run(file, head)
            except DAMAGES as cause:
                raise unusable(f"it is damaged: {type(cause).__name__}: {cause}") from cause

    def _run(self, file: BinaryIO, head: Head) -> None:
        streams = sources(file, head)
        left = {path: entry for path, entry in self._manifest.files.items() if entry.link is None}
        for part in head.parts:
            entry = left.pop(part.path, None)
            if entry is None:
                raise unusable(f"{part.path} is not in the manifest, or is there twice")
            self._make(part, entry, streams)
        for path, entry in left.items():
            if self._base is None:
                raise unusable(f"{path} is missing")
            self._make(Moved(path, path), entry, streams)

    def _make(self, part: Part, entry: FileEntry, streams: dict[Stream, Source]) -> None:
        match part:
            case New():
                self._write(part.path, entry, _read(streams, entry.size_bytes))
            case Moved():
                with self._open_base(part.base) as base:
                    self._write(part.path, entry, _copied(base, entry.size_bytes))
            case Patched():
                with self._open_base(part.base) as base:
                    self._write(part.path, entry, patched(base, part, streams, entry.size_bytes))
            case _:
                assert_never(part)

    def _open_base(self, path: str) -> _Base:
        """Open a file of the old version; what another account put in its place is neither followed nor waited for."""
        if self._base is None:
            raise unusable("it is a pack and names an old file")
        try:
            descriptor = this_platform().open_claim(self._base / path)
        except OSError as cause:
            raise unusable(f"{cause.strerror or cause}", self._base / path) from cause
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise unusable("it is not a file", self._base / path)
        return _Base(os.fdopen(descriptor, "rb"))

    def _write(self, path: str, entry: FileEntry, chunks: Iterator[bytes]) -> None:
        digest, size_bytes = hashlib.sha256(), 0
        with self._open(path, entry) as target:
            for chunk in chunks:
                self._keep_reserve(len(chunk))
                digest.update(chunk)
                target.write(chunk)
                size_bytes += len(chunk)
        if size_bytes != entry.size_bytes or digest.hexdigest() != entry.sha256:
            raise unusable(f"{path} does not become what the manifest says")
        self._written(path)


def _read(streams: dict[Stream, Source], size_bytes: int) -> Iterator[bytes]:
    while size_bytes:
        chunk = streams[Stream.LITERALS].read(min(size_bytes, files.READ_SIZE_BYTES))
        size_bytes -= len(chunk)
        yield chunk


def _copied(base: _Base, size_bytes: int) -> Iterator[bytes]:
    """Yield the bytes of a file, as many as the new one has; of a file with more, the hash tells."""
    while size_bytes and (chunk := base.read(min(size_bytes, files.READ_SIZE_BYTES))):
        size_bytes -= len(chunk)
        yield chunk


class _Base:
    """An open file of the old version: whatever it cannot read, the whole release can be fetched."""

    def __init__(self, file: BinaryIO) -> None:
        self._file: Final = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def seek(self, place: int) -> None:
        self._file.seek(place)

    def read(self, size_bytes: int) -> bytes:
        try:
            return self._file.read(size_bytes)
        except OSError as cause:
            raise unusable(f"an old file cannot be read: {cause.strerror or cause}") from cause
