"""Making the files of a release from a pack or a delta: each file is written and hashed once, and compared at once."""

from __future__ import annotations

import lzma
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, assert_never

from dbsync.storage import file_calls
from dbsync.storage.platform import this_platform
from updater.bundles.packs import Head, Moved, New, Part, Patched, Source, Stream, read_head, sources, unusable
from updater.bundles.patches import patched
from updater.bundles.writing import Behind, Folder, OldFile, Target, threads
from updater.manifest import FileEntry, Manifest
from updater.model import ReleaseId

DAMAGES: Final = (lzma.LZMAError, MemoryError, OverflowError, KeyError, ValueError)


class Unpacking:
    """One pack that becomes a folder.

    Args:
        manifest: the signed list of its files.
        base: the version folder that a delta continues; None for a pack.
        folder: the folder that is written.
    """

    def __init__(self, manifest: Manifest, *, base: Path | None, folder: Folder) -> None:
        self._manifest: Final = manifest
        self._base: Final = base
        self._folder: Final = folder
        self._threads: tuple[Behind, ...] = ()

    def run(self, pack: Path, *, release_id: ReleaseId, since: ReleaseId | None) -> None:
        """Write all files of the release.

        Raises:
            PackUnusable: the pack, or the old version folder, is not what the new files can be made of.
            DiskFull: the reserve of the disk would be used.
            OSError: the pack cannot be read, or a file not be written.
        """
        with file_calls.open_to_read(pack) as file:
            try:
                head = read_head(file, files_count=len(self._manifest.files))
                if (head.release_id, head.since) != (release_id, since):
                    raise unusable("it is for another release")
                with threads() as self._threads:
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
                self._write(part.path, entry, streams[Stream.LITERALS].pieces(entry.size_bytes))
            case Moved():
                self._least_waiting().do(partial(self._copy, part, entry))
            case Patched():
                with self._open_base(part.base) as file:
                    chunks = patched(OldFile(file), part, streams, entry.size_bytes)
                    self._write(part.path, entry, chunks)
            case _:
                assert_never(part)

    def _copy(self, part: Moved, entry: FileEntry) -> None:
        with self._open_base(part.base) as file:
            Target(part.path, entry, self._folder).copy(OldFile(file))

    def _least_waiting(self) -> Behind:
        return min(self._threads, key=Behind.waiting_count)

    def _open_base(self, path: str) -> BinaryIO:
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
        # A buffer would be filled for each piece of it.
        return os.fdopen(descriptor, "rb", buffering=0)

    def _write(self, path: str, entry: FileEntry, chunks: Iterator[bytes | memoryview] | Iterator[bytes]) -> None:
        """Have a file written behind: while its bytes are hashed and written, the next ones are unpacked.

        One thread has all steps of a file. One in which a step failed soon has none waiting, and tells the next file.
        """
        behind, target = self._least_waiting(), Target(path, entry, self._folder)
        try:
            behind.do(target.begin)
            for chunk in chunks:
                behind.do(partial(target.take, chunk))
            behind.do(target.finish)
        except BaseException:
            behind.wait()
            target.close()
            raise
