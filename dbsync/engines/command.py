"""A migration that a program of the app's own does: `NNNN_name.toml` with its words. It gets a copy of the database.

    command = ["../pos-tool", "migrate", "--to", "7", "{database}"]
    timeout_seconds = 900

A first word with a slash is taken from the folder of migrations; `{python}` is the Python that runs dbsync.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from dbsync.errors import MigrationFailed
from dbsync.migrations import checked_text
from dbsync.model import Migration

TIMEOUT_SECONDS: Final = 900.0
LINE_LIMIT: Final = 200


def run(migration: Migration, database: Path, log: Callable[[str], None]) -> None:
    """Runs the program on a database that nobody else has; what it prints goes to the log, line by line.

    Raises:
        MigrationFailed: it could not be started, ended with another status than 0, or took too long and was ended.
    """
    said = tomllib.loads(checked_text(migration))
    timeout_seconds = float(said.get("timeout_seconds", TIMEOUT_SECONDS))
    folder = migration.path.parent
    words = [_filled(str(one), database) for one in said["command"]]
    if "/" in words[0] and not Path(words[0]).is_absolute():
        words[0] = str(folder / words[0])
    try:
        process = subprocess.Popen(
            words, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "DBSYNC_DATABASE": str(database)}, start_new_session=sys.platform != "win32",
        )  # fmt: skip
    except OSError as cause:
        raise _failed(migration, f"it could not be started: {cause.strerror or cause}") from cause
    try:
        output, _ = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired as cause:
        raise _failed(migration, f"it did not end within {timeout_seconds:.0f} seconds") from cause
    finally:
        _end(process)
    lines = [one.rstrip()[:LINE_LIMIT] for one in output.decode("utf-8", "replace").splitlines() if one.strip()]
    for line in lines:
        log(f"   {line}")
    if process.returncode != 0:
        last = f": {lines[-1]}" if lines else ""
        raise _failed(migration, f"it ended with status {process.returncode}{last}")


def _filled(word: str, database: Path) -> str:
    return word.replace("{database}", str(database)).replace("{python}", sys.executable)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The program and whatever it started: something that goes on writing would write into a copy that is gone."""
    if sys.platform != "win32":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _failed(migration: Migration, cause: str) -> MigrationFailed:
    return MigrationFailed(operation="migrate", path=migration.path, cause=cause)
