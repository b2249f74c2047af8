"""Thousands of damaged databases: SQLite's own, which its fuzzers found, each put where an app's database should be.

They are in SQLite's source (test/fuzzdata3.db and fuzzdata7.db, public domain), which Debian's package has. Whatever is
there, dbsync ends with an outcome; and the file is as it was, unless the database was sound.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import shutil
import sqlite3
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from dbsync.commands import adopt
from dbsync.database.live import LiveEffects
from dbsync.errors import TillkeeperError
from dbsync.migrations import folder as migration_folder
from dbsync.model import Migration, Outcome, SchemaNumber
from dbsync.upgrade import coordinator, restore_decision
from tests.drills.real_sources import NotThere, run

FILES = ("fuzzdata3.db", "fuzzdata7.db")
LIMIT_SECONDS = 60.0
"""For one image; the slowest that was seen took a fraction of it."""
STEPS = {
    "0001_initial_schema.sql": "CREATE TABLE shop (id INTEGER PRIMARY KEY, name TEXT);\n",
    "0002_barcode.sql": "ALTER TABLE shop ADD COLUMN barcode TEXT;\nCREATE TABLE shelf (id INTEGER PRIMARY KEY);\n",
}


class Seen(NamedTuple):
    """What became of one image."""

    number: int
    outcome: str
    """Of an upgrade as it is; of one after a person's stamp; of a restore over it."""
    wrong: str
    """What is not as it should be; empty: nothing."""
    seconds: float


def drill(folder: Path, *, every: int) -> str:
    """Every Nth image of both files; what was seen, counted by outcome."""
    place = folder / "migrations"
    place.mkdir(parents=True)
    for file, text in STEPS.items():
        (place / file).write_text(text)
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    slowest = 0.0
    count = 0
    tasks = ((folder, number, image) for number, image in _images(folder, every))
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=500) as workers:
        results = workers.imap_unordered(_tried, tasks, chunksize=1)
        while True:
            try:
                seen = results.next(timeout=LIMIT_SECONDS)
            except StopIteration:
                break
            except multiprocessing.TimeoutError:
                # A worker that crashed is replaced, and what it had in hand never comes back.
                raise AssertionError(f"an image crashed or did not end within {LIMIT_SECONDS:.0f} seconds") from None
            count += 1
            outcomes[seen.outcome] += 1
            slowest = max(slowest, seen.seconds)
            if seen.wrong:
                wrong.append(f"image {seen.number}: {seen.wrong}")
    assert not wrong, "\n".join([f"{len(wrong)} of {count}", *wrong[:20]])
    counted = "; ".join(f"{many} {outcome}" for outcome, many in outcomes.most_common())
    return (
        f"{count} images, the slowest {slowest:.2f} s, no file touched that was not sound, no foreign error: {counted}"
    )


def _tried(task: tuple[Path, int, bytes]) -> Seen:
    """An upgrade, one after a person's word for its schema, and a restore of a good database over it."""
    folder, number, image = task
    began = time.monotonic()
    place = folder / f"image-{number}"
    database = place / "shop.db"
    place.mkdir()
    try:
        database.write_bytes(image)
        found = migration_folder.load(folder / "migrations")
        outcomes = []
        try:
            outcomes.append(_upgrade(database, found, image))
            outcomes.append(_stamped(database, found, image))
            outcomes.append(_restored(database, found, image))
        except TillkeeperError as error:
            return Seen(number, "", f"{type(error).__name__} got out: {error}", 0.0)
        except AssertionError as error:
            return Seen(number, "", str(error) or "not as it should be", 0.0)
        except Exception as error:
            return Seen(number, "", f"foreign: {type(error).__name__}: {error}", 0.0)
        return Seen(number, ", ".join(outcomes), "", time.monotonic() - began)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _upgrade(database: Path, found: tuple[Migration, ...], image: bytes) -> str:
    outcome = _outcome(database, found)
    if not outcome.ready and database.read_bytes() != image:
        raise AssertionError(f"changed by {outcome.name}: {outcome.cause}")
    return f"upgrade {outcome.name}"


