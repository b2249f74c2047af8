"""Assigning orphaned trees to tables: the rows below a lost page belong to the only table that they fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path

from dbsync.progress import Told
from dbsync.recovery.btree import KEYED, TABLE, Forest
from dbsync.recovery.new_database import Rebuilt, is_virtual
from dbsync.recovery.pages import Pages, Shape
from dbsync.recovery.schema_recovery import Object, graft, open_damaged, shape_of
from dbsync.recovery.table_reader import Range, Salvage, common, joined, without
from dbsync.recovery.table_recovery import Source, Tables, separators
from dbsync.storage import file_calls
from dbsync.storage.connections import Row

Take = Callable[[int | None, Row], None]


def read_lost(
    work: Path, rebuilt: Rebuilt, sources: dict[str, Source], objects: list[Object], tables: Tables, told: Told
) -> Tables:
    """Find rows of the tables that were not read whole, and return all results with these rows counted.

    A tree belongs to a table if its rowids are among those that the table lacks and its records fit the table. Rows go
    into the side file if they fit several tables, or if they may be deleted ones because the list of free pages is
    damaged as well.

    Args:
        work: the scratch copy, which no process has open; its schema is overwritten.
        rebuilt: the new file.
        sources: the places where the rows were looked for.
        objects: the schema.
        tables: the results so far.
        told: receives the tables as they are read.
    """
    lacking = {
        name: sources[name]
        for name, table in tables.items()
        if table.cause and rebuilt.exists(sources[name].object) and not is_virtual(sources[name].object)
    }
    if not lacking:
        return tables
    shapes = {name: shape_of(rebuilt.connection, source.object.name) for name, source in lacking.items()}
    forest = Forest(Pages(work), {entry.root for entry in objects if entry.root})
    # Everything is decided before anything is written into the copy.
    lost = [*_by_rowids(forest, tables, shapes), *_by_records(forest, shapes, objects)]
    parts = {
        name: list(forest.parts(source.object.root)) for name, source in lacking.items() if shapes[name].without_rowid
    }
    for name, found in parts.items():
        told(0, 0, name)
        for root in _on_pages(work, found):
            tables = _take_tree(work, rebuilt, lacking[name], tables, root, rebuilt.taker(lacking[name].write))
    for root, names in lost:
        told(0, 0, names[0])
        source = lacking[names[0]]
        doubt = _doubt(forest, names)
        take = rebuilt.aside_taker(source.write, doubt) if doubt else rebuilt.taker(source.write)
        tables = _take_tree(work, rebuilt, source, tables, root, take, found=not doubt)
    return tables


def _doubt(forest: Forest, names: list[str]) -> str:
    if len(names) > 1:
        return f"found on a lost page, of {' or of '.join(names)}"
    if forest.has_twins:
        return "found on a lost page; it may be of another table, a page of which is written over"
    return "" if forest.free_is_whole else "found on a lost page; it may have been deleted"


def _by_rowids(forest: Forest, tables: Tables, shapes: dict[str, Shape]) -> Iterable[tuple[int, list[str]]]:
    """Yield the roots of lost trees with rowids, each with the tables to which it may belong."""
    wanted = [name for name, shape in shapes.items() if not shape.without_rowid]
    for root in forest.lost(TABLE) if wanted else ():
        span = forest.span(root)
        if span is None:
            continue
        names = [
            name
            for name in wanted
            if any(first <= span[0] and span[1] <= last for first, last in tables[name].unread)
            and forest.pages.fits(root, shapes[name])
        ]
        if names:
            yield root, names


def _by_records(forest: Forest, shapes: dict[str, Shape], objects: list[Object]) -> Iterable[tuple[int, list[str]]]:
    """Yield the same for trees without rowids. Indexes have such trees too: a tree may belong to a damaged index."""
    wanted = [name for name, shape in shapes.items() if shape.without_rowid]
    if not wanted:
        return
    indexes = [
        entry.name for entry in objects if entry.kind == "index" and entry.root and not forest.is_whole(entry.root)
    ]
    for root in forest.lost(KEYED):
        names = [name for name in wanted if forest.fits_keyed(root, shapes[name])]
        if names:
            yield root, [*names, *(f"the index {index}" for index in indexes)]


def _on_pages(work: Path, parts: list[int | bytes]) -> list[int]:
    """Return the pages at which parts of a tree begin; rows of inner pages get pages of their own at the end."""
    count, found = Pages(work).count, []
    with file_calls.open_to_write(work, "r+b") as file:
        for part in parts:
            if isinstance(part, int):
                found.append(part)
                continue
            file.seek(count * len(part))
            file.write(part)
            count += 1
            found.append(count)
    return found


def _take_tree(
    work: Path, rebuilt: Rebuilt, source: Source, tables: Tables, root: int, take: Take, *, found: bool = True
) -> Tables:
    """Read one tree through SQLite as if it were the whole table, and return all tables with its rows counted."""
    graft(work, [source.object._replace(root=root)])
    name, read = source.write.name, source.read
    span: Range | None = None

    def seen(rowid: int | None, row: Row) -> None:
        nonlocal span
        if rowid is not None:
            span = (rowid, rowid) if span is None else (min(span[0], rowid), max(span[1], rowid))
        take(rowid, row)

    with closing(open_damaged(work)) as damaged:
        salvage, table = Salvage(damaged, read, seen), tables[name]
        left = table.unread
        if read.rowid is None:
            salvage.whole()
        else:
            unread = salvage.by_rowid(partial(separators, work, root))
            if found and span is not None:
                left = tuple(joined([*without(left, span), *common(left, unread)]))
    return {
        **tables,
        name: table._replace(
            read_count=table.read_count + salvage.read_count,
            aside_count=rebuilt.aside_count.get(name, 0),
            unread=left,
            cause=table.cause if left or read.rowid is None else "",
        ),
    }
