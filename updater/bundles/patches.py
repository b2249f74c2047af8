"""The arithmetic of a patch: a new file is made of pieces of an old one, of bytes added to them, and of new bytes.

HDiffPatch finds the pieces (`publish.patches`); to put a file together takes the standard library alone, and memory for
a block and for the lists of the patch, never for a file.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterator, Mapping
from itertools import chain
from struct import Struct
from typing import Final, NamedTuple, Protocol

from updater.bundles.packs import Patched, Stream, unusable

BLOCK_BYTES: Final = 1 << 16
GAP_LIMIT_BYTES: Final = 0xFFFF
"""The longest way to the next run; a longer one has runs of no bytes on it."""
STEP_COUNT: Final = 1 << 12
STEP_BYTES: Final = 16 * GAP_LIMIT_BYTES
"""Runs that are laid out at once: so many, and fewer where they are far apart."""
_ZEROS: Final = bytes(BLOCK_BYTES)
_TAKEN: Final = tuple(f"{size}s" for size in range(256))
"""The words of `struct` for a run of so many bytes."""
_NUMBER: Final = re.compile(rb"[\x80-\xff]*[\x00-\x7f]")
NUMBER_LIMIT_BYTES: Final = 9
"""Of the variable length form: 63 bits."""
NUMBERS_COUNT: Final = 1 << 14
"""How many numbers are remembered."""
_LOW, _HIGH = (int.from_bytes(bytes([byte]) * BLOCK_BYTES, "little") for byte in (0x7F, 0x80))


class Readable(Protocol):
    """A stream."""

    def read(self, size_bytes: int) -> bytes:
        """Return exactly so many bytes."""


class Base(Protocol):
    """An open old file."""

    def seek(self, place: int, /) -> object:
        """Go to a place of it."""

    def read(self, size_bytes: int, /) -> bytes:
        """Return at most so many bytes."""


class Cover(NamedTuple):
    """New bytes, and the bytes of the old file after them."""

    literal_bytes: int
    old_place: int
    size_bytes: int


def added(old: bytes, difference: bytes) -> bytes:
    """Return the sums of two equally long rows of bytes, each without its carry."""
    size = len(old)
    low, high = _LOW, _HIGH
    if size != BLOCK_BYTES:
        mask = (1 << 8 * size) - 1
        low, high = low & mask, high & mask
    one, other = int.from_bytes(old, "little"), int.from_bytes(difference, "little")
    return (((one & low) + (other & low)) ^ ((one ^ other) & high)).to_bytes(size, "little")


class _Numbers(dict[bytes, int]):
    """Numbers by the bytes of their variable length form, least significant part first; most come many times."""

    def __missing__(self, data: bytes) -> int:
        if len(data) > NUMBER_LIMIT_BYTES:
            raise unusable("a patch is damaged")
        value = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data))
        if len(self) < NUMBERS_COUNT:
            self[data] = value
        return value


class _Skipped(dict[int, str]):
    """The words of `struct` for so many zeros; there are 65 536 at most, and few of them come."""

    def __missing__(self, size: int) -> str:
        self[size] = words = f"{size}x"
        return words


_SKIPPED: Final = _Skipped()


def covers(data: bytes) -> Iterator[Cover]:
    """Yield the covers of a patch.

    Raises:
        PackUnusable: they are damaged.
    """
    numbers, old_end = _numbers(data), 0
    for literal_bytes in numbers:
        size_bytes, step = next(numbers, None), next(numbers, None)
        if size_bytes is None or step is None:
            raise unusable("a patch is damaged")
        old_place = old_end + (-(step >> 1) if step & 1 else step >> 1)
        if old_place < 0 or literal_bytes + size_bytes == 0:
            raise unusable("a patch is damaged")
        yield Cover(literal_bytes, old_place, size_bytes)
        old_end = old_place + size_bytes


def _numbers(data: bytes) -> Iterator[int]:
    """Yield the numbers in bytes, which are cut a block at a time: never more of them are in memory."""
    known, place = _Numbers(), 0
    while place < len(data):
        found = _NUMBER.findall(data, place, place + BLOCK_BYTES)
        if not found:
            raise unusable("a patch is damaged")
        place += sum(map(len, found))
        yield from map(known.__getitem__, found)


def covers_to_bytes(found: Iterator[Cover]) -> bytes:
    """Return covers in the form in which they are read."""
    made, old_end = bytearray(), 0
    for cover in found:
        step = cover.old_place - old_end
        for number in (cover.literal_bytes, cover.size_bytes, step << 1 if step >= 0 else (-step << 1) | 1):
            rest = number
            while rest >= 0x80:
                made.append(rest & 0x7F | 0x80)
                rest >>= 7
            made.append(rest)
        old_end = cover.old_place + cover.size_bytes
    return bytes(made)


class Differences:
    """The numbers that a patch adds to those bytes of the old file that are used, one after the other.

    A large program has a million runs of bytes that change. They are laid out a step at a time, by functions that take
    a whole sequence: a statement for each run would be most of the time of an update.
    """

    def __init__(self, part: Patched, streams: Mapping[Stream, Readable]) -> None:
        low, high = (streams[stream].read(part.runs_count) for stream in (Stream.GAPS_LOW, Stream.GAPS_HIGH))
        self._lengths: Final = streams[Stream.LENGTHS].read(part.runs_count)
        if sum(self._lengths) != part.differences_bytes:
            raise unusable("a patch is damaged")
        self._changes: Final = streams[Stream.DIFFERENCES].read(part.differences_bytes)
        pairs = bytearray(2 * part.runs_count)
        pairs[0::2], pairs[1::2] = low, high
        self._gaps: Final = array("H", bytes(pairs))
        if sys.byteorder == "big":
            self._gaps.byteswap()
        self._done_count = self._taken_bytes = 0
        """Runs that are laid out, and the bytes of theirs."""
        self._ready = b""

    def add_to(self, old: bytes) -> bytes:
        """Return the next bytes of the old file with what is added to them."""
        size = len(old)
        steps = [self._ready]
        ready_bytes = len(self._ready)
        while ready_bytes < size and self._done_count < len(self._gaps):
            steps.append(self._step())
            ready_bytes += len(steps[-1])
        ready = b"".join(steps)
        found, self._ready = ready[:size], ready[size:]
        if len(found) < size:
            # After the last run nothing changes.
            found += bytes(size - len(found))
        return old if found == _ZEROS[:size] else added(old, found)

    def _step(self) -> bytes:
        """Return what the next runs add: bytes of 0 before each, then its own."""
        first = self._done_count
        gaps = self._gaps[first : first + STEP_COUNT]
        while sum(gaps) > STEP_BYTES:
            gaps = gaps[: len(gaps) // 2]
        self._done_count += len(gaps)
        lengths = self._lengths[first : self._done_count]
        # The C of `struct` cuts the runs, and puts the zeros between them.
        taken = list(map(_TAKEN.__getitem__, lengths))
        cut = Struct("=" + "".join(taken))
        runs = cut.unpack_from(self._changes, self._taken_bytes)
        self._taken_bytes += cut.size
        zeros = map(_SKIPPED.__getitem__, gaps)
        return Struct("=" + "".join(chain.from_iterable(zip(zeros, taken, strict=True)))).pack(*runs)


def patched(base: Base, part: Patched, streams: Mapping[Stream, Readable], size_bytes: int) -> Iterator[bytes]:
    """Yield the content of a new file, at most so many bytes.

    Raises:
        PackUnusable: the patch is damaged, or is of another old file.
    """
    if part.runs_count > size_bytes + size_bytes // GAP_LIMIT_BYTES + 1:
        raise unusable(f"{part.path} has more runs than bytes")
    literals, differences = streams[Stream.LITERALS], Differences(part, streams)
    left_bytes = size_bytes
    batch: list[Cover] = []
    old: list[bytes] = []
    olds_bytes = news_bytes = 0

    def flush() -> bytes:
        taken, news = differences.add_to(b"".join(old)), literals.read(news_bytes)
        made: list[bytes] = []
        new_at = old_at = 0
        for cover in batch:
            made += (news[new_at : new_at + cover.literal_bytes], taken[old_at : old_at + cover.size_bytes])
            new_at, old_at = new_at + cover.literal_bytes, old_at + cover.size_bytes
        return b"".join(made)

    for cover in _short(covers(streams[Stream.COVERS].read(part.covers_bytes))):
        left_bytes -= cover.literal_bytes + cover.size_bytes
        if left_bytes < 0:
            raise unusable(f"{part.path} becomes larger than the manifest says")
        if olds_bytes + cover.size_bytes > BLOCK_BYTES or news_bytes + cover.literal_bytes > BLOCK_BYTES:
            yield flush()
            batch, old, olds_bytes, news_bytes = [], [], 0, 0
        batch.append(cover)
        if cover.size_bytes:
            base.seek(cover.old_place)
            found = base.read(cover.size_bytes)
            if len(found) != cover.size_bytes:
                raise unusable(f"{part.base} is not the file that {part.path} was made from")
            old.append(found)
        olds_bytes, news_bytes = olds_bytes + cover.size_bytes, news_bytes + cover.literal_bytes
    yield flush()


def _short(found: Iterator[Cover]) -> Iterator[Cover]:
    """Yield covers of which no part is longer than a block."""
    for cover in found:
        literal_bytes, old_place, left_bytes = cover
        if literal_bytes <= BLOCK_BYTES and left_bytes <= BLOCK_BYTES:
            yield cover
            continue
        while literal_bytes > BLOCK_BYTES:
            yield Cover(BLOCK_BYTES, old_place, 0)
            literal_bytes -= BLOCK_BYTES
        while left_bytes > BLOCK_BYTES:
            yield Cover(literal_bytes, old_place, BLOCK_BYTES)
            literal_bytes, old_place, left_bytes = 0, old_place + BLOCK_BYTES, left_bytes - BLOCK_BYTES
        yield Cover(literal_bytes, old_place, left_bytes)
