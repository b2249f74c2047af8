"""Orphaned trees of a damaged file, and the sound parts of a tree that is damaged inside.

When an inner page is lost, the pages below it remain but nothing leads to them. A free page is never taken for a lost
one: its content was deleted.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from hashlib import sha256
from typing import Final

from dbsync.recovery.pages import (
    HEADER_BYTES,
    INDEX_INTERIOR,
    INDEX_LEAF,
    INTERIOR,
    LEAF,
    Pages,
    Shape,
    are_like,
    cells,
    children_of,
    keyed_records,
    kind_of,
    payload_end,
    records,
    varint,
)

TABLE: Final = (INTERIOR, LEAF)
KEYED: Final = (INDEX_INTERIOR, INDEX_LEAF)
_SCHEMA_WORDS: Final = (b"table", b"index", b"trigger", b"view")


class Forest:
    """All pages of a file.

    Args:
        pages: the file.
        roots: pages at which known trees begin.
    """

    def __init__(self, pages: Pages, roots: set[int]) -> None:
        self.pages: Final = pages
        self._free, self.free_is_whole = pages.free()
        self._roots: Final = roots

    @cached_property
    def _kinds(self) -> dict[int, int]:
        """The kinds of the pages that look like pages of a tree and are not free, by number."""
        kinds = ((number, kind_of(self.pages.page(number), number)) for number in range(1, self.pages.count + 1))
        return {number: kind for number, kind in kinds if kind in (*TABLE, *KEYED) and number not in self._free}

    @cached_property
    def has_twins(self) -> bool:
        """Whether two pages have the same content: one was written over another.

        A page of some table is missing then, although that table may look whole.
        """
        seen = set[bytes]()
        for number in self._kinds:
            digest = sha256(self.pages.page(number)).digest()
            if digest in seen:
                return True
            seen.add(digest)
        return False

    @cached_property
    def _below(self) -> set[int]:
        """The pages to which something leads, and the pages that belong to no tree."""
        found = {1, *self.pages.maps(), *self._roots}
        for number, kind in self._kinds.items():
            if kind in (INTERIOR, INDEX_INTERIOR):
                # Also where some of them are missing: SQLite reaches the others from here.
                found.update(children_of(self.pages.page(number), HEADER_BYTES if number == 1 else 0))
        return found

    def lost(self, kinds: tuple[int, int]) -> list[int]:
        """Return the roots of the trees of a kind, `TABLE` or `KEYED`, to which nothing leads."""
        found = [number for number, kind in self._kinds.items() if kind in kinds and number not in self._below]
        return [number for number in found if not self._is_schema(number)]

    def below(self, number: int) -> list[int] | None:
        """Return the pages to which an inner page points, none for a leaf; None if its format is invalid."""
        page, at = self.pages.page(number), HEADER_BYTES if number == 1 else 0
        if not page or page[at] not in (*TABLE, *KEYED):
            return None
        leaf = page[at] in (LEAF, INDEX_LEAF)
        count, places = int.from_bytes(page[at + 3 : at + 5]), cells(page, at, 8 if leaf else 12)
        if len(places) != count or (leaf and not count):
            return None
        if page[at] in KEYED and any(self._cell(page, place) is None for place in places):
            return None
        children = [] if leaf else children_of(page, at)
        good = len(set(children)) == len(children) and all(1 < child <= self.pages.count for child in children)
        return children if good else None

    def span(self, root: int) -> tuple[int, int] | None:
        """Return the lowest and the highest rowid of a table's tree; None where nothing can be read."""
        rowids = [rowid for leaf in self.pages.leaves(root) for rowid, _ in records(leaf)]
        return (min(rowids), max(rowids)) if rowids else None

    def is_whole(self, root: int) -> bool:
        """Return whether every page of a tree without rowids is valid."""
        waiting, seen = [root], {root}
        while waiting:
            number = waiting.pop()
            children = self.below(number)
            if children is None or self.pages.page(number)[0] not in KEYED or seen & set(children):
                return False
            seen.update(children)
            waiting += children
        return True

    def parts(self, root: int) -> Iterator[int | bytes]:
        """Yield the sound parts of a tree without rowids: roots of whole trees, and rows of inner pages as leaves."""
        waiting, seen = [root], set[int]()
        while waiting:
            number = waiting.pop()
            if number in seen:
                continue
            seen.add(number)
            children = self.below(number)
            if self.is_whole(number):
                yield number
            elif children and (page := self.pages.page(number))[0] == INDEX_INTERIOR:
                yield self._as_leaf(page)
                waiting += children

    def fits_keyed(self, root: int, shape: Shape) -> bool:
        """Return whether the records of a tree without rowids fit the shape of a table or an index."""
        for part in self.parts(root):
            number = part if isinstance(part, int) else 0
            while number and (children := self.below(number)):
                number = children[0]
            page = self.pages.page(number) if number else part
            assert isinstance(page, bytes)
            found = are_like(keyed_records(page), shape)
            if found is not None:
                return found
        return False

    def _is_schema(self, number: int) -> bool:
        """Return whether a page is of the schema itself, where the first is lost: rows begin with one of four words."""
        page = self.pages.page(number)
        if page[0] != LEAF:
            return False
        for place in cells(page, 0, 8)[:1]:
            _, at = varint(page, place)
            _, begin = varint(page, at)
            head, _ = varint(page, begin)
            return page[begin + head :].startswith(_SCHEMA_WORDS)
        return False

    def _cell(self, page: bytes, place: int) -> bytes | None:
        """Return the part of a cell's record without rowid that is on its page; None where it exceeds the page."""
        begin = place if page[0] == INDEX_LEAF else place + 4
        end = payload_end(page, begin, self.pages.usable_bytes)
        return page[begin:end] if end is not None else None

    def _as_leaf(self, page: bytes) -> bytes:
        found = [self._cell(page, place) or b"" for place in cells(page, 0, 12)]
        head, body, at = bytearray(), bytearray(), self.pages.usable_bytes
        for cell in found:
            # A cell has at least four bytes, so that it can become a free block.
            body[:0] = cell.ljust(4, b"\0")
            at = self.pages.usable_bytes - len(body)
            head += at.to_bytes(2)
        start = bytes([INDEX_LEAF, 0, 0]) + len(found).to_bytes(2) + (at & 0xFFFF).to_bytes(2) + b"\0"
        return (start + bytes(head)).ljust(at, b"\0") + bytes(body).ljust(len(page) - at, b"\0")
