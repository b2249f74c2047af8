"""One side of the benchmark, in a process of its own: `_bench_work.py WORK ARGUMENTS…` prints its result as JSON.

Each work is timed inside, after its imports: what is compared is what happens to the data. Paths come first.
"""

import json
import os
import random
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

ALEMBIC = {
    "add a column": 'with op.batch_alter_table("{0}") as table:\n        table.add_column(sa.Column("note", sa.Text))',
    "UNIQUE rebuild": (
        'with op.batch_alter_table("{0}") as table:\n'
        '        table.create_unique_constraint("one_of_each", ["transactionId", "id"])'
    ),
    "backfill": 'op.execute("UPDATE {0} SET lineCents = lineCents + 1")',
}
REVISION = """\
import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade():
    {0}
"""
ENVIRONMENT = """\
import sqlalchemy
from alembic import context

engine = sqlalchemy.create_engine(context.config.get_main_option("sqlalchemy.url"))
with engine.connect() as connection:
    context.configure(connection=connection, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
"""
ITEMS = "transaction_items"
SALES_COUNT, VOIDS_COUNT, EDITS_COUNT, ITEMS_PER_SALE = 2000, 50, 150, 3


def fill(database: str, items_count: str) -> dict:
    """Fills the shop; tells how many rows it has."""
    from tests.sample_till.fill import fill as fill_shop

    fill_shop(Path(database), items_count=int(items_count), uuids=True)
    with closing(sqlite3.connect(database)) as live:
        names = [row[0] for row in live.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        counts = {name: live.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}
    return {"rows": sum(counts.values()), "tables": counts}


# ------------------------------------------------------------------------------------------------------------ upgrades


def plain(database: str, migrations: str, _: str) -> dict:
    """The same SQL, statement by statement, in one transaction; quick_check and foreign_key_check before COMMIT."""
    text = next(Path(migrations).glob("0005_*.sql")).read_text(encoding="utf-8")
    began = time.perf_counter()
    with closing(sqlite3.connect(database, isolation_level=None)) as live:
        live.execute("PRAGMA foreign_keys=OFF")
        live.execute("PRAGMA synchronous=EXTRA")
        live.execute("BEGIN IMMEDIATE")
        statement = ""
        for piece in text.split(";"):
            statement += piece + ";"
            if sqlite3.complete_statement(statement):
                if statement.strip(" \n;"):
                    live.execute(statement)
                statement = ""
        assert live.execute("PRAGMA quick_check").fetchone() == ("ok",)
        assert not live.execute("PRAGMA foreign_key_check").fetchall()
        live.execute("COMMIT")
    return _took(began)


def dbsync(database: str, migrations: str, _: str) -> dict:
    """`dbsync upgrade`, all of it."""
    from dbsync import api

    steps = Steps()
    outcome = api.run_migrations(database=Path(database), folder=Path(migrations), progress=steps)
    assert outcome.name == "MIGRATED", outcome
    return steps.took()


def alembic(database: str, _: str, step: str) -> dict:
    """`alembic upgrade head` with the same step in batch mode."""
    from alembic import command
    from alembic.config import Config

    place = Path(database).parent / "alembic"
    (place / "versions").mkdir(parents=True)
    (place / "env.py").write_text(ENVIRONMENT, encoding="utf-8")
    (place / "versions" / "0001_step.py").write_text(REVISION.format(ALEMBIC[step].format(ITEMS)), encoding="utf-8")
    config = Config()
    config.set_main_option("script_location", str(place))
    config.set_main_option("sqlalchemy.url", f"sqlite:///{database}")
    began = time.perf_counter()
    command.upgrade(config, "head")
    return _took(began)


def sqlite_utils(database: str, _: str, step: str) -> dict:
    """`transform`, as far as it goes: it has no UNIQUE, so an index follows; and a backfill is an UPDATE."""
    import sqlite_utils as library

    began = time.perf_counter()
    shop = library.Database(database)
    table = shop[ITEMS]
    if step == "add a column":
        table.add_column("note", str)
    elif step == "UNIQUE rebuild":
        table.transform(column_order=["id", "transactionId", "productId", "quantity", "lineCents"])
        table.create_index(["transactionId", "id"], unique=True)
    else:
        with shop.conn:
            shop.execute(f"UPDATE {ITEMS} SET lineCents = lineCents + 1")
    shop.close()
    return _took(began)


def lost(before: str, after: str, step: str) -> dict:
    """What a side has lost without a word, by dbsync's comparison of the definitions with the shop of before."""
    from dbsync.schema.declarations import declared
    from dbsync.storage.connections import attach_copy
    from dbsync.verification.conservation import OLD, findings

    with closing(sqlite3.connect(f"{Path(after).as_uri()}?mode=ro", uri=True)) as live:
        attach_copy(live, Path(before), OLD)
        found = findings(live, declared(()), written=frozenset(), limit_seconds=600)
        ours = int("note" in [row[1] for row in live.execute(f"PRAGMA table_info({ITEMS})")])
        done = {"add a column": ours, "UNIQUE rebuild": _unique(live), "backfill": 1}[step]
    return {"found": [one.what for one in found], "done": bool(done)}


def _unique(live: sqlite3.Connection) -> int:
    return sum(row[2] for row in live.execute(f"PRAGMA index_list({ITEMS})"))


# ----------------------------------------------------------------------------------------------- copies and comparisons


def cp(database: str, target: str) -> dict:
    """A copy of the file, durable."""
    began = time.perf_counter()
    shutil.copyfile(database, target)
    with Path(target).open("r+b") as file:
        os.fsync(file.fileno())
    return _took(began)


def backup_alone(database: str, target: str) -> dict:
    """The copy that a migration makes, under its write lock; durable."""
    from dbsync.backups import snapshot
    from dbsync.progress import nobody
    from dbsync.storage import files
    from dbsync.storage.connections import open_writing

    began = time.perf_counter()
    with closing(open_writing(Path(database))) as live:
        live.execute("BEGIN IMMEDIATE")
        snapshot.copy_database(source=Path(database), target=Path(target), told=nobody, writer=live)
        live.execute("ROLLBACK")
    files.sync_file(Path(target))
    return _took(began)


def backup_pages(database: str, target: str) -> dict:
    """The copy of a database that others may write meanwhile; durable."""
    from dbsync.backups import snapshot
    from dbsync.progress import nobody
    from dbsync.storage import files

    began = time.perf_counter()
    snapshot.copy_database(source=Path(database), target=Path(target), told=nobody)
    files.sync_file(Path(target))
    return _took(began)


def backup_of_migration(database: str, target: str) -> dict:
    """A backup as every migration makes it: quick_check, digested, with its facts beside it."""
    from dbsync.database.live import LiveEffects

    began = time.perf_counter()
    effects = LiveEffects(Path(database), backups=Path(target).parent)
    effects.begin()
    effects.keep_backup(effects.check_backup(effects.copy_backup(effects.look().version, None)))
    effects.rollback()
    return _took(began)


def backup(database: str, target: str) -> dict:
    """A backup as a person makes it: integrity_check, digested, with its facts beside it."""
    from dbsync import api

    began = time.perf_counter()
    api.create_backup(database=Path(database), to=Path(target))
    return _took(began)


def compare(database: str, before: str, touched: str) -> dict:
    """Conservation alone, against the shop of before, of which these tables were written (`*`: all)."""
    from dbsync.migrations.write_log import Write, tables_in
    from dbsync.schema.declarations import declared
    from dbsync.storage.connections import attach_copy
    from dbsync.verification.conservation import OLD, findings

    one = Write(1, touched, "", "", "")
    written = {"*": None, "none": frozenset()}.get(touched, frozenset((one,)))
    with closing(sqlite3.connect(f"{Path(database).as_uri()}?mode=ro", uri=True)) as live:
        attach_copy(live, Path(before), OLD)
        began = time.perf_counter()
        found = findings(live, declared(()), written=written, limit_seconds=600)
        result = _took(began)
        compared = ("transactions", ITEMS) if written is None else tables_in(written)
        result["rows"] = sum(live.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in compared)
    assert not found, found
    return result


# ---------------------------------------------------------------------------------------------------------- going back


def trade(database: str) -> dict:
    """Two days: sales with items and stock moves, edits of old sales and prices, voids of old sales."""
    chance = random.Random(2)
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("PRAGMA foreign_keys=ON")
        products = live.execute("SELECT id, priceCents FROM products").fetchall()
        past = live.execute("SELECT max(id) FROM transactions").fetchone()[0]
        for number in range(SALES_COUNT):
            bought = chance.sample(products, ITEMS_PER_SALE)
            sale = live.execute(
                "INSERT INTO transactions (receiptNumber, shiftId, totalCents, paidWith, createdAt)"
                " VALUES (?, 1, ?, 'cash', '2026-11-20T10:00:00Z')",
                (f"NEW-{number:06d}", sum(price for _, price in bought)),
            ).lastrowid
            live.executemany(
                f"INSERT INTO {ITEMS} (transactionId, productId, quantity, lineCents) VALUES (?, ?, 1, ?)",
                [(sale, product, price) for product, price in bought],
            )
        old = chance.sample(range(1, past), VOIDS_COUNT + EDITS_COUNT)
        live.executemany("DELETE FROM transactions WHERE id = ?", [(one,) for one in old[:VOIDS_COUNT]])
        live.executemany(
            "UPDATE transactions SET totalCents = totalCents - 50, paidWith = 'card' WHERE id = ?",
            [(one,) for one in old[VOIDS_COUNT:]],
        )
        live.execute("UPDATE products SET priceCents = priceCents + 10 WHERE sku < 'SKU-00050'")
    return _totals(database)


def downgrade(database: str, migrations: str, _: str) -> dict:
    """`dbsync downgrade`, with the newer database kept beside, everything carried back, and the proof."""
    from dbsync.backups.catalog import list_backups
    from dbsync.commands import downgrade
    from dbsync.database.live import LiveEffects
    from dbsync.migrations import folder as migration_folder
    from dbsync.storage.locks import locked

    live, steps = Path(database), Steps()
    with locked(live):
        (base,) = (
            one for one in list_backups(backups=live.parent / "backups", database=live) if one.kind == "migration"
        )
        effects = LiveEffects(live, backups=live.parent / "backups", progress=steps)
        returned = downgrade.downgrade(effects, base, migration_folder.load(Path(migrations)), accept_loss=False)
    took = steps.took()
    assert (returned.outcome.name, returned.losses) == ("CARRIED_BACK", ()), returned
    return {**took, **_totals(database)}


def _totals(database: str) -> dict:
    with closing(sqlite3.connect(database)) as live:
        sales, cents = live.execute("SELECT count(*), sum(totalCents) FROM transactions").fetchone()
        items = live.execute(f"SELECT count(*) FROM {ITEMS}").fetchone()[0]
        stock = live.execute("SELECT sum(stock) FROM products").fetchone()[0]
    return {"totals": [sales, cents, items, stock]}


class Steps:
    """The steps of a run with their seconds and CPU, by its events: each lasts until the next one begins."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.begun = [("look", self.began, _cpu_seconds())]

    def __call__(self, event: object) -> None:
        """Takes an event; only the next step counts, not how far a step has come."""
        name = f"{event.name}: {event.text}".rstrip(": ") if event.kind == "progress" else ""
        if name and name != self.begun[-1][0]:
            self.begun.append((name, time.perf_counter(), _cpu_seconds()))

    def took(self) -> dict:
        """The seconds of the run and of each step: those of the clock, and those of all threads and ended children."""
        ends = [*self.begun[1:], ("", time.perf_counter(), _cpu_seconds())]
        steps = [
            (name, end - at, end_cpu - cpu) for (name, at, cpu), (_, end, end_cpu) in zip(self.begun, ends, strict=True)
        ]
        return {**_took(self.began), "steps": steps}


def _cpu_seconds() -> float:
    return sum(os.times()[:4])


def _took(began: float) -> dict:
    return {"seconds": time.perf_counter() - began}


SIDES = (plain, dbsync, alembic, sqlite_utils)
COPIES = (cp, backup_alone, backup_pages, backup_of_migration, backup)
WORKS = {work.__name__: work for work in (*SIDES, *COPIES, fill, lost, compare, trade, downgrade)}

if __name__ == "__main__":
    print(json.dumps(WORKS[sys.argv[1]](*sys.argv[2:])))
