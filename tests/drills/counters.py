"""Many restores, carries, downgrades, imports and repairs over one till with declared counters: none is ever lower.

`python -m tests.drills.counters [--count 1000] [--seed N]` prints the figures; `test_counters` runs a sample. The
oracle reads the numbers with SQL of its own, and knows nothing of marks.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from dbsync.backups import catalog
from dbsync.commands import downgrade, empty_and_import
from dbsync.database.live import LiveEffects
from dbsync.errors import TillkeeperError
from dbsync.migrations import folder as migration_folder
from dbsync.model import Backup, BackupKind, Migration, ReleaseId, Returned, TrialId
from dbsync.recovery.repair import repair
from dbsync.upgrade import coordinator, restore_decision

STEPS: Final = (
    """CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT);
INSERT INTO settings VALUES ('next_receipt', '1'), ('shop', 'Corner');
CREATE TABLE sale (id INTEGER PRIMARY KEY AUTOINCREMENT, receipt INTEGER UNIQUE, total INTEGER CHECK (total > 0));
CREATE TABLE fiscal (number INTEGER PRIMARY KEY, signed TEXT NOT NULL);
CREATE TABLE sync (cursor INTEGER NOT NULL);
INSERT INTO sync VALUES (0);
""",
    """-- changes: rename sale -> ticket
-- changes: rename settings.value -> settings.text
ALTER TABLE sale RENAME TO ticket;
ALTER TABLE settings RENAME COLUMN value TO text;
""",
    """ALTER TABLE ticket ADD COLUMN note TEXT;
""",
)
DECLARED: Final = """[[counter]]
name = "receipt"
description = "Receipt numbers, printed on paper"
table = "settings"
column = "{column}"
where = "key = 'next_receipt'"
holds = "next"

[[counter]]
name = "fiscal"
description = "Signatures of the fiscal printer"
query = "SELECT max(number) FROM fiscal"
update = "INSERT INTO fiscal (number, signed) VALUES (?, 'not used')"

[[counter]]
name = "sync"
description = "Cursor of the head office"
table = "sync"
column = "cursor"
where = "1"
gaps = "free"
"""
LATEST: Final = len(STEPS)
KEPT_COPIES: Final = 25
TOLD_EVERY: Final = 100
"""After how many operations a long drill shows how far it is."""
NEXT: Final = "receipt"
FREE: Final = "sync"
Numbers = dict[str, int]


class Broken(AssertionError):
    """A counter that is lower than it was seen, or a gap that is not explained."""


class Figures(NamedTuple):
    """The work of a drill."""

    operations: dict[str, int]
    raised: dict[str, int]
    """How often each counter was raised."""
    explanations: int
    highest: Numbers
    seconds: float


def release(folder: Path, schema: int) -> tuple[Migration, ...]:
    """Return the migrations of a release; the first one declares no counters."""
    place = folder / f"release-{schema}"
    if not place.exists():
        place.mkdir()
        for number, text in enumerate(STEPS[:schema], 1):
            (place / f"{number:04d}_step.sql").write_text(text)
        if schema > 1:
            (place / "counters.toml").write_text(DECLARED.format(column="text"))
    return migration_folder.load(place)


def numbers(database: Path) -> Numbers:
    """Return the numbers of a database, by the oracle's own SQL."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as live:
        version = live.execute("PRAGMA user_version").fetchone()[0]
        table, column = ("sale", "value") if version < 2 else ("ticket", "text")
        one: Callable[[str], Any] = lambda sql: (live.execute(sql).fetchone() or (0,))[0] or 0  # noqa: E731
        return {
            NEXT: int(one(f"SELECT {column} FROM settings WHERE key = 'next_receipt'")),
            "fiscal": one("SELECT max(number) FROM fiscal"),
            FREE: one("SELECT cursor FROM sync"),
            "ids": one(f"SELECT seq FROM sqlite_sequence WHERE name = '{table}'"),
        }


def sell(database: Path, count: int) -> None:
    """Sell, as the app does: each sale takes a number of every counter."""
    with closing(sqlite3.connect(database)) as live, live:
        version = live.execute("PRAGMA user_version").fetchone()[0]
        table, column = ("sale", "value") if version < 2 else ("ticket", "text")
        for _ in range(count):
            receipt = int(live.execute(f"SELECT {column} FROM settings WHERE key = 'next_receipt'").fetchone()[0])
            live.execute(f"UPDATE settings SET {column} = ? WHERE key = 'next_receipt'", (str(receipt + 1),))
            live.execute(f"INSERT INTO {table} (receipt, total) VALUES (?, 100)", (receipt,))
            live.execute("INSERT INTO fiscal SELECT coalesce(max(number), 0) + 1, 'signed' FROM fiscal")
            live.execute("UPDATE sync SET cursor = cursor + 3")


