"""What a migration changed without saying so is found; what harms nothing is not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from dbsync.errors import MigrationFailed
from dbsync.migrations import runner
from dbsync.migrations.write_log import Written
from dbsync.model import Migration
from dbsync.schema.declarations import declared
from dbsync.storage.connections import attach_copy, open_writing
from dbsync.verification import checks, conservation
from tests.helpers.damages import BASE, CASCADES, DAMAGES, HARMLESS, base_shop, run
from tests.helpers.declarations import DECLARED
from tests.helpers.shop import dump, version, written


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_is_found_named_and_undone(tmp_path: Path, name: str) -> None:
    step, words, line = DAMAGES[name]
    database, outcome = run(tmp_path, step)
    assert outcome.failed, name
    assert words in outcome.cause, outcome.cause
    assert line in outcome.cause
    assert version(database) == 1
    assert outcome.backup is not None
    assert dump(database) == dump(outcome.backup.path)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_harms_nothing_raises_no_alarm(tmp_path: Path, name: str) -> None:
    database, outcome = run(tmp_path, HARMLESS[name])
    assert outcome.name == "MIGRATED", outcome.cause
    assert version(database) == 2


def test_no_value_is_ever_told(tmp_path: Path) -> None:
    database, outcome = run(tmp_path, "UPDATE child SET note = 'my secret';")
    assert "secret" not in outcome.cause
    flight = (database.parent / "backups" / "dbsync-flight.jsonl").read_text()
    assert "secret" not in flight


def test_a_proof_that_runs_out_of_time_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LIMIT_SECONDS", 0.0)
    monkeypatch.setattr(conservation, "STEPS", 1)
    database, outcome = run(tmp_path, "UPDATE product SET stock = stock;")
    assert outcome.name == "VERIFICATION_FAILED"
    assert "could not be proven within 0 seconds" in outcome.cause
    assert version(database) == 1


class Judged(NamedTuple):
    """What the comparison found, told by the authorizer where to look, and looking everywhere."""

    skipping: str
    fully: str


def judged(database: Path, found: tuple[Migration, ...], *, foreign_keys: bool = False) -> Judged:
    """Runs the second migration on a database and undoes it; what is found in between."""
    twin = database.with_name("twin.db")
    twin.write_bytes(database.read_bytes())
    with closing(open_writing(twin)) as connection:
        connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            seen = runner.apply_all(connection, found[1:])
        except MigrationFailed as error:
            return Judged(error.cause, error.cause)
        attach_copy(connection, database, conservation.OLD)
        return Judged(*(told(connection, found, seen, skip=skip) for skip in (True, False)))


def told(connection: sqlite3.Connection, found: tuple[Migration, ...], seen: Written | None, *, skip: bool) -> str:
    allowed = declared(found[1:])
    all_ = conservation.findings(connection, allowed, written=seen, limit_seconds=60, skip=skip)
    return "; ".join(one.sentence for one in all_)


def test_every_seeded_damage_is_found_and_there_is_no_false_alarm(tmp_path: Path) -> None:
    database = base_shop(tmp_path)
    before = database.read_bytes()
    cases: list[tuple[str, str, str, str]] = [(name, step, "", words) for name, (step, words, _) in DAMAGES.items()]
    cases += [(name, step, line, words) for name, (line, step, words) in DECLARED.items() if words]
    harmless = [(name, step, "") for name, step in HARMLESS.items()]
    harmless += [(name, step, line) for name, (line, step, words) in DECLARED.items() if not words]
    missed, alarms = [], []
    for number, (name, step, line, words) in enumerate(cases):
        both = judged(database, two(tmp_path / f"damage-{number}", step, line))
        missed += [name] * (words not in both.skipping or words not in both.fully)
    for number, (name, (step, words)) in enumerate(CASCADES.items()):
        both = judged(database, two(tmp_path / f"cascade-{number}", step), foreign_keys=True)
        missed += [name] * (words not in both.skipping or words not in both.fully)
    for number, (name, step, line) in enumerate(harmless):
        both = judged(database, two(tmp_path / f"harmless-{number}", step, line))
        alarms += [name] * bool(both.skipping or both.fully)
    all_ = len(cases) + len(CASCADES)
    print(
        f"{all_ - len(missed)} of {all_} damages found, {len(alarms)} false alarms in {len(harmless)} harmless changes,"
    )
    print("each compared fully and with the tables skipped that nobody wrote")
    assert (missed, alarms) == ([], [])
    assert (all_ >= 51 + 7, len(harmless) >= 15 + 11) == (True, True)
    assert database.read_bytes() == before


def two(folder: Path, step: str, line: str = "") -> tuple[Migration, ...]:
    """The base and a step after it."""
    return written(folder, BASE, f"-- changes: {line}\n{step}" if line else step)
