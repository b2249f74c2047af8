"""Terminals get the newest python-tuf, the publisher's pins hold the environment on an older one: both have to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.hostile import hostile
from tests.helpers.places import ROOT
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor, served

NEWER = "tuf>=7,<8"


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A path on which the newer library is found first."""
    folder = tmp_path_factory.mktemp("tuf7")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), NEWER]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("the newer library cannot be installed here")
    path = os.pathsep.join((str(folder), str(ROOT)))
    told = subprocess.run(
        [sys.executable, "-c", "import tuf; print(tuf.__version__)"],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.startswith("7.")
    return path


@pytest.mark.slow
def test_the_newest_tuf_finds_refuses_and_fetches_as_the_older_one_does(vendor: Vendor, till: Till, newer: str) -> None:
    assert till.run("check", PYTHONPATH=newer).stdout.startswith("NOTHING_NEW")
    vendor.release("1.1", schema=4)
    for how, on, outcome in (
        ("flip", "timestamp", "REFUSED"),
        ("flip", "targets.json", "REFUSED"),
        ("html", "", "SERVER_WRONG"),
        ("hang up", "timestamp", "OFFLINE"),
    ):
        with served(hostile(vendor.public, how, on=on)) as address:
            done = till.run("check", PYTHONPATH=newer, TILLKEEPER_URL=address)
        assert done.stdout.startswith(outcome), (how, on, done.stdout, done.stderr)
    for path in (till.settings.trust / "metadata").glob("*.json"):
        if not path.is_symlink():
            path.write_bytes(b"")
    done = till.run("check", PYTHONPATH=newer)
    assert done.stdout.splitlines()[-1].startswith("SWAPPED"), done.stdout + done.stderr
    assert "till 1.1 is open" in till.launch(sell=1).stdout
    assert Path(till.settings.trust / "seen.json").exists()
    # And back on the older library: it goes on with what the newer one left.
    assert till.check().outcome == "NOTHING_NEW"
