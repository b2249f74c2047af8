"""`dbsync history`: what was applied, every run that was tried, the backups; as text, as JSON, and as one page."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dbsync.cli import history_page
from dbsync.cli.console import lasted
from dbsync.commands.downgrade import downgrade
from dbsync.commands.rehearse import rehearse
from dbsync.database import timeline
from dbsync.database.flight_recorder import FlightRecorder
from dbsync.model import Backup, Facts, ReleaseId, SchemaNumber, Sha256, State, TrialId
from dbsync.upgrade import coordinator
from tests.dbsync.cli.test_check import dbsync
from tests.helpers.shop import dump, effects, files, make_shop, released, sell, upgrade, version

VOID = {"meta", "br"}
HOSTILE = "\"><script>alert('1')</script><img src=http://x/ onerror=a>&amp;\x00\x1b[31m\ud800\u202eend"


class Reader(HTMLParser):
    """Reads a page strictly: every tag that opens closes; tables as rows of texts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == [], "every tag is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "tags close in their order"

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if self.open and {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


def read(text: str) -> Reader:
    """Reads a page, and holds what every page has to hold."""
    found = Reader(text)
    assert text.startswith("<!DOCTYPE html>\n")
    assert found.tags <= {
        "html", "head", "meta", "title", "style", "body", "main", "header", "h1", "h2", "p", "dl", "div", "dt", "dd",
        "span", "small", "section", "table", "thead", "tbody", "tr", "th", "td", "time", "code", "strong", "br",
        "footer",
    }  # fmt: skip
    names = {name for _, name, _ in found.attributes}
    assert names <= {
        "lang", "charset", "http-equiv", "content", "name", "class", "scope", "data-label", "datetime", "title",
    }  # fmt: skip
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|http|//", style)
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in found.attributes
    for table in found.tables:
        assert len({len(row) for row in table}) == 1
    return found


def shop_with_a_past(folder: Path) -> Path:
    """Created, rehearsed, migrated in a trial, looked at, failed twice, carried back, refused."""
    database = make_shop(folder, schema=2, duplicate_sku=True)
    backups = database.parent / "backups"
    rehearse(released(folder, 4), database=database, backups=backups)
    outcome = coordinator.upgrade(
        effects(database),
        migrations=released(folder, 4),
        trial_id=TrialId("7c1f"),
        release_id=ReleaseId("r2"),
        release_version="2.1.0",
    )
    assert outcome.backup is not None
    for _ in range(5):
        assert upgrade(database, released(folder, 4)).name == "UP_TO_DATE"
    effects(database).make_backup()
    for _ in range(2):
        assert upgrade(database, released(folder, 6)).name == "MIGRATION_FAILED"
    sell(database)
    assert (
        downgrade(effects(database), outcome.backup, released(folder, 4), accept_loss=False).outcome.name
        == "CARRIED_BACK"
    )
    assert upgrade(database, released(folder, 2)).name == "UP_TO_DATE"
    return database


# ------------------------------------------------------------------------------------------------------------ the page


def test_the_page_names_everything_that_is_known(tmp_path: Path) -> None:
    database = shop_with_a_past(tmp_path)
    before = (dump(database), files(database.parent))
    page = tmp_path / "history.html"
    done = dbsync("history", "--database", database, "--prefix", "auraswift", "--html", page)
    assert (done.returncode, done.stdout) == (0, f"written: {page}\n")
    found = read(page.read_text(encoding="utf-8"))
    applied, runs, backups = found.tables
    assert [row[1:4] for row in applied[1:]] == [
        ["2", "add_business_contact_fields", "migration"], ["1", "initial_schema", "migration"],
    ]  # fmt: skip
    assert [row[2] for row in runs[1:]] == [
        "up to date", "carried back", "migration failed", "migration failed",
        f"up to date5 times, last {runs[5][2][-19:]}", "migrated", "good", "created",
    ]  # fmt: skip
    failed = runs[3]
    assert (failed[1], failed[3]) == ("upgrade", "4")
    assert re.fullmatch(r"\d+ ms|\d+\.\d s", failed[4])
    assert failed[5].startswith("migrate, v6 add_products_sku_uniqueUNIQUE constraint failed: products.sku")
    assert re.search(r"backup \d+ ms, check backup \d+ ms, migrate \d+ ms$", failed[5])
    assert runs[6][3] == "2 → 4"
    assert {(row[1], row[2], row[4]) for row in backups[1:]} == {
        ("migration", "2", "verified"), ("migration", "4", "verified"), ("manual", "4", "verified"),
        ("before-restore", "4", "verified"),
    }  # fmt: skip
    for path in database.parent.rglob("*-backup-*.db"):
        assert str(path) in found.text
    assert ".." not in found.text
    assert applied[0][0] == "Applied (UTC)"
    assert "the exact state before a migration from schema 2" in found.text
    assert "trial 7c1f" in found.text
    assert (dump(database), files(database.parent)) == before


def test_times_on_the_page_are_utc_and_numbers_stand_under_each_other(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    text = history_page.page(timeline.past_of(effects(database)))
    found = read(text)
    assert "All times are UTC." in found.text
    times = [value for tag, name, value in found.attributes if (tag, name) == ("time", "datetime")]
    assert len(times) >= 4
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one) for one in times)
    assert {"Schema", "Took"} <= set(re.findall(r'<td class="number" data-label="(\w+)"', text))
    assert "font-variant-numeric: tabular-nums" in text
    assert version(database) == 2


