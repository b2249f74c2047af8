"""Writing packs: the streams are packed beside each other into files, and joined behind the head."""

from __future__ import annotations

import lzma
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from dbsync.backups import compression
from dbsync.storage import files
from dbsync.storage.files import READ_SIZE_BYTES, disk_errors
from updater.bundles.packs import (
    LZMA_WINDOW_BYTES,
    X86_FILTERS,
    XZ_FILTERS,
    ZSTD_WINDOW_LOG,
    Codec,
    Head,
    New,
    Packed,
    Part,
    Stream,
    head_to_bytes,
)
from updater.manifest import Manifest
from updater.model import ReleaseId

PACK_LEVEL: Final = 19
SMALLEST_WINDOW_BYTES: Final = 1 << 12
X86: Final = ("x86_64", "amd64")
"""Ends of the names of platforms whose programs the filter makes smaller; other files stay as large as they are."""


class Compressor(Protocol):
    """The compressors of both libraries."""

    def compress(self, data: bytes) -> bytes:
        """Take bytes; return what is ready."""

    def flush(self) -> bytes:
        """Return the rest."""


class PackedFile(NamedTuple):
    """A packed stream in a file."""

    path: Path
    packed: Packed


def by_kind(path: str) -> tuple[str, str]:
    """Return the order of files in a stream: files of one kind pack better beside each other."""
    name = path.rpartition("/")[2]
    return name.rpartition(".")[2], path


def new_files(manifest: Manifest) -> tuple[New, ...]:
    """Return all files of a release as those that travel whole."""
    return tuple(New(path) for path in sorted(manifest.files, key=by_kind) if manifest.files[path].link is None)


def content(paths: Iterable[Path]) -> Iterator[bytes]:
    """Yield the content of files, one after the other."""
    for path in paths:
        with disk_errors("read", path), path.open("rb") as file:
            while chunk := file.read(READ_SIZE_BYTES):
                yield chunk


def squeeze(chunks: Iterable[bytes], target: Path, *, stream: Stream, codec: Codec, plain_bytes: int) -> PackedFile:
    """Pack a stream of so many bytes into a file.

    Raises:
        DiskFull: or another problem of the disk.
    """
    compressor = _compressor(codec, plain_bytes)
    packed_bytes = found_bytes = 0
    with disk_errors("write", target), target.open("wb") as file:
        for chunk in chunks:
            found_bytes += len(chunk)
            packed_bytes += file.write(compressor.compress(chunk))
        packed_bytes += file.write(compressor.flush())
    assert found_bytes == plain_bytes, "the files are those of the manifest"
    return PackedFile(target, Packed(stream, codec, packed_bytes, plain_bytes))


def _compressor(codec: Codec, plain_bytes: int) -> Compressor:
    if codec is Codec.XZ:
        # A smaller window packs the same and does not cost the memory of a full one.
        window_bytes = min(LZMA_WINDOW_BYTES, max(SMALLEST_WINDOW_BYTES, plain_bytes))
        filters: Sequence[Mapping[str, Any]] = [{**XZ_FILTERS[0], "dict_size": window_bytes}]
        return lzma.LZMACompressor(lzma.FORMAT_RAW, filters=filters)
    if codec is Codec.ZSTD_X86:
        return _X86Compressor(_compressor(Codec.ZSTD, plain_bytes))
    zstd = compression.library("pack", Path())
    parameter = zstd.CompressionParameter
    options: dict[Any, int] = {parameter.compression_level: PACK_LEVEL}
    if plain_bytes >= 1 << ZSTD_WINDOW_LOG:
        options |= {parameter.window_log: ZSTD_WINDOW_LOG, parameter.enable_long_distance_matching: 1}
    found: Compressor = zstd.ZstdCompressor(options=options)
    return found


class _X86Compressor:
    """Filters programs of x86, and gives them to another compressor.

    liblzma filters only what it compresses with LZMA2 after it, so that is undone.
    """

    def __init__(self, compressor: Compressor) -> None:
        self._compressor: Final = compressor
        self._filter: Final = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=X86_FILTERS)
        self._undo: Final = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=X86_FILTERS[1:])

    def compress(self, data: bytes) -> bytes:
        return self._compressor.compress(self._undo.decompress(self._filter.compress(data)))

    def flush(self) -> bytes:
        return self._compressor.compress(self._undo.decompress(self._filter.flush())) + self._compressor.flush()


def join(
    streams: Sequence[PackedFile], target: Path, *, parts: tuple[Part, ...], release_id: ReleaseId,
    since: ReleaseId | None,
) -> None:  # fmt: skip
    """Write a pack of packed streams, durably; they are removed."""
    head = Head(release_id, since, parts, tuple(stream.packed for stream in streams))
    with disk_errors("write", target), target.open("wb") as file:
        file.write(head_to_bytes(head))
        for stream in streams:
            with stream.path.open("rb") as source:
                shutil.copyfileobj(source, file, READ_SIZE_BYTES)
            stream.path.unlink()
    files.sync_file(target)


def make_pack(*, bundle: Path, target: Path, manifest: Manifest, release_id: ReleaseId, scratch: Path) -> None:
    """Write the pack of a whole release."""
    parts = new_files(manifest)
    size_bytes = sum(manifest.files[part.path].size_bytes for part in parts)
    codec = Codec.ZSTD_X86 if manifest.platform.endswith(X86) else Codec.ZSTD
    stream = squeeze(
        content(bundle / part.path for part in parts), scratch / "pack", stream=Stream.LITERALS, codec=codec,
        plain_bytes=size_bytes,
    )  # fmt: skip
    join([stream], target, parts=parts, release_id=release_id, since=None)
