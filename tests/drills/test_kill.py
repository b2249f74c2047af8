"""Real kill -9 at random moments of the real processes; then power comes back, and four sentences have to be true.

Something complete starts; the schema fits it; no sale that a customer has a receipt of is lost; it settles.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.at_rest import come_to_rest
from tests.helpers.places import ROOT
from tests.helpers.shop import sales
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor, served, serving

CASES_COUNT = 60
SAMPLE_COUNT = 14
"""Each scene by its weight once; `./scripts/test --long` runs all cases."""
SCHEMAS = {"1.0": 2, "1.1": 4, "1.2": 6}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="everything of one terminal is found through /proc"),
]


class Scene(NamedTuple):
    """A moment in a till's life at which something runs that will be killed."""

    name: str
    words: tuple[str, ...]
    weight: int


SCENES = (
    Scene("staging", ("-m", "updater", "check"), 3),
    Scene("first launch", ("-m", "updater", "launch", "--", "--sell", "3"), 4),
    Scene("crashing release", ("-m", "updater", "launch", "--", "--sell", "3"), 3),
    Scene("folding", ("-m", "updater", "check"), 1),
    Scene("rollback", (str(ROOT / "scripts" / "rollback.py"), "--yes"), 3),
)


class Stage:
    """One terminal and, for each scene, how its folder is before it."""

    def __init__(self, folder: Path, till: Till) -> None:
        self.folder = folder
        self.till = till
        self.seconds: dict[str, float] = {}

    def keep(self, scene: str) -> None:
        shutil.copytree(self.till.folder, self.folder / scene, symlinks=True)

    def set_up(self, scene: str) -> None:
        shutil.rmtree(self.till.folder)
        shutil.copytree(self.folder / scene, self.till.folder, symlinks=True)


@pytest.fixture(scope="module")
def stage(first_release: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    from tests.helpers.vendor import copy_of

    folder = tmp_path_factory.mktemp("kill")
    vendor = copy_of(first_release, folder / "vendor")
    till = Till(folder / "till")
    with served(serving(vendor.public)) as url:
        till.install(vendor.root, url)
        till.fill(items_count=20_000)
        found = Stage(folder, till)
        vendor.release("1.1", schema=4)
        found.keep("staging")
        assert till.check().outcome == "SWAPPED"
        found.keep("first launch")
        assert till.launch(sell=3).returncode == 0
        found.keep("folding")
        till.check()
        found.keep("rollback")
        vendor.release("1.2", schema=6, mended=True, behaviour="crash")
        assert till.check().outcome == "SWAPPED"
        found.keep("crashing release")
        for scene in SCENES:
            found.set_up(scene.name)
            began = time.monotonic()
            play(found, scene).wait()
            found.seconds[scene.name] = time.monotonic() - began
        yield found


def play(stage: Stage, scene: Scene) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *scene.words],
        env=stage.till.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )


def kill_everything(till: Till) -> int:
    """Every process of this terminal, the app and its children too, at once; returns how many there were."""
    mark = f"TILLKEEPER_SETTINGS={till.settings_path}".encode()
    count = 0
    while True:
        found = [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit() and has_mark(one, mark)]
        if not found:
            return count
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
                count += 1
            except ProcessLookupError:
                continue


def has_mark(process: Path, mark: bytes) -> bool:
    try:
        if (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
        return int(process.name) != os.getpid() and mark in (process / "environ").read_bytes().split(b"\0")
    except (OSError, IndexError):
        return False


def cases() -> list[tuple[Scene, int]]:
    """The scenes by weight, each case with a seed of its own."""
    rounds = [scene for scene in SCENES for _ in range(scene.weight)]
    return [(rounds[number % len(rounds)], number) for number in range(CASES_COUNT)]


@pytest.mark.parametrize(
    ("scene", "seed"),
    [
        pytest.param(scene, seed, id=f"{scene.name}-{seed}", marks=[pytest.mark.long] * (seed >= SAMPLE_COUNT))
        for scene, seed in cases()
    ],
)
def test_a_till_whose_plug_is_pulled_starts_fits_loses_nothing_and_settles(
    stage: Stage, scene: Scene, seed: int
) -> None:
    chance = random.Random(seed)
    seconds = stage.seconds[scene.name] * chance.random()
    while not killed_after(stage, scene, seconds):
        seconds *= 0.7
    till = stage.till
    rest = come_to_rest(till, schemas=SCHEMAS, reboots=True)
    assert rest.violations == ()
    status = till.status()
    assert (status["phase"], status["starts"]["version"]) == ("IDLE", rest.opened)
    assert status["database"]["schema"] == SCHEMAS[rest.opened]
    assert sales(till.database) >= 5000


def killed_after(stage: Stage, scene: Scene, seconds: float) -> bool:
    """Plays a scene and pulls the plug after so many seconds; False if it was over before."""
    stage.set_up(scene.name)
    process = play(stage, scene)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        kill_everything(stage.till)
        process.wait()
        return True
    return False
