"""The child that asks the repository runs our code only, wherever it is started and whatever the environment says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.places import ROOT
from tests.helpers.terminal import Till

TRAP = "import pathlib; pathlib.Path({mark!r}).write_text('it ran')\n"


@pytest.mark.parametrize("name", ["updater/repository/child.py", "urllib3.py", "tuf.py", "json.py", "sitecustomize.py"])
@pytest.mark.parametrize("by", ["the current folder", "PYTHONPATH", "PYTHONSTARTUP"])
def test_a_file_that_is_named_like_a_module_is_not_run(till: Till, tmp_path: Path, name: str, by: str) -> None:
    place, mark = tmp_path / "elsewhere", tmp_path / "mark"
    trap = place / name
    trap.parent.mkdir(parents=True)
    trap.write_text(TRAP.format(mark=str(mark)))
    environment = {**os.environ, "TILLKEEPER_SETTINGS": str(till.settings_path)}
    if by != "the current folder":
        environment[by] = str(place if by == "PYTHONPATH" else trap)
    # The agent itself is started as a service would start it: isolated, and here in the folder with the trap.
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); from updater.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-I", "-c", start, str(ROOT), "check", "--json"],
        cwd=place, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert '"outcome": "NOTHING_NEW"' in done.stdout, done.stdout + done.stderr
    assert not mark.exists()