class Drill:
    """One till on which anything may be put in the place of its database."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder: Final = folder
        self.chance: Final = random.Random(seed)
        self.database: Final = folder / "data" / "till.db"
        self.database.parent.mkdir()
        self.backups: Final = self.database.parent / "backups"
        self.reports: Final = self.backups / "reports"
        self.highest: Numbers = {}
        self.operations: Final = Counter[str]()
        self.raised: Final = Counter[str]()
        self.explained: set[str] = set()
        self.trials = 0
        self._upgrade(1)

    def run(self, count: int) -> Figures:
        """Do so many operations that replace the database, with trade in between."""
        began = time.monotonic()
        kinds = (
            self.restore, self.restore, self.restore, self.carry, self.carry, self.roll_back, self.import_,
            self.import_, self.empty, self.ruin, self.repair,
        )  # fmt: skip
        while sum(self.operations.values()) < count:
            self._trade()
            kind = self.chance.choice(kinds)
            source = kind()
            if source is not None:
                self.operations[kind.__name__.strip("_")] += 1
                self._judge(kind.__name__, source)
            self._forget_copies()
            done = sum(self.operations.values())
            if source is not None and done % TOLD_EVERY == 0:
                print(f"{done} operations, {time.monotonic() - began:.0f} s, raised: {dict(self.raised)}", flush=True)
        seconds = time.monotonic() - began
        return Figures(dict(self.operations), dict(self.raised), len(self.explained), self.highest, seconds)

    # what people and the app do -----------------------------------------------------------------------------------

    def _trade(self) -> None:
        sell(self.database, self.chance.randint(0, 4))
        if self.chance.random() < 0.5:
            self._upgrade(self.chance.randint(1, LATEST))
            sell(self.database, self.chance.randint(0, 3))
        if self.chance.random() < 0.3:
            self.effects().make_backup()
        self._see()

    def _see(self) -> None:
        for name, number in numbers(self.database).items():
            self.highest[name] = max(number, self.highest.get(name, 0))

    def _upgrade(self, schema: int, trial_id: TrialId | None = None) -> None:
        found = release(self.folder, schema)
        outcome = coordinator.upgrade(
            self.effects(), migrations=found, trial_id=trial_id, release_id=ReleaseId(f"r{schema}")
        )
        if not outcome.ready and outcome.name != "TOO_NEW":
            raise Broken(f"upgrade: {outcome}")

    def effects(self) -> LiveEffects:
        """Return new effects, as each command has."""
        return LiveEffects(self.database, backups=self.backups, least_free_bytes=0)

    # operations: each returns the numbers that the database would have without dbsync's care -----------------------

    def restore(self) -> Numbers | None:
        """Restore any backup as it is."""
        backup = self._any_backup()
        if backup is None:
            return None
        source = numbers(backup.path)
        self._done(
            restore_decision.restore(self.effects(), backup=backup.path, intent_id=self._name(), accept_loss=True)
        )
        return source

    def carry(self) -> Numbers | None:
        """Go back to an older schema with what was sold since; nothing of it may have to be raised."""
        version = self.effects().look().version
        bases = [found for found in self._listed() if found.kind == BackupKind.MIGRATION and found.version < version]
        # Only the newest one is the state before the migrations that this database has had.
        if not bases:
            return None
        source = numbers(self.database)
        returned = downgrade.downgrade(
            self.effects(), bases[0], release(self.folder, LATEST), accept_loss=self.chance.random() < 0.9
        )
        if returned.back is None:
            return None
        return source

    def roll_back(self) -> Numbers | None:
        """Give a trial up, with sales or without."""
        version = self.effects().look().version
        if version == LATEST:
            return None
        self.trials += 1
        trial_id = TrialId(f"trial-{self.trials}")
        self._upgrade(LATEST, trial_id)
        sold = self.chance.choice((0, 2))
        sell(self.database, sold)
        self._see()
        (backup,) = [found for found in self._listed() if found.trial_id == trial_id]
        # What was sold on trial is carried back, with its numbers.
        source = numbers(self.database if sold else backup.path)
        self._done(
            restore_decision.go_back(
                self.effects(), trial_id=trial_id, backup=backup, content_sha256=None, older_schema=version,
                ever_confirmed=False, migrations=release(self.folder, LATEST),
            )
        )  # fmt: skip
        return source

    def import_(self) -> Numbers | None:
        """Import a copy from elsewhere: an old backup, or a database of another till."""
        backup = self._any_backup()
        if backup is None:
            return None
        file = self.folder / "import.db"
        shutil.copy(backup.path, file)
        source = numbers(file)
        empty_and_import.import_file(self.effects(), file, release(self.folder, LATEST))
        return source

    def empty(self) -> Numbers | None:
        """Start with an empty database."""
        empty_and_import.empty(self.effects(), release(self.folder, LATEST))
        return {NEXT: 1, "fiscal": 0, FREE: 0, "ids": 0}

    def ruin(self) -> Numbers | None:
        """Ruin or lose the file, and restore a backup."""
        backup = self._any_backup()
        if backup is None:
            return None
        self.effects().note_counters(())
        if self.chance.random() < 0.5:
            self.database.unlink()
        else:
            self.database.write_bytes(self.chance.randbytes(5000))
        return self.restore()

    def repair(self) -> Numbers | None:
        """Recover the file into a new one, and import that."""
        effects, into = self.effects(), self.folder / "repaired.db"
        into.unlink(missing_ok=True)
        effects.note_counters(())
        repair(
            database=self.database, into=into, backups=self._listed(),
            raise_counters=partial(effects.raise_in_new, into=into),
        )  # fmt: skip
        self._compare("the repaired file", numbers(into))
        source = numbers(into)
        empty_and_import.import_file(self.effects(), into, release(self.folder, LATEST))
        return source

    def _any_backup(self) -> Backup | None:
        good = [found for found in self._listed() if found.verified and found.kind != BackupKind.DAMAGED]
        return self.chance.choice(good) if good else None

    def _listed(self) -> list[Backup]:
        return catalog.list_backups(backups=self.backups, database=self.database)

    def _name(self) -> str:
        return f"drill-{sum(self.operations.values())}-{self.chance.random()}"

    def _done(self, returned: Returned) -> None:
        if returned.back is None and returned.outcome.name != "NOTHING_TO_RESTORE":
            raise Broken(f"{returned.outcome}")

    # the judge ----------------------------------------------------------------------------------------------------

    def _judge(self, what: str, source: Numbers) -> None:
        """Every counter is as high as it ever was, and each that had to be raised is explained with its numbers."""
        now = numbers(self.database)
        self._compare(what, now)
        told = self._new_explanations()
        for name, number in source.items():
            if now[name] > number:
                self.raised[name] += 1
                self._explained(what, name, number, now[name], told)
        self._see()

    def _compare(self, what: str, now: Numbers) -> None:
        lower = {name: (now[name], number) for name, number in self.highest.items() if now[name] < number}
        if lower:
            raise Broken(f"after {what}: now and highest ever of {lower}")

    def _new_explanations(self) -> list[dict[str, Any]]:
        new = {path.name for path in self.reports.glob("counters-*")} - self.explained
        self.explained |= new
        for name in new:
            if not (self.reports / name / "done.txt").exists():
                # Of a repair whose file was published, or of an attempt that ended: neither is here.
                raise Broken(f"{name} has no end")
        return [
            gap for name in sorted(new) for gap in json.loads((self.reports / name / "gaps.json").read_text())["gaps"]
        ]

    def _explained(self, what: str, name: str, number: int, now: int, told: list[dict[str, Any]]) -> None:
        if name == FREE:
            if any(gap["counter"] == FREE for gap in told):
                raise Broken(f"{what}: a gap that needs no record is explained")
            return
        kind = "sqlite_sequence:" if name == "ids" else name
        for gap in told:
            first, last = (gap["number"] or 0) + 1, gap["raised_to"]
            if name == NEXT:
                first, last = gap["number"], gap["raised_to"] - 1
            same = gap["counter"].startswith(kind) and (gap["number"] or 0) == number and gap["raised_to"] == now
            if same and (gap["first"], gap["last"]) == (first, last):
                return
        raise Broken(f"{what}: {name} went from {number} to {now}, and that is not explained: {told}")

    def _forget_copies(self) -> None:
        """Keep the folder small: copies that nobody needs any more are removed, as a person would."""
        copies = [found for found in self._listed() if found.kind != BackupKind.MIGRATION]
        for found in copies[KEPT_COPIES:]:
            catalog.remove(found.path)


def drill(count: int, seed: int) -> Figures:
    """Run a drill in a folder that is removed."""
    with tempfile.TemporaryDirectory() as folder:
        return Drill(Path(folder), seed).run(count)


def main() -> int:
    """Print the figures of a drill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    try:
        figures = drill(arguments.count, arguments.seed)
    except (Broken, TillkeeperError) as error:
        print(f"BROKEN (seed {arguments.seed}): {error}")
        return 1
    print(f"{sum(figures.operations.values())} operations in {figures.seconds:.0f} s: {figures.operations}")
    print(f"raised: {figures.raised}; none ever lower; highest: {figures.highest}")
    print(f"explanations: {figures.explanations}, every gap that needs one is in them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
