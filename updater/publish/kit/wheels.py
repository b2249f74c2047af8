"""The pinned libraries of a kit: each wheel is known by its hash, and unpacked without pip."""

from __future__ import annotations

import email
import hashlib
import re
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from updater.model import Sha256
from updater.publish.errors import PublishError

REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
"""The versions that a kit ships; the hash of each is that of its only wheel."""
WINDOWS_ONLY: Final = frozenset({"colorama", "tzdata"})
_LINE: Final = re.compile(r"([A-Za-z0-9_.-]+)==(\S+) --hash=sha256:([0-9a-f]{64})")


class Pin(NamedTuple):
    """A library with its version and the hash of its wheel."""

    name: str
    version: str
    sha256: Sha256


class Library(NamedTuple):
    """A library of a kit."""

    pin: Pin
    licence: str
    """Its licence, as its metadata says it."""


def pins(platform: str) -> tuple[Pin, ...]:
    """Return the libraries of a kit for one platform."""
    found = [_LINE.fullmatch(line.strip()) for line in REQUIREMENTS.read_text(encoding="ascii").splitlines()]
    assert all(found), f"{REQUIREMENTS} has a line that is no pin"
    return tuple(
        pin for line in found if line is not None
        if (pin := Pin(line[1], line[2], Sha256(line[3]))).name not in WINDOWS_ONLY or platform.startswith("windows")
    )  # fmt: skip


def unpack(*, wheels: Path, site: Path, platform: str) -> tuple[Library, ...]:
    """Unpack the pinned wheels into a folder; return what they are.

    Raises:
        PublishError: a wheel is missing, or has files outside its folder.
    """
    by_hash = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in sorted(wheels.glob("*.whl"))}
    wanted = pins(platform)
    missing = [f"{pin.name} {pin.version}" for pin in wanted if pin.sha256 not in by_hash]
    if missing:
        raise PublishError(
            operation="take the libraries from", path=wheels,
            cause=f"no wheel with the pinned hash for {', '.join(missing)}",
            hint=f"`python -m pip download --require-hashes --no-deps --only-binary=:all: --dest {wheels}"
            f" --requirement {REQUIREMENTS}`",
        )  # fmt: skip
    return tuple(Library(pin, _unpacked(by_hash[pin.sha256], site)) for pin in wanted)


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
