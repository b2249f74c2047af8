"""The benchmark's works do what they claim, on a small shop; what they cost is no test's business."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.shop import ask, released, upgrade, version

SCRIPTS = Path(__file__).parent.parent / "scripts"


def work(name: str, *arguments: object) -> Any:
    """What one work of the benchmark told."""
    command = [sys.executable, str(SCRIPTS / "_bench_work.py"), name, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def steps() -> dict[str, tuple[str, str]]:
    """What the benchmark has dbsync and the others do."""
    found: dict[str, Any] = {}
    exec((SCRIPTS / "_bench_steps.py").read_text(encoding="utf-8"), found)
    return dict(found["STEPS"])


def test_all_steps_and_the_way_back_are_what_is_measured(tmp_path: Path) -> None:
    shop = tmp_path / "shop.db"
    assert upgrade(shop, released(tmp_path, 4)).ready
    assert work("fill", shop, 2000)["tables"]["transaction_items"] == 2000
    for step, (changes, sql) in steps().items():
        folder = tmp_path / step
        shutil.copytree(tmp_path / "migrations-4", folder / "migrations")
        (folder / "migrations" / "0005_step.sql").write_text(f"-- changes: {changes}\n{sql}" if changes else sql)
        for side in ("plain", "dbsync"):
            (folder / side).mkdir()
            database = Path(shutil.copy(shop, folder / side / "shop.db"))
            assert work(side, database, folder / "migrations", step)["seconds"] > 0
            assert work("lost", shop, database, step) == {"found": [], "done": True}
        assert version(database) == 5
        if step == "backfill":
            # Its values cannot come down by themselves: it has no `down_row`, and the proof says so.
            continue
        assert work("compare", database, shop, "*")["rows"] == 2500
        traded = work("trade", database)
        assert work("downgrade", database, folder / "migrations", step)["totals"] == traded["totals"]
        assert version(database) == 4
        assert ask(database, "SELECT count(*) FROM transactions WHERE receiptNumber LIKE 'NEW-%'") == 2000
        assert ask(database, "PRAGMA integrity_check") == "ok"


def test_copies_are_whole(tmp_path: Path) -> None:
    shop = tmp_path / "shop.db"
    assert upgrade(shop, released(tmp_path, 4)).ready
    work("fill", shop, 400)
    for name in ("cp", "backup_alone", "backup_pages", "backup"):
        work(name, shop, tmp_path / f"{name}.db")
        assert ask(tmp_path / f"{name}.db", "SELECT count(*) FROM transaction_items") == 400


@pytest.mark.parametrize(
    "words",
    [["launch", "frob"], ["updater", "--bundle", "frob"], ["--frob"], ["dbsync", "--size", "frob"]],
    ids=" ".join,
)
def test_words_that_are_not_known_are_refused_before_anything_runs(words: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "bench"), *words], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_benchmark_and_runs_none() -> None:
    for word in ("--help", "-h"):
        done = subprocess.run(
            [sys.executable, str(SCRIPTS / "bench"), "launch", word], check=True, capture_output=True, text=True
        )
        assert "== launch" not in done.stdout
        assert all(f"./scripts/bench {name}" in done.stdout for name in ("launch", "look", "updater", "dbsync"))
