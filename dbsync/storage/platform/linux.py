"""Linux: /proc lists mounts and open files; cp copies, and shares blocks where the file system can (btrfs, XFS)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbsync.storage.platform.base import Barrier
from dbsync.storage.platform.posix import PosixPlatform

if TYPE_CHECKING:
    import subprocess

    from dbsync.progress import Told

PROC: Final = Path("/proc")
MOUNTS: Final = Path("/proc/self/mounts")
NETWORK_KINDS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "davfs", "fuse.davfs2", "fuse.sshfs"})
BARRIER_SINCE: Final = (5, 8)
"""Before, Linux's syncfs(2) told of no write that had failed."""
BARRIER_KINDS: Final = frozenset({"ext4", "xfs", "btrfs", "f2fs"})
"""File systems whose own code it calls: one that lies on another, such as FUSE or overlay, may do nothing."""
COPY_PROGRAM: Final = Path("/bin/cp")
CLONE_TIMEOUT_SECONDS: Final = 60.0
"""It takes milliseconds, plus writing out what the system still holds of the file."""
COPY_POLL_SECONDS: Final = 0.02
COPY_STALL_SECONDS: Final = 60.0
"""A copy that does not grow for so long is ended, as in `page_copy`."""


class SyncFs(Barrier):
    """syncfs(2). It tells of writes that failed since the folder was opened."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def sync(self) -> None:
        import ctypes

        if ctypes.CDLL(None, use_errno=True).syncfs(self._descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class LinuxPlatform(PosixPlatform):
    """Linux."""

    def barrier(self, folder: Path) -> Barrier | None:
        version = tuple(int(part) for part in os.uname().release.split(".")[:2] if part.isdecimal())
        lines = MOUNTS.read_bytes().decode("utf-8", errors="replace").split("\n")
        if version < BARRIER_SINCE or file_system_of(Path(os.path.realpath(folder)), lines) not in BARRIER_KINDS:
            return None
        return SyncFs(folder)

    def clone_file(self, *, source: Path, target: Path) -> bool:
        import subprocess

        from dbsync.storage.children import SYSTEM_ENVIRONMENT

        words = [str(COPY_PROGRAM), "--reflink=always", "--", str(source.absolute()), str(target.absolute())]
        nowhere = subprocess.DEVNULL
        try:
            done = subprocess.run(
                words, cwd="/", env=SYSTEM_ENVIRONMENT, stdin=nowhere, stdout=nowhere, stderr=nowhere, check=False,
                timeout=CLONE_TIMEOUT_SECONDS,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            target.unlink(missing_ok=True)
            return False
        if done.returncode != 0:
            target.unlink(missing_ok=True)
            return False
        return True

    def copy_file(self, *, source: Path, target: Path, told: Told) -> bool:
        import subprocess

        from dbsync.storage.children import SYSTEM_ENVIRONMENT

        words = [str(COPY_PROGRAM), "--reflink=never", "--", str(source.absolute()), str(target.absolute())]
        nowhere, is_complete = subprocess.DEVNULL, False
        try:
            total_bytes = source.stat().st_size
            with subprocess.Popen(
                words, cwd="/", env=SYSTEM_ENVIRONMENT, stdin=nowhere, stdout=nowhere, stderr=nowhere
            ) as process:
                try:
                    ended = _followed(process, target, total_bytes, told)
                finally:
                    # Also when the caller is interrupted: nothing may write the file after this.
                    process.kill()
            is_complete = ended and process.returncode == 0 and target.stat().st_size == total_bytes
        except OSError:
            is_complete = False
        finally:
            if not is_complete:
                target.unlink(missing_ok=True)
        return is_complete

    def allocate(self, descriptor: int, size_bytes: int) -> None:
        os.posix_fallocate(descriptor, 0, size_bytes)  # type: ignore[attr-defined,unused-ignore]

    def network_kind(self, path: Path) -> str:
        try:
            lines = MOUNTS.read_bytes().decode("utf-8", errors="replace").split("\n")
        except OSError:
            return ""
        kind = file_system_of(Path(os.path.realpath(path)), lines)
        return kind if kind in NETWORK_KINDS else ""

    def holder_of(self, path: Path) -> int | None:
        wanted = os.path.realpath(path)
        for entry in PROC.iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid() and _has_open(entry, wanted):
                return int(entry.name)
        return None


def file_system_of(path: Path, lines: Iterable[str]) -> str:
    """Return the kind of the file system of a path, by lines like those of MOUNTS: the longest mount point wins."""
    best, kind = -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        place = Path(_unescaped(fields[1]))
        if path.is_relative_to(place) and len(place.parts) >= best:
            best, kind = len(place.parts), fields[2]
    return kind


def _unescaped(name: str) -> str:
    """Return a mount point as a path: MOUNTS has a space, tab, newline and backslash in octal digits."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        name = name.replace(escape, character)
    return name


def _followed(process: subprocess.Popen[bytes], target: Path, total_bytes: int, told: Told) -> bool:
    """Tell how a copy grows until its process ends; return False if it has not grown for COPY_STALL_SECONDS."""
    import subprocess
    import time

    from dbsync.progress import Unit

    done_bytes, grown_at = 0, time.monotonic()
    while True:
        try:
            process.wait(COPY_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            size_bytes = target.stat().st_size
            if size_bytes > done_bytes:
                done_bytes, grown_at = size_bytes, time.monotonic()
                told(done_bytes, total_bytes, unit=Unit.BYTES)
            elif time.monotonic() - grown_at > COPY_STALL_SECONDS:
                return False
            continue
        told(total_bytes, total_bytes, unit=Unit.BYTES)
        return True


def _has_open(entry: Path, wanted: str) -> bool:
    try:
        return any(str(descriptor.readlink()) == wanted for descriptor in (entry / "fd").iterdir())
    except OSError:
        return False
