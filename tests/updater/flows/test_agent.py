"""A cycle of the agent that a file error or a held database ends: on record, with the status that says "try later"."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dbsync.errors import TillkeeperError
from tests.helpers.places import ROOT
from tests.helpers.raised import HARD
from tests.helpers.recorded import RecordedTerminal, unpack
from tests.helpers.terminal import Till
from updater import settings
from updater.answers import Catalog
from updater.decisions.transfer import Health
from updater.flows.agent import cycle, run
from updater.model import ProcessKind
from updater.network.record import next_time, write
from updater.terminal.live import Terminal


def staged(folder: Path) -> RecordedTerminal:
    """A terminal with a staged release, which the next cycle swaps in; its repository is out of reach."""
    return unpack("c0885e1", "staged", folder, url="http://127.0.0.1:9")


def test_a_state_file_that_cannot_be_written_ends_the_cycle_on_record(tmp_path: Path) -> None:
    till = staged(tmp_path / "till")
    # It moves the files into the folders of today, which is not what fails here.
    Terminal(settings.load(tmp_path / "till" / "settings.toml", {}), kind=ProcessKind.AGENT)
    before = till.journal()
    # A folder where the journal's temporary file belongs: the write fails for whoever runs it, root too.
    in_the_way = tmp_path / "till" / "state" / ".new-journal.json"
    in_the_way.mkdir()
    done = till.run("-m", "updater", "check")
    assert (done.returncode, done.stdout) == (75, ""), done.stderr
    assert "could not write" in done.stderr
    assert till.journal() == before
    lines = (tmp_path / "till" / "state" / "private" / "events-agent.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(lines[-1])
    assert (last["outcome"], last["code"], last["alarm"]) == ("CYCLE_FAILED", "U-1008", False)
    assert "could not write" in last["cause"]
    in_the_way.rmdir()
    assert till.run("-m", "updater", "check").returncode == 75, "offline, as before; and what was staged is swapped in"
    assert till.journal()[0] == "SWAPPED"


def test_a_database_that_somebody_holds_is_tried_later_by_every_command(tmp_path: Path) -> None:
    till = unpack("c0885e1", "updated", tmp_path / "till", url="http://127.0.0.1:9")
    database = tmp_path / "till" / "data" / "pos_system.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        for command in (
            ("-m", "updater", "rollback", "--yes"),
            (str(ROOT / "scripts" / "rollback.py"), "--yes"),
            ("-m", "dbsync", "backup", "--database", str(database)),
        ):
            done = till.run(*command)
            assert done.returncode == 75, (command, done.stdout, done.stderr)
        holder.execute("ROLLBACK")
    assert till.sales() == till.receipts()


@pytest.mark.parametrize("kind", HARD)
def test_whatever_a_cycle_raises_is_on_record_in_words_that_can_be_written(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, error = tmp_path / "till", HARD[kind]()
    till = unpack("c0885e1", "idle", folder, url="http://127.0.0.1:9")
    before = till.journal()
    terminal = Terminal(settings.load(folder / "settings.toml"), kind=ProcessKind.AGENT)

    def fail() -> Catalog:
        raise error

    monkeypatch.setattr(terminal, "find_releases", fail)
    with pytest.raises(type(error)):
        cycle(terminal)
    last = json.loads(
        (folder / "state" / "private" / "events-agent.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    )
    assert (last["outcome"], last["phase"]) == ("CYCLE_FAILED", "cycle")
    assert last["cause"].startswith("could not ")
    assert isinstance(error, TillkeeperError | OSError | MemoryError) or type(error).__name__ in last["cause"]
    assert till.journal() == before
    assert terminal.try_agent_lock(), "the next cycle is not shut out"
    terminal.release_agent_lock()


def test_a_cycle_that_failed_is_repeated_when_an_address_is_asked_again(till: Till) -> None:
    text = till.settings_path.read_text()
    till.settings_path.write_text(text.replace(till.settings.url, "http://127.0.0.1:9"))
    cycles: list[str] = []
    done = threading.Event()

    def again() -> datetime | None:
        if len(cycles) < 2:
            return datetime.now(UTC)
        done.set()
        return None

    def wait() -> None:
        assert done.wait(60)

    run(
        Terminal(till.settings, kind=ProcessKind.AGENT), interval_seconds=86_400.0, jitter_seconds=0.0, said=print,
        again=again, told=lambda ended: cycles.append(str(ended.outcome)), wait=wait,
    )  # fmt: skip
    assert cycles == ["OFFLINE", "OFFLINE"]


def test_an_agent_knows_when_an_address_is_asked_again(tmp_path: Path) -> None:
    record, now = tmp_path / "addresses.json", datetime(2026, 11, 1, tzinfo=UTC)
    assert next_time(record, now=now) is None
    health = Health(1, now.timestamp() + 300, False, "OFFLINE", "")
    write(record, {"a": health, "b": health._replace(until=now.timestamp() - 1), "c": health._replace(until=9e9)})
    assert next_time(record, now=now) == now + timedelta(seconds=300)
    record.write_text('{"addresses": {"a": {"until": "soon"}}}')
    assert next_time(record, now=now) is None
