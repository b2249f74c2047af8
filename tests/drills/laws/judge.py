"""The laws, each a function over pictures: what it finds is a sentence under the law's name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from tests.drills.laws.cells import NULL, ROWID, Cell, Entry, Picture, Row, bag, in_words, keyed
from tests.drills.laws.kept import KeptRow
from tests.drills.laws.oracle import NUMBER_OF_ROWID, Content, Exact, Expected, Key, Name, stored
from tests.drills.laws.schemas import Schema

EARLY, LATE = "early", "late"
"""In the names of what people add themselves, before the migration and after it."""


class Law(StrEnum):
    """The laws by name."""

    GOES_BACK = "going back never stops"
    UNTOUCHED = "rows that nobody touched stay bit for bit"
    LIVE = "what the older schema can hold is live"
    PARKED = "what is not live is kept"
    PARTLY = "a row that is refused keeps all its new cells but one, or its old state"
    STRANGE = "nothing is there that nobody wrote"
    MARKS = "numbers never run backwards"
    STRUCTURE = "the structure is as it was"
    SEARCH = "what was found is found"
    ORPHANS = "no row loses the row that it refers to"
    IDENTITY = "down after up changes nothing"
    GOES_UP = "going up again runs wherever it runs without what is kept"
    UP_AGAIN = "up after down gives everything again"
    LATER_WINS = "a later edit is not overwritten"
    NOT_SILENT = "after further trade nothing is lost silently"
    WORDS = "the words agree with what is kept"
    SOUND = "the database is sound"
    LOCAL = "what people added themselves survives"


class Violation(NamedTuple):
    """A law that does not hold."""

    law: Law
    text: str

    def __str__(self) -> str:
        """Return it in one line."""
        return f"{self.law.name} ({self.law.value}): {self.text}"


def same_content(
    law: Law,
    before: Picture,
    after: Picture,
    *,
    rowids: frozenset[str] = frozenset(),
    said: frozenset[str] = frozenset(),
) -> Iterator[Violation]:
    """Compare two databases in every row and every object.

    Args:
        law: the law that asks for it.
        before: how it must be.
        after: how it is.
        rowids: the tables without a key whose rowids other rows refer to.
        said: search indexes without content that were counted as lost: nothing can read their entries to keep them.
    """
    if before.version != after.version:
        yield Violation(law, f"schema {after.version} instead of {before.version}")
    for name in sorted(before.tables.keys() | after.tables.keys()):
        if name not in before.tables or name not in after.tables:
            yield Violation(law, f"table {name} is {'there' if name in after.tables else 'gone'}")
            continue
        without = () if before.keys[name] != (ROWID,) or name in rowids else (ROWID,)
        wanted, found = bag(before.tables[name], without=without), bag(after.tables[name], without=without)
        for text, rows in (("lacks", wanted - found), ("has besides", found - wanted)):
            for row in list(rows)[:2]:
                yield Violation(law, f"{name} {text} {in_words(dict(row))}")
    yield from _virtual(law, before, after, said)
    yield from _structure(law, before.entries, after.entries)


def _virtual(law: Law, before: Picture, after: Picture, said: frozenset[str]) -> Iterator[Violation]:
    for name, rows in before.virtual.items():
        if name not in said and after.virtual.get(name) != rows:
            found = after.virtual.get(name)
            wanted = [row for row in rows if found is None or row not in found]
            more = [row for row in found or [] if row not in rows]
            yield Violation(
                law,
                f"virtual table {name} lacks {wanted[:2]} and has besides {more[:2]}",
            )


def _structure(law: Law, before: Sequence[Entry], after: Sequence[Entry]) -> Iterator[Violation]:
    wanted, found = (Counter(map(_plain, entries)) for entries in (before, after))
    for text, entries in (("lacks", wanted - found), ("has besides", found - wanted)):
        for entry in list(entries)[:2]:
            yield Violation(law, f"the schema {text} {entry}")


def _plain(entry: Entry) -> str:
    """Return an entry without its spelling; a column that people added counts, and its place does not."""
    text = "".join(entry.sql.replace('"', "").replace("`", "").split()).lower()
    for own in (f"{EARLY}_own", f"{LATE}_own"):
        if entry.kind == "table" and f",{own}" in text:
            text = f"{text.replace(f',{own}', '')},{own}"
    return f"{entry.kind} {entry.name.lower()}: {text}"


def marks(
    law: Law, before: Mapping[str, int], after: Mapping[str, int], names: Mapping[str, str]
) -> Iterator[Violation]:
    """Compare AUTOINCREMENT marks; `names` has the name after for each name before."""
    for name, mark in before.items():
        other = names.get(name)
        if other is not None and after.get(other, 0) < mark:
            yield Violation(law, f"the mark of {other} is {after.get(other, 0)}, and {mark} was given out")


# ----------------------------------------------------------------------------------------------------------- going back


class Back(NamedTuple):
    """A database that went back."""

    older: Schema
    newer: Schema
    wanted: Sequence[Expected]
    backup: Picture
    now: Picture
    made: Picture
    made_rows: Content


def gone_back(back: Back) -> Iterator[Violation]:
    """Judge the older database by the oracle."""
    for wanted in back.wanted:
        live = back.made_rows.rows.get(wanted.number)
        if live is None:
            yield Violation(Law.STRUCTURE, f"table {wanted.name} is gone")
        elif wanted.key:
            yield from _keyed(back.older, wanted, back.made_rows.keyed(wanted.number, wanted.key))
        else:
            yield from _bag(back.older, wanted, live)
    # A column that somebody added to the newer one may be there as well: it stands at the end of its table.
    wanted_entries, there = (
        Counter(_plain(entry).replace(f",{LATE}_own", "") for entry in picture.entries)
        for picture in (back.backup, back.made)
    )
    lacking = wanted_entries - there
    yield from (Violation(Law.STRUCTURE, f"the schema lacks {entry}") for entry in lacking)
    yield from _searched(back)
    names = {table.number: table.name.lower() for table in back.older.tables if table.kind == "auto"}
    later = {t.name.lower(): names[t.number] for t in back.newer.tables if t.number in names}
    yield from marks(Law.MARKS, back.now.marks, back.made.marks, later)
    yield from marks(Law.MARKS, back.backup.marks, back.made.marks, {name: name for name in back.backup.marks})
    for pair, count in back.made.orphans.items():
        if count > back.backup.orphans[pair] and count > sum(back.now.orphans.values()):
            yield Violation(Law.ORPHANS, f"{count} rows of {pair[0]} refer to no row of {pair[1]}")


def _keyed(older: Schema, wanted: Expected, live: dict[Key, Exact]) -> Iterator[Violation]:
    rows = stored(older, wanted)
    for place, row in rows.items():
        found = live.get(place)
        if place in wanted.untouched:
            law = Law.UNTOUCHED
        elif place in wanted.loose:
            continue
        else:
            law = Law.LIVE
        if found is None:
            yield Violation(law, f"{wanted.name} lacks {_shown(older, wanted, row)}")
            continue
        old, converted = wanted.before.get(place, {}), wanted.converted.get(place, ())
        other = {c: exact for c, exact in row.items() if found.get(c, NULL) != exact}
        other = {c: exact for c, exact in other.items() if c not in converted or found.get(c) != old.get(c)}
        if other:
            shown = _shown(older, wanted, {c: found.get(c, NULL) for c in other})
            yield Violation(law, f"{wanted.name} {_shown(older, wanted, row)} has {shown}")
    for place, row in live.items():
        if place in rows or place in wanted.loose:
            continue
        yield Violation(Law.STRANGE, f"{wanted.name} has {_shown(older, wanted, row)}")


def _bag(older: Schema, wanted: Expected, live: list[Exact]) -> Iterator[Violation]:
    rows = list(stored(older, wanted).values())
    names = {name for row in rows for name in row} - {NUMBER_OF_ROWID}
    want, found = (
        Counter(tuple(sorted((str(n), row[n]) for n in names if n in row)) for row in each) for each in (rows, live)
    )
    if not names or wanted.loose:
        # Where the older schema refuses rows without names, only what is kept tells which ones: see `all_kept`.
        return
    for row in want - found:
        # A bag's row that the older schema refuses is judged by what is kept.
        yield Violation(Law.PARKED, f"{wanted.name} lacks {dict(row)}")
    for row in found - want:
        yield Violation(Law.STRANGE, f"{wanted.name} has {dict(row)}")


def _shown(older: Schema, wanted: Expected, row: Exact) -> str:
    table = older.table(wanted.number) if isinstance(wanted.number, int) else None
    names = {column.number: column.name for column in table.columns} if table is not None else {}
    return in_words(
        {names.get(name, str(name)) if isinstance(name, int) else name: exact for name, exact in row.items()}
    )


def _searched(back: Back) -> Iterator[Violation]:
    for thing in back.older.things:
        later = next((other for other in back.newer.things if other.name == thing.name), None)
        if thing.kind == "virtual" and later is not None:
            name = thing.name.lower()
            if back.made.virtual.get(name) != back.now.virtual.get(name):
                text = f"{name} has {back.made.virtual.get(name)}, and had {back.now.virtual.get(name)}"
                yield Violation(Law.SEARCH, text)


# ----------------------------------------------------------------------------------------------------------------- kept


def all_kept(now: Picture, again: Picture, kept: Sequence[KeptRow], rowids: frozenset[str]) -> Iterator[Violation]:
    """Every cell of `now` that going up would not make by itself must be kept; `again` is what it makes by itself."""
    for name, rows in now.tables.items():
        mine = [row for row in kept if row.table == name]
        key = now.keys[name]
        if key == (ROWID,) and name not in rowids:
            lacking = bag(rows, without=(ROWID,)) - bag(again.tables.get(name, []), without=(ROWID,))
            for cells, count in lacking.items():
                if sum(_holds(one, dict(cells)) for one in mine) < count:
                    yield Violation(Law.PARKED, f"{name} {in_words(dict(cells))} is kept nowhere")
            continue
        there = keyed(again.tables.get(name, []), key)
        for place, row in keyed(rows, key).items():
            made = there.get(place)
            other = {c: exact for c, exact in row.items() if made is None or made.get(c) != exact}
            if other and not any(_holds(one, other) and _at(one, key, place) for one in mine):
                yield Violation(Law.PARKED, f"{name} {in_words(row)}: {in_words(other)} is kept nowhere")


def _holds(one: KeptRow, cells: Mapping[str, Cell]) -> bool:
    return all(one.values.get(column) == exact for column, exact in cells.items() if not column.startswith("("))


def _at(one: KeptRow, key: Sequence[str], place: Key) -> bool:
    known = {**one.values, **one.key}
    wanted = {name: exact for name, exact in zip(key, place, strict=True) if not name.startswith("(")}
    return all(known.get(name) == exact for name, exact in wanted.items())


# -------------------------------------------------------------------------------------------------------- further trade


class Further(NamedTuple):
    """A database that went up again after further trade on the older schema."""

    newest: Picture
    """As it was before it went back."""
    alone: Picture
    """The older database brought up without what is kept, before that trade."""
    alone_later: Picture
    """The same after that trade."""
    up: Picture
    """The result of the product."""
    kept: Sequence[KeptRow]
    """The rows that it still keeps."""
    rowids: frozenset[str]


def after_further_trade(further: Further) -> Iterator[Violation]:
    """A later edit wins; what was kept is live or still kept; nothing else is there."""
    for name in further.newest.tables:
        key = further.newest.keys[name]
        if key == (ROWID,) and name not in further.rowids:
            yield from _bag_later(further, name)
        else:
            yield from _keyed_later(further, name, key)
    same = {name: name for name in further.newest.marks}
    yield from marks(Law.MARKS, further.newest.marks, further.up.marks, same)
    yield from marks(
        Law.MARKS, further.alone_later.marks, further.up.marks, {name: name for name in further.alone_later.marks}
    )


def _keyed_later(further: Further, name: str, key: tuple[str, ...]) -> Iterator[Violation]:
    newest, alone, later, up = (
        keyed(picture.tables.get(name, []), key)
        for picture in (further.newest, further.alone, further.alone_later, further.up)
    )
    kept = [row for row in further.kept if row.table == name]
    for place, row in later.items():
        found, was, before = up.get(place), alone.get(place), newest.get(place)
        if found is None:
            if was != row or (was is not None and before is not None):
                yield Violation(Law.LATER_WINS, f"{name} lacks {in_words(row)}")
            continue
        for column, exact in row.items():
            edited = was is None or was.get(column) != exact
            allowed = {exact} if edited else {exact, (before or {}).get(column, exact)}
            if found.get(column) not in allowed:
                yield Violation(
                    Law.LATER_WINS, f"{name} {in_words(row)} has {column} {in_words({column: found.get(column, NULL)})}"
                )
    for place, row in newest.items():
        was, now, found = alone.get(place), later.get(place), up.get(place)
        mine = {c: exact for c, exact in row.items() if was is None or was.get(c) != exact}
        if found is not None and now is None and found != row and was is None:
            yield Violation(Law.NOT_SILENT, f"{name} {in_words(row)} came back as {in_words(found)}")
        lost = {c: exact for c, exact in mine.items() if found is None or found.get(c) != exact}
        lost = {c: exact for c, exact in lost.items() if exact != NULL or was is None}
        if lost and not any(_holds(one, lost) and _at(one, key, place) for one in kept):
            yield Violation(Law.NOT_SILENT, f"{name} {in_words(row)}: {in_words(lost)} is neither live nor kept")
    for place, row in up.items():
        if place not in later and place not in newest:
            yield Violation(Law.STRANGE, f"{name} has {in_words(row)}")


def _bag_later(further: Further, name: str) -> Iterator[Violation]:
    newest, alone, later, up = (
        bag(picture.tables.get(name, []), without=(ROWID,))
        for picture in (further.newest, further.alone, further.alone_later, further.up)
    )
    for row in (later - alone) - up:
        yield Violation(Law.LATER_WINS, f"{name} lacks {in_words(dict(row))}")
    kept = [row for row in further.kept if row.table == name]
    for row, count in (newest - alone).items():
        if up[row] < count and not any(_holds(one, dict(row)) for one in kept):
            yield Violation(Law.NOT_SILENT, f"{name} {in_words(dict(row))} is neither live nor kept")


def local(mark: str, before: Picture, after: Picture, dropped: frozenset[str]) -> Iterator[Violation]:
    """Additions, each with `mark` in its name, are there after a migration as they were before.

    What was added to a table that a migration drops goes with it, as the migration declares; `dropped` has their names
    in lower case. Going back brings both again: that is `STRUCTURE`.
    """
    for entry in before.entries:
        is_gone = entry.name not in {other.name for other in after.entries}
        if entry.name.startswith(mark) and is_gone and entry.table.lower() not in dropped:
            yield Violation(Law.LOCAL, f"{entry.kind} {entry.name} is gone")
    was, now = (
        Counter(
            row[f"{mark}_own"]
            for name, rows in picture.tables.items() if name not in dropped
            for row in rows if f"{mark}_own" in row
        )
        for picture in (before, after)
    )  # fmt: skip
    if was - now:
        yield Violation(Law.LOCAL, f"the column {mark}_own lost {dict(was - now)}")


def names_of(schema: Schema, kind: str) -> frozenset[str]:
    """Return the names of the tables of a kind."""
    return frozenset(table.name.lower() for table in schema.tables if table.kind == kind)


__all__ = ["Back", "Further", "Law", "Name", "Row", "Violation"]
