"""The pages of a database file as bytes: the leaves of a table, and whether a tree can belong to a certain table.

Only for a copy that no other process knows of; the format is sqlite.org/fileformat.html. Any byte may be damaged: a
value that does not fit into its page is ignored, and no page is visited twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.model import SchemaNumber
from dbsync.storage import file_calls

MAGIC: Final = b"SQLite format 3\0"
HEADER_BYTES: Final = 100
INTERIOR, LEAF, INDEX_INTERIOR, INDEX_LEAF = 5, 13, 2, 10
_CELLS_LOOKED_AT: Final = 50


class Shape(NamedTuple):
    """The shape of the records of a table or an index."""

    columns_count: int
    """The most stored columns that a record can have; records from before an ADD COLUMN are shorter."""
    not_null: frozenset[int]
    alias: int | None = None
    """The column that is the rowid: NULL in every record."""
    without_rowid: bool = False
    texts: frozenset[int] = frozenset()
    """Columns of text, which never hold a number (sqlite.org/datatype3.html, 3)."""
    exact: bool = False
    """Every record has all columns: an index's."""


class Header(NamedTuple):
    """The content of the first hundred bytes."""

    page_bytes: int
    reserved_bytes: int
    pages_count: int
    version: SchemaNumber
    """user_version."""
    encoding: int
    auto_vacuum: int
    """0 none, 1 full, 2 incremental."""


def header_of(data: bytes) -> Header | None:
    """Return the header of a database; None if these bytes are not a header."""
    if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
        return None
    size = int.from_bytes(data[16:18])
    size = 65536 if size == 1 else size
    if size < 512 or size & (size - 1) or (data[21], data[22], data[23]) != (64, 32, 32):
        return None
    vacuum = (2 if data[64:68] != bytes(4) else 1) if data[52:56] != bytes(4) else 0
    number = int.from_bytes
    return Header(
        size, data[20], number(data[28:32]), SchemaNumber(number(data[60:64])), number(data[56:60]) or 1, vacuum
    )


