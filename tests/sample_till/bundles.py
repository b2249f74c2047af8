"""Makes bundles of the sample till: one folder per release, as a vendor's build would leave it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
APP = "sample-till"
CONFIG = """\
app = "sample-till"
entry = "till.py"
interpreter = "python"
self_test = ["--self-test"]
migrations = "migrations"
"""
FROZEN_CONFIG = """\
app = "sample-till"
entry = "{program}"
self_test = ["--self-test"]
migrations = "migrations"
"""


def make_bundle(folder: Path, *, version: str, schema: int, behaviour: str = "good", mended: bool = False) -> Path:
    """A bundle of plain Python.

    Args:
        folder: where to make it; must not exist.
        version: the release's version.
        schema: up to which migration it ships.
        behaviour: how the app behaves: good, crash, exit0, hang, sells_then_hangs.
        mended: whether migration 6 is the mended one.
    """
    folder.mkdir(parents=True)
    shutil.copy(HERE / "till.py", folder / "till.py")
    (folder / "tillkeeper.toml").write_text(CONFIG)
    (folder / "release.json").write_text(json.dumps({"version": version, "schema": schema, "behaviour": behaviour}))
    copy_migrations(folder / "migrations", schema=schema, mended=mended)
    return folder


def freeze(folder: Path) -> Path:
    """The sample till as PyInstaller freezes it: a folder with a program that needs no Python."""
    release = folder / "release.json"
    folder.mkdir(parents=True)
    release.write_text("{}")
    command = [
        sys.executable, "-m", "PyInstaller", "--noconfirm", "--onedir", "--name", "till", "--log-level", "ERROR",
        "--distpath", str(folder / "dist"), "--workpath", str(folder / "work"), "--specpath", str(folder),
        "--add-data", f"{release}{os.pathsep}.",
        # A Python that was built here is three times as large with its symbols, and each release packs all of it.
        *(["--strip"] if sys.platform == "linux" and shutil.which("strip") else []), str(HERE / "till.py"),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return folder / "dist" / "till"


def make_frozen_bundle(folder: Path, frozen: Path, *, version: str, schema: int, behaviour: str = "good") -> Path:
    """A bundle of the frozen program; the releases differ in what they are told to be."""
    shutil.copytree(frozen, folder, symlinks=True)
    (folder / "_internal" / "release.json").write_text(
        json.dumps({"version": version, "schema": schema, "behaviour": behaviour})
    )
    program = "till.exe" if os.name == "nt" else "till"
    (folder / "tillkeeper.toml").write_text(FROZEN_CONFIG.format(program=program))
    copy_migrations(folder / "migrations", schema=schema)
    return folder


def copy_migrations(folder: Path, *, schema: int, mended: bool = False) -> Path:
    """The migrations up to a number."""
    folder.mkdir()
    for path in sorted((HERE / "migrations").glob("0*.py")):
        if int(path.name[:4]) <= schema:
            shutil.copy(path, folder / path.name)
    if mended and schema >= 6:
        replace_by_mended(folder, 6)
    return folder


def replace_by_mended(folder: Path, number: int) -> None:
    """Put the mended migration of a number in the place of the one that real shops disprove."""
    from dbsync.migrations.folder import load

    broken = load(folder)[number - 1].sha256
    path = next((HERE / "mended").glob(f"{number:04}*.py"))
    (folder / path.name).write_text(path.read_text(encoding="utf-8").replace("@BROKEN@", broken), encoding="utf-8")
