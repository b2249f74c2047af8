"""Every pair of versions of three apps, there and back on the production path, with a thousand edits in between."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.backups.catalog import list_backups
from dbsync.commands import downgrade
from dbsync.errors import TillkeeperError
from dbsync.migrations import runner
from dbsync.model import Migration, Returned
from tests.drills.laws import judge, shop_trade
from tests.drills.laws.cells import ROWID, Picture, keyed, picture
from tests.drills.laws.course import problem_of
from tests.drills.laws.judge import Law, Violation
from tests.drills.laws.kept import CELLS, ROWS, KeptRow, kept_in
from tests.drills.laws.lineages import LINEAGES, Lineage
from tests.helpers.shop import effects, upgrade, written

FILLED_COUNT: Final = 250
EDITS_COUNT: Final = 1000
DROPPED: Final = frozenset({"products.stock"})
"""Columns that a later version drops without a way back."""
BY_ROWID: Final = frozenset({"article_search"})
"""Search indexes over a table with another key: a row that is removed and made again may get its earlier rowid. They
are judged by SQLite's own comparison with their content."""


class Pair(NamedTuple):
    """Two versions of one app."""

    lineage: str
    older: int
    newer: int

    def __str__(self) -> str:
        """Return it as a person writes it."""
        return f"{self.lineage} {self.older} -> {self.newer} -> {self.older} -> {self.newer}"


class Traded(NamedTuple):
    """The end of a pair."""

    pair: Pair
    edits_count: int
    changed_cells_count: int
    """Cells that the edits made other than the migration had left them."""
    kept_count: int
    """Rows that the older database keeps for the newer one."""
    left_count: int
    """How many of them it still keeps after going up again."""
    violations: list[Violation]


PAIRS: Final = [Pair(name, older, newer) for name in LINEAGES for newer in range(2, 6) for older in range(1, newer)]


def run(pair: Pair, folder: Path, *, seed: int = 1, edits_count: int = EDITS_COUNT) -> Traded:
    """Run one pair in an empty folder."""
    lineage = LINEAGES[pair.lineage]
    found = written(folder / "migrations", *lineage.migrations[: pair.newer])
    database = folder / "data" / "shop.db"
    database.parent.mkdir()
    _expect(upgrade(database, found[: pair.older]).ready, "the first schema")
    shop_trade.work(database, seed=seed, count=FILLED_COUNT)
    before = picture(database)
    outcome = upgrade(database, found)
    _expect(outcome.ready, f"going up: {outcome.name} {outcome.cause}")
    base = picture(database)
    done = shop_trade.work(database, seed=seed + 1, count=edits_count)
    _expect(done == edits_count, f"only {done} edits were possible")
    now = Path(shutil.copy(database, folder / "now.db"))
    returned = _back(database, found, pair.older)
    made = Path(shutil.copy(database, folder / "made.db"))
    kept = kept_in(made)
    changed = sum(_differing(base, picture(now)))
    if picture(made).version != pair.older:
        violation = Violation(Law.GOES_BACK, f"{returned.outcome.name}: {returned.outcome.cause}")
        return Traded(pair, done, changed, len(kept), len(kept), [violation])
    again = upgrade(database, found)
    violations = [
        *judge.all_kept(picture(now), picture(_alone(made, folder, found)), kept, frozenset()),
        *_carried(picture(now), picture(made), kept),
        *_older_alone(before, picture(now), picture(made)),
        *_orphans(before, picture(now), picture(made)),
        *_counted(lineage, pair, now=now, made=made, kept=kept),
        *_said(returned, kept),
    ]
    if again.ready:
        violations += judge.same_content(Law.UP_AGAIN, picture(now), picture(database), said=BY_ROWID)
    else:
        violations.append(Violation(Law.GOES_UP, f"{again.name}: {again.cause}"))
    problems = {name: problem_of(path) for name, path in {"gone back": made, "gone up again": database}.items()}
    violations += [Violation(Law.SOUND, f"{name}: {problem}") for name, problem in problems.items() if problem]
    return Traded(pair, done, changed, len(kept), len(kept_in(database)), violations)


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise RuntimeError(f"a pair cannot be set up: {what}")


