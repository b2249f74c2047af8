"""Linux: /proc lists mounts and open files; cp copies, and shares blocks where the file system can (btrfs, XFS)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from dbsync.storage.platform.base import Barrier
from dbsync.storage.platform.posix import PosixPlatform

if TYPE_CHECKING:
    import subprocess

    from dbsync.model import Disk
    from dbsync.progress import Told

PROC: Final = Path("/proc")
MOUNTS: Final = Path("/proc/self/mounts")
CMDLINE: Final = Path("/proc/cmdline")
DEVICES: Final = Path("/sys/dev/block")
NETWORK_KINDS: Final = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.curlftpfs", "fuse.davfs2",
    "fuse.gcsfuse", "fuse.glusterfs", "fuse.gvfsd-fuse", "fuse.juicefs", "fuse.onedriver", "fuse.rclone", "fuse.s3fs",
    "fuse.smbnetfs", "fuse.sshfs", "fuse.vmhgfs-fuse", "gfs2", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs",
    "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs",
})  # fmt: skip
"""File systems that other machines write too; of a virtual machine, those that its host shares with it."""
SHARED_BY_HOST: Final = frozenset({"9p", "virtiofs"})
"""As the root of a virtual machine they are its own disk."""
FICLONE: Final = 0x40049409
"""ioctl_ficlone(2), on the processors of terminals; another one refuses this number, and bytes are copied."""
MEMORY_KINDS: Final = frozenset({"tmpfs", "ramfs", "rootfs"})
MEMORY_DEVICES: Final = ("/dev/ram", "/dev/zram")
LAYERED_KINDS: Final = frozenset({"overlay", "aufs", "unionfs"})
"""They show one file system over another; a machine started from a disk that it must not change has one as its root."""
FORGETFUL_STARTS: Final = ("boot=overlay", "overlayroot=tmpfs", "overlayroot=crypt", "fsprotect")
"""Words of the kernel's command line with which changes go into memory: Raspberry Pi OS, Ubuntu's overlayroot, Debian's
fsprotect."""
LIVE_STARTS: Final = ("boot=live", "boot=casper")
KEEPING_STARTS: Final = ("persistence", "persistent")
"""Words that make a live system keep its changes (live-boot(7), casper(7))."""
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

    def share_blocks(self, *, source: int, target: int) -> bool:
        import fcntl

        try:
            fcntl.ioctl(target, FICLONE, source)
        except OSError:
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

    def disk_of(self, path: Path) -> Disk:
        from dbsync.model import Disk, DiskKind

        try:
            lines = MOUNTS.read_bytes().decode("utf-8", errors="replace").split("\n")
        except OSError:
            return Disk(DiskKind.UNKNOWN)
        mount = mount_of(Path(os.path.realpath(path)), lines)
        return _disk_of(mount, lines) if mount is not None else Disk(DiskKind.UNKNOWN)

    def holder_of(self, path: Path) -> int | None:
        wanted = os.path.realpath(path)
        for entry in PROC.iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid() and _has_open(entry, wanted):
                return int(entry.name)
        return None


class Mount(NamedTuple):
    """A line of MOUNTS."""

    source: str
    place: Path
    kind: str
    options: str


def mount_of(path: Path, lines: Iterable[str]) -> Mount | None:
    """Return the mount that a path lies on, by lines like those of MOUNTS: the longest mount point wins."""
    best, found = -1, None
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        place = Path(_unescaped(fields[1]))
        if path.is_relative_to(place) and len(place.parts) >= best:
            best, found = len(place.parts), Mount(_unescaped(fields[0]), place, fields[2], "".join(fields[3:4]))
    return found


def file_system_of(path: Path, lines: Iterable[str]) -> str:
    """Return the kind of the file system of a path, by lines like those of MOUNTS; empty if it is not known."""
    found = mount_of(path, lines)
    return found.kind if found is not None else ""


def _disk_of(mount: Mount, lines: list[str]) -> Disk:
    from dbsync.model import Disk, DiskKind

    if mount.kind in NETWORK_KINDS and not (mount.kind in SHARED_BY_HOST and mount.place == Path("/")):
        return Disk(DiskKind.NETWORK, mount.kind)
    if mount.kind in MEMORY_KINDS or mount.source.startswith(MEMORY_DEVICES):
        return Disk(DiskKind.FORGETS, mount.kind, f"the files of {mount.place} are in memory ({mount.kind})")
    if mount.kind in LAYERED_KINDS:
        return _layered(mount, lines)
    if _can_be_taken_out(mount, lines):
        return Disk(DiskKind.REMOVABLE, mount.kind, f"{mount.source} can be taken out")
    return Disk(DiskKind.FIXED, mount.kind)


def _layered(mount: Mount, lines: list[str]) -> Disk:
    """Return the disk of the layer that takes the changes; a container, or an early start, may hide it."""
    from dbsync.model import Disk, DiskKind

    options = dict(option.partition("=")[::2] for option in _unescaped(mount.options).split(","))
    upper = mount_of(Path(options["upperdir"]), lines) if "upperdir" in options else None
    if upper is not None and upper.kind not in LAYERED_KINDS:
        found = _disk_of(upper, lines)
        if found.kind is not DiskKind.FORGETS:
            return found._replace(file_system=mount.kind)
        cause = f"what is written below {mount.place} is kept in memory ({upper.kind} on {upper.place})"
        return Disk(DiskKind.FORGETS, mount.kind, cause)
    sign = _forgetful_start() if mount.place == Path("/") else ""
    if sign:
        cause = f"the machine was started with {sign}: its changes are kept in memory"
        return Disk(DiskKind.FORGETS, mount.kind, cause)
    return Disk(DiskKind.UNKNOWN, mount.kind)


def _forgetful_start() -> str:
    """Return the word of the kernel's command line that keeps changes of the root in memory; empty without one."""
    try:
        words = CMDLINE.read_text().split()
    except OSError:
        return ""
    is_kept = any(word.startswith(KEEPING_STARTS) for word in words)
    signs = (word for word in words if word.startswith(FORGETFUL_STARTS) or (word in LIVE_STARTS and not is_kept))
    return next(signs, "")


def _can_be_taken_out(mount: Mount, lines: list[str]) -> bool:
    """Return whether a disk is removable, or at USB, and is not the one that the system runs from."""
    device = _device_of(mount)
    if device is None or not _is_removable(device):
        return False
    root = mount_of(Path("/"), lines)
    return root is None or _device_of(root) != device


def _device_of(mount: Mount) -> Path | None:
    """Return the whole disk of a mount in /sys; None if it has none, or several."""
    try:
        is_named = mount.source.startswith("/dev/")
        number = Path(mount.source).stat().st_rdev if is_named else mount.place.stat().st_dev
    except OSError:
        return None
    found = Path(os.path.realpath(DEVICES / f"{os.major(number)}:{os.minor(number)}"))
    if not found.is_dir():
        return None
    return found.parent if (found / "partition").exists() else found


def _is_removable(device: Path) -> bool:
    try:
        flag = (device / "removable").read_text().strip()
    except OSError:
        flag = ""
    return flag == "1" or any(part.startswith("usb") for part in device.parts)


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
