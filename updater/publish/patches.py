"""Making one patch: HDiffPatch finds what a new file has in common with an old one, and its finds become our streams.

Its library applies a patch to bytes in memory, in code of C++ that may not crash an agent. So terminals do not need it:
`bundles.patches` puts the file together with the standard library.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
import zlib
from array import array
from collections.abc import Iterator
from itertools import chain
from operator import sub
from typing import Final, NamedTuple

from updater.bundles.packs import PATCH_LIMIT_BYTES, Patched, Stream
from updater.bundles.patches import BLOCK_BYTES, GAP_LIMIT_BYTES, Cover, covers_to_bytes, patched
from updater.publish.covers import fit

MAGIC: Final = b"HDIFF13&\0"
NUMBERS_COUNT: Final = 11
"""Numbers of its head: sizes of both files, count of covers, then sizes, packed and unpacked, of four parts."""
CLEARLY_SMALLER: Final = 8
"""A patch with an eighth of the file's bytes needs no comparison with the packed file."""
RUN_LIMIT_BYTES: Final = 0xFF
_GAPS: Final = re.compile(rb"\0{3,}")
_SPAN: Final = re.Match[bytes].span
_LOW, _HIGH = (int.from_bytes(bytes([byte]) * BLOCK_BYTES, "little") for byte in (0x7F, 0x80))


class Patch(NamedTuple):
    """One patch, as bytes for each stream."""

    parts: dict[Stream, bytes]

    def counts(self) -> tuple[int, int, int]:
        """Return the sizes that the head gives: covers, runs, differences."""
        return (
            len(self.parts[Stream.COVERS]),
            len(self.parts[Stream.LENGTHS]),
            len(self.parts[Stream.DIFFERENCES]),
        )

    @property
    def size_bytes(self) -> int:
        """All its bytes, before they are packed."""
        return sum(map(len, self.parts.values()))


def make(*, old: bytes, new: bytes, known: list[Cover] | None = None) -> Patch | None:
    """Return the patch; None if the new file travels better whole.

    It is applied once, as a terminal does it.

    Args:
        old: the old file.
        new: the new one.
        known: its covers by the old one, if they need not be found. Any that lie in both files give a patch that is
            right, if not small.
    """
    if known is None or not fit(known, old_bytes=len(old), new_bytes=len(new)):
        import hdiffpatch

        known = list(_covers(hdiffpatch.diff(old, new, None, validate=False)))
    patch = _encoded(known, old=old, new=new)
    if max(patch.counts()) > PATCH_LIMIT_BYTES or not _is_smaller(patch, new):
        return None
    part = Patched("new", "old", *patch.counts())
    streams = {stream: _Bytes(data) for stream, data in patch.parts.items()}
    digest = hashlib.sha256()
    for chunk in patched(io.BytesIO(old), part, streams, len(new)):
        digest.update(chunk)
    return patch if digest.digest() == hashlib.sha256(new).digest() else None


class _Bytes:
    """A stream in memory."""

    def __init__(self, data: bytes) -> None:
        self._file: Final = io.BytesIO(data)

    def read(self, size_bytes: int) -> bytes:
        return self._file.read(size_bytes)


def _is_smaller(patch: Patch, new: bytes) -> bool:
    if patch.size_bytes * CLEARLY_SMALLER < len(new):
        return True
    # The quickest level tells which is smaller: both are packed the same way.
    return sum(len(zlib.compress(data, 1)) for data in patch.parts.values()) < len(zlib.compress(new, 1))


def _covers(found: bytes) -> Iterator[Cover]:
    """Yield the covers of a patch of HDiffPatch's own, unpacked, which begins with its head."""
    if not found.startswith(MAGIC):
        raise ValueError("HDiffPatch has made another format than HDIFF13")
    place, numbers = len(MAGIC), []
    for _ in range(NUMBERS_COUNT):
        number, place = _number(found, place)
        numbers.append(number)
    old_end = 0
    for _ in range(numbers[2]):
        is_back = found[place] >= 0x80
        step, place = _number(found, place, tag_bits=1)
        literal_bytes, place = _number(found, place)
        size_bytes, place = _number(found, place)
        old_place = old_end - step if is_back else old_end + step
        yield Cover(literal_bytes, old_place, size_bytes)
        old_end = old_place + size_bytes


