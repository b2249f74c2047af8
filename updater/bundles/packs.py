"""The files in which a release travels beside tufup's archive: a head that says how each file is made, and streams.

A pack holds a whole release, a delta what differs from one earlier release. Both are one format:

    TKPACK1 and a line feed | size of the head, 4 bytes | head | streams, in the order in which the head lists them

The head is JSON, packed as XZ packs it. Streams are of bytes, and each is read once from its beginning, in the order of
the head's files. What arrives is signed; a mistake of the vendor's is still bounded here in memory, size and time.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Protocol

from dbsync.backups import compression
from dbsync.facts import ReleaseId
from updater.bundle_names import PATH_LIMIT_BYTES
from updater.errors import PackUnusable
from updater.manifest import ManifestError, check_path

MAGIC: Final = b"TKPACK1\n"
HEAD_LIMIT_BYTES: Final = 64_000_000
"""Of an unpacked head: as much as some 200 000 files need."""
HEAD_FILE_BYTES: Final = 2 * PATH_LIMIT_BYTES + 100
HEAD_OWN_BYTES: Final = 1000
"""Bytes of a head for each file of its release, and beside them: JSON that is read takes 25 times its bytes."""
LZMA_WINDOW_BYTES: Final = 1 << 23
ZSTD_WINDOW_LOG: Final = 23
"""A pack is unpacked with a window of 8 MB at most, a delta with six, of which it fills what it holds."""
PATCH_LIMIT_BYTES: Final = 1 << 24
"""Of each part of one file's patch that is held in memory. A file that needs more travels whole."""
LZMA2_FIRST_PLAIN, LZMA2_PLAIN, LZMA2_END = b"\1", b"\2", b"\0"
"""The bytes of control before bytes that are not compressed, with a new window and without, and at the end (xz's
lzma2_decoder.c)."""
LZMA2_CHUNK_BYTES: Final = 1 << 16
READ_BYTES: Final = 1 << 17
PIECE_BYTES: Final = 1 << 18
"""How much of a stream is read and unpacked at once: a few of them wait to be written."""
XZ_FILTERS: Final = ({"id": lzma.FILTER_LZMA2, "dict_size": LZMA_WINDOW_BYTES, "preset": 9},)
X86_FILTERS: Final = ({"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 0})
"""The filter for programs of x86, which liblzma runs before LZMA2 alone."""


class Stream(StrEnum):
    """Names of the streams."""

    LITERALS = "literals"
    """Bytes of the new files that come from no old one."""
    COVERS = "covers"
    """Where a new file continues with bytes of the old one."""
    GAPS_LOW = "gaps_low"
    GAPS_HIGH = "gaps_high"
    """How many of those bytes stay as they are, low and high byte, until the next run that changes."""
    LENGTHS = "lengths"
    """How many bytes such a run has, up to 255."""
    DIFFERENCES = "differences"
    """What is added to the bytes of the runs."""


class Codec(StrEnum):
    """Compression of a stream."""

    XZ = "xz"
    """LZMA2, as in the standard library."""
    ZSTD = "zstd"
    ZSTD_X86 = "zstd_x86"
    """zstd, of bytes in which each call of a function has the function's place instead of the way to it: what calls it
    from several places is then the same bytes."""


class New(NamedTuple):
    """A file that travels whole."""

    path: str


class Moved(NamedTuple):
    """A file that the earlier release has under another name."""

    path: str
    base: str


class Patched(NamedTuple):
    """A file that is made of one of the earlier release."""

    path: str
    base: str
    covers_bytes: int
    runs_count: int
    differences_bytes: int


Part = New | Moved | Patched


class Packed(NamedTuple):
    """A stream's place in the file."""

    stream: Stream
    codec: Codec
    packed_bytes: int
    plain_bytes: int


class Head(NamedTuple):
    """The beginning of a pack or a delta: the files that it makes, and its streams."""

    release_id: ReleaseId
    since: ReleaseId | None
    """The release that a delta continues; None for a pack."""
    parts: tuple[Part, ...]
    """In the order of the streams; of a delta, files that are not named are the earlier release's."""
    streams: tuple[Packed, ...]


class Decompressor(Protocol):
    """The decompressors of both libraries."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether more comes only of more input."""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Return at most so many bytes."""


def has_zstd() -> bool:
    """Return whether packs can be read here; deltas need no more than the standard library."""
    return compression.is_there()


def decompressor(codec: Codec) -> tuple[Decompressor, type[Exception]]:
    """Return what undoes a codec, with a bounded window, and what it raises for damage."""
    if codec is Codec.XZ:
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=XZ_FILTERS), lzma.LZMAError
    if not has_zstd():
        raise unusable("there is no zstd in this Python")
    zstd = compression.library("unpack", Path())
    found: Decompressor = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG})
    return X86Decompressor(found) if codec is Codec.ZSTD_X86 else found, zstd.ZstdError


class X86Decompressor:
    """Undoes another compression, and then the filter for programs of x86.

    liblzma gives the filter no function of its own. LZMA2 has a form for bytes that it does not compress, so they are
    given to it in that form, and it copies and filters them.
    """

    def __init__(self, undo: Decompressor) -> None:
        self._undo: Final = undo
        self._filter: Final = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=X86_FILTERS)
        self._control = LZMA2_FIRST_PLAIN

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""
        return self._undo.eof

    @property
    def needs_input(self) -> bool:
        """Whether more comes only of more input."""
        return self._undo.needs_input

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Return at most so many bytes, and the few that were held back before."""
        plain = memoryview(self._undo.decompress(data, max_length))
        chunks: list[bytes | memoryview] = []
        for start in range(0, len(plain), LZMA2_CHUNK_BYTES):
            chunk = plain[start : start + LZMA2_CHUNK_BYTES]
            chunks += (self._control + (len(chunk) - 1).to_bytes(2, "big"), chunk)
            self._control = LZMA2_PLAIN
        if self._undo.eof and not self._filter.eof:
            chunks.append(LZMA2_END)
        return self._filter.decompress(b"".join(chunks)) if chunks else b""


class Source:
    """One stream while it is read."""

    def __init__(self, file: BinaryIO, packed: Packed, place: int) -> None:
        self._file: Final = file
        self._packed: Final = packed
        self._place = place
        self._ends: Final = place + packed.packed_bytes
        self._undo, self._damage = decompressor(packed.codec)
        self._made_bytes = 0
        self._ready = memoryview(b"")
        """Unpacked and not read yet; a view, because most pieces are passed on as they are."""

    def pieces(self, size_bytes: int) -> Iterator[bytes | memoryview]:
        """Yield exactly so many bytes, in pieces as they are unpacked.

        Raises:
            PackUnusable: the stream is damaged, or ends before.
        """
        while size_bytes:
            if not self._ready:
                self._ready = memoryview(self._more())
            piece, self._ready = self._ready[:size_bytes], self._ready[size_bytes:]
            size_bytes -= len(piece)
            if piece:
                yield piece

    def read(self, size_bytes: int) -> bytes:
        """Return exactly so many bytes.

        Raises:
            PackUnusable: the stream is damaged, or ends before.
        """
        return b"".join(self.pieces(size_bytes))

    def _more(self) -> bytes:
        data = b""
        if self._undo.needs_input:
            self._file.seek(self._place)
            data = self._file.read(min(READ_BYTES, self._ends - self._place))
            self._place += len(data)
        if self._undo.eof or (self._undo.needs_input and not data):
            raise unusable(f"the stream {self._packed.stream} ends too early")
        try:
            made = self._undo.decompress(data, PIECE_BYTES)
        except self._damage as cause:
            raise unusable(f"the stream {self._packed.stream} is damaged: {cause}") from cause
        self._made_bytes += len(made)
        if self._made_bytes > self._packed.plain_bytes:
            raise unusable(f"the stream {self._packed.stream} is longer than its head says")
        return made


def sources(file: BinaryIO, head: Head) -> dict[Stream, Source]:
    """Return the streams of an open pack whose head was just read: the file stands behind it."""
    place, found = file.tell(), {}
    for packed in head.streams:
        found[packed.stream] = Source(file, packed, place)
        place += packed.packed_bytes
    return found


def head_to_bytes(head: Head) -> bytes:
    """Return the beginning of a pack, up to its streams."""
    document = {
        "format": 1,
        "release_id": head.release_id,
        "from": head.since,
        "files": [list(part) for part in head.parts],
        "streams": [list(packed) for packed in head.streams],
    }
    plain = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    data = lzma.compress(plain, format=lzma.FORMAT_RAW, filters=XZ_FILTERS)
    return MAGIC + len(data).to_bytes(4, "big") + data


def read_head(file: BinaryIO, *, files_count: int | None = None) -> Head:
    """Read the head of an open pack.

    Args:
        file: the pack.
        files_count: how many files its release has, which bounds the head; None where the pack is the vendor's own.

    Raises:
        PackUnusable: it is no pack, is damaged, or names files or streams that cannot be.
    """
    start = file.read(len(MAGIC) + 4)
    if start[: len(MAGIC)] != MAGIC or len(start) != len(MAGIC) + 4:
        raise unusable("it is not a pack")
    size_bytes = int.from_bytes(start[len(MAGIC) :], "big")
    own_limit = HEAD_LIMIT_BYTES if files_count is None else HEAD_OWN_BYTES + files_count * HEAD_FILE_BYTES
    limit_bytes = min(own_limit, HEAD_LIMIT_BYTES)
    data = file.read(min(size_bytes, HEAD_LIMIT_BYTES))
    try:
        undo = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=XZ_FILTERS)
        plain = undo.decompress(data, limit_bytes)
        if not undo.eof:
            raise unusable(f"its head is damaged, or has more than the {limit_bytes} bytes that its files need")
        return _head(json.loads(plain))
    except (lzma.LZMAError, ManifestError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as cause:
        raise unusable(f"its head is damaged: {type(cause).__name__}: {str(cause)[:200]}") from cause


def _head(document: Mapping[str, Any]) -> Head:
    since = document["from"]
    return Head(
        ReleaseId(str(document["release_id"])),
        None if since is None else ReleaseId(str(since)),
        tuple(_part(*values) for values in document["files"]),
        tuple(
            Packed(Stream(name), Codec(codec), _count(packed), _count(plain))
            for name, codec, packed, plain in document["streams"]
        ),
    )


def _part(path: str, base: str | None = None, *counts: int) -> Part:
    if base is None:
        return New(check_path(path))
    if not counts:
        return Moved(check_path(path), check_path(base))
    covers_bytes, runs_count, differences_bytes = (_count(count, PATCH_LIMIT_BYTES) for count in counts)
    return Patched(check_path(path), check_path(base), covers_bytes, runs_count, differences_bytes)


def _count(value: object, limit: int = 1 << 50) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit:
        raise ValueError(f"{value!r} is no size")
    return value


def unusable(cause: str, path: Path | None = None) -> PackUnusable:
    """Return the error of a pack that cannot be used."""
    return PackUnusable(operation="unpack", path=path, cause=cause)
