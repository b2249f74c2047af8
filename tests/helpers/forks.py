"""Commands of the product, each a process of its own, forked from one that has loaded their modules.

Most of the time of a short command is the loading of modules: a quarter of the time of all tests. `scripts/test` asks
for forks by an environment variable; without it, with `--long`, and on other systems each command is a new Python. So
is one that gets other variables that count while Python starts.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import dbsync
import updater
from tests.helpers.places import ROOT

ASKED_BY: Final = "TILLKEEPER_TESTS_FORK"
MODULES: Final = ("dbsync", "updater")
REQUEST_LIMIT_BYTES: Final = 1 << 17
START_VARIABLES: Final = ("PYTHON", "LC_", "LANG", "LD_", "TZ", "COVERAGE", "SSL_")
"""Beginnings of the names that count while Python starts."""


def run(
    words: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | str | None = None,
    typed: str | None = None, timeout: float = 120.0,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run `python WORDS` to its end, as `subprocess.run` does that captures what it says; nobody is at the console."""
    wanted = {**os.environ} if env is None else dict(env)
    command = [sys.executable, *map(str, words)]
    if not (
        ASKED_BY in os.environ and sys.platform == "linux"
        and command[1:3] in (["-m", name] for name in MODULES) and _at_start(wanted) == _parent().began_with
    ):  # fmt: skip
        silent: dict[str, Any] = {"stdin": subprocess.DEVNULL} if typed is None else {"input": typed}
        return subprocess.run(
            command, env=wanted, cwd=cwd, capture_output=True, encoding="utf-8", timeout=timeout, check=False, **silent
        )
    request = json.dumps([command[2:], wanted, str(cwd or Path.cwd())]).encode()
    with _file() as source, _file() as output, _file() as errors:
        source.write((typed or "").encode())
        source.seek(0)
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                files = [source.fileno(), output.fileno(), errors.fileno(), theirs.fileno()]
                socket.send_fds(_parent().asked, [request], files)
            ours.settimeout(timeout)
            pid = int(ours.recv(16))
            try:
                status = int(ours.recv(16))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise
        said = []
        for file in (output, errors):
            file.seek(0)
            said.append(file.read().decode().replace("\r\n", "\n"))
    return subprocess.CompletedProcess(command, status, *said)


def _at_start(variables: Mapping[str, str]) -> dict[str, str]:
    found = {name: value for name, value in variables.items() if name.startswith(START_VARIABLES)}
    if found.get("PYTHONPATH") == str(ROOT):
        del found["PYTHONPATH"]
    return found


def _file() -> IO[bytes]:
    return os.fdopen(os.memfd_create("tests", os.MFD_CLOEXEC), "w+b")


class _Parent(NamedTuple):
    """The process that has loaded everything."""

    asked: socket.socket
    began_with: dict[str, str]


@cache
def _parent() -> _Parent:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        begin = f"from tests.helpers.forks import serve; serve({theirs.fileno()})"
        words = [sys.executable, "-c", begin]
        process = subprocess.Popen(words, pass_fds=[theirs.fileno()], cwd=ROOT, stdin=subprocess.DEVNULL)

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return _Parent(ours, _at_start(os.environ))


# ---------------------------------------------------------------------------------------------- the process that forks


def serve(number: int) -> None:
    """Fork for each request; each fork tells its pid and its exit status."""
    for package in (dbsync, updater):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(("__main__", ".windows", ".win32", ".macos", ".kit.signed")):
                importlib.import_module(module.name)
    gc.collect()
    gc.freeze()
    asked = socket.socket(fileno=number)
    while True:
        data, files, _, _ = socket.recv_fds(asked, REQUEST_LIMIT_BYTES, 4)
        if not data:
            return
        if os.fork() == 0:
            asked.close()
            _watch(data, *files)
            return
        for file in files:
            os.close(file)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _watch(data: bytes, source: int, output: int, errors: int, answer: int) -> None:
    """Fork the command, and tell how it ended; in the command, run it."""
    pid = os.fork()
    if pid:
        with socket.socket(fileno=answer) as told:
            told.send(f"{pid:<16}".encode())
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            told.send(f"{status:<16}".encode())
        os._exit(0)
    words, variables, folder = json.loads(data)
    os.close(answer)
    for number, file in enumerate((source, output, errors)):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.argv[:] = words
    sys.path[0] = folder
    status = 1
    try:
        status = _ended(words[0])
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        # Without taking apart what the parent has loaded: each page of it would be copied.
        os._exit(status)


def _ended(module: str) -> int:
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as done:
        if done.code is None or isinstance(done.code, int):
            return done.code or 0
        print(done.code, file=sys.stderr)
        return 1
    return 0