def _number(data: bytes, place: int, tag_bits: int = 0) -> tuple[int, int]:
    """Return a number of variable length, most significant part first, and the place behind it."""
    byte, more = data[place], 0x80 >> tag_bits
    value, place = byte & (more - 1), place + 1
    while byte & more:
        byte, more, place = data[place], 0x80, place + 1
        value = value << 7 | byte & 0x7F
    return value, place


def _encoded(covers: list[Cover], *, old: bytes, new: bytes) -> Patch:
    literals, differences, place = [], [], 0
    for cover in covers:
        literals.append(new[place : place + cover.literal_bytes])
        place += cover.literal_bytes
        for start in range(0, cover.size_bytes, BLOCK_BYTES):
            size_bytes = min(BLOCK_BYTES, cover.size_bytes - start)
            at = cover.old_place + start
            differences.append(_subtracted(new[place : place + size_bytes], old[at : at + size_bytes]))
            place += size_bytes
    if place < len(new) or not covers:
        literals.append(new[place:])
        covers = [*covers, Cover(len(new) - place, covers[-1].old_place + covers[-1].size_bytes if covers else 0, 0)]
    covers = [cover for cover in covers if cover.literal_bytes + cover.size_bytes]
    gaps, lengths, changed = _runs(b"".join(differences))
    pairs = gaps.tobytes()
    return Patch(
        {
            Stream.LITERALS: b"".join(literals),
            Stream.COVERS: covers_to_bytes(iter(covers)),
            Stream.GAPS_LOW: pairs[0::2],
            Stream.GAPS_HIGH: pairs[1::2],
            Stream.LENGTHS: lengths,
            Stream.DIFFERENCES: changed,
        }
    )


def _runs(differences: bytes) -> tuple[array[int], bytes, bytes]:
    """Return how many bytes stay before each run that changes, how long each is, and all of them.

    Two bytes that stay are taken along. A large program has a million runs: functions that take a whole sequence lay
    them out, and the few that are too long for the form are looked at by themselves.
    """
    end = len(differences.rstrip(b"\0"))
    if end == 0:
        return array("H"), b"", b""
    start = len(differences) - len(differences.lstrip(b"\0"))
    places = array("Q", (start,))
    places.extend(chain.from_iterable(map(_SPAN, _GAPS.finditer(differences, start, end))))
    places.append(end)
    starts, ends = places[0::2], places[1::2]
    changed = b"".join(map(differences.__getitem__, map(slice, starts, ends)))
    gaps, lengths = list(map(sub, starts, chain((0,), ends))), list(map(sub, ends, starts))
    if max(gaps) > GAP_LIMIT_BYTES or max(lengths) > RUN_LIMIT_BYTES:
        short = list(chain.from_iterable(map(_short, gaps, lengths)))
        gaps, lengths = [gap for gap, _ in short], [length for _, length in short]
    found = array("H", gaps)
    if sys.byteorder == "big":
        found.byteswap()
    return found, bytes(lengths), changed


def _short(gap: int, length: int) -> Iterator[tuple[int, int]]:
    """Yield one run as several that fit the form."""
    while gap > GAP_LIMIT_BYTES:
        yield GAP_LIMIT_BYTES, 0
        gap -= GAP_LIMIT_BYTES
    while length > RUN_LIMIT_BYTES:
        yield gap, RUN_LIMIT_BYTES
        gap, length = 0, length - RUN_LIMIT_BYTES
    yield gap, length


def _subtracted(new: bytes, old: bytes) -> bytes:
    """Return what `added` adds to the old bytes to make the new ones."""
    size = len(new)
    if new == old:
        return bytes(size)
    low, high = _LOW, _HIGH
    if size != BLOCK_BYTES:
        mask = (1 << 8 * size) - 1
        low, high = low & mask, high & mask
    one, other = int.from_bytes(new, "little"), int.from_bytes(old, "little")
    # The highest bit of each byte lends to the others, and is put right afterwards.
    return (((one | high) - (other & low)) ^ ((one ^ other ^ high) & high)).to_bytes(size, "little")
