"""dbsync as another account: a child process becomes one, for tests that root runs."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Final, NamedTuple

import pytest

import dbsync

CLERK: Final = 12345
"""An account that owns the till's data; it need not be on any list."""
as_root = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root can become another account"
)


class Done(NamedTuple):
    """How a command ended."""

    status: int
    said: str


def run(*words: object, user: int = 0, umask: int = 0o022) -> Done:
    """A command of dbsync as an account; 0 is root. The child is forked: Python's own folders may be closed to it."""
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
