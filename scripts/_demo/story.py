"""The story: good releases, bad ones, a power cut, and a person who goes back; every sentence of it is checked."""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

ITEMS_COUNT = 200_000
STEPS_COUNT = 25
SALES_A_DAY = 5
ASSETS_BYTES = 3_000_000
NEW_ASSETS_BYTES = 300_000
EXPECTED_SECONDS = 45.0


def main() -> int:
    """Tells the story; 0 if all of it came true."""
    print("Tillkeeper: a vendor, a web server and a till on this machine", flush=True)
    began = time.monotonic()
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
    from _demo.show import Show
    from _demo.stage import Stage

    folder = Path(tempfile.mkdtemp(prefix="tillkeeper-demo-"))
    stage = Stage(folder)
    with Show(STEPS_COUNT) as show:
        show.line(f"Everything is in {folder} and stays there.")
        story = Story(stage, show)
        try:
            story.tell()
        finally:
            stage.close()
    story.close(time.monotonic() - began)
    return 1 if show.failures else 0


class Story:
    """The acts, in order."""

    def __init__(self, stage, show) -> None:
        self.stage, self.show = stage, show
        self.rows: list[dict[str, str]] = []
        self.sales = 0
        """How many sales the live database has to have."""
        self.last_alarm_at = ""

    def tell(self) -> None:
        """All of it."""
        self.installed()
        self.power_cut()
        self.bad_migration()
        self.crashing_app()
        self.good_again()
        self.person_goes_back()

    # ------------------------------------------------------------------------------------------------------- acts

    def installed(self) -> None:
        stage, show = self.stage, self.show
        show.act("A till from nothing: 1.0, schema 2, with a past")
        show.step("the vendor makes keys and a signed repository")
        made = stage.updater(
            "publish", "init", "--repository", stage.vendor, "--app", "sample-till", "--public", stage.public
        )
        show.expect(made.returncode == 0, "four roles, keys with passwords")
        self.publish("1.0", schema=2)
        stage.serve()
        show.step(f"install from {stage.url}")
        done = stage.updater(
            "install", "--root", stage.public / "metadata" / "1.root.json", "--url", stage.url,
            "--settings", stage.settings, "--program", stage.till / "program", "--state", stage.till / "state",
            "--data", stage.till / "data", "--backup-prefix", "auraswift", "--interpreter", f"python={sys.executable}",
            "--accept-disk", "forgets",
        )  # fmt: skip
        show.told(done.stdout + done.stderr)
        show.step(f"a shop with about {ITEMS_COUNT:,} sold items moves in")
        self.fill()
        self.sell_day("1.0 is installed", version="1.0", schema=2)

    def power_cut(self) -> None:
        stage, show = self.stage, self.show
        show.act("1.1 brings v3 and v4; in the middle of the migration the plug is pulled")
        self.publish("1.1", schema=4)
        self.check("SWAPPED")
        show.step("first launch: backup, migration ... and the power goes (kill -9 of everything)")
        cut = stage.launch(sell=5, pull_the_plug_at="Migration v3", told=show.told)
        show.expect(cut.exit_code is None, "the plug was pulled in the middle of the migration")
        # Nothing looks into the database before the next start does: its recovery is part of the story.
        show.expect(stage.database.exists(), "the database is there")
        show.step("power is back; the cashier starts the till")
        self.sell_day("power cut in the migration, then 1.1", version="1.1", schema=4, before=cut.away_seconds)
        self.check("NOTHING_NEW")

    def bad_migration(self) -> None:
        stage, show = self.stage, self.show
        show.act("1.2 brings v5 and a v6 that this shop's data does not allow")
        self.publish("1.2", schema=6)
        self.check("SWAPPED")
        show.step("launch: v6 fails on two products of one SKU")
        self.sell_day("1.2's v6 fails, 1.1 sells on", version="1.1", schema=4, notice="You can sell.")
        show.expect("barcode" not in self.columns("products"), "nothing changed, not even v5")
        self.check("REJECTED_HERE")
        show.expect(stage.status()["phase"] == "IDLE", "and it is not tried again here")

    def crashing_app(self) -> None:
        show = self.show
        show.act("1.3 mends v6, but its app crashes at start")
        self.publish("1.3", schema=6, mended=True, behaviour="crash")
        self.check("SWAPPED")
        show.step("launch: migrated, crash, crash, restored")
        self.sell_day("1.3 crashes, back to 1.1 and its data", version="1.1", schema=4, notice="You can sell.")
        self.check("REJECTED_HERE")

    def good_again(self) -> None:
        show = self.show
        show.act("1.4 is good")
        self.publish("1.4", schema=6, mended=True)
        self.check("SWAPPED")
        show.step("launch: v5 and the mended v6")
        self.sell_day("1.4 sells", version="1.4", schema=6)
        self.check("NOTHING_NEW")

    def person_goes_back(self) -> None:
        stage, show = self.stage, self.show
        show.act("A person goes back, with a bare Python and the script")
        from _demo.stage import ROOT

        words = ("-I", "-S", ROOT / "scripts" / "rollback.py", "--settings", stage.settings)
        show.step("scripts/rollback.py --list")
        listed = stage.run(*words, "--list", "--json")
        newest = next(one["path"] for one in json.loads(listed.stdout)["backups"] if one["kind"] == "migration")
        show.step("what would be lost with the backup as it is (--backup FILE --dry-run)")
        dry = stage.run(*words, "--backup", newest, "--dry-run")
        show.told(dry.stdout + dry.stderr)
        show.expect(
            "none of it is in the restored database" in dry.stdout, "it says what would be lost, and what is kept"
        )
        show.step("and with what was recorded carried back (--dry-run)")
        dry = stage.run(*words, "--dry-run")
        show.told("\n".join(dry.stdout.splitlines()[-3:]) + dry.stderr)
        show.expect("nothing is lost" in dry.stdout, "that loses nothing, and it is proven")
        show.step("scripts/rollback.py --yes")
        done = stage.run(*words, "--yes")
        show.told("\n".join(done.stdout.splitlines()[-3:]) + done.stderr)
        show.expect(done.returncode == 0 and "is kept" in done.stdout, "done, and the database as it was is kept")
        self.sell_day("a person went back to 1.1", version="1.1", schema=4)

    # ----------------------------------------------------------------------------------------------------- passages

    def publish(self, version: str, *, schema: int, mended: bool = False, behaviour: str = "good") -> None:
        """The vendor builds and publishes a release."""
        from tests.sample_till.bundles import make_bundle

        stage = self.stage
        bundle = make_bundle(
            stage.folder / "bundles" / version, version=version, schema=schema, mended=mended, behaviour=behaviour
        )
        # Pictures and fonts, as apps have them: most stay the same from release to release, some are new.
        kept = random.Random("kept").randbytes(ASSETS_BYTES - NEW_ASSETS_BYTES)  # noqa: S311 - no secret
        new = random.Random(version).randbytes(NEW_ASSETS_BYTES)  # noqa: S311 - no secret
        (bundle / "assets.bin").write_bytes(kept + new)
        self.show.step(f"the vendor publishes {version}")
        words = ("--repository", stage.vendor, bundle, "--version", version, "--unverified")
        done = stage.updater("publish", "release", *words)
        self.show.told(done.stdout + done.stderr)
        self.show.expect(done.returncode == 0, f"{version} is signed and public")

    def check(self, outcome: str) -> None:
        """The agent runs one cycle."""
        self.show.step("the agent looks")
        done = self.stage.updater("check")
        self.show.told(done.stdout + done.stderr)
        self.show.expect(done.stdout.splitlines()[-1:] != [] and outcome in done.stdout.splitlines()[-1], outcome)

    def sell_day(self, act: str, *, version: str, schema: int, before: float = 0.0, notice: str = "") -> None:
        """The cashier opens the till, sells, closes; then everything is counted."""
        stage, show = self.stage, self.show
        launched = stage.launch(sell=SALES_A_DAY, told=show.told)
        self.sales += SALES_A_DAY
        show.expect(launched.opened == f"till {version} is open", f"{version} opens and sells")
        show.expect(launched.exit_code == 0, "and closes well")
        show.expect(stage.schema() == schema, f"the database has schema {schema}, which fits it")
        count, cents = stage.takings()
        show.expect(count == self.sales, f"{count:,} sales, none is missing")
        show.expect(
            not stage.lost_receipts(), "every customer's receipt is in the live database or in what was put aside"
        )
        show.expect(notice in launched.notice, f"the clerk reads: {launched.notice or 'nothing'}")
        self.rows.append(
            {
                "act": act,
                "version": version,
                "schema": str(schema),
                "sales": f"{count:,}",
                "takings": f"{cents / 100:,.2f}",
                "away s": f"{launched.away_seconds + before:.2f}",
                "fetched B": f"{stage.fetched_bytes():,}",
                "the clerk read": launched.notice or "-",
                "support reads": self.support_reads(),
            }
        )

    def support_reads(self) -> str:
        """What `updater status` tells: the outcome of the last thing that somebody should know."""
        status = self.stage.status()
        alarm = status["last_alarm"]
        news = alarm is not None and alarm["at"] != self.last_alarm_at
        self.last_alarm_at = alarm["at"] if alarm else ""
        return (
            f"{alarm['code']} {alarm['outcome']}, {alarm['release'] or ''}"
            if news
            else str(status["last_outcome"]["outcome"])
        )

    def columns(self, table: str) -> list[str]:
        """The columns of a table in the live database."""
        with closing(sqlite3.connect(self.stage.database)) as live:
            return [row[1] for row in live.execute(f"PRAGMA table_info({table})")]

    def fill(self) -> None:
        """The shop's past."""
        from tests.sample_till.fill import fill

        bundle = self.stage.folder / "bundles" / "1.0" / "migrations"
        self.stage.run("-m", "dbsync", "upgrade", "--database", self.stage.database, "--migrations", bundle)
        fill(self.stage.database, items_count=ITEMS_COUNT, duplicate_sku=True)
        self.sales, _ = self.stage.takings()

    def close(self, seconds: float) -> None:
        """The table, what support is told, and how it went."""
        show, stage = self.show, self.stage
        show.line("")
        show.table(self.rows)
        show.line("")
        show.line("What support sees (updater status):")
        show.told(stage.updater("status").stdout)
        count, cents = stage.takings()
        aside = sorted(stage.database.parent.glob("*-backup-before-*.db"))
        show.line("")
        show.line(f"live: {count:,} sales, {cents / 100:,.2f}; put aside: {', '.join(one.name for one in aside)}")
        show.expect(not stage.lost_receipts(), "live and put aside together hold every sale")
        show.note(f"told in {seconds:.1f} seconds")
        if seconds > EXPECTED_SECONDS:
            show.note(
                f"that is more than the usual {EXPECTED_SECONDS:.0f}: this machine is busy; nothing depends on it"
            )
        show.line(f"Look around: {stage.folder}")
        if show.failures:
            show.line(f"NOT AS TOLD: {'; '.join(show.failures)}")