def test_what_comes_from_outside_is_text_on_the_page_and_never_html() -> None:
    columns = ("kind", "number", "name", "trial_id", "release_id", "release_version", "applied_at", "duration_ms")
    row: dict[str, object] = dict.fromkeys(columns, HOSTILE)
    line: dict[str, Any] = {
        "at": HOSTILE,
        "outcome": HOSTILE,
        "phase": HOSTILE,
        "migration": HOSTILE,
        "cause": HOSTILE,
        "seconds": 1,
    }
    lines: list[dict[str, Any]] = [
        {"event": "looked", **line}, {"event": "started"}, {"event": "looked", **line},
        {"event": "ended", **line, "phases": {HOSTILE: 2}}, {"event": "rehearsed", **line, "migrations": [HOSTILE]},
    ]  # fmt: skip
    kept = Backup(
        Path("/b") / HOSTILE.replace("\x00", ""),
        HOSTILE + "{0}{x}",
        SchemaNumber(1),
        Sha256(""),
        1,
        1,
        HOSTILE,
        trial_id=TrialId(HOSTILE),
    )
    whole = timeline.Past(
        at=HOSTILE, database=Path(f"/d/{HOSTILE.replace('/', '')}"), facts=Facts(State.UNREADABLE, detail=HOSTILE),
        size_bytes=1, applied=[row], runs=timeline.runs_of(lines), lines=lines, backups=[kept],
    )  # fmt: skip
    text = history_page.page(whole)
    assert text.encode(), "nothing that no file can hold"
    found = read(text)
    assert found.text.count("<script>alert('1')</script>") >= 15
    assert not [one for one in found.text if one < " " and one != "\n"]
    assert "unicode-bidi: isolate" in text


@pytest.mark.parametrize("what", ["missing", "damaged", "untracked"])
def test_there_is_a_page_of_what_cannot_be_read(tmp_path: Path, what: str) -> None:
    database = tmp_path / "data" / "shop.db"
    database.parent.mkdir()
    if what == "damaged":
        database.write_bytes(b"ruined" * 999)
    elif what == "untracked":
        with closing(sqlite3.connect(database)) as live:
            live.execute("CREATE TABLE t (x)")
    page = tmp_path / "page.html"
    assert dbsync("history", "--database", database, "--html", page).returncode == 0
    found = read(page.read_text(encoding="utf-8"))
    assert {"missing": "missing", "damaged": "unreadable", "untracked": "untracked"}[what] in found.text
    assert found.tables == []
    for words in ("No migration is on record in the database.", "No run is on record.", "There is no backup."):
        assert words in found.text
    assert files(database.parent) <= {"shop.db"}


