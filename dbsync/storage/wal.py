"""The frames of a write-ahead log: which of them SQLite reads, and which it drops without a word.

SQLite reads a log up to the first frame that does not check, and of that up to the last commit; everything after is
dropped (sqlite.org/fileformat2.html#walformat). After a power cut these are writes that were never committed. In a log
that is damaged they are sales. The module parses bytes; it opens no database and takes no lock.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from dbsync.storage import file_calls
from dbsync.storage.files import disk_errors, size_of

HEADER_BYTES: Final = 32
FRAME_HEADER_BYTES: Final = 24
_MAGIC: Final = 0x377F0682
"""The last bit says that checksums are of big-endian words."""
_MASK: Final = 0xFFFFFFFF
Checksum = tuple[int, int]
_NO_CHECKSUM: Final[Checksum] = (0, 0)


class Header(NamedTuple):
    """The header of a log."""

    page_bytes: int
    salt: bytes
    """Eight bytes that every frame of this generation of the log carries."""
    big_endian: bool
    checksum: Checksum
    sound: bool


class Summary(NamedTuple):
    """The frames of a log, counted."""

    committed_count: int = 0
    """Frames that SQLite reads: they check, up to the last commit."""
    uncommitted_count: int = 0
    """Frames that check, after the last commit: a transaction that was not finished. Normal."""
    broken_count: int = 0
    """Frames of this generation that SQLite drops because they, or a frame before them, do not check."""
    lost_commits_count: int = 0
    """The commits among them: at most so many transactions are lost."""
    older_count: int = 0
    """Frames of an earlier generation, which are in the database already. Normal."""
    header_broken: bool = False
    """The header does not check: SQLite drops every frame."""

    @property
    def may_lose(self) -> bool:
        """Whether transactions that an app committed may be among what SQLite drops."""
        return self.lost_commits_count > 0

    @property
    def in_words(self) -> str:
        """A sentence on what is dropped; empty if nothing is that may have been committed."""
        if not self.may_lose:
            return ""
        what = "its header does not check" if self.header_broken else f"{self.broken_count} frames do not check"
        most = f"up to {self.lost_commits_count} committed transaction(s) in it cannot be read by SQLite"
        return f"{what}, {self.committed_count} do: {most}"


def summary_of(path: Path, *, page_bytes: int = 0, size_limit_bytes: int | None = None) -> Summary | None:
    """Return the summary of a log; None if there is none with frames, or if it is larger than the limit.

    Args:
        path: the log.
        page_bytes: the page size of the database, for a log with a damaged header; 0: as the header has it.
        size_limit_bytes: the largest log that is read: about 30 MB take a second.

    Raises:
        DiskProblem: it cannot be read.
    """
    size_bytes = size_of(path)
    if size_bytes <= HEADER_BYTES or (size_limit_bytes is not None and size_bytes > size_limit_bytes):
        return None
    with disk_errors("read", path), file_calls.open_to_read(path) as file:
        raw = file.read(HEADER_BYTES)
        header = parse_header(raw, page_bytes=page_bytes) if len(raw) == HEADER_BYTES else None
        return summarize(header, _frames(file, header.page_bytes)) if header is not None else None


def parse_header(raw: bytes, *, page_bytes: int = 0) -> Header | None:
    """Return the header of a log; None if it is damaged and the page size is not known either.

    Of a damaged header the page size is believed if it can be one, and none is given.
    """
    magic, _version, size, _sequence, first, second, *stored = struct.unpack(">8I", raw)
    known = magic & ~1 == _MAGIC
    big_endian = bool(magic & 1) if known else False
    found = checksum(raw[:24], _NO_CHECKSUM, big_endian=big_endian)
    is_size = 512 <= size <= 65536 and size & (size - 1) == 0
    sound = known and found == tuple(stored) and is_size
    page_bytes = size if sound else page_bytes or (size if is_size else 0)
    if page_bytes == 0:
        return None
    return Header(page_bytes, struct.pack(">2I", first, second), big_endian, found, sound)


def summarize(header: Header, frames: Iterable[bytes]) -> Summary:
    """Count frames. Each is its header and its page; a last one that is cut short does not check."""
    checked_count = committed_count = broken_count = older_count = lost_count = 0
    running, salt, intact = header.checksum, header.salt, header.sound
    for index, frame in enumerate(frames):
        page_number, pages_after, *_, first, second = struct.unpack_from(">6I", frame)
        if not header.sound and index == 0:
            # The salt of the header is not certain: a log is of the generation of its first frame.
            salt = frame[8:16]
        if frame[8:16] != salt:
            older_count += 1
            # Frames of this generation stand before those of an earlier one.
            intact = False
            continue
        if intact and page_number and len(frame) == FRAME_HEADER_BYTES + header.page_bytes:
            running = checksum(frame[:8], running, big_endian=header.big_endian)
            running = checksum(frame[FRAME_HEADER_BYTES:], running, big_endian=header.big_endian)
            if running == (first, second):
                checked_count += 1
                committed_count = checked_count if pages_after else committed_count
                continue
        intact = False
        broken_count += 1
        lost_count += bool(pages_after)
    return Summary(
        committed_count, checked_count - committed_count, broken_count, lost_count, older_count, not header.sound
    )


def checksum(data: bytes, start: Checksum, *, big_endian: bool) -> Checksum:
    """Return the checksum of a log's bytes, continued from an earlier one (fileformat2.html#checksum_algorithm)."""
    first, second = start
    words = struct.unpack(f"{'>' if big_endian else '<'}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = first + even + second & _MASK
        second = second + odd + first & _MASK
    return first, second


def _frames(file: BinaryIO, page_bytes: int) -> Iterator[bytes]:
    while len(frame := file.read(FRAME_HEADER_BYTES + page_bytes)) >= FRAME_HEADER_BYTES:
        yield frame
