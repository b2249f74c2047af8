"""One app's history with trade in it: from its older schema to the newest, back, and up again; each with its proof."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.lint.check import Problem, examine
from dbsync.migrations import folder as migration_folder
from dbsync.rehearsal import made_up_trade
from dbsync.schema.declarations import declared
from tests.drills import lineage_oracle as oracle
from tests.drills.lineage_sources import Histories, as_migration, make_base
from tests.drills.real_story import FIRST, Shop

_ROUNDS_COUNT: Final = 60
"""How often `check` is asked for declarations at most."""


class Seen(NamedTuple):
    """The observations."""

    tables_count: int
    rows_count: int
    migrations_count: int
    edits_count: int
    where: oracle.Where
    again: oracle.Again
    seconds: dict[str, float]


class Faulty(Exception):
    """Something is not as it should be."""


def story(histories: Histories, folder: Path, *, fill_count: int, rounds_count: int) -> Seen:
    """Everything, in order.

    Args:
        histories: the app's texts.
        folder: where to work; it is made.
        fill_count: rounds of trade before the first migration. With more than a few, half of the rows stay untouched.
        rounds_count: rounds of trade in the newest schema, and in the older one after going back.

    Raises:
        Faulty: dbsync refused something, or made other rows than the app's own texts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / "app.db"
    make_base(histories, base)
    _trade(histories, base, fill_count, 0)
    shop = Shop(folder / "shop", base)
    _adopt(shop)
    old = oracle.read(shop.database)
    with shop.timed("declaring (check)"):
        declare(histories, shop)
    _upgraded(shop)
    migrated = oracle.read(shop.database)
    _same("the way up", oracle.by_the_apps_own_texts(histories.steps, base, folder / "plain.db"), migrated)
    edits_count = _trade(histories, shop.database, rounds_count, 100)
    traded = oracle.read(shop.database)
    _gone_back(shop)
    down, waiting = oracle.read(shop.database), oracle.kept_in(shop.database)
    plain = oracle.by_the_apps_own_texts(histories.steps, shop.database, folder / "plain-again.db")
    where = oracle.where_it_is(
        old=old, base=migrated, traded=traded, down=down, again=plain, kept=waiting, names=_names(shop)
    )
    _nothing("after going back", where.lost)
    with _aside(shop):
        _upgraded(shop)
        _same("up again at once", traded, oracle.read(shop.database))
    edits_count += _trade(histories, shop.database, rounds_count, 200)
    plain = oracle.by_the_apps_own_texts(histories.steps, shop.database, folder / "plain-traded.db")
    _upgraded(shop)
    again = oracle.put_back(
        waiting=waiting, still=oracle.kept_in(shop.database), plain=plain, up=oracle.read(shop.database)
    )
    _nothing("after the way up again", again.lost)
    rows_count = sum(len(table.rows) for table in old.values())
    return Seen(len(old), rows_count, len(histories.steps), edits_count, where, again, shop.seconds)


def _adopt(shop: Shop) -> None:
    """Give the database a history. The app's record of its own files stays the app's, as docs/adopting.md has it."""
    before, file = oracle.read(shop.database), shop.migrations / FIRST
    shop.dbsync("write-schema", file)
    text = file.read_text(encoding="utf-8")
    with closing(sqlite3.connect(shop.database)) as live, closing(sqlite3.connect(":memory:")) as made:
        made.executescript(text)
        known = {table for (table,) in made.execute("SELECT name FROM sqlite_schema")}
        for table, sql in live.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").fetchall():
            if table not in known and not table.startswith("sqlite_"):
                text += f"{sql};\n"
    file.write_text(text, encoding="utf-8")
    told = shop.dbsync("baseline", "--migrations", shop.migrations, "--json")
    if told.get("schema") != 1:
        raise Faulty(f"baseline: {told}")
    _same("adopting", before, oracle.read(shop.database))


