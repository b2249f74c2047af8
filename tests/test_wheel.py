"""What is shipped: the wheel has every module, and the marks by which type checkers read the packages' types."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.helpers.places import ROOT

BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "dbsync", "updater", "scripts")
KITS = {
    *(f"updater/publish/kit/{name}" for name in ("requirements.txt", "binaries.txt", "setup.nsi", "rollback.cmd")),
    *(f"updater/publish/kit/debian/{path.name}" for path in (ROOT / "updater/publish/kit/debian").iterdir()),
}
"""Templates of kits, and their pinned libraries."""


def test_the_wheel_has_every_module_and_says_that_it_is_typed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    words = [sys.executable, "-m", "pip", "wheel", "-q", *offline, "--wheel-dir", "built", "."]
    subprocess.run(words, cwd=source, check=True, capture_output=True)
    (wheel,) = (source / "built").glob("tillkeeper-*.whl")
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = [*(ROOT / "dbsync").rglob("*.py"), *(ROOT / "updater").rglob("*.py")]
    ours = {path.relative_to(ROOT).as_posix() for path in modules}
    (script,) = {name for name in shipped if name.endswith(".data/data/share/tillkeeper/rollback.py")}
    assert shipped - {script} == ours | KITS | {"dbsync/py.typed", "updater/py.typed"}
