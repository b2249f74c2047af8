"""The fault drill as a test: it finds seeded mistakes, finds nothing in right code, and a sample of the product.

All points of all flows: ./scripts/drill faults --jobs 2; all small disks: ./scripts/drill disk
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.drills.faults import native_code, registry, small_disks
from tests.helpers.places import ROOT

DRILL_SECONDS = 280.0
SOME_DISKS = ("--free", "0.5", "--free", "2", "--free", "4")


def reason_not_to() -> str:
    """Return why this machine cannot run the drill; empty if it can."""
    try:
        native_code.compiler()
    except native_code.CannotDrill as cause:
        return str(cause)
    return ""


pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(reason_not_to()), reason=reason_not_to())]


def drill(*words: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, "-m", "tests.drills.faults", *words],
        cwd=root, env=environment, capture_output=True, encoding="utf-8", timeout=DRILL_SECONDS, check=False,
    )  # fmt: skip


def cases(path: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [told for told in found if told["kind"] == "case"]


# ---------------------------------------------------------------------------------------------------- the drill itself


def test_a_file_that_is_replaced_rightly_breaks_no_promise(tmp_path: Path) -> None:
    record = tmp_path / "cases.jsonl"
    assert drill("trace", "own-right").returncode == 0
    for kind in ("kill", "errors"):
        done = drill(kind, "own-right", "--json", str(record))
        assert done.returncode == 0, done.stdout
        assert cases(record)
        assert all(case["hit"] for case in cases(record))


@pytest.mark.parametrize(
    ("kind", "flow", "words"),
    [
        ("trace", "own-no-sync", "of its files not synced"),
        ("trace", "own-no-folder-sync", "is not synced next"),
        ("kill", "own-in-place", "every file under a final name is whole"),
        ("errors", "own-in-place", "every file under a final name is whole"),
        ("errors", "own-short", "exit status 0, and it is not done"),
    ],
)
def test_a_seeded_mistake_is_found(kind: str, flow: str, words: str) -> None:
    done = drill(kind, flow)
    assert done.returncode == 1
    assert words in done.stdout


def test_a_sync_that_the_product_forgets_is_found(tmp_path: Path) -> None:
    for name in ("dbsync", "updater", "tests", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("fixtures"))
    path = tmp_path / "dbsync" / "storage" / "files.py"
    text = path.read_text(encoding="utf-8")
    right = "                set_mode(temporary, mode)\n            this_platform().sync_open(descriptor)\n"
    assert text.count(right) == 1
    path.write_text(text.replace(right, "                set_mode(temporary, mode)\n"), encoding="utf-8")
    done = drill("trace", "fold", root=tmp_path)
    assert done.returncode == 1
    assert "rename state/.new-journal.json -> state/journal.json: 1 of its files not synced" in done.stdout


def test_the_points_of_a_flow_are_the_same_each_time(tmp_path: Path) -> None:
    seen = []
    for number in range(2):
        record = tmp_path / f"{number}.jsonl"
        drill("kill", "db-upgrade", "--mode", "plug", "--sample", "smart/24", "--json", str(record))
        seen.append([(case["point"], case["call"].split()[0], case["hit"]) for case in cases(record)])
    assert seen[0] == seen[1]
    assert all(hit for _, _, hit in seen[0])


def test_a_word_that_is_no_flow_is_refused() -> None:
    done = drill("kill", "nonsense")
    assert done.returncode == 2
    assert "nonsense is no flow" in done.stderr


def test_without_a_compiler_the_drill_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(native_code.CannotDrill, match="needs a C compiler"):
        native_code.compiler()


# ---------------------------------------------------------------------------------------------------------- the product

BACK = tuple(name for name in registry.SHOWN if "rollback" in name or name.startswith(("db-downgrade", "db-restore")))
LAUNCHES = tuple(name for name in registry.SHOWN if name.startswith("launch"))
OTHERS = tuple(name for name in registry.SHOWN if name not in (*BACK, *LAUNCHES))


@pytest.mark.parametrize("families", [("terminal",), ("database", "return", "vendor")], ids="+".join)
def test_every_flow_with_a_fault_and_every_rare_state_breaks_no_promise(families: tuple[str, ...]) -> None:
    """Each flow writes in a durable order, has one of the eight kinds of faults, and reaches its rare states."""
    done = drill("faults", *families, "--sample", "turns/8")
    assert done.returncode == 0, done.stdout
    names = [name for family in families for name in registry.FAMILIES[family].names]
    assert [name for name in names if f"\n{name} " not in done.stdout] == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "flows", "words"),
    [
        pytest.param("kill", OTHERS, ("--sample", "smart/96"), id="kill-others"),
        pytest.param("kill", LAUNCHES, ("--sample", "smart/128"), id="kill-launch"),
        pytest.param("kill", BACK, ("--sample", "smart/96"), id="kill-back"),
        pytest.param("errors", OTHERS, ("--sample", "smart/240"), id="errors-others"),
        pytest.param("errors", LAUNCHES, ("--sample", "smart/360"), id="errors-launch"),
        pytest.param("errors", BACK, ("--sample", "smart/360"), id="errors-back"),
        pytest.param("kill", LAUNCHES, ("--sample", "smart/360", "--twice", "1"), id="twice-launch"),
        pytest.param("kill", BACK, ("--sample", "smart/240", "--twice", "1"), id="twice-back"),
    ],
)
def test_a_sample_of_all_faults_breaks_no_promise(kind: str, flows: tuple[str, ...], words: tuple[str, ...]) -> None:
    done = drill(kind, *flows, *words)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "flows",
    [pytest.param(("rollback", "rollback-script"), marks=pytest.mark.long), ("db-restore",)],
    ids=" ".join,
)
@pytest.mark.skipif(not small_disks.can_mount(), reason=small_disks.NO_MOUNT)
def test_going_back_on_small_disks_breaks_no_promise(flows: tuple[str, ...]) -> None:
    done = drill("disk", *flows, "--size", "2", *SOME_DISKS)
    assert done.returncode == 0, done.stdout