def _trade(histories: Histories, database: Path, rounds_count: int, first_seed: int) -> int:
    """Make up trade in a database, and return how many rows and cells it wrote or removed."""
    done: list[made_up_trade.TableTrade] = []
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for seed in range(first_seed, first_seed + rounds_count):
            done += made_up_trade.trade(connection, seed=seed)
            there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
            for relied in histories.relied:
                if relied.table in there:
                    change = f"UPDATE {relied.table} SET {relied.column} = {relied.value} WHERE {relied.wrong}"
                    connection.execute(change)
    return sum(made.done_count + made.children for made in done)


def declare(histories: Histories, shop: Shop) -> None:
    """Write the app's files as migrations, with the lines that `check` asks for and no others."""
    said: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for number, (name, text) in enumerate(histories.steps, 2):
        plain, sql = as_migration(name, text)
        texts[f"{number:04d}_{plain}"] = sql
    told: list[Problem] = []
    for _ in range(_ROUNDS_COUNT):
        for stem, sql in texts.items():
            lines = "".join(f"{line}\n" for line in said.get(stem, ()))
            (shop.migrations / f"{stem}.sql").write_text(lines + sql, encoding="utf-8")
        scratch = shop.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        found = examine(folder=shop.migrations, database=shop.database, scratch=scratch)
        told = found.problems
        helped = [problem for problem in told if _line(problem)]
        for problem in helped:
            _add(said, problem)
        if not helped:
            break
    if told:
        raise Faulty("check: " + "; ".join(f"{one.where}: {one.what} [{one.safe}]" for one in told))


def _add(said: dict[str, list[str]], problem: Problem) -> None:
    stem = problem.where.rpartition(" to ")[2].removesuffix(".sql")
    lines, line = said.setdefault(stem, []), _line(problem)
    if line in lines:
        raise Faulty(f"check: {problem.where}: {problem.what}, although it says {line}")
    lines.append(line)


def _line(problem: Problem) -> str:
    """The line that a problem offers; empty if it offers none."""
    safe = problem.safe
    if safe.startswith("-- "):
        return safe.splitlines()[0]
    if "`changes: " in safe:
        return f"-- changes: {safe.partition('`changes: ')[2].partition('`')[0]}"
    if "`-- needs: " in safe:
        return f"-- needs: {safe.partition('`-- needs: ')[2].partition('`')[0]}"
    return ""


def _names(shop: Shop) -> oracle.Names:
    said = declared(migration_folder.load(shop.migrations))
    tables = {before.lower(): after.lower() for before, after in said.tables.items()}
    columns = {(table.lower(), column.lower()): after.lower() for (table, column), after in said.columns.items()}
    return oracle.Names(tables, columns)


def _upgraded(shop: Shop) -> None:
    outcome = shop.dbsync("upgrade", "--migrations", shop.migrations, "--json")
    if outcome["name"] != "MIGRATED":
        raise Faulty(f"upgrade: {outcome['name']}: {outcome.get('cause')}")


def _gone_back(shop: Shop) -> None:
    told = shop.dbsync("downgrade", "--migrations", shop.migrations, "--accept-loss", "--yes", "--json")
    if told.get("back") is None:
        raise Faulty(f"downgrade: {told}")


@contextmanager
def _aside(shop: Shop) -> Iterator[None]:
    """Works on the database for a while, and puts it back as it was."""
    copy = shop.folder / "aside.db"
    shutil.copyfile(shop.database, copy)
    kept = time.monotonic()
    yield
    shop.seconds["up again at once"] = time.monotonic() - kept
    shutil.copyfile(copy, shop.database)


def _same(step: str, one: dict[str, oracle.Table], other: dict[str, oracle.Table]) -> None:
    _nothing(step, oracle.differing(one, other))


def _nothing(step: str, wrong: list[str]) -> None:
    if wrong:
        raise Faulty(f"{step}: {len(wrong)} wrong: " + "; ".join(wrong[:8]))
