"""The states of a terminal before each flow, made once with the real commands and kept as snapshots."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from tests.drills.faults import native_code
from tests.drills.faults.engine import Ran
from tests.drills.faults.kept_values import Numbers
from tests.drills.faults.pictures import Picture, grow, picture, receipts_in
from tests.drills.faults.stage import LAUNCH, Stage, dbsync, updater
from tests.helpers.vendor import ARCHIVE_ALONE, Vendor
from tests.sample_till.bundles import APP, copy_migrations
from updater.publish.forms import Forms

PAGE_BYTES: Final = 4096
PRODUCTS_COUNT: Final = 60
ITEMS_COUNT: Final = 400
CONFIG: Final = f"""\
app = "{APP}"
entry = "till"
self_test = ["--self-test"]
migrations = "migrations"
"""
COUNTER: Final = "sale"
DECLARED: Final = f"""\
[[counter]]
name = "{COUNTER}"
description = "Numbers of sales, printed on receipts"
table = "transactions"
column = "id"
"""
"""The declaration of every release but the first."""


SINCE: Final = ("last", "last_choice", "permitted_choice")
"""Fields that the journal of an earlier version did not have."""


class Built(NamedTuple):
    """A release of the drill's till."""

    version: str
    schema: int
    behaviour: str = "good"
    mended: bool = False


GOOD: Final = Built("1.0", 2)
UPDATE: Final = Built("1.1", 4)
BAD_MIGRATION: Final = Built("1.2", 6)
"""Its migration 6 fails on this shop, which has two products with one SKU."""
CRASHING: Final = Built("1.3", 6, "crash", mended=True)
MACHINE_DOWN: Final = Built("1.4", 6, "machine_down", mended=True)
EXITING: Final = Built("1.5", 6, "exit3", mended=True)
RELEASES: Final = (GOOD, UPDATE, BAD_MIGRATION, CRASHING, MACHINE_DOWN, EXITING)
SCHEMAS: Final = {release.version: release.schema for release in RELEASES}


def bundle(folder: Path, release: Built) -> Path:
    """Make the bundle of a release: the native till and its migrations."""
    folder.mkdir(parents=True)
    shutil.copy(native_code.till(), folder / "till")
    (folder / "till").chmod(0o755)
    (folder / "release.txt").write_text(f"{release.version} {release.schema} {release.behaviour}\n")
    (folder / "tillkeeper.toml").write_text(CONFIG)
    copy_migrations(folder / "migrations", schema=release.schema, mended=release.mended)
    if release.schema > GOOD.schema:
        (folder / "migrations" / "counters.toml").write_text(DECLARED)
    return folder


class Before(NamedTuple):
    """A scene as it was kept."""

    picture: Picture | None
    """None where the database is ruined."""
    ruin: bytes
    """The bytes of a ruined database; empty otherwise."""
    sold_since_backup: int
    """How many sales no backup has."""
    seen: Numbers
    """How high each counter was ever seen."""