class Pages:
    """The pages of one file, read on demand."""

    def __init__(self, path: Path) -> None:
        with file_calls.open_to_read(path) as file:
            header = header_of(file.read(HEADER_BYTES))
            if header is None:
                raise ValueError("no database")
            self.header: Final = header
            self.count: Final = file.seek(0, 2) // header.page_bytes
        self.usable_bytes: Final = header.page_bytes - header.reserved_bytes
        self._path: Final = path

    def page(self, number: int) -> bytes:
        """Return one page by its number, from 1; empty where there is none."""
        if not 1 <= number <= self.count:
            return b""
        with file_calls.open_to_read(self._path) as file:
            file.seek((number - 1) * self.header.page_bytes)
            return file.read(self.header.page_bytes)

    def separators(self, root: int) -> list[int]:
        """Return the rowids at which leaves of a table end, in order, as far as its inner pages can be read."""
        return sorted({key for _, keys in self._inner(root) for key in keys})

    def leaves(self, root: int) -> Iterator[bytes]:
        """Yield the leaves of a table, without pages that are no longer leaves."""
        page = self.page(root)
        if page and kind_of(page, root) == LEAF:
            yield page
        for children, _ in self._inner(root):
            for number in children:
                page = self.page(number)
                if page and page[0] == LEAF:
                    yield page

    def fits(self, root: int, shape: Shape) -> bool | None:
        """Return whether the records of a tree fit the shape of a table; None where no record can be read."""
        kind = (self.page(root) or b"\0")[0]
        if shape.without_rowid or kind not in (INTERIOR, LEAF):
            return None if shape.without_rowid and kind in (INDEX_INTERIOR, INDEX_LEAF) else False
        for leaf in self.leaves(root):
            found = are_like((record for _, record in records(leaf)), shape)
            if found is not None:
                return found
        return None

    def _inner(self, root: int) -> Iterator[tuple[list[int], list[int]]]:
        waiting, seen = [root], {root}
        while waiting:
            number = waiting.pop()
            page = self.page(number)
            if not page or kind_of(page, number) != INTERIOR:
                continue
            children, keys = inner_page(page, HEADER_BYTES if number == 1 else 0)
            yield children, keys
            waiting += [child for child in children if child not in seen]
            seen.update(children)

    def free(self) -> tuple[set[int], bool]:
        """Return the free pages, whose content was deleted, and whether their list could be followed to its end."""
        head = self.page(1)[:HEADER_BYTES]
        trunk, found = int.from_bytes(head[32:36]), set[int]()
        while 1 < trunk <= self.count and trunk not in found:
            page = self.page(trunk)
            found.add(trunk)
            many = min(int.from_bytes(page[4:8]), len(page) // 4 - 2)
            found.update(int.from_bytes(page[8 + 4 * index : 12 + 4 * index]) for index in range(many))
            trunk = int.from_bytes(page[:4])
        return found, len(found) == int.from_bytes(head[36:40])

    def maps(self) -> Iterator[int]:
        """Yield the pointer map pages, which auto_vacuum keeps; they are part of no tree."""
        if self.header.auto_vacuum:
            yield from range(2, self.count + 1, self.usable_bytes // 5 + 1)


def kind_of(page: bytes, number: int) -> int:
    """Return the kind of a page of a tree; the first page begins after the header."""
    return page[HEADER_BYTES if number == 1 else 0]


def empty_first_page(page: bytes, header: Header, pages_count: int) -> bytes:
    """Return the first page with its header and no schema; nothing is free, so new pages go to the end of the file."""
    head = bytearray(page[:HEADER_BYTES])
    head[18:20] = b"\1\1"  # no WAL: its content is in the file by now
    head[28:32] = pages_count.to_bytes(4)
    head[32:40] = bytes(8)
    head[52:56] = head[64:68] = bytes(4)
    content = header.page_bytes - header.reserved_bytes
    leaf = bytes([LEAF, 0, 0, 0, 0]) + (content & 0xFFFF).to_bytes(2) + b"\0"
    return (bytes(head) + leaf).ljust(header.page_bytes, b"\0")


def children_of(page: bytes, at: int) -> list[int]:
    """Return the pages to which an inner page of either kind points."""
    found = [int.from_bytes(page[place : place + 4]) for place in cells(page, at, 12)]
    return [*found, int.from_bytes(page[at + 8 : at + 12])]


def inner_page(page: bytes, at: int) -> tuple[list[int], list[int]]:
    """Return the children of a table's inner page and the keys between them."""
    return children_of(page, at), [_signed(varint(page, place + 4)[0]) for place in cells(page, at, 12)]


def records(leaf: bytes) -> Iterator[tuple[int, list[int]]]:
    """Yield the rowids of a leaf, and the kinds of the values in each record (sqlite.org/fileformat.html, 2.1)."""
    for place in cells(leaf, 0, 8):
        size, after = varint(leaf, place)
        rowid, begin = varint(leaf, after)
        yield _signed(rowid), _kinds(leaf, begin, size)


def keyed_records(page: bytes) -> Iterator[list[int]]:
    """Yield the kinds of the values in each record of a leaf without rowids."""
    for place in cells(page, 0, 8):
        size, begin = varint(page, place)
        yield _kinds(page, begin, size)


def _kinds(page: bytes, begin: int, size: int) -> list[int]:
    head, at = varint(page, begin)
    kinds, end = [], begin + min(head, size)
    while at < min(end, len(page)):
        kind, at = varint(page, at)
        kinds.append(kind)
    return kinds


def payload_end(page: bytes, at: int, usable_bytes: int) -> int | None:
    """Return where a record without rowid ends on its page; None where it exceeds the page.

    The record begins with its length. The number of its overflow page is included (sqlite.org/fileformat.html, 1.6).
    """
    size, begin = varint(page, at)
    most, least = (usable_bytes - 12) * 64 // 255 - 23, (usable_bytes - 12) * 32 // 255 - 23
    local = size
    if size > most:
        local = least + (size - least) % (usable_bytes - 4)
        local = (local if local <= most else least) + 4
    return begin + local if size and begin + local <= usable_bytes else None


def are_like(found: Iterable[list[int]], shape: Shape) -> bool | None:
    """Return whether the first records of a page can be rows of such a table; None where there is no record."""
    looked_at = [is_like(kinds, shape) for kinds in islice(found, _CELLS_LOOKED_AT)]
    return all(looked_at) if looked_at else None


def is_like(kinds: list[int], shape: Shape) -> bool:
    """Return whether a record with values of these kinds can be a row of such a table."""
    if shape.exact and len(kinds) != shape.columns_count:
        return False
    if not 0 < len(kinds) <= shape.columns_count or any(kind in (10, 11) for kind in kinds):
        return False
    if shape.alias is not None and kinds[shape.alias : shape.alias + 1] not in ([0], []):
        return False
    if any(1 <= kinds[column] <= 9 for column in shape.texts if column < len(kinds)):
        return False
    return all(kinds[column] != 0 for column in shape.not_null if column < len(kinds) and column != shape.alias)


def cells(page: bytes, at: int, head_bytes: int) -> list[int]:
    """Return the offsets of the cells of a page, without those outside of the page."""
    count = min(int.from_bytes(page[at + 3 : at + 5]), (len(page) - at - head_bytes) // 2)
    begin = at + head_bytes
    places = [int.from_bytes(page[begin + 2 * index : begin + 2 * index + 2]) for index in range(count)]
    return [place for place in places if begin + 2 * count <= place <= len(page) - 4]


def varint(page: bytes, at: int) -> tuple[int, int]:
    """Return a number of one to nine bytes, and the offset after it."""
    value = 0
    for count in range(9):
        byte = page[at + count] if at + count < len(page) else 0
        if count == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + count + 1
    raise AssertionError


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
