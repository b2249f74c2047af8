"""macOS: lsof lists open files. Written from the manual pages; untested."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbsync.storage.platform.posix import PosixPlatform

if TYPE_CHECKING:
    from dbsync.model import Disk
    from dbsync.progress import Told

LOCAL, REMOVABLE = 0x1000, 0x200
"""MNT_LOCAL and MNT_REMOVABLE (sys/mount.h of XNU)."""
FLAGS_AT, NAME_AT, NAME_SIZE_BYTES, PLACE_AT, PATH_SIZE_BYTES = 64, 72, 16, 88, 1024
"""f_flags, f_fstypename and f_mntonname in a `struct statfs` with 64-bit inodes."""
STATFS_SIZE_BYTES: Final = 4096
"""More than the 2168 bytes of the structure."""
FULL_SYNC: Final = 51
"""F_FULLFSYNC (sys/fcntl.h of XNU)."""
NO_FULL_SYNC: Final = (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY, errno.ENODEV)
LSOF: Final = "/usr/sbin/lsof"
ASK_TIMEOUT_SECONDS: Final = 10.0


class MacPlatform(PosixPlatform):
    """macOS."""

    def sync_open(self, descriptor: int) -> None:
        """Ask the disk to empty its cache: `fsync` leaves there what a power cut takes (fsync(2) of macOS)."""
        import fcntl

        try:
            fcntl.fcntl(descriptor, FULL_SYNC)
        except OSError as cause:
            # File systems that do not know it, of networks above all; SQLite does the same then.
            if cause.errno not in NO_FULL_SYNC:
                raise
            super().sync_open(descriptor)

    def clone_file(self, *, source: Path, target: Path) -> bool:
        """Return false: `cp -c` shares blocks on APFS, but falls back to copying without a word."""
        return False

    def share_blocks(self, *, source: int, target: int) -> bool:
        """Return false: APFS clones by name alone."""
        return False

    def copy_file(self, *, source: Path, target: Path, told: Told) -> bool:
        """Return false: whether its `cp` shares blocks depends on its version, and there was none to try it on."""
        return False

    def disk_of(self, path: Path) -> Disk:
        from dbsync.model import Disk, DiskKind

        nearest = Path(os.path.realpath(path))
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        try:
            return disk(_statfs(nearest))
        except (OSError, AttributeError):
            return Disk(DiskKind.UNKNOWN)

    def holder_of(self, path: Path) -> int | None:
        import subprocess

        from dbsync.storage.children import SYSTEM_ENVIRONMENT

        try:
            asked = subprocess.run(
                [LSOF, "-t", str(path.absolute())], cwd="/", env=SYSTEM_ENVIRONMENT, stdin=subprocess.DEVNULL,
                capture_output=True, check=False, timeout=ASK_TIMEOUT_SECONDS,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None
        found = asked.stdout.split()
        return int(found[0]) if found else None


def disk(found: bytes) -> Disk:
    """Return the disk that a `struct statfs` with 64-bit inodes describes (sys/mount.h of XNU)."""
    from struct import unpack_from

    from dbsync.model import Disk, DiskKind

    (flags,) = unpack_from("=I", found, FLAGS_AT)
    name = found[NAME_AT : NAME_AT + NAME_SIZE_BYTES].partition(b"\0")[0].decode("ascii", errors="replace").lower()
    place = found[PLACE_AT : PLACE_AT + PATH_SIZE_BYTES].partition(b"\0")[0].decode(errors="replace")
    if not flags & LOCAL:
        return Disk(DiskKind.NETWORK, name)
    if flags & REMOVABLE:
        return Disk(DiskKind.REMOVABLE, name, f"{place} can be taken out, or is an image")
    if name == "tmpfs":
        return Disk(DiskKind.FORGETS, name, f"the files of {place} are in memory ({name})")
    return Disk(DiskKind.FIXED, name)


def _statfs(path: Path) -> bytes:
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    # Intel machines have the older structure under the plain name (man 2 statfs).
    call = getattr(library, "statfs$INODE64", None) or library.statfs
    buffer = ctypes.create_string_buffer(STATFS_SIZE_BYTES)
    if call(os.fsencode(path), buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    return buffer.raw
