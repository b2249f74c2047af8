"""The flows of dbsync alone: one database, one command, judged by content and by repeating the command."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from tests.drills.faults import kept_values
from tests.drills.faults.engine import Engine, Ran
from tests.drills.faults.flow import Command, Course, Flow
from tests.drills.faults.kept_values import Numbers, Values
from tests.drills.faults.pictures import (
    NoPicture,
    Picture,
    databases_beside,
    grow,
    in_words,
    kept_aside,
    missing_rows,
    picture,
    sales_lost,
    unfinished,
    values_aside,
)
from tests.drills.faults.promises import Promise, Violation
from tests.drills.faults.stage import Stage, clear, dbsync
from tests.drills.faults.trace_rules import GENERAL
from tests.drills.faults.truth import Told, false_sentences, kept_files
from tests.sample_till.bundles import copy_migrations

OLD: Final = 2
NEW: Final = 6
SALES_SINCE: Final = 7
PAGE_BYTES: Final = 4096
SECOND: Final = "second"
"""The folder of the second place of backups."""
PRODUCTS_COUNT: Final = 60
ITEMS_COUNT: Final = 400


class Spec(NamedTuple):
    """A flow in one line."""

    name: str
    scene: str
    words: tuple[str, ...]
    goal: int
    """The schema that the database has when the command succeeded."""
    goal_sales: int | None = None
    """How many sales it has then; None for all that were there before."""
    loses: bool = False
    """Whether it takes sales out of the live database, as it is told to; they must be kept beside it."""
    untouched: bool = False
    """Whether the bytes of the database must not change."""
    makes: Path | None = None
    """A new file that the command makes."""
    status: int = 0
    """The exit status of success."""
    source: Numbers | None = None
    """The counters of the backup or file that takes the place of the database as it is; None: of the database."""


class Shop:
    """The scenes of one database."""

    def __init__(self, stage: Stage) -> None:
        self.stage: Final = stage
        self.folder: Final = stage.folder / "shop"
        self.holds_from: int = NEW
        """The schema from which the values of `kept_values` have a place."""
        self.refused: Values = frozenset()
        """Those whose row is not there any more when they come back."""
        self.seen: Final[dict[str, Numbers]] = {}
        """How high the counters of a scene were ever seen, where that is more than they are."""
        self.database: Final = self.folder / "pos_system.db"
        self.scenes: Final = stage.folder / "shops"
        self.migrations: Final = {number: stage.folder / f"migrations-{number}" for number in (OLD, NEW)}
        self.other: Final = stage.folder / "other.db"
        """A database that is imported; it does not lie on the disk that is disturbed."""
        self.pictures: Final[dict[str, Picture | None]] = {"none": None}
        self.objects: Final[dict[int, frozenset[tuple[str, str, str]]]] = {}

    def build(self) -> None:
        """Make the databases with the real commands."""
        import tests.sample_till.fill as shop

        for number, folder in self.migrations.items():
            copy_migrations(folder, schema=number, mended=number == NEW)
        clear(self.folder)
        self.keep("none")
        self.run(*self.upgrade_words(OLD))
        shop.PRODUCTS_COUNT = PRODUCTS_COUNT
        shop.fill(self.database, items_count=ITEMS_COUNT, duplicate_sku=True)
        self.keep("old")
        shutil.copy(self.database, self.other)
        (self.folder / SECOND).mkdir()
        self.keep("old-second")
        (self.folder / SECOND).rmdir()
        self._in_wal_mode("old-wal")
        self.reset("old")
        self.run(*self.upgrade_words(NEW))
        sell(self.database, range(SALES_SINCE))
        self.keep("new")
        self._in_wal_mode("new-wal")
        self.reset("new")
        data = bytearray(self.database.read_bytes())
        data[2 * PAGE_BYTES : 4 * PAGE_BYTES] = os.urandom(2 * PAGE_BYTES)
        self.database.write_bytes(data)
        self.keep("ruined")
        self.pictures["ruined"] = None
        self.look("old", "old-second", "old-wal", "new", "new-wal")

    def look(self, *scenes: str) -> None:
        """Take the pictures of scenes, and learn what each schema looks like."""
        for scene in scenes:
            self.reset(scene)
            found = picture(self.database, self.stage.scratch)
            self.pictures[scene] = found
            self.objects[found.version] = found.objects

    def grow(self, scene: str, size_bytes: int) -> str:
        """Keep a scene with a database of about that size, and return its name."""
        name = f"{scene}-{size_bytes}"
        if name not in self.pictures:
            self.reset(scene)
            grow(self.database, size_bytes)
            self.keep(name)
            self.pictures[name] = picture(self.database, self.stage.scratch)
        return name

    def upgrade_words(self, schema: int) -> tuple[str, ...]:
        """Return the command that brings the database to a schema."""
        return ("upgrade", *self.on_database, "--migrations", str(self.migrations[schema]))

    @property
    def on_database(self) -> tuple[str, ...]:
        """The option that names the database."""
        return ("--database", str(self.database))

    def keep(self, scene: str) -> None:
        """Take a snapshot."""
        shutil.copytree(self.folder, self.scenes / scene)

    def reset(self, scene: str) -> None:
        """Put a snapshot in place."""
        clear(self.folder)
        shutil.copytree(self.scenes / scene, self.folder, dirs_exist_ok=True)

    def backup(self) -> Path:
        """Return the backup that the migration took."""
        return next((self.scenes / "new" / "backups").glob("*-backup-v2-*.db"))

    def run(self, *words: str, status: int = 0) -> None:
        """Run a command that must end with a status."""
        ran = self.stage.engine.run(dbsync(*words), {})
        if ran.exit_code != status:
            raise RuntimeError(f"a scene cannot be built: {words}, exit status {ran.exit_code}\n{ran.output}")

    def _in_wal_mode(self, scene: str) -> None:
        with closing(sqlite3.connect(self.database)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        self.keep(scene)


def sell(database: Path, receipts: Iterable[int]) -> None:
    """Sell one product on each of these receipts."""
    with closing(sqlite3.connect(database)) as connection, connection:
        for number in receipts:
            sale = connection.execute(
                "INSERT INTO transactions (receiptNumber, totalCents, paidWith, createdAt)"
                " VALUES (?, ?, 'cash', '2026-11-28T10:00:00Z')",
                (f"S{number}", 100 + number),
            ).lastrowid
            connection.execute(
                "INSERT INTO transaction_items (transactionId, productId, quantity, lineCents) VALUES (?, 'p1', 1, 1)",
                (sale,),
            )


class DatabaseFlow(Flow):
    """One dbsync command on one database."""

    def __init__(self, shop: Shop, spec: Spec) -> None:
        self._shop: Final = shop
        self._spec: Final = spec
        self.engine: Engine = shop.stage.engine
        self.name = spec.name
        self.folder = shop.folder
        self.rules = GENERAL

    def reset(self) -> None:
        self._shop.reset(self._spec.scene)

    def command(self) -> Command:
        return dbsync(*self._spec.words)

    def environment(self, boot: int) -> Mapping[str, str]:
        return {}

    def recovery(self) -> Command:
        return self.command()

    def grown(self, size_bytes: int) -> tuple[Flow, Path]:
        scene = self._shop.grow(self._spec.scene, size_bytes)
        return DatabaseFlow(self._shop, self._spec._replace(scene=scene)), self._shop.database

    def state(self) -> str:
        return in_words(self._shop.database, self.folder, self._shop.stage.scratch)

    def judge(self, course: Course) -> list[Violation]:
        violations = self.command_violations(course.ran, "the command")
        violations += self._state("after the command")
        violations += self._explained(ended=not course.fault.point)
        violations += self._sentences(course.ran)
        done = course.ran.exit_code == self._spec.status
        if done and not self._at_goal():
            violations.append(Violation(Promise.TRUTH, f"exit status {course.ran.exit_code}, and it is not done"))
        if not done and not self._needs_no_repeat():
            repeated = self.engine.run(self.command(), {})
            violations += self.command_violations(repeated, "the repeated command")
            if repeated.exit_code != self._spec.status and not course.lasting:
                text = f"exit status {repeated.exit_code}, {repeated.output.strip()[-240:]!r}"
                violations.append(Violation(Promise.REPEATABLE, text))
            violations += self._state("after the repeated command")
            violations += self._explained(ended=repeated.exit_code == self._spec.status)
            violations += self._sentences(repeated)
        else:
            # The next run on this database, whatever it is for, clears what the cut one left.
            self.engine.run(dbsync("backup", *self._shop.on_database), {})
        left = unfinished(self.folder)
        if left:
            violations.append(Violation(Promise.NO_LITTER, ", ".join(left[:4])))
        return violations

    def _needs_no_repeat(self) -> bool:
        """Return whether a command that was cut had done its work; a backup is made again all the same."""
        return self._at_goal() and (self._spec.makes is not None or not self._spec.untouched)

    def _at_goal(self) -> bool:
        if self._spec.untouched:
            return self._spec.makes is None or self._spec.makes.exists()
        now, before = self._picture(self._shop.database), self._shop.pictures[self._spec.scene]
        if now is None or now.version != self._spec.goal:
            return False
        wanted = len(before.receipts) if before is not None else 0
        return len(now.receipts) == (wanted if self._spec.goal_sales is None else self._spec.goal_sales)

    def _picture(self, path: Path) -> Picture | None:
        try:
            return picture(path, self._shop.stage.scratch)
        except NoPicture:
            return None

    def _state(self, when: str) -> list[Violation]:
        """Look at the live database and at every finished file beside it."""
        found: list[tuple[Promise, str]] = []
        before = self._shop.pictures[self._spec.scene]
        if self._spec.untouched:
            kept = (self._shop.scenes / self._spec.scene / self._shop.database.name).read_bytes()
            if self._shop.database.read_bytes() != kept:
                found.append((Promise.WHOLE, "the database was written, and must not be"))
        now = self._picture(self._shop.database)
        if before is not None:
            found += self._content(before, now)
        elif self._spec.scene == "none" and now is not None and now.version not in (0, self._spec.goal):
            found.append((Promise.WHOLE, f"the new database has schema {now.version}"))
        found += [(Promise.WHOLE, problem) for problem in self._other_files()]
        return [Violation(promise, f"{when}: {text}") for promise, text in found]

    def _content(self, before: Picture, now: Picture | None) -> list[tuple[Promise, str]]:
        if now is None:
            return [(Promise.WHOLE, "the live database cannot be read")]
        found = [(Promise.WHOLE, problem) for problem in now.problems]
        if now.version not in (before.version, self._spec.goal):
            found.append((Promise.WHOLE, f"it has schema {now.version}"))
        if self._shop.objects.get(now.version, frozenset()) != now.objects:
            found.append((Promise.WHOLE, f"schema {now.version} has other objects than it should"))
        # A database that is not replaced yet is as it was, also where a person has lowered a counter.
        seen = self._seen(before) if now.version == self._spec.goal else before.numbers
        found += [(Promise.NUMBERS, text) for text in kept_values.lower(seen, now.numbers)]
        found += [(Promise.PUT_BACK, text) for text in self._values(before, now)]
        if not self._spec.loses:
            found += [(Promise.NOTHING_LOST, text) for text in missing_rows(before, now)]
        lost = before.receipts - now.receipts
        if lost:
            nowhere = lost - kept_aside(self.folder, self._shop.database, self._shop.stage.scratch)
            if nowhere or not self._spec.loses:
                text = f"{len(lost)} sales are not in the live database, {len(nowhere)} of them nowhere"
                found.append((Promise.NOTHING_LOST, text))
        return found

    def _values(self, before: Picture, now: Picture) -> list[str]:
        """Look for the values that only a newer schema can hold: live, kept, or set aside."""
        have = now.newer | now.kept
        missing = (before.newer | before.kept) - have
        if missing and self._spec.loses:
            missing -= values_aside(self.folder, self._shop.database, self._shop.stage.scratch)
        if missing or self._spec.loses:
            return [f"{len(missing)} values are nowhere, such as {min(missing)}"] if missing else []
        if now.version == before.version:
            same = (now.newer, now.kept) == (before.newer, before.kept)
            return [] if same else ["its schema is as before, and values are at another place"]
        holds = now.version >= self._shop.holds_from
        text = kept_values.misplaced(
            (before.newer, before.kept), (now.newer, now.kept), refused=self._shop.refused, can_hold=holds
        )
        return [text] if text else []

    def _seen(self, before: Picture) -> Numbers:
        return self._shop.seen.get(self._spec.scene, before.numbers)

    def _explained(self, *, ended: bool) -> list[Violation]:
        """Look whether each counter that was raised has its explanation."""
        before = self._shop.pictures[self._spec.scene]
        if self._spec.source is None or before is None or not self._at_goal():
            return []
        seen = self._seen(before)
        told = kept_values.explanations(self.folder)
        found = kept_values.unexplained(self._spec.source, seen, told, ended=ended)
        return [Violation(Promise.EXPLAINED, text) for text in found]

    def _other_files(self) -> Sequence[str]:
        """Return what is wrong with finished database files beside the live one."""
        found = []
        for path in databases_beside(self.folder, self._shop.database):
            seen = self._picture(path)
            if self._spec.scene != "ruined" and (seen is None or seen.problems):
                problem = "cannot be read" if seen is None else seen.problems[0]
                found.append(f"{path.relative_to(self.folder)}: {problem}")
        return found

    def _sentences(self, ran: Ran) -> list[Violation]:
        before = self._shop.pictures[self._spec.scene]
        now = self._picture(self._shop.database)
        told = Told(
            output=ran.output,
            exit_code=ran.exit_code,
            next_opened="",
            sold_since_backup=SALES_SINCE if self._spec.scene.startswith("new") else 0,
            lost_count=0 if self._spec.loses and not self._spec.status else sales_lost(before, now),
            changed=before is not None and now is not None and now.rows != before.rows,
            put_back_count=len(before.kept - now.kept) if before is not None and now is not None else None,
            missing_files=tuple(path for path in kept_files(ran.output) if not Path(path).exists()),
        )
        return [Violation(Promise.TRUTH, text) for text in false_sentences(told)]


def _accepts_loss(command: str) -> tuple[str, ...]:
    """Return the option that agrees to a loss, where a command has one."""
    from dbsync.cli.main import COMMANDS

    assert command in COMMANDS
    import importlib

    found = importlib.import_module(f"dbsync.cli.{command}").command
    return ("--accept-loss",) if any(option.name == "accept_loss" for option in found.params) else ()


LOSS_IS_NO_STATUS: Final = not _accepts_loss("restore")
"""Whether a restore that loses sales still ends with 0, because a person chose it."""


def specs(shop: Shop) -> list[Spec]:
    """Return the flows."""
    on, new = shop.on_database, ("--migrations", str(shop.migrations[NEW]))
    backup = str(shop.folder / "backups" / shop.backup().name)
    restore = ("restore", *on, "--yes", *_accepts_loss("restore"), backup)
    repaired = shop.folder / "repaired.db"
    second = ("--second", str(shop.folder / SECOND))
    lost = 0 if LOSS_IS_NO_STATUS else 6
    old = shop.pictures["old"]
    assert old is not None
    sales, numbers = len(old.receipts), old.numbers
    return [
        Spec("db-create", "none", shop.upgrade_words(NEW), NEW),
        Spec("db-upgrade", "old", shop.upgrade_words(NEW), NEW),
        Spec("db-upgrade-wal", "old-wal", shop.upgrade_words(NEW), NEW),
        Spec("db-downgrade", "new", ("downgrade", *on, "--yes"), OLD),
        Spec("db-downgrade-wal", "new-wal", ("downgrade", *on, "--yes"), OLD),
        Spec("db-restore", "new", restore, OLD, sales, loses=True, status=lost, source=numbers),
        Spec("db-restore-wal", "new-wal", restore, OLD, sales, loses=True, status=lost, source=numbers),
        Spec("db-backup", "old", ("backup", *on), OLD, untouched=True),
        Spec("db-backup-keep", "old-second", ("backup", *on, "--keep", "hourly=1", *second), OLD, untouched=True),
        Spec(
            "db-repair", "ruined", ("repair", *on, *new, "--into", str(repaired)), NEW,
            untouched=True, makes=repaired, status=1,
        ),
        Spec("db-empty", "old", ("empty", *on, *new, "--yes"), NEW, 0, loses=True, source={}),
        Spec(
            "db-import", "new", ("import", *on, *new, "--yes", str(shop.other)), NEW, sales, loses=True, source=numbers
        ),
    ]  # fmt: skip


def flows(stage: Stage) -> list[Flow]:
    """Build the databases and return the flows."""
    shop = Shop(stage)
    shop.build()
    return [DatabaseFlow(shop, spec) for spec in specs(shop)]