class Scenes:
    """Builder of the scenes, and what was in them."""

    def __init__(self, stage: Stage) -> None:
        self.stage: Final = stage
        self.before: Final[dict[str, Before]] = {}
        self.objects: Final[dict[int, frozenset[tuple[str, str, str]]]] = {}
        """The database objects of each schema."""

    def build(self) -> None:
        """Make vendor, terminal and snapshots."""
        native_code.till()
        stage = self.stage
        stage.till.mkdir()
        stage.receipts.write_text("")
        _succeed(stage.engine.run(self._publish, {}))
        self._install()
        self._show(UPDATE)
        stage.keep("check")
        _succeed(stage.run(updater("check")))
        stage.keep("launch")
        self._keep_as_before("move-begin", of="launch")
        self._keep_in_wal_mode("launch-wal", of="launch")
        _succeed(stage.run(updater(*LAUNCH)))
        stage.keep("fold")
        self._keep_as_before("move", of="fold")
        _succeed(stage.run(updater("check")))
        _succeed(stage.run(updater(*LAUNCH)))
        stage.keep("rollback")
        self._keep_in_wal_mode("rollback-wal", of="rollback")
        self._ruin("rollback-header", first=0, count=1)
        self._ruin("rollback-pages", first=2, count=4)
        # Its counters were seen after the last sale, and the file is ruined since.
        stage.reset("rollback")
        _succeed(stage.run(dbsync("backup", "--database", str(stage.database))))
        seen = picture(stage.database, stage.scratch).numbers
        self._ruin("rollback-counter", first=2, count=4, seen=seen)
        for name, release in (
            ("launch-fail", BAD_MIGRATION),
            ("launch-crash", CRASHING),
            ("launch-exit", EXITING),
            ("launch-down", MACHINE_DOWN),
        ):
            stage.reset("rollback")
            self._show(release)
            _succeed(stage.run(updater("check")))
            stage.keep(name)
        self._keep_in_wal_mode("launch-crash-wal", of="launch-crash")
        stage.reset("launch-fail")
        _succeed(stage.run(updater(*LAUNCH)))
        stage.keep("fold-back")
        self._look()

    def _publish(self) -> None:
        """Publish all releases; `vendor/public-1.1` is what was public when 1.1 was the newest."""
        vendor = Vendor(self.stage.vendor)
        vendor.init()
        for release in RELEASES:
            # The first update comes as a delta: what is disturbed then is its way into a version folder.
            forms = Forms(deltas_count=1) if release is UPDATE else ARCHIVE_ALONE
            vendor.publish(bundle(vendor.bundles / release.version, release), release.version, forms=forms)
            shutil.copytree(vendor.public, self._public(release))

    def _public(self, release: Built) -> Path:
        return self.stage.vendor / f"public-{release.version}"

    def _show(self, release: Built) -> None:
        self.stage.show(self._public(release))

    def install_words(self) -> tuple[str, ...]:
        """Return the command that makes the folder a terminal."""
        till = self.stage.till
        return (
            "install", "--root", str(self._public(GOOD) / "metadata" / "1.root.json"), "--url", self.stage.url,
            "--settings", str(self.stage.settings), "--program", str(till / "program"), "--state", str(till / "state"),
            "--data", str(till / "data"), "--backup-prefix", "auraswift", "--accept-disk", "forgets",
        )  # fmt: skip

    def _install(self) -> None:
        """A shop with a past moves in, then becomes a terminal and sells."""
        import tests.sample_till.fill as shop

        stage = self.stage
        self._show(GOOD)
        stage.database.parent.mkdir()
        migrations = stage.vendor / "bundles" / GOOD.version / "migrations"
        words = ("--database", str(stage.database), "--migrations", str(migrations))
        _succeed(stage.run(dbsync("upgrade", *words)))
        shop.PRODUCTS_COUNT = PRODUCTS_COUNT
        shop.fill(stage.database, items_count=ITEMS_COUNT, duplicate_sku=True)
        stage.keep("install")
        _succeed(stage.run(updater(*self.install_words())))
        # An app that takes the machine down is given up after fewer boots than in the field.
        with stage.settings.open("a", encoding="utf-8") as settings:
            settings.write("interruptions_count = 2\n")
        _succeed(stage.run(updater(*LAUNCH)))

    def _keep_in_wal_mode(self, name: str, *, of: str) -> None:
        stage = self.stage
        stage.reset(of)
        with closing(sqlite3.connect(stage.database)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        stage.keep(name)
        stage.reset(of)

    def _keep_as_before(self, name: str, *, of: str) -> None:
        """Keep a scene with all files in the state folder, and no records of the agent on its trials."""
        stage = self.stage
        state = stage.till / "state"
        for folder in (state / "shared", state / "private"):
            for path in folder.iterdir():
                path.rename(state / path.name)
            folder.rmdir()
        for path in (state / "issued", state / "verdicts"):
            shutil.rmtree(path, ignore_errors=True)
        for path in (state / "layout.json", state / "moment.json", state / "machine.json"):
            path.unlink(missing_ok=True)
        journal = json.loads((state / "journal.json").read_bytes())
        known = {key: value for key, value in journal.items() if key not in SINCE}
        (state / "journal.json").write_text(json.dumps(known))
        stage.keep(name)
        stage.reset(of)

    def _ruin(self, name: str, *, first: int, count: int, seen: Numbers | None = None) -> None:
        """Overwrite pages of the database; `seen` if the scene is the one that is in place."""
        stage = self.stage
        if seen is None:
            stage.reset("rollback")
        data = bytearray(stage.database.read_bytes())
        start, size = first * PAGE_BYTES, count * PAGE_BYTES
        data[start : start + size] = os.urandom(size)
        stage.database.write_bytes(data)
        stage.keep(name)
        self.before[name] = Before(None, bytes(data), 0, seen or {})

    def grow(self, scene: str, size_bytes: int) -> str:
        """Keep a scene with a database of about that size, and return its name."""
        name = f"{scene}-{size_bytes}"
        if name not in self.before:
            self.stage.reset(scene)
            grow(self.stage.database, size_bytes)
            self.stage.keep(name)
            found = picture(self.stage.database, self.stage.scratch)
            self.before[name] = self.before[scene]._replace(picture=found)
        return name

    def _look(self) -> None:
        """Take the pictures of all scenes, and learn what each schema looks like."""
        stage = self.stage
        for folder in sorted(stage.scenes.iterdir()):
            if folder.name in self.before:
                continue
            found = picture(folder / "till" / "data" / stage.database.name, stage.scratch)
            assert not found.problems, (folder, found.problems)
            self.objects.setdefault(found.version, found.objects)
            held = len(receipts_in(folder / "receipts.txt"))
            sold = (
                held - 2 if folder.name.startswith(("rollback", "launch-", "fold-back")) and found.version == 4 else 0
            )
            self.before[folder.name] = Before(found, b"", sold, found.numbers)
        for name in ("rollback-header", "rollback-pages", "rollback-counter"):
            self.before[name] = self.before[name]._replace(sold_since_backup=self.before["rollback"].sold_since_backup)
        stage.reset("rollback")
        migrations = stage.vendor / "bundles" / EXITING.version / "migrations"
        words = ("--database", str(stage.database), "--migrations", str(migrations))
        _succeed(stage.run(dbsync("upgrade", *words)))
        found = picture(stage.database, stage.scratch)
        self.objects[found.version] = found.objects


def _succeed(ran: Ran) -> None:
    if ran.exit_code != 0:
        raise RuntimeError(f"a scene cannot be built: exit status {ran.exit_code}\n{ran.output}")
