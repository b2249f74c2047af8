"""Migrations by a program of the app's own: `NNNN_name.toml` with its words. It gets a copy of the database.

    command = ["../pos-tool", "migrate", "--to", "7", "{database}"]
    timeout_seconds = 900

A first word with a slash is relative to the folder of migrations; `{python}` is the Python that runs dbsync. `proves`
has queries that return a true value once the program has done its work: a status of 0 alone proves nothing.
"""

from __future__ import annotations

import subprocess
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from dbsync.errors import MigrationFailed, MissingTool
from dbsync.migrations.engines import own_command_proof as proof
from dbsync.migrations.environment import PINNED, Environment
from dbsync.migrations.migration_file import checked_text
from dbsync.model import Migration
from dbsync.storage import children
from dbsync.storage.causes import of_this_machine
from dbsync.storage.connections import Connection
from dbsync.storage.platform import this_platform

TIMEOUT_SECONDS: Final = 900.0
LINE_LIMIT: Final = 200


def run(
    connection: Connection, migration: Migration, log: Callable[[str], None], environment: Environment = PINNED
) -> None:
    """Run the program on the copy that `connection` has open, and end the open transaction for that time.

    Raises:
        MigrationFailed: the program failed, or did not leave the copy as a valid database of the same file.
    """
    path = Path(connection.execute("PRAGMA database_list").fetchone()[2])
    if not path.name:
        raise _failed(migration, "a program needs a database in a file")
    said = tomllib.loads(checked_text(migration))
    was = proof.before(connection, path)
    connection.execute("COMMIT")
    _run(said, migration, path, log, environment)
    proof.check(connection, migration, path, was, proofs=said.get("proves", []), log=log)


def _run(
    said: dict[str, Any], migration: Migration, database: Path, log: Callable[[str], None], environment: Environment
) -> None:
    """Run the program and write its output to the log, line by line.

    The output goes to a file: a pipe would stay open as long as any of its child processes runs.
    """
    timeout_seconds = float(said.get("timeout_seconds", TIMEOUT_SECONDS))
    folder = migration.path.parent
    try:
        words = [_filled(str(word), database) for word in said["command"]]
    except children.NoPython as cause:
        raise _failed(migration, f"it could not be started: {cause}") from cause
    if "/" in words[0] and not Path(words[0]).is_absolute():
        words[0] = str(folder / words[0])
    with tempfile.TemporaryFile() as output:
        try:
            process = this_platform().start_tree(
                words,
                cwd=folder,
                env=children.isolated(DBSYNC_DATABASE=str(database), **environment.variables),
                output=output,
                umask=environment.umask,
            )
        except OSError as cause:
            why = f"it could not be started: {cause.strerror or cause}"
            machine = of_this_machine(cause)
            if machine is not None and not isinstance(cause, PermissionError):
                raise machine(operation="migrate", path=migration.path, cause=why) from cause
            raise MissingTool(operation="migrate", path=migration.path, cause=why) from cause
        try:
            process.wait(timeout=timeout_seconds)
        except subprocess.TimeoutExpired as cause:
            raise _failed(migration, f"it did not end within {timeout_seconds:.0f} seconds") from cause
        finally:
            # Child processes too: one that keeps writing would write into a copy that no longer exists.
            this_platform().end_tree(process)
        last = ""
        output.seek(0)
        for line in output:
            text = _readable(line)
            if text:
                log(f"   {text}")
                last = f": {text}"
    if process.returncode < 0:
        raise _failed(migration, f"it was ended by signal {-process.returncode}{last}")
    if process.returncode > 0:
        raise _failed(migration, f"it ended with status {process.returncode}{last}")


def _readable(line: bytes) -> str:
    """Return a line of output without characters that move a terminal's cursor or colour it."""
    text = line.decode("utf-8", "replace").rstrip()
    return "".join(letter if letter.isprintable() else " " for letter in text)[:LINE_LIMIT].rstrip()


def _filled(word: str, database: Path) -> str:
    filled = word.replace("{database}", str(database))
    return filled.replace("{python}", children.python()) if "{python}" in filled else filled


def _failed(migration: Migration, cause: str) -> MigrationFailed:
    return MigrationFailed(operation="migrate", path=migration.path, cause=cause)
