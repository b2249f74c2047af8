"""Two accounts on one terminal: a Python that both can run, an account for the till, and processes with its rights."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import site
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final, NamedTuple

import pytest

from tests.helpers.places import ROOT, moved
from tests.helpers.terminal import Till
from updater.model import Journal
from updater.terminal import events

COMMAND_SECONDS: Final = 120.0
SYSTEM_PYTHON: Final = Path("/usr/bin/python3")
TILLS: Final = ("nobody", "daemon", "games")
"""Accounts that every system has, and that own nothing of the product's. None is made for a test."""


class Clerk(NamedTuple):
    """The account that runs the till."""

    name: str
    user: int
    group: int

    def run(
        self, *words: str | Path, env: dict[str, str] | None = None, umask: int = 0o022, source: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """A process with the rights of the clerk and no others."""
        return subprocess.run(
            [str(word) for word in words], cwd="/", env={"PATH": os.defpath, "HOME": "/", **(env or {})}, umask=umask,
            user=self.user, group=self.group, extra_groups=[], input=source, capture_output=True, encoding="utf-8",
            timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip

    def start(self, *words: str | Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """A process of the clerk's that runs on."""
        return subprocess.Popen(
            [str(word) for word in words], cwd="/", env={"PATH": os.defpath, "HOME": "/", **(env or {})},
            user=self.user, group=self.group, extra_groups=[], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            encoding="utf-8",
        )  # fmt: skip


@cache
def clerk() -> Clerk:
    """The account that plays the till's."""
    for name in TILLS:
        try:
            import pwd

            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Clerk(name, found.pw_uid, found.pw_gid)
    pytest.skip("this system has no account for a till")


@cache
def python() -> Path:
    """A Python with the product and its libraries that every account can run; the test is skipped without one.

    The one of the tests may lie in a closed home. Then it is that of the system, if its version is the same, in an
    environment of its own; else a copy.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can become another account")
    # mkdtemp closes it to everybody else.
    folder = Path(mkdtemp(prefix="tillkeeper-python-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = _of_the_system(folder) or _copied(folder)
    libraries = next(Path(place) for place in site.getsitepackages() if Path(place).is_dir())
    packages = next((made.parent.parent / "lib").glob("python3*/site-packages"))
    readable = libraries if _runs(Path("/bin/ls"), str(libraries)) else _open_copy(libraries, folder / "libraries")
    code = ROOT if _runs(Path("/bin/ls"), str(ROOT / "tests")) else _open_code(folder / "code")
    (packages / "shared.pth").write_text(f"{code}\n{readable}\n")
    if not _runs(made, "-I", "-c", "import sqlite3, click, tuf, updater.settings, tests.sample_till"):
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip("there is no Python that another account can run")
    return made


def code() -> Path:
    """The product's source where every account can read it."""
    packages = next((python().parent.parent / "lib").glob("python3*/site-packages"))
    return Path((packages / "shared.pth").read_text().splitlines()[0])


def _of_the_system(folder: Path) -> Path | None:
    same = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    if not SYSTEM_PYTHON.exists() or not _runs(SYSTEM_PYTHON, "-I", "-c", same):
        return None
    made = folder / "environment"
    words = [str(SYSTEM_PYTHON), "-m", "venv", "--without-pip", str(made)]
    done = subprocess.run(words, capture_output=True, check=False, umask=0o022)
    return made / "bin" / "python3" if done.returncode == 0 else None


def _copied(folder: Path) -> Path:
    base = _open_copy(Path(sys.base_prefix), folder / "base", "test", "tests", "idlelib", "*.a", "site-packages")
    made = folder / "environment"
    program = base / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    subprocess.run(
        [program, "-m", "venv", "--without-pip", "--symlinks", made], capture_output=True, check=True, umask=0o022,
        env={"PATH": os.defpath, "LD_LIBRARY_PATH": str(base / "lib")},
    )  # fmt: skip
    return made / "bin" / "python3"


def _open_copy(source: Path, target: Path, *left_out: str) -> Path:
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", *left_out))
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) | (0o555 if path.is_dir() else 0o444))
    return target


def _open_code(target: Path) -> Path:
    target.mkdir()
    for name in ("dbsync", "updater", "tests", "scripts"):
        _open_copy(ROOT / name, target / name)
    return target


def _runs(*words: str | Path) -> bool:
    return clerk().run(*words).returncode == 0


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder of root that everybody may enter; those of pytest are closed."""
    folder = Path(mkdtemp(prefix="tillkeeper-two-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def snapshot(*folders: Path, without: Path | None = None) -> dict[str, tuple[object, ...]]:
    """Every entry below some folders: kind, mode, owner, group, content or target. Nothing is followed."""
    found: dict[str, tuple[object, ...]] = {}
    for top in folders:
        for path in (top, *sorted(top.rglob("*"))):
            if without is not None and path.is_relative_to(without):
                continue
            status = path.lstat()
            content: object = None
            if stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = str(path.readlink())
            found[str(path)] = (oct(status.st_mode), status.st_uid, status.st_gid, content)
    return found


class TwoTill(Till):
    """A terminal whose agent is root and whose app runs as the clerk; its processes run with a Python for both."""

    def install(self, root: Path, url: str, *, bundle: Path | None = None) -> None:
        """Root makes the folder a terminal of two accounts."""
        self.folder.mkdir()
        done = self.agent(
            "install", "--root", str(root), "--url", url, "--settings", str(self.settings_path),
            "--program", str(self.folder / "program"), "--state", str(self.folder / "state"),
            "--data", str(self.folder / "data"), "--backup-prefix", "auraswift", "--till-user", clerk().name,
            "--interpreter", f"python={python()}", "--accept-disk", "forgets",
            *(("--bundle", str(bundle)) if bundle is not None else ()),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert self.settings.till_user == clerk().name
        self.receipts.touch()
        os.chown(self.receipts, clerk().user, clerk().group)
        assert self.strangers() == []

    def fill(self, *, schema: int = 2, items_count: int = 400, duplicate_sku: bool = False) -> None:
        """The shop moves in."""
        super().fill(schema=schema, items_count=items_count, duplicate_sku=duplicate_sku)
        for path in (self.settings.data, *self.settings.data.rglob("*")):
            os.chown(path, clerk().user, clerk().group, follow_symlinks=False)

    def copied_to(self, folder: Path) -> TwoTill:
        """A terminal like this one in another folder, with all owners and modes; only its settings name the folder."""
        subprocess.run(["/bin/cp", "-a", "--", str(self.folder), str(folder)], check=True, env={"PATH": os.defpath})
        made = TwoTill(folder)
        moved(made.settings_path, source=self.folder, target=folder)
        return made

    def words(self, *words: str) -> list[str]:
        """`updater …` with the Python of both."""
        return [str(python()), "-I", "-m", "updater", *words]

    def environment(self, **values: str) -> dict[str, str]:
        """The environment of the processes."""
        return {
            "PATH": os.defpath, "HOME": "/", "TILLKEEPER_SETTINGS": str(self.settings_path),
            "SAMPLE_TILL_RECEIPTS": str(self.receipts), **values,
        }  # fmt: skip

    umask = 0o022
    """Of all processes, of both accounts."""

    def agent(self, *words: str, **values: str) -> subprocess.CompletedProcess[str]:
        """`updater …` as root."""
        return subprocess.run(
            self.words(*words), cwd="/", env=self.environment(**values), umask=self.umask, capture_output=True,
            stdin=subprocess.DEVNULL, encoding="utf-8", timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip

    def run(self, *words: str, **values: str) -> subprocess.CompletedProcess[str]:
        """`updater …` as the clerk."""
        return clerk().run(*self.words(*words), env=self.environment(**values), umask=self.umask)

    def script(self, text: str, *words: str) -> subprocess.CompletedProcess[str]:
        """A program of root's with the terminal's settings in `settings`."""
        return subprocess.run(
            [str(python()), "-I", "-c", self.with_settings(text), *words], cwd="/", env=self.environment(),
            capture_output=True, stdin=subprocess.DEVNULL, encoding="utf-8", timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip

    def with_settings(self, text: str) -> str:
        """A program with the terminal's settings in `settings`."""
        loaded = f"settings = load(Path({str(self.settings_path)!r}), {{}})"
        return f"from pathlib import Path\nfrom updater.settings import load\n{loaded}\n{text}"

    def journal(self) -> Journal:
        """As root reads it."""
        found = self.state().read_journal()[0]
        assert found is not None
        return found

    def told(self) -> list[dict[str, Any]]:
        """All events of both accounts, oldest first."""
        return events.read(self.settings.private, self.settings.shared)

    def alarms(self) -> list[dict[str, Any]]:
        """The reports in the agent's outbox."""
        return [json.loads(path.read_bytes()) for path in sorted(self.settings.outbox.glob("*.json"))]

    def of_the_agent(self) -> dict[str, tuple[object, ...]]:
        """Everything that belongs to the agent, with owners and modes."""
        return snapshot(self.settings.state, self.settings.program, without=self.settings.shared)

    def strangers(self) -> list[str]:
        """Entries that do not belong to the account that writes them, or that the other one may write."""
        found = []
        settings = self.settings
        for path in (settings.state, *settings.state.rglob("*"), settings.program, *settings.program.rglob("*")):
            status = path.lstat()
            if path == settings.shared or path.is_relative_to(settings.shared):
                if status.st_uid != clerk().user:
                    found.append(f"{path}: of {status.st_uid}")
            elif status.st_uid != 0 or (
                status.st_mode & 0o022 and not stat.S_ISLNK(status.st_mode) and path.name != "terminal.lock"
            ):
                found.append(f"{path}: of {status.st_uid}, {status.st_mode:o}")
        mine = (settings.data, *settings.data.rglob("*"))
        found += [f"{path}: of root" for path in mine if path.lstat().st_uid != clerk().user]
        return found