def _stamped(database: Path, found: tuple[Migration, ...], image: bytes) -> str:
    """A person says that it has schema 1: then its insides count."""
    database.write_bytes(image)
    try:
        adopt.stamp(_effects(database), found, at=SchemaNumber(1))
    except TillkeeperError as error:
        # Undoing a write, SQLite makes a file that was cut in the middle of a page whole, with zeros.
        if database.read_bytes().rstrip(b"\0") != image.rstrip(b"\0"):
            raise AssertionError(f"changed by a stamp that was refused: {error}") from None
        return f"stamp {type(error).__name__}"
    before = hashlib.sha256(database.read_bytes()).digest()
    outcome = _outcome(database, found)
    if not outcome.ready and hashlib.sha256(database.read_bytes()).digest() != before:
        raise AssertionError(f"stamped, then changed by {outcome.name}: {outcome.cause}")
    return f"stamped {outcome.name}"


def _restored(database: Path, found: tuple[Migration, ...], image: bytes) -> str:
    """A person restores a good backup over it: that works, and the ruin is kept."""
    for path in (database, *(database.with_name(database.name + ending) for ending in ("-wal", "-journal", "-shm"))):
        path.unlink(missing_ok=True)
    shutil.rmtree(database.parent / "backups", ignore_errors=True)
    fresh = _outcome(database, found)
    if not fresh.ready:
        raise AssertionError(f"no fresh database: {fresh.name} {fresh.cause}")
    kept = _effects(database).make_backup()
    database.write_bytes(image)
    returned = restore_decision.restore(_effects(database), backup=kept.path, intent_id="drill", accept_loss=True)
    if returned.back is None:
        raise AssertionError(f"not restored: {returned.outcome.name} {returned.outcome.cause}")
    with closing(sqlite3.connect(database)) as live:
        if live.execute("SELECT count(*) FROM shelf").fetchone() != (0,):
            raise AssertionError("what was restored is not the backup")
    aside = returned.set_aside
    if aside is None or (not aside.verified and aside.sha256 == "" and aside.path.read_bytes() != image):
        raise AssertionError("what was there is not kept")
    return f"restored over, kept {'verified' if aside.verified else 'as it is'}"


def _outcome(database: Path, found: tuple[Migration, ...]) -> Outcome:
    return coordinator.upgrade(_effects(database), migrations=found)


def _effects(database: Path) -> LiveEffects:
    return LiveEffects(database, backups=database.parent / "backups", least_free_bytes=0)


# ------------------------------------------------------------------------------------------------------------ fetching


def _images(folder: Path, every: int) -> Iterator[tuple[int, bytes]]:
    """Every Nth image, with its number over both files."""
    number = 0
    for path in _fetched(folder):
        with closing(sqlite3.connect(path)) as corpus:
            for (image,) in corpus.execute("SELECT dbcontent FROM db ORDER BY dbid"):
                if number % every == 0:
                    yield number, bytes(image)
                number += 1


def _fetched(folder: Path) -> list[Path]:
    """The files from SQLite's source, as apt fetches it; with lists of its own, so that the machine's stay as they are.

    Raises:
        NotThere: no apt, or it cannot fetch sources.
    """
    own = folder / "apt"
    (own / "lists" / "partial").mkdir(parents=True)
    (own / "parts").mkdir()
    for source in [*Path("/etc/apt").glob("sources.list"), *Path("/etc/apt/sources.list.d").glob("debian.sources")]:
        text = source.read_text().replace("Types: deb\n", "Types: deb-src\n")
        lines = [f"deb-src {line[4:]}" if line.startswith("deb ") else line for line in text.splitlines()]
        (own / "parts" / source.name).write_text("\n".join(lines) + "\n")
    options = ["-o", f"Dir::Etc::SourceList={own / 'none'}", "-o", f"Dir::Etc::SourceParts={own / 'parts'}"]
    options += ["-o", f"Dir::State::Lists={own / 'lists'}", "-o", f"Dir::Cache={own}"]
    run(["apt-get", *options, "update", "--quiet"], folder=own)
    run(["apt-get", *options, "source", "--download-only", "--quiet", "sqlite3"], folder=own)
    archives = sorted(own.glob("sqlite3_*.orig.tar.*"))
    if not archives:
        raise NotThere("apt fetched no source of SQLite")
    found = []
    with tarfile.open(archives[0]) as archive:
        for member in archive.getmembers():
            if Path(member.name).name in FILES:
                member.name = Path(member.name).name
                archive.extract(member, own, filter="data")
                found.append(own / member.name)
    return sorted(found)
