"""Real databases of the sample till, and what is in them."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from dbsync.database.live import LiveEffects
from dbsync.migrations import folder as migration_folder
from dbsync.model import Migration, Outcome, ReleaseId, TrialId
from dbsync.progress import Progress, quiet
from dbsync.storage.connections import Thoroughness
from dbsync.upgrade import coordinator
from tests.sample_till.bundles import copy_migrations
from tests.sample_till.fill import fill

DATABASE = "pos_system.db"


def released(folder: Path, schema: int, *, mended: bool = False) -> tuple[Migration, ...]:
    """The migrations that a release of that schema ships, as files in a folder."""
    place = folder / f"migrations-{schema}{'-mended' if mended else ''}"
    if not place.exists():
        copy_migrations(place, schema=schema, mended=mended)
    return migration_folder.load(place)


def written(folder: Path, *texts: str, after: int = 0) -> tuple[Migration, ...]:
    """Migrations of SQL texts (or Python, where a text starts with a docstring), after the sample till's first ones."""
    folder.mkdir(parents=True)
    if after:
        folder.rmdir()
        copy_migrations(folder, schema=after)
    for number, text in enumerate(texts, after + 1):
        ending = "py" if text.startswith('"""') else "sql"
        (folder / f"{number:04d}_step.{ending}").write_text(text)
    return migration_folder.load(folder)


def effects(
    database: Path,
    progress: Progress = quiet,
    *,
    least_free_bytes: int = 0,
    thoroughness: Thoroughness = Thoroughness.QUICK,
) -> LiveEffects:
    """Real effects on a database, as a launcher has them."""
    return LiveEffects(
        database,
        backups=database.parent / "backups",
        prefix="auraswift",
        progress=progress,
        least_free_bytes=least_free_bytes,
        thoroughness=thoroughness,
    )


def upgrade(
    database: Path, found: tuple[Migration, ...], *, trial_id: str | None = None, again: bool = False
) -> Outcome:
    """Runs the coordinator."""
    trial = TrialId(trial_id) if trial_id is not None else None
    return coordinator.upgrade(
        effects(database), migrations=found, trial_id=trial, release_id=ReleaseId("r1"), again=again
    )


def make_shop(
    folder: Path, *, schema: int = 2, items_count: int = 400, wal: bool = False, duplicate_sku: bool = False
) -> Path:
    """A shop with a past: the database's path. The first of its kind is made, the others are copies of it."""
    database = folder / "data" / DATABASE
    database.parent.mkdir(parents=True)
    made = _made(schema, items_count, wal, duplicate_sku)
    for found in made.iterdir():
        shutil.copytree(found, folder / found.name, dirs_exist_ok=True)
    return database


@cache
def _made(schema: int, items_count: int, wal: bool, duplicate_sku: bool) -> Path:
    """A folder with a shop, for copying only."""
    folder = Path(_shops().name) / f"{schema}-{items_count}-{wal}-{duplicate_sku}"
    database = folder / "data" / DATABASE
    database.parent.mkdir(parents=True)
    assert upgrade(database, released(folder, schema)).ready
    fill(database, items_count=items_count, duplicate_sku=duplicate_sku)
    if wal:
        with closing(sqlite3.connect(database)) as live:
            live.execute("PRAGMA journal_mode=WAL")
    return folder


@cache
def _shops() -> TemporaryDirectory[str]:
    """The folder of the shops that are copied; it goes with the process."""
    return TemporaryDirectory(prefix="shops-")


def sell(database: Path, count: int = 1) -> None:
    """Somebody sells."""
    with closing(sqlite3.connect(database)) as live, live:
        for number in range(count):
            taken = live.execute("SELECT count(*) FROM transactions").fetchone()[0]
            live.execute(
                "INSERT INTO transactions (receiptNumber, totalCents, paidWith, createdAt) VALUES (?, 1, 'cash', '')",
                (f"N{taken + number}",),
            )


def dump(database: Path) -> list[str]:
    """Everything in it, as SQL; and its version."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as connection:
        return [f"version {connection.execute('PRAGMA user_version').fetchone()[0]}", *connection.iterdump()]


def dump_but_marks(database: Path) -> list[str]:
    """As `dump`, without the counters of AUTOINCREMENT, which a restore raises."""
    return [line for line in dump(database) if not line.startswith('INSERT INTO "sqlite_sequence"')]


def ask(database: Path, sql: str) -> object:
    """One value."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as connection:
        return connection.execute(sql).fetchone()[0]


def version(database: Path) -> int:
    """Its schema number."""
    found = ask(database, "PRAGMA user_version")
    assert isinstance(found, int)
    return found


def sales(database: Path) -> int:
    """How many sales it holds."""
    found = ask(database, "SELECT count(*) FROM transactions")
    assert isinstance(found, int)
    return found


def contents(folder: Path) -> dict[str, str]:
    """The files in a folder and below with their hashes, but for locks."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files(folder)}


def files(folder: Path) -> set[str]:
    """The names in a folder and below, but for locks."""
    return {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"
    }
