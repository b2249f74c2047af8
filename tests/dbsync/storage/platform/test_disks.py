"""Disks: what each system says of the place of a file, by real mounts where this machine can make them."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from dbsync.model import Disk, DiskKind
from dbsync.storage.platform import linux, macos, this_platform, windows
from tests.helpers.accounts import as_root
from tests.helpers.places import ROOT
from tests.helpers.systems import on

ASK = """
import sys
from pathlib import Path
from dbsync.storage.platform import this_platform
found = this_platform().disk_of(Path(sys.argv[1]))
print(found.kind, found.file_system)
"""
EXT4 = "/dev/vda / ext4 rw 0 0"
OVERLAYROOT = "overlayroot / overlay rw,lowerdir=/media/root-ro,upperdir=/media/root-rw/overlay,workdir=/w 0 0"
DOCKER = "overlay / overlay rw,lowerdir=/var/lib/docker/l/A:/var/lib/docker/l/B,upperdir=/var/lib/docker/C/diff 0 0"


def asked(tmp_path: Path, *lines: str, path: str, monkeypatch: pytest.MonkeyPatch, start: str = "quiet") -> Disk:
    """Return the disk of a path, as Linux tells it on a machine with these mounts and these words of its kernel."""
    for name, text in (("MOUNTS", "\n".join(lines) + "\n"), ("CMDLINE", start)):
        (tmp_path / name).write_text(text, encoding="utf-8")
        monkeypatch.setattr(linux, name, tmp_path / name)
    return linux.LinuxPlatform().disk_of(Path(path))


@pytest.mark.parametrize(
    ("lines", "path", "start", "wanted"),
    [
        ((EXT4,), "/till", "quiet", (DiskKind.FIXED, "ext4")),
        ((EXT4, "server:/tills /till nfs4 rw 0 0"), "/till/data", "quiet", (DiskKind.NETWORK, "nfs4")),
        ((EXT4, "C:\\134 /mnt/c 9p rw 0 0"), "/mnt/c/till", "quiet", (DiskKind.NETWORK, "9p")),
        (("none / 9p rw 0 0",), "/till", "quiet", (DiskKind.FIXED, "9p")),
        ((EXT4, "tmpfs /till tmpfs rw 0 0"), "/till", "quiet", (DiskKind.FORGETS, "tmpfs")),
        ((EXT4, "/dev/zram0 /till ext4 rw 0 0"), "/till", "quiet", (DiskKind.FORGETS, "ext4")),
        ((OVERLAYROOT, "tmpfs-root /media/root-rw tmpfs rw 0 0"), "/till", "quiet", (DiskKind.FORGETS, "overlay")),
        ((OVERLAYROOT, "/dev/mmcblk0p5 /media/root-rw ext4 rw 0 0"), "/till", "quiet", (DiskKind.FIXED, "overlay")),
        ((OVERLAYROOT, "/dev/sda2 /till ext4 rw 0 0"), "/till/x", "overlayroot=tmpfs", (DiskKind.FIXED, "ext4")),
        ((DOCKER,), "/till", "quiet", (DiskKind.UNKNOWN, "overlay")),
        ((DOCKER,), "/till", "quiet boot=overlay", (DiskKind.FORGETS, "overlay")),
        ((DOCKER,), "/till", "boot=live components", (DiskKind.FORGETS, "overlay")),
        ((DOCKER,), "/till", "boot=live persistence", (DiskKind.UNKNOWN, "overlay")),
        ((DOCKER,), "/till", "fsprotect=1G", (DiskKind.FORGETS, "overlay")),
        ((), "/till", "quiet", (DiskKind.UNKNOWN, "")),
    ],
)
def test_linux_knows_what_a_mount_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...], path: str, start: str,
    wanted: tuple[DiskKind, str],
) -> None:  # fmt: skip
    found = asked(tmp_path, *lines, path=path, start=start, monkeypatch=monkeypatch)
    assert (found.kind, found.file_system) == wanted
    assert bool(found.detail) == (found.kind is DiskKind.FORGETS), "why it forgets is said"


@pytest.mark.parametrize(
    ("flag", "bus", "wanted"),
    [("0", "pci0000:00/ata1", DiskKind.FIXED), ("1", "pci0000:00/ata1", DiskKind.REMOVABLE),
     ("0", "pci0000:00/usb2/2-1", DiskKind.REMOVABLE)],
)  # fmt: skip
def test_linux_knows_a_disk_that_can_be_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str, bus: str, wanted: DiskKind
) -> None:
    """The devices of a machine as /sys shows them: a partition is a folder in that of its disk."""
    for name, disk in (("1:5", "devices/root/block/vda"), ("1:3", f"devices/{bus}/block/sdb")):
        device = tmp_path / disk
        part = device / f"{device.name}1"
        part.mkdir(parents=True)
        (part / "partition").write_text("1")
        (device / "removable").write_text(flag if name == "1:3" else "1")
        (tmp_path / "numbers").mkdir(exist_ok=True)
        (tmp_path / "numbers" / name).symlink_to(part)
    monkeypatch.setattr(linux, "DEVICES", tmp_path / "numbers")
    # /dev/null is device 1:3, and stands for a partition; /dev/zero, which is 1:5, for that of the system.
    lines = ("/dev/zero / ext4 rw 0 0", "/dev/null /till ext4 rw 0 0")
    assert asked(tmp_path, *lines, path="/till", monkeypatch=monkeypatch).kind is wanted
    assert asked(tmp_path, *lines, path="/", monkeypatch=monkeypatch).kind is DiskKind.FIXED, "the system's own disk"


LAYERS = (
    "mount -t tmpfs t {a} && mkdir {a}/up {a}/work {a}/low && "
    "mount -t overlay o -o lowerdir={a}/low,upperdir={a}/up,workdir={a}/work {b}"
)
MOUNTS = {
    "tmpfs": ("mount -t tmpfs t {a}", "{a}", "forgets tmpfs"),
    "overlay in memory": (
        LAYERS, "{b}/till", "forgets overlay",
    ),
    "ext4": ("truncate -s 8M {i} && mkfs.ext4 -q {i} && mount -o loop {i} {a}", "{a}/till/data", "fixed ext4"),
    "bind": ("mount -t tmpfs t {a} && mkdir {a}/x && mount --bind {a}/x {b}", "{b}", "forgets tmpfs"),
    "link": ("mount -t tmpfs t {a} && ln -s {a} {b}/till", "{b}/till/data", "forgets tmpfs"),
}  # fmt: skip


@as_root
@pytest.mark.parametrize("name", MOUNTS)
def test_a_real_mount_is_known_for_what_it_is(tmp_path: Path, name: str) -> None:
    command, path, wanted = MOUNTS[name]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    names = {"a": tmp_path / "a", "b": tmp_path / "b", "i": tmp_path / "image"}
    program = " ".join(f"'{word}'" for word in (sys.executable, "-c", ASK, path.format(**names)))
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{command.format(**names)} >/dev/null 2>&1 && {program}"],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, wanted), done.stdout + done.stderr


def test_a_folder_that_does_not_exist_yet_is_on_the_disk_of_the_one_above(tmp_path: Path) -> None:
    assert this_platform().disk_of(tmp_path / "a" / "b") == this_platform().disk_of(tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------- other systems


def statfs(flags: int, name: str, place: str) -> bytes:
    """A `struct statfs` with 64-bit inodes, as macOS fills it."""
    numbers = struct.pack("=IiQQQQQiiIIII", 4096, 1 << 20, 10**6, 10**5, 10**5, 1, 1, 1, 2, 501, 26, flags, 0)
    return numbers + name.encode().ljust(16, b"\0") + place.encode().ljust(1024, b"\0") + bytes(1024 + 32)


@pytest.mark.parametrize(
    ("flags", "name", "wanted"),
    [
        (0x1000 | 0x4000, "apfs", DiskKind.FIXED),
        (0x1000 | 0x200, "hfs", DiskKind.REMOVABLE),
        (0, "smbfs", DiskKind.NETWORK),
        (0, "nfs", DiskKind.NETWORK),
        (0x1000, "tmpfs", DiskKind.FORGETS),
        (0x1000, "msdos", DiskKind.FIXED),
    ],
)
def test_the_answer_of_macos_is_read(flags: int, name: str, wanted: DiskKind) -> None:
    answer = statfs(flags, name, "/Volumes/Till")
    assert len(answer) == 2168, "the size of the structure (sys/mount.h)"
    found = macos.disk(answer)
    assert (found.kind, found.file_system) == (wanted, name)


def test_macos_asks_the_nearest_folder(tmp_path: Path) -> None:
    """Linux has a `statfs` too, with another answer: the call itself works, and reads no further than it was given."""
    done = on(
        "darwin",
        "from pathlib import Path\n"
        "from dbsync.storage.platform import macos\n"
        "asked = []\n"
        "real = macos._statfs\n"
        "macos._statfs = lambda path: asked.append(path) or real(path)\n"
        "macos.MacPlatform().disk_of(Path(sys.argv[1]) / 'a' / 'b')\n"
        "print(asked[0] == Path(sys.argv[1]), len(real(Path('/'))))\n"
        "macos._statfs = lambda path: real(Path('/there/is/none'))\n"
        "print(macos.MacPlatform().disk_of(Path('/')).kind)\n",
        tmp_path,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["True", "4096", "unknown"]), done.stderr


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (r"\\server\share\till", True), ("//server/share", True), (r"\\?\UNC\server\share", True),
        (r"\\wsl$\Debian\till", True), (r"C:\till", False), (r"\\?\C:\till", False), (r"\\.\C:\till", False),
    ],
)  # fmt: skip
def test_a_share_of_windows_is_known_by_its_name(path: str, wanted: bool) -> None:
    assert windows.is_share(path) is wanted


@pytest.mark.parametrize(
    ("drive_type", "file_system", "wanted"),
    [
        (3, "NTFS", Disk(DiskKind.FIXED, "ntfs")), (4, "NTFS", Disk(DiskKind.NETWORK, "ntfs")),
        (4, "", Disk(DiskKind.NETWORK, "a share")),
        (2, "exFAT", Disk(DiskKind.REMOVABLE, "exfat", "E:\\ can be taken out")),
        (6, "NTFS", Disk(DiskKind.FORGETS, "ntfs", "the files of E:\\ are in memory")),
        (0, "", Disk(DiskKind.UNKNOWN, "")), (1, "", Disk(DiskKind.UNKNOWN, "")),
    ],
)  # fmt: skip
def test_the_answer_of_windows_is_read(drive_type: int, file_system: str, wanted: Disk) -> None:
    assert windows.disk(drive_type, file_system, place="E:\\") == wanted
