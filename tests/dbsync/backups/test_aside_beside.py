"""The set-aside copy is checked while changes are carried back; nothing is decided before it is durable and named."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dbsync.backups import snapshot
from dbsync.database.live import LiveEffects
from dbsync.errors import DiskProblem
from dbsync.model import Backup, Carried, Intent, Migration
from dbsync.storage import temporary_files
from dbsync.upgrade import preparation
from dbsync.upgrade.preparation import Wish
from tests.helpers.shop import dump, files, make_shop, released, sell, upgrade


class Noted(LiveEffects):
    """The real effects; the order of some is noted. The check of the copy is held until changes are carried back."""

    go = threading.Event()
    seen: list[str] = []  # noqa: RUF012 - each test has its own

    def carry_back(self, migrations: tuple[Migration, ...], *, base: Backup, aside: Backup) -> Carried:
        carried = super().carry_back(migrations, base=base, aside=aside)
        named = temporary_files.final_of(aside.path).exists()
        self.seen.append(f"carried back from a {'named copy' if named else 'part'}")
        self.go.set()
        return carried

    def keep_aside(self, part: Backup) -> Backup:
        kept = super().keep_aside(part)
        self.seen.append(f"kept, verified {kept.verified}")
        return kept

    def keep_carried(self, carried: Carried, base: Backup) -> Backup:
        self.seen.append("carried named")
        return super().keep_carried(carried, base)

    def write_intent(self, intent: Intent) -> None:
        self.seen.append(f"intent, copy there: {intent.set_aside is not None and Path(intent.set_aside).is_file()}")
        super().write_intent(intent)


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Noted, Wish]:
    """A shop that sold since it was migrated, and the wish to take it back."""
    database, found = make_shop(tmp_path, schema=2), released(tmp_path, 4)
    outcome = upgrade(database, found)
    assert outcome.backup is not None
    sell(database, 3)
    monkeypatch.setattr(Noted, "go", threading.Event())
    monkeypatch.setattr(Noted, "seen", [])
    measure = snapshot.measure_part

    def late(part: Backup) -> Backup:
        if ".carried" not in part.path.name and "-carried-" not in part.path.name:
            assert Noted.go.wait(60)
        return measure(part)

    monkeypatch.setattr(snapshot, "measure_part", late)
    live = Noted(database, backups=database.parent / "backups")
    return live, Wish("i1", outcome.backup, carries=True, migrations=found)


def test_the_copy_is_checked_meanwhile_and_named_before_anything_is_decided(noted: tuple[Noted, Wish]) -> None:
    live, wish = noted
    prepared = preparation.prepare(live, wish)
    assert live.seen == [
        "carried back from a part", "kept, verified True", "carried named", "intent, copy there: True"
    ]  # fmt: skip
    assert prepared.aside is not None
    assert dump(prepared.aside.path) == dump(live.database)
    preparation.abandon(live, prepared)


def test_a_copy_that_is_not_durable_decides_nothing_and_leaves_nothing(
    noted: tuple[Noted, Wish], monkeypatch: pytest.MonkeyPatch
) -> None:
    live, wish = noted
    before, there = dump(live.database), files(live.database.parent)

    def fails(part: Backup) -> Backup:
        raise DiskProblem(operation="sync", path=part.path, cause="the disk does not answer")

    monkeypatch.setattr(snapshot, "measure_part", fails)
    with pytest.raises(DiskProblem, match="does not answer"):
        preparation.prepare(live, wish)
    assert live.seen == ["carried back from a part"]
    assert (dump(live.database), files(live.database.parent)) == (before, there)


def test_ctrl_c_while_changes_are_carried_back_leaves_neither_a_thread_nor_a_part(
    noted: tuple[Noted, Wish], monkeypatch: pytest.MonkeyPatch
) -> None:
    live, wish = noted
    there, threads = files(live.database.parent), threading.active_count()

    def interrupted(*_: Any, **__: Any) -> Carried:
        live.go.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(live, "carry_back", interrupted)
    with pytest.raises(KeyboardInterrupt):
        preparation.prepare(live, wish)
    assert threading.active_count() == threads
    assert files(live.database.parent) == there


@pytest.mark.parametrize("carries", [True, False])
def test_a_return_that_is_abandoned_has_nothing_open_any_more(noted: tuple[Noted, Wish], carries: bool) -> None:
    """A program that holds the database open keeps it from being moved on Windows."""
    live, wish = noted
    live.go.set()
    there = files(live.database.parent)
    prepared = preparation.prepare(live, wish._replace(carries=carries))
    assert has_open(live.database), "it watches for others who write"
    preparation.abandon(live, prepared)
    assert not has_open(live.database)
    assert files(live.database.parent) == there


def has_open(database: Path) -> bool:
    """Return whether this process has the file open; Linux alone tells."""
    descriptors = Path("/proc/self/fd")
    if sys.platform == "win32" or not descriptors.exists():
        pytest.skip("no list of open files here")
    opened = [Path(entry) for entry in descriptors.iterdir()]
    # One of them is that of the list, which is closed by now.
    return any(entry.exists() and entry.samefile(database) for entry in opened)
