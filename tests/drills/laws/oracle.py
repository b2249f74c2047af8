"""The oracle: each cell after going back, known from the generator alone; none of dbsync's code is used."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.drills.laws.cells import NULL, ROWID, Cell, Picture, Row, literal, opened, quoted, read
from tests.drills.laws.schemas import Schema, Table
from tests.drills.laws.steps import NoPlace, Step

Name = int | str
"""The number of a table or column of the release; the name in lower case of one that somebody added."""
Exact = dict[Name, Cell]
Key = tuple[Cell, ...]
NUMBER_OF_ROWID: Final = 0


class Content(NamedTuple):
    """Rows of a database, with tables and columns by their numbers."""

    rows: dict[Name, list[Exact]]

    def keyed(self, table: Name, key: tuple[Name, ...]) -> dict[Key, Exact]:
        """Return the rows of a table by their keys."""
        return {tuple(row[part] for part in key): row for row in self.rows.get(table, [])}


class Expected(NamedTuple):
    """One table after going back."""

    number: Name
    name: str
    key: tuple[Name, ...]
    """Empty: its rows are known by nothing."""
    rows: list[Exact]
    """Its rows, as far as the newer database says them."""
    before: dict[Key, Exact]
    """The rows of the backup."""
    untouched: frozenset[Key]
    """Rows that nobody changed, of which each bit must stay."""
    loose: set[Key]
    """Rows that the older schema refuses, or that have no place in it: live or parked.

    Where rows are known by nothing: their places in `rows`, see `place_of`.
    """
    converted: dict[Key, frozenset[Name]]
    """Cells whose value a migration changed before people did: live, or parked beside the older value.

    A migration that declares `update` may have changed the kind of the values, from cents to euros, and only its own
    `down_row` could turn one back: a value of the newer kind must not be taken for one of the older kind.
    """


def numbered(picture: Picture, schema: Schema) -> Content:
    """Return the content of a database of this schema by numbers; generated columns follow from the others."""
    found: dict[Name, list[Exact]] = {}
    by_name = {table.name.lower(): table for table in schema.tables}
    for name, rows in picture.tables.items():
        table = by_name.get(name)
        if table is None:
            found[name] = [_numbered_row(row, {}, set()) for row in rows]
            continue
        names: dict[str, Name] = {column.name.lower(): column.number for column in table.columns}
        names[ROWID] = NUMBER_OF_ROWID
        skipped = {column.name.lower() for column in table.columns if column.generated_from is not None}
        found[table.number] = [_numbered_row(row, names, skipped) for row in rows]
    return Content(found)


def _numbered_row(row: Row, names: dict[str, Name], skipped: set[str]) -> Exact:
    return {names.get(column, column): exact for column, exact in row.items() if column not in skipped}


def image(content: Content, steps: Sequence[Step]) -> tuple[Content, dict[Name, list[Exact]]]:
    """Return the rows of a newer database as the older schema has them, and the rows that have no place there."""
    rows, refused = dict(content.rows), dict[Name, list[Exact]]()
    for step in reversed(steps):
        if step.down is None:
            continue
        for table in list(rows):
            if isinstance(table, str):
                continue
            kept: list[Exact] = []
            for row in rows[table]:
                try:
                    kept.append(step.down(table, row))
                except NoPlace:
                    refused.setdefault(table, []).append(row)
            rows[table] = kept
    return Content(rows), refused


def expected(
    older: Schema, steps: Sequence[Step], *, backup: Picture, base: Picture, now: Picture, path: Path
) -> list[Expected]:
    """Return every table of the older schema as it must be.

    Args:
        older: the schema to which the database goes back.
        steps: the migrations that are undone, oldest first.
        backup: the database before them.
        base: the same after them.
        now: what people have made of that.
        path: the file of the backup, whose schema decides what is refused.
    """
    newer = steps[-1].after
    was = numbered(backup, older)
    (first, never), (last, refused) = image(numbered(base, newer), steps), image(numbered(now, newer), steps)
    # A row that had no place before anybody touched it stays as it was in the backup.
    refused = {number: [row for row in rows if row not in never.get(number, [])] for number, rows in refused.items()}
    found: list[Expected] = []
    for table in older.tables:
        after = newer.table(table.number)
        own = sorted({name for row in was.rows[table.number][:1] for name in row if isinstance(name, str)})
        columns: list[Name] = [*(column.number for column in table.written), *own]
        if after is None:
            # Nobody can have changed it: it stays as it was.
            found.append(_stays(table, was, columns))
            continue
        found.append(_of_table(table, columns, was=was, first=first, last=last, refused=refused))
    for one in found:
        one.loose.update(_refused(path, older, one) if one.key else _refused_of_bag(path, older, one))
    _orphaned(older, found)
    return found


def _key(table: Table) -> tuple[Name, ...]:
    if table.key:
        return table.key
    return (NUMBER_OF_ROWID,) if table.kind == "rowid" else ()


def _stays(table: Table, was: Content, columns: list[Name]) -> Expected:
    key = _key(table)
    before = was.keyed(table.number, key) if key else {}
    rows = [_part(row, [*columns, NUMBER_OF_ROWID]) for row in was.rows[table.number]]
    return Expected(table.number, table.name, key, rows, before, frozenset(before), set(), {})


def _part(row: Exact, columns: Iterable[Name]) -> Exact:
    return {column: row[column] for column in columns if column in row}


def _of_table(
    table: Table,
    columns: list[Name],
    *,
    was: Content,
    first: Content,
    last: Content,
    refused: dict[Name, list[Exact]],
) -> Expected:
    key, number = _key(table), table.number
    wanted = [*columns, NUMBER_OF_ROWID]
    if not key:
        return _of_bag(table, columns, was=was, first=first, last=last)
    before, base, now = (content.keyed(number, key) for content in (was, first, last))
    rows, untouched, loose, converted = [], set(), set(), dict[Key, frozenset[Name]]()
    for place, row in now.items():
        old, earlier = before.get(place), base.get(place)
        kept = {c: row[c] for c in wanted if c in row}
        if old is not None and earlier is not None:
            converted[place] = _converted(kept, old, earlier)
            kept = _with_old(kept, old, earlier, wanted)
            if all(earlier.get(c) == row.get(c) for c in wanted):
                untouched.add(place)
        elif earlier is not None or old is not None:
            # The migration made this row, or removed the older one of its key.
            loose.add(place)
            if earlier == row:
                continue
        rows.append(kept)
    gone = {tuple(row[part] for part in key) for row in refused.get(number, [])}
    for place in before:
        if place not in base and place not in now and place not in gone:
            # The migration removed it or has no place for it, and nobody brought anything in its place.
            rows.append(_part(before[place], wanted))
            untouched.add(place)
    for row in refused.get(number, []):
        place = tuple(row[part] for part in key)
        loose.add(place)
        rows = [kept for kept in rows if tuple(kept[part] for part in key) != place]
        untouched.discard(place)
    return Expected(number, table.name, key, rows, before, frozenset(untouched), loose, converted)


def _of_bag(table: Table, columns: list[Name], *, was: Content, first: Content, last: Content) -> Expected:
    """Return a table whose rows are known by nothing; a row that nobody changed has the rowid that it had.

    What a migration changed in such a row is as the backup has it, as in any other table.
    """
    place = (NUMBER_OF_ROWID,)
    before, base = (content.keyed(table.number, place) for content in (was, first))
    rows, loose = list[Exact](), set[Key]()
    for row in last.rows.get(table.number, []):
        kept = _part(row, columns)
        old, earlier = (rows_by.get((row[NUMBER_OF_ROWID],)) for rows_by in (before, base))
        if old is not None and earlier is not None:
            if _converted(kept, old, earlier):
                loose.add(place_of(len(rows)))
            kept = _with_old(kept, old, earlier, columns)
        rows.append(kept)
    return Expected(table.number, table.name, (), rows, {}, frozenset(), loose, {})


def _with_old(kept: Exact, old: Exact, earlier: Exact, columns: Iterable[Name]) -> Exact:
    """Return a row with the cells of the backup where nobody changed what the migrations made of them."""
    row = {c: old[c] if earlier.get(c) == exact else exact for c, exact in kept.items()}
    return {**row, **{c: old[c] for c in columns if c in old and c not in row}}


def _converted(kept: Exact, old: Exact, earlier: Exact) -> frozenset[Name]:
    return frozenset(c for c, exact in kept.items() if earlier.get(c) != old.get(c) and earlier.get(c) != exact)


# -------------------------------------------------------------------------------------------------------------- refused


def _refused(path: Path, older: Schema, wanted: Expected) -> set[Key]:
    """Return the rows that the older schema may refuse, by trying: SQLite decides, in two orders.

    A refused row leaves its older one, or nothing: a row that meets that one may be refused as well.
    """
    with _scratch(path) as scratch:
        names = _names(older, wanted)
        by_key = {_place(row, wanted): row for row in wanted.rows}
        found = set(wanted.loose)
        while True:
            tried = found | set().union(*(_tried(scratch, wanted, names, by_key, found, order) for order in (1, -1)))
            if tried == found:
                return found
            found = tried


def poorer(made: Path, older: Schema, wanted: Expected, live: dict[Key, Exact]) -> Iterator[tuple[Key, Exact]]:
    """Yield rows that were refused and are live in a poorer state than the older schema accepts, with a better one.

    Args:
        made: the older database.
        older: its schema.
        wanted: what its table was to be.
        live: what is in it.
    """
    names = _names(older, wanted)
    rows = {_place(row, wanted): row for row in wanted.rows}
    with _scratch(made) as scratch:
        for place in wanted.loose & wanted.before.keys() & rows.keys():
            old, final, found = wanted.before[place], rows[place], live.get(place)
            if found is not None:
                final = {**final, **{c: found[c] for c in wanted.converted.get(place, ()) if c in found}}
            changed = [c for c in names if c in final and c in old and old[c] != final[c] and c not in wanted.key]
            better = [{**final, column: old[column]} for column in changed] if len(changed) > 1 else []
            if found is not None and any(found.get(column) != old[column] for column in changed):
                continue
            for row in [*better, *([] if found is not None else [old])]:
                scratch.execute("SAVEPOINT tried")
                where = " AND ".join(
                    f"{names[part]} = {literal(exact)}" for part, exact in zip(wanted.key, place, strict=True)
                )
                scratch.execute(f"DELETE FROM {quoted(wanted.name)} WHERE {where}")
                is_possible = _inserted(scratch, wanted.name, names, row)
                scratch.execute("ROLLBACK TO tried")
                scratch.execute("RELEASE tried")
                if is_possible:
                    yield place, row
                    break


@contextmanager
def _scratch(path: Path) -> Iterator[sqlite3.Connection]:
    """A copy of a database in memory, without triggers."""
    with closing(opened(path)) as source, closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        source.backup(scratch)
        scratch.text_factory = bytes
        scratch.execute("PRAGMA foreign_keys=OFF")
        for (name,) in scratch.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            scratch.execute(f"DROP TRIGGER {quoted(name.decode())}")
        yield scratch


def _refused_of_bag(path: Path, older: Schema, wanted: Expected) -> set[Key]:
    """Return the places of the rows that may be refused: all of them, if any is, because rows there have no names."""
    names = _names(older, wanted)
    with _scratch(path) as scratch:
        for rows in (wanted.rows, wanted.rows[::-1]):
            scratch.execute(f"DELETE FROM {quoted(wanted.name)}")
            if not all(_inserted(scratch, wanted.name, names, row) for row in rows):
                return {place_of(at) for at in range(len(wanted.rows))}
    return set()


def place_of(at: int) -> Key:
    """Return the place of a row that is known by nothing."""
    return (("integer", at),)


def _names(older: Schema, wanted: Expected) -> dict[Name, str]:
    assert isinstance(wanted.number, int)
    table = older.table(wanted.number)
    assert table is not None
    names: dict[Name, str] = {column.number: quoted(column.name) for column in table.written}
    return {**names, **({} if table.key else {NUMBER_OF_ROWID: "rowid"})}


def _place(row: Exact, wanted: Expected) -> Key:
    return tuple(row[part] for part in wanted.key)


def _tried(
    scratch: sqlite3.Connection,
    wanted: Expected,
    names: dict[Name, str],
    rows: dict[Key, Exact],
    found: set[Key],
    order: int,
) -> set[Key]:
    scratch.execute(f"DELETE FROM {quoted(wanted.name)}")
    for place in wanted.untouched:
        if place in rows and not _inserted(scratch, wanted.name, names, rows[place]):
            # Two rows that nobody touched cannot meet.
            raise AssertionError(f"the backup's own row is refused: {wanted.name} {place}")
    for place in found:
        if place in wanted.before and place not in wanted.untouched:
            _inserted(scratch, wanted.name, names, wanted.before[place])
    rest = [place for place in rows if place not in wanted.untouched and place not in found]
    return {place for place in rest[::order] if not _inserted(scratch, wanted.name, names, rows[place])}


def _inserted(scratch: sqlite3.Connection, table: str, names: dict[Name, str], row: Exact) -> bool:
    cells = {names[column]: exact for column, exact in row.items() if column in names}
    values = ", ".join(literal(exact) for exact in cells.values())
    try:
        scratch.execute(f"INSERT OR ABORT INTO {quoted(table)} ({', '.join(cells)}) VALUES ({values})")
    except sqlite3.Error:
        return False
    return True


def _orphaned(older: Schema, found: list[Expected]) -> None:
    """Take for loose what refers to a row that is not there, or that may be refused."""
    by_number = {one.number: one for one in found}
    changed = True
    while changed:
        changed = False
        for one in found:
            table = older.table(one.number) if isinstance(one.number, int) else None
            parents = [c for c in table.columns if c.parent is not None and c.parent in by_number] if table else []
            for column in parents:
                assert column.parent is not None
                parent = by_number[column.parent]
                there = {_place(row, parent) for row in parent.rows} - parent.loose if parent.key else set()
                for row in one.rows if one.key else []:
                    value, place = row.get(column.number, NULL), _place(row, one)
                    if (value,) in parent.before.keys() - there - parent.loose and place in one.untouched:
                        # A row that only the older schema has needs the row that was removed.
                        parent.loose.add((value,))
                        changed = True
                    if value != NULL and (value,) not in there and place not in one.loose | one.untouched:
                        one.loose.add(place)
                        changed = True


def stored(older: Schema, wanted: Expected) -> dict[Key, Exact]:
    """Return the expected rows as their columns store them: the type of a column may turn '1' into 1."""
    assert isinstance(wanted.number, int)
    table = older.table(wanted.number)
    assert table is not None
    types = {column.number: column.type.replace("ANY", "") for column in table.written}
    found: dict[Key, Exact] = {}
    with closing(sqlite3.connect(":memory:")) as probe:
        probe.text_factory = bytes
        for row in wanted.rows:
            names = list(row)
            shape = ", ".join(f"c{at} {types.get(name, '')}" for at, name in enumerate(names))  # type: ignore[arg-type]
            probe.execute("DROP TABLE IF EXISTS probe")
            probe.execute(f"CREATE TABLE probe ({shape})")
            probe.execute(f"INSERT INTO probe VALUES ({', '.join(literal(exact) for exact in row.values())})")
            cells = read(probe).tables["probe"][0]
            exact_row: Exact = {name: cells[f"c{at}"] for at, name in enumerate(names)}
            found[_place(row, wanted) if wanted.key else place_of(len(found))] = exact_row
    return found


def plain(rows: Iterable[Row], columns: Iterable[str]) -> list[Row]:
    """Return rows with some of their columns only."""
    wanted = list(columns)
    return [{name: row[name] for name in wanted if name in row} for row in rows]
