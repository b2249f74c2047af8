"""Covers that need no comparison: what a new file has of one between, and that of an old one, the new one has of it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from updater.bundles.patches import Cover

SMALLEST_BYTES: Final = 8
"""A shorter piece costs more as a cover than as bytes."""


def composed(first: Iterable[Cover], second: Iterable[Cover]) -> Iterator[Cover]:
    """Yield the covers of a new file by an old one.

    Args:
        first: covers of a file between them by the old one.
        second: covers of the new file by that file.
    """
    starts, ends, shifts = _laid_out(first)
    waiting, literal_bytes = Cover(0, 0, 0), 0
    for cover in second:
        literal_bytes += cover.literal_bytes
        place, end = cover.old_place, cover.old_place + cover.size_bytes
        index = max(bisect_right(starts, place) - 1, 0)
        while index < len(starts) and starts[index] < end:
            begin, stop = max(place, starts[index]), min(end, ends[index])
            old_place, length = begin + shifts[index], stop - begin
            index += 1
            if length <= 0:
                continue
            literal_bytes += begin - place
            place = stop
            if not literal_bytes and old_place == waiting.old_place + waiting.size_bytes:
                waiting = waiting._replace(size_bytes=waiting.size_bytes + length)
            elif length < SMALLEST_BYTES:
                literal_bytes += length
            else:
                if waiting.size_bytes:
                    yield waiting
                waiting, literal_bytes = Cover(literal_bytes, old_place, length), 0
        literal_bytes += end - place
    if waiting.size_bytes:
        yield waiting


def _laid_out(covers: Iterable[Cover]) -> tuple[list[int], list[int], list[int]]:
    """Return where each cover begins and ends in its new file, and how far before that it is in the old one."""
    starts, ends, shifts = [], [], []
    place = 0
    for cover in covers:
        place += cover.literal_bytes
        starts.append(place)
        shifts.append(cover.old_place - place)
        place += cover.size_bytes
        ends.append(place)
    return starts, ends, shifts


def fit(covers: Iterable[Cover], *, old_bytes: int, new_bytes: int) -> bool:
    """Return whether covers can be of an old and a new file of these sizes."""
    made_bytes = 0
    for cover in covers:
        made_bytes += cover.literal_bytes + cover.size_bytes
        if cover.old_place + cover.size_bytes > old_bytes:
            return False
    return made_bytes <= new_bytes
