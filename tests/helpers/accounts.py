"""dbsync as another account: a child process becomes one, for tests that root runs."""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Final, NamedTuple

import pytest

import dbsync
from tests.helpers.places import ROOT

CLERK: Final = 12345
"""An account that owns the till's data; it need not be on any list."""
as_root = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root can become another account"
)


CLERK_B: Final = 12346
"""Another account of the same till."""
CLERKS: Final = 12400
"""The group of both."""
NAMES: Final = {"clerk-a": CLERK, "clerk-b": CLERK_B}


class Done(NamedTuple):
    """How a command ended."""

    status: int
    said: str


OPENED_AS_ROOT: Final = "opened with the rights of root: "


def run(*words: object, user: int = 0, umask: int = 0o022, watched: Path | None = None) -> Done:
    """A command of dbsync as an account; 0 is root. The child is forked: Python's own folders may be closed to it.

    It says so if it does anything in the watched folder with the rights of root, except looking at names. On Windows
    there is no root and nothing to fork: it runs as any other program.
    """
    if sys.platform == "win32":
        command = [sys.executable, "-m", "dbsync", *map(str, words)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
            check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout)
    _load()
    with TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
                os.umask(umask)
                os.chdir("/")
                if user:
                    os.setgroups([])
                    os.setgid(user)
                    os.setuid(user)
                if watched is not None:
                    sys.addaudithook(partial(_told_as_root, f"{watched}/"))
                status = _command([str(word) for word in words])
                sys.stdout.flush()
                sys.stderr.flush()
            except BaseException:
                os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(status)
        _, ended = os.waitpid(child, 0)
        output.seek(0)
        return Done(os.waitstatus_to_exitcode(ended), output.read().decode())


def _told_as_root(folder: str, event: str, given: tuple[object, ...]) -> None:
    if os.geteuid() == 0:
        for value in given:
            path = os.fsdecode(value) if isinstance(value, str | bytes | Path) else ""
            if folder in f"{path}/":
                os.write(2, f"{OPENED_AS_ROOT}{event} {path}\n".encode())


def _command(words: list[str]) -> int:
    from dbsync.cli.main import main

    sys.argv = ["dbsync", *words]
    try:
        main(words, prog_name="dbsync")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    return 0


@cache
def _load() -> None:
    for module in pkgutil.walk_packages(dbsync.__path__, "dbsync."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("ast", "fcntl", "fnmatch", "glob", "hashlib", "shlex", "tomllib", "uuid", "tempfile", "subprocess"):
        importlib.import_module(name)
    for codec in ("utf-8-sig", "utf-16-le", "utf-16-be", "idna", "latin-1"):
        "x".encode(codec)
    from dbsync.storage.platform import this_platform

    this_platform()


@contextmanager
def folder_of(user: int) -> Iterator[Path]:
    """A folder that an account owns and can reach; the folders of pytest belong to root alone."""
    with TemporaryDirectory(prefix="tillkeeper-accounts-") as made:
        os.chown(made, user, user)
        yield Path(made)


@cache
def python_for_all() -> str:
    """A Python 3.11 or later that every account can run; the test is skipped where there is none.

    The tests' own often lies in root's home. What it runs needs no library: the launcher's side has none.
    """
    import shutil

    question = "import sys; print(sys.version_info >= (3, 11))"
    for path in dict.fromkeys([sys.executable, *filter(None, (shutil.which("python3", path=os.defpath),))]):
        try:
            asked = subprocess.run(
                [path, "-I", "-c", question], user=CLERK, group=CLERK, extra_groups=[], cwd="/", capture_output=True,
                text=True, check=False,
            )  # fmt: skip
        except OSError:
            continue
        if asked.stdout.strip() == "True":
            return path
    pytest.skip("no Python 3.11 here can be run by another account than root")


def updater(*words: object, user: int = 0, umask: int = 0o022, groups: tuple[int, ...] = (), **values: str) -> Done:
    """`updater …` as a process of an account, by a Python that the account can run."""
    with started(*words, user=user, umask=umask, groups=groups, **values) as process:
        try:
            said, _ = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Done(process.returncode, said)


def started(
    *words: object, user: int = 0, umask: int = 0o022, groups: tuple[int, ...] = (), **values: str
) -> subprocess.Popen[str]:
    """The same that runs on, in a session of its own."""
    if not os.access(ROOT, os.R_OK) or not ROOT.stat().st_mode & 0o005:
        pytest.skip("the repository cannot be read by other accounts")
    return subprocess.Popen(
        [python_for_all(), "-m", "updater", *map(str, words)], cwd="/", user=user, group=user, extra_groups=groups,
        umask=umask, env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/", **values},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
        start_new_session=True,
    )  # fmt: skip


def made_known(patch: pytest.MonkeyPatch) -> None:
    """Let this process find the clerks and their group by name: no test adds accounts to the machine."""
    from dbsync.storage import children
    from dbsync.storage.platform import this_platform
    from dbsync.storage.platform.base import Account
    from updater.host import this_host

    host, platform = type(this_host()), type(this_platform())
    real, real_group = platform.account, host.group
    clerks = {name: Account(name, user, user, (user, CLERKS), Path("/")) for name, user in NAMES.items()}
    patch.setattr(platform, "account", lambda self, name: clerks.get(name) or real(self, name))
    # A process with the till's rights is started by the same name, with a Python that the account can run.
    real_command = children.command

    def command(module: str) -> list[str]:
        found = real_command(module)
        return [python_for_all(), *found[1:]] if module == "updater.terminal.worker" else found

    patch.setattr(children, "command", command)
    from updater.terminal import installation

    patch.setattr(installation, "_own_python", python_for_all)
    patch.setattr(host, "group", lambda self, name: CLERKS if name == "clerks" else real_group(self, name))


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder of root's that every account may enter."""
    with TemporaryDirectory(prefix="tillkeeper-accounts-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def on_disk(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Everything below a folder: owner, group and mode, by path; what a test of rights ends with."""
    found: dict[str, tuple[int, int, str]] = {}
    for path in sorted([folder, *folder.rglob("*")]):
        status = path.lstat()
        found[path.relative_to(folder).as_posix()] = (status.st_uid, status.st_gid, f"{status.st_mode & 0o7777:04o}")
    return found


def run_updater(*words: object) -> Done:
    """`updater …` as root, in this process: it finds the clerks of `made_known` by name."""
    import click
    from click.testing import CliRunner

    from updater.cli.main import commands

    assert isinstance(commands, click.Group)
    done = CliRunner().invoke(commands, [str(word) for word in words])
    return Done(done.exit_code, done.output)