def _back(database: Path, found: tuple[Migration, ...], older: int) -> Returned:
    backups = list_backups(backups=database.parent / "backups", database=database)
    base = next(backup for backup in backups if backup.version == older)
    return downgrade.downgrade(effects(database), base, found, accept_loss=True)


def _alone(made: Path, folder: Path, found: tuple[Migration, ...]) -> Path:
    path = Path(shutil.copy(made, folder / "alone.db"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for table in (CELLS, ROWS):
            connection.execute(f"DROP TABLE IF EXISTS {table}")
    try:
        runner.migrate_up(path, found)
    except TillkeeperError:
        return made
    return path


def _differing(before: Picture, after: Picture) -> Iterator[int]:
    """Yield, for each table, how many cells differ."""
    for name, rows in after.tables.items():
        key = after.keys[name]
        was = keyed(before.tables.get(name, []), key)
        for place, row in keyed(rows, key).items():
            yield sum(was.get(place, {}).get(column) != exact for column, exact in row.items())


def _carried(now: Picture, made: Picture, kept: Sequence[KeptRow]) -> Iterator[Violation]:
    """Cells of a table and column that both versions have are equal, or the row is kept."""
    for name, rows in now.tables.items():
        key = now.keys[name]
        if name not in made.tables or made.keys[name] != key or key == (ROWID,):
            continue
        live = keyed(made.tables[name], key)
        mine = [row for row in kept if row.table == name]
        for place, row in keyed(rows, key).items():
            found = live.get(place)
            other = {c for c, exact in row.items() if found is None or (c in found and found[c] != exact)}
            if other and not any({**one.values, **one.key}.get(key[0]) == place[0] for one in mine):
                yield Violation(Law.LIVE, f"{name} {place}: {sorted(other)} are neither live nor kept")
        for place in live.keys() - keyed(rows, key).keys():
            if not any({**one.values, **one.predicted, **one.key}.get(key[0]) == place[0] for one in mine):
                yield Violation(Law.STRANGE, f"{name} {place} was removed, and is there")


def _older_alone(before: Picture, now: Picture, made: Picture) -> Iterator[Violation]:
    """Cells of columns that a later version dropped are what they were: nobody can have changed them."""
    for name, rows in before.tables.items():
        key = before.keys[name]
        if key == (ROWID,) or name not in now.tables or not now.tables[name]:
            continue
        live = keyed(made.tables.get(name, []), key)
        for place, row in keyed(rows, key).items():
            found = live.get(place, row)
            gone = [c for c in row if f"{name}.{c}" in DROPPED and c not in now.tables[name][0]]
            other = [c for c in gone if found.get(c) != row[c]]
            if other:
                yield Violation(Law.UNTOUCHED, f"{name} {place}: {other} changed")


def _orphans(before: Picture, now: Picture, made: Picture) -> Iterator[Violation]:
    """No row of the older database refers to a row that is not there, unless one did already."""
    for pair, count in made.orphans.items():
        if count > before.orphans[pair] and not now.orphans:
            yield Violation(Law.ORPHANS, f"{count} rows of {pair[0]} refer to no row of {pair[1]}")


def _counted(lineage: Lineage, pair: Pair, *, now: Path, made: Path, kept: Sequence[KeptRow]) -> Iterator[Violation]:
    """The app's own queries return the same in both versions, where nothing of their tables is kept."""
    for name, queries in lineage.counted.items():
        newer, older = queries[pair.newer - 1], queries[pair.older - 1]
        if any(row.table in newer.lower() and row.kind != "changed" for row in kept):
            continue
        touched = {column for row in kept for column in row.values if row.table in newer.lower()}
        if any(column in newer.lower() for column in touched):
            continue
        wanted, found = _asked(now, newer), _asked(made, older)
        if wanted != found:
            yield Violation(Law.LIVE, f"{name}: {found} instead of {wanted}")


def _asked(path: Path, query: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchone()


def _said(returned: Returned, kept: Sequence[KeptRow]) -> Iterator[Violation]:
    """The outcome says whether anything is not live."""
    lossless = returned.outcome.name == "CARRIED_BACK" and not returned.losses
    if lossless == bool(kept):
        yield Violation(Law.WORDS, f"{returned.outcome.name}, losses {returned.losses}, and {len(kept)} rows are kept")
