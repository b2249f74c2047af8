"""The pinned libraries of a kit: each wheel is known by its hash, and unpacked without pip."""

from __future__ import annotations

import email
import hashlib
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from updater.model import Sha256
from updater.publish.errors import PublishError

REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
"""The versions that a kit ships; the hash of each is that of its only wheel."""
BINARIES: Final = Path(__file__).with_name("binaries.txt")
"""The same for libraries in C, whose wheels differ by platform and Python: until 3.14, which has zstd itself."""
TAGS: Final[Mapping[str, str]] = {"windows-x86_64": "win_amd64", "linux-x86_64": "manylinux_2_28_x86_64"}
"""Platforms of kits, as pip names them. Debian 12 and Ubuntu 22.04 are newer than this one for Linux."""
WINDOWS_ONLY: Final = frozenset({"colorama", "tzdata"})
_LINE: Final = re.compile(r"(?:(\S+) (3\.\d+) )?([A-Za-z0-9_.-]+)==(\S+) --hash=sha256:([0-9a-f]{64})")


class Pin(NamedTuple):
    """A library with its version and the hash of its wheel."""

    name: str
    version: str
    sha256: Sha256
    python: str = ""
    """The only Python that it is for; empty: any."""


class Library(NamedTuple):
    """A library of a kit."""

    pin: Pin
    licence: str
    """Its licence, as its metadata says it."""


def pins(platform: str, pythons: Collection[str]) -> tuple[Pin, ...]:
    """Return the libraries of a kit for one platform, for the Pythons (as `3.11`) that may run it."""
    pure = [pin for _, pin in _lines(REQUIREMENTS)]
    return (
        *(pin for pin in pure if pin.name not in WINDOWS_ONLY or platform.startswith("windows")),
        *(pin for place, pin in _lines(BINARIES) if place == platform and pin.python in pythons),
    )


def _lines(path: Path) -> Iterator[tuple[str, Pin]]:
    """Yield the pins of a file, each with its platform, if it has one."""
    for line in path.read_text(encoding="ascii").splitlines():
        found = _LINE.fullmatch(line.strip())
        assert found is not None, f"{path} has a line that is no pin"
        yield found[1] or "", Pin(found[3], found[4], Sha256(found[5]), found[2] or "")


def unpack(*, wheels: Path, site: Path, platform: str, pythons: Collection[str]) -> tuple[Library, ...]:
    """Unpack the pinned wheels into a folder; return what they are.

    Wheels of one library in C for several Pythons differ in its compiled file, whose name has the Python in it.

    Raises:
        PublishError: a wheel is missing, or has files outside its folder.
    """
    by_hash = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in sorted(wheels.glob("*.whl"))}
    wanted = pins(platform, pythons)
    missing = [pin for pin in wanted if pin.sha256 not in by_hash]
    if missing:
        names = [" ".join((pin.name, pin.version, *([f"(Python {pin.python})"] * bool(pin.python)))) for pin in missing]
        raise PublishError(
            operation="take the libraries from", path=wheels,
            cause=f"no wheel with the pinned hash for {', '.join(names)}",
            hint=" and ".join(dict.fromkeys(f"`{_download(pin, wheels, platform)}`" for pin in missing)),
        )  # fmt: skip
    return tuple(Library(pin, _unpacked(by_hash[pin.sha256], site)) for pin in wanted)


def _download(pin: Pin, wheels: Path, platform: str) -> str:
    """Return the command that fetches a library; for all that are for any Python it is the same."""
    words = f"python -m pip download --no-deps --only-binary=:all: --dest {wheels}"
    if not pin.python:
        return f"{words} --require-hashes --requirement {REQUIREMENTS}"
    return f"{words} --platform {TAGS[platform]} --python-version {pin.python} {pin.name}=={pin.version}"


def _unpacked(wheel: Path, site: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for name in names:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or ".data" in path.parts[0]:
                raise PublishError(
                    operation="unpack", path=wheel, cause=f"it has {name}, which is not part of a library"
                )
        archive.extractall(site)
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        return _licence(email.message_from_bytes(archive.read(metadata)))


def _licence(metadata: Message) -> str:
    expression = str(metadata.get("License-Expression") or "").strip()
    classes = [str(value) for value in metadata.get_all("Classifier", []) if str(value).startswith("License :: ")]
    short = str(metadata.get("License") or "").strip()
    return expression or (short if 0 < len(short) < 60 else "") or ", ".join(
        value.rpartition(" :: ")[2] for value in classes
    )  # fmt: skip


def licence_files(site: Path) -> Iterator[tuple[str, Path]]:
    """Yield the texts of the licences that the wheels brought, each with the folder of its library."""
    for folder in sorted(site.glob("*.dist-info")):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name.upper().startswith(("LICEN", "COPYING", "NOTICE", "AUTHORS")):
                yield folder.name.removesuffix(".dist-info"), path