def test_a_page_of_two_hundred_entries_has_them_all(tmp_path: Path) -> None:
    found = timeline.past_of(effects(make_shop(tmp_path, schema=2)))
    rows = [{**found.applied[0], "number": number, "name": f"step_{number}"} for number in range(1, 201)]
    runs = tuple(
        found.runs[0]._replace(cause=f"cause {number}", verdict=timeline.RunVerdict.BAD) for number in range(200)
    )
    page = read(history_page.page(found._replace(applied=rows, runs=runs)))
    assert [row[2] for row in page.tables[0][1:]] == [f"step_{number}" for number in range(200, 0, -1)]
    assert all(f"cause {number}" in page.tables[1][200 - number][5] for number in range(200))


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    page = tmp_path / "nowhere" / "page.html"
    done = dbsync("history", "--database", database, "--html", page)
    assert done.returncode == 75
    assert f"could not write {page}" in done.stderr
    assert not page.parent.exists()
    page.parent.mkdir()
    page.write_text("an older page")
    assert dbsync("history", "--database", database, "--html", page).returncode == 0
    assert [one.name for one in page.parent.iterdir()] == ["page.html"]
    read(page.read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------------------------ text and JSON


def test_the_text_has_durations_and_failed_attempts(tmp_path: Path) -> None:
    database = shop_with_a_past(tmp_path)
    text = dbsync("history", "--database", database).stdout
    stamp, took = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", r"(\d+ ms|\d+\.\d s)"
    assert re.search(rf"^{stamp}  migration  +{took}  v2 add_business_contact_fields$", text, re.MULTILINE)
    failed = rf"^{stamp}  upgrade  +{took}  MIGRATION_FAILED \(migrate v6 add_products_sku_unique\): UNIQUE .*"
    assert len(re.findall(rf"{failed}\[backup {took}, check backup {took}, migrate {took}\]$", text, re.MULTILINE)) == 2
    assert re.search(rf"upgrade +{took}  UP_TO_DATE, 5 times until {stamp}$", text, re.MULTILINE)
    assert re.search(rf"upgrade +{took}  MIGRATED, schema 2 to 4 ", text)
    assert re.search(rf"rehearsal +{took}  good$", text, re.MULTILINE)
    assert re.search(rf"going back +{took}  CARRIED_BACK ", text)
    assert version(database) == 2


def test_the_json_has_all_of_it(tmp_path: Path) -> None:
    database = shop_with_a_past(tmp_path)
    told = json.loads(dbsync("history", "--database", database, "--json").stdout)
    assert (told["format"], told["state"], told["version"]) == (1, "ok", 2)
    assert [row["number"] for row in told["applied"]] == [1, 2]
    assert told["runs"] == FlightRecorder(database.parent / "backups", database).lines()
    failed = [one for one in told["attempts"] if one["verdict"] == "bad"]
    assert [one["outcome"] for one in failed] == ["MIGRATION_FAILED"] * 2
    assert failed[0]["phases"].keys() == {"backup", "check backup", "migrate"}
    assert len(told["backups"]) == 5
    assert all(one["purpose"] and one["sha256"] for one in told["backups"])
    page = tmp_path / "too.html"
    again = dbsync("history", "--database", database, "--json", "--html", page)
    assert json.loads(again.stdout)["runs"] == told["runs"]
    assert page.exists()


def test_a_history_that_an_older_tool_wrote_is_shown(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    with closing(sqlite3.connect(database)) as live:
        live.execute("DROP TABLE dbsync_history")
    told = json.loads(dbsync("history", "--database", database, "--json").stdout)
    assert [(row["kind"], row["number"], row["name"]) for row in told["applied"]] == [
        ("readable", 1, "initial_schema"), ("readable", 2, "add_business_contact_fields"),
    ]  # fmt: skip
    assert "v2 add_business_contact_fields" in dbsync("history", "--database", database).stdout


def test_names_from_a_database_cannot_steer_the_terminal(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("UPDATE dbsync_history SET name = ?, duration_ms = ?", ("\x1b[2Jgone\r\x9b1A", "soon"))
    done = dbsync("history", "--database", database)
    assert done.returncode == 0
    assert "v1 \ufffd[2Jgone\ufffd\ufffd1A" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_run_without_an_end_was_cut_and_starts_without_work_are_one_line() -> None:
    def looked(second: int) -> dict[str, object]:
        return {"event": "looked", "at": f"2026-01-01T00:00:{second:02}.000Z", "version": 1}

    def ended(second: int, outcome: str) -> dict[str, object]:
        return {"event": "ended", "at": f"2026-01-01T00:00:{second:02}.000Z", "outcome": outcome, "before": 1}

    started = {"event": "started", "count": 1}
    runs = timeline.runs_of(
        [
            looked(1), ended(2, "UP_TO_DATE"), looked(3), ended(4, "UP_TO_DATE"), looked(5), looked(6), started,
            looked(7), ended(8, "UP_TO_DATE"), {"event": "rotated"}, {"nothing": 1},
            {"event": "ended", "at": None, "outcome": 7, "seconds": "x", "phases": [1], "before": "y"}, looked(9),
            started,
        ]
    )  # fmt: skip
    assert [(one.outcome, one.times, one.at[17:19], one.until[17:19]) for one in runs] == [
        ("UP_TO_DATE", 2, "01", "04"), ("", 1, "06", ""), ("UP_TO_DATE", 1, "07", "08"), ("7", 1, "", ""),
        ("", 1, "09", ""),
    ]  # fmt: skip
    assert [one.verdict for one in runs] == ["good", "bad", "good", "refused", "bad"]
    assert runs[3].seconds is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0574, "57 ms"), (0, "0 ms"), (12.34, "12.3 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_are_said_as_they_were_measured(seconds: float, words: str) -> None:
    assert lasted(seconds) == words
