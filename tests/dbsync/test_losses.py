"""Losses, backups and the last run are said in one way: what one command prints, every other one does."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from dbsync import losses
from dbsync.backups.catalog import list_backups
from dbsync.backups.description import backup_json
from dbsync.database import timeline
from dbsync.database.flight_recorder import FlightRecorder
from dbsync.model import Backup, Change, Loss, SchemaNumber, Sha256
from tests.dbsync.cli.test_check import dbsync
from tests.helpers.places import ROOT
from tests.helpers.shop import effects, make_shop, released, sell
from tests.helpers.terminal import Till

SALES = Loss("sales", 3, 1, 0)


def test_losses_in_words_and_as_json() -> None:
    assert losses.listed([SALES], nothing="nothing") == ["  sales: 3 added, 1 changed, 0 removed"]
    assert losses.listed([SALES], unit="rows") == ["  sales: 3 rows added, 1 changed, 0 removed"]
    assert losses.listed([], nothing="nothing was lost") == ["  nothing was lost"]
    assert losses.listed([]) == []
    assert losses.compared(SALES, before="the backup", after="the new file") == (
        "sales: 0 rows only in the backup, 3 only in the new file, 1 different"
    )
    assert losses.since(Change(known=True, losses=(SALES,))) == ["since then, sales: 3 added, 1 changed, 0 removed"]
    assert losses.since(Change(known=True)) == ["since then, nothing was added, changed or removed in what both have"]
    assert losses.since(Change(known=False, cause="it is locked")) == [losses.not_known("it is locked")]
    assert losses.as_json([SALES]) == [{"table": "sales", "added": 3, "changed": 1, "removed": 0}]


def test_no_other_module_puts_losses_into_words() -> None:
    found = [
        path.relative_to(ROOT).as_posix()
        for folder in ("dbsync", "updater", "scripts")
        for path in (ROOT / folder).rglob("*.py")
        if any(_is_printer(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    ]
    assert found == ["dbsync/losses.py"]


def _is_printer(node: ast.AST) -> bool:
    """Whether an f-string shows the numbers of a loss."""
    if not isinstance(node, ast.JoinedStr):
        return False
    return {"added", "removed"} <= {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}


def run(*words: str | Path) -> dict[str, Any]:
    done = dbsync(*words, "--json")
    assert done.stdout, done.stderr
    told = json.loads(done.stdout.splitlines()[-1] if words[0] == "upgrade" else done.stdout)
    assert isinstance(told, dict)
    return told


def test_a_backup_is_one_object_in_every_command(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    folder = released(tmp_path, 4)[0].path.parent
    place = ("--database", database)
    outcome = run("upgrade", *place, "--migrations", folder)
    made = {"backup": run("backup", *place), "upgrade": outcome["backup"]}
    made["backups"], made["the oldest"] = run("backups", *place)["backups"]
    made["history"] = run("history", *place)["backups"][0]
    sell(database, 3)
    gone_back = run("downgrade", *place, "--yes")
    made["downgrade"] = gone_back["set_aside"]
    objects = {
        str(backup.path): backup_json(backup)
        for backup in list_backups(backups=database.parent / "backups", database=database)
    }
    for command, told in made.items():
        told.pop("format", None)
        assert told == objects[told["path"]], command
        assert told["schema"] == told["version"]
    assert gone_back["outcome"]["name"] == "CARRIED_BACK"
    assert gone_back["lost"] == gone_back["losses"] == []


def test_the_terminals_commands_have_the_same_object(till: Till) -> None:
    effects(till.database).make_backup()
    (backup,) = list_backups(backups=till.settings.backups, database=till.database)
    for told in (till.status(), json.loads(till.run("rollback", "--list", "--json").stdout)):
        assert told["backups"] == [backup_json(backup)]


def test_each_key_of_a_backup_is_explained() -> None:
    text = (ROOT / "docs" / "backups.md").read_text(encoding="utf-8").partition("## As JSON")[2]
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    explained = [key.strip("` ") for cell in cells for key in cell.split(",")]
    made = backup_json(Backup(Path("a.db"), "manual", SchemaNumber(1), Sha256(""), 1, 1, ""))
    assert sorted(explained) == sorted(made)


def lines(*events: tuple[str, int, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for event, second, cause in events:
        at = f"2026-01-01T00:00:{second:02}.000Z"
        found.append({"event": event, "at": at, "outcome": "MIGRATION_FAILED" if cause else "MIGRATED", "cause": cause})
    return found


def test_how_the_last_run_ended() -> None:
    good, bad = ("ended", 2, ""), ("ended", 4, "no such table")
    began = [("looked", 5, ""), ("started", 5, "")]
    assert timeline.last_run([]) == timeline.LastRun()
    last = timeline.last_run(lines(("looked", 1, ""), good))
    assert (last.ended, last.error, last.unfinished_since) == (*lines(good), None, "")
    assert timeline.ended_in_words(last.ended) == "MIGRATED at 2026-01-01T00:00:02.000Z"
    last = timeline.last_run(lines(bad, good, *began))
    assert (last.ended, last.error) == tuple(lines(good, bad))
    assert last.unfinished_since == "2026-01-01T00:00:05.000Z"
    assert last.run is not None
    assert last.run.outcome == ""
    assert timeline.ended_in_words(last.error).endswith(": no such table")
    rehearsed = timeline.last_run(lines(good, ("rehearsed", 9, "")))
    assert rehearsed.run is not None
    assert rehearsed.run.kind == timeline.RunKind.UPGRADE


@pytest.mark.parametrize("cut", [False, True], ids=["ended", "cut"])
def test_status_history_and_the_page_say_the_same_of_the_last_run(tmp_path: Path, cut: bool) -> None:
    database = make_shop(tmp_path, schema=2)
    recorder = FlightRecorder(database.parent / "backups", database)
    if cut:
        for line in lines(("looked", 7, ""), ("started", 7, "")):
            recorder.record(line)
    last = timeline.last_run(recorder.lines())
    told = run("status", "--database", database)
    assert {key: told[key] for key in last.as_json()} == last.as_json()
    assert last.run is not None
    attempt = run("history", "--database", database)["attempts"][-1]
    assert attempt["outcome"] == last.run.outcome == ("" if cut else "CREATED")
    words = dbsync("status", "--database", database).stdout
    assert ("unfinished since  2026-01-01T00:00:07.000Z" in words) == cut
    page = tmp_path / "page.html"
    assert dbsync("history", "--database", database, "--html", page).returncode == 0
    tile = page.read_text(encoding="utf-8").partition("<dt>Last run</dt>")[2].partition("</dd>")[0]
    assert (">cut<" in tile, ">created<" in tile) == (cut, not cut)


def test_the_terminals_status_answers_from_the_same_record(till: Till) -> None:
    last = timeline.last_run(FlightRecorder(till.settings.backups, till.database).lines())
    assert last.ended is not None
    database = till.status()["database"]
    assert {key: database[key] for key in last.as_json()} == last.as_json()
