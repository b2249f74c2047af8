"""The arithmetic of a patch: a new file is made of pieces of an old one, of bytes added to them, and of new bytes.

HDiffPatch finds the pieces (`publish.patches`); to put a file together takes the standard library alone, and memory for
a block and for the lists of the patch, never for a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, Protocol

from updater.bundles.packs import Patched, Stream, unusable

BLOCK_BYTES: Final = 1 << 16
OVER: Final = 1 << 62
"""The place of a run after the last one."""
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


def covers(data: bytes) -> Iterator[Cover]:
    """Yield the covers of a patch.

    Raises:
        PackUnusable: they are damaged.
    """
    place, old_end = 0, 0
    while place < len(data):
        values = []
        for _ in range(3):
            value = shift = 0
            while True:
                if place >= len(data) or shift > 63:
                    raise unusable("a patch is damaged")
                byte = data[place]
                place += 1
                value |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
            values.append(value)
        literal_bytes, size_bytes, step = values
        old_place = old_end + (-(step >> 1) if step & 1 else step >> 1)
        if old_place < 0 or literal_bytes + size_bytes == 0:
            raise unusable("a patch is damaged")
        yield Cover(literal_bytes, old_place, size_bytes)
        old_end = old_place + size_bytes


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


class Runs:
    """The bytes of a patch that are added to those of the old file, taken block by block."""

    def __init__(self, part: Patched, streams: Mapping[Stream, Readable]) -> None:
        count = part.runs_count
        low, high = streams[Stream.GAPS_LOW].read(count), streams[Stream.GAPS_HIGH].read(count)
        lengths = streams[Stream.LENGTHS].read(count)
        if sum(lengths) != part.differences_bytes:
            raise unusable("a patch is damaged")
        self._differences: Final = streams[Stream.DIFFERENCES].read(part.differences_bytes)
        self._rest: Final = zip(low, high, lengths, strict=True)
        self._taken_bytes = 0
        self._start = self._length = 0
        """Place of the next run among all bytes of the old file that are used, and its length."""
        self._next(0)

    def _next(self, stop: int) -> None:
        for low, high, length in self._rest:
            stop += low | high << 8
            if length:
                self._start, self._length = stop, length
                return
        self._start, self._length = OVER, 0

    def changed(self, old: bytes, place: int) -> bytes:
        """Return the bytes of a block, which begins at that place of all bytes of the old file that are used."""
        size, ends, first = len(old), place + len(old), self._start
        if first >= ends:
            return old
        # A million runs are usual in a large program: names of this function alone, and no call for a run.
        start, length, taken = first, self._length, self._taken_bytes
        whole, differences, rest = bytearray(size), self._differences, self._rest
        stop = start
        while start < ends:
            stop = start + length
            if stop > ends:
                stop = ends
            whole[start - place : stop - place] = differences[taken : taken + stop - start]
            taken += stop - start
            if stop - start < length:
                start, length = stop, length - (stop - start)
                break
            start, length = OVER, 0
            after = stop
            for low, high, found in rest:
                after += low | high << 8
                if found:
                    start, length = after, found
                    break
        self._start, self._length, self._taken_bytes = start, length, taken
        begin, end = first - place, stop - place
        if begin == 0 and end == size:
            return added(old, bytes(whole))
        return b"".join((old[:begin], added(old[begin:end], bytes(whole[begin:end])), old[end:]))


def patched(base: Base, part: Patched, streams: Mapping[Stream, Readable], size_bytes: int) -> Iterator[bytes]:
    """Yield the content of a new file, at most so many bytes.

    Raises:
        PackUnusable: the patch is damaged, or is of another old file.
    """
    literals, runs = streams[Stream.LITERALS], Runs(part, streams)
    place, left_bytes = 0, size_bytes
    batch: list[Cover] = []
    old: list[bytes] = []
    olds_bytes = news_bytes = 0

    def flush() -> bytes:
        taken, news = runs.changed(b"".join(old), place), literals.read(news_bytes)
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
            place += olds_bytes
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
        while literal_bytes > BLOCK_BYTES:
            yield Cover(BLOCK_BYTES, old_place, 0)
            literal_bytes -= BLOCK_BYTES
        while left_bytes > BLOCK_BYTES:
            yield Cover(literal_bytes, old_place, BLOCK_BYTES)
            literal_bytes, old_place, left_bytes = 0, old_place + BLOCK_BYTES, left_bytes - BLOCK_BYTES
        yield Cover(literal_bytes, old_place, left_bytes)
