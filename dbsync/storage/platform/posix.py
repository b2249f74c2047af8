"""The part that Linux and macOS share: advisory locks, synced folders, process groups."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbsync.storage.platform.base import Platform

if TYPE_CHECKING:
    import subprocess
    from typing import IO, NoReturn

NICER_BY: Final = 10
ZEROS_BYTES: Final = 1 << 20


class PosixPlatform(Platform):
    """A system with flock, sessions and signals."""

    shares_locks = True

    def try_lock(self, descriptor: int, *, shared: bool) -> bool:
        import fcntl

        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def open_binary(self, path: Path, flags: int, *, mode: int) -> int:
        return os.open(path, flags, mode)

    def replace(self, *, source: Path, target: Path) -> None:
        # An open file never blocks a rename here.
        source.replace(target)

    def sqlite_temporary_folder(self) -> Path | None:
        # The order of SQLite's `unixTempFileDir`, which asks for the same rights.
        named = (os.environ.get(name) for name in ("SQLITE_TMPDIR", "TMPDIR"))
        for folder in (*named, "/var/tmp", "/usr/tmp", "/tmp", "."):  # noqa: S108 - SQLite's own list
            if folder and Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK):
                return Path(folder)
        return None

    def sync_file(self, path: Path) -> None:
        _sync(path)

    def sync_folder(self, folder: Path) -> None:
        _sync(folder)

    def allocate(self, descriptor: int, size_bytes: int) -> None:
        # Written, because an extended file has no blocks here.
        zeros = memoryview(bytes(ZEROS_BYTES))
        while size_bytes > 0:
            size_bytes -= os.write(descriptor, zeros[: min(size_bytes, ZEROS_BYTES)])

    def lower_priority(self) -> None:
        # Linux takes the I/O priority from the nice value (man7.org, ioprio_set(2)).
        try:
            os.nice(NICER_BY)
        except OSError:
            return

    def start_tree(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        output: IO[bytes] | int,
        source: int | None = None,
        errors: int | None = None,
    ) -> subprocess.Popen[bytes]:
        import subprocess

        return subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL if source is None else source,
            stdout=output,
            stderr=subprocess.STDOUT if errors is None else errors,
            start_new_session=True,
        )

    def end_tree(self, process: subprocess.Popen[bytes]) -> None:
        import signal
        from contextlib import suppress

        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def command_line(self, words: Sequence[str]) -> str:
        import shlex

        return shlex.join(words)

    def termination_handled(self, handler: Callable[[int], NoReturn]) -> AbstractContextManager[None]:
        import signal

        from dbsync.storage.platform.signals import handled

        return handled((signal.SIGTERM,), handler)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
