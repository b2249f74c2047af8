"""The folder of a kit: code, libraries, root, settings, the app's first version, bill of materials, hashes."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import sys
import tarfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.storage import children
from updater.manifest import parse
from updater.publish.errors import PublishError
from updater.publish.kit.bill import Part, bill
from updater.publish.kit.description import Description
from updater.publish.kit.wheels import licence_files, unpack
from updater.publish.repository import load
from updater.publish.storage import storage_of
from updater.terminal.kit import FOLDER, FORMAT, PROGRAMS, SUMS

HOST_TAGS: Final[Mapping[str, str]] = {"windows-x86_64": "win32-amd64", "linux-x86_64": "linux-x86_64"}
"""Platforms of kits, and how the host of a terminal tags them."""
ID_LENGTH: Final = 12
ROLLBACK: Final = ("scripts/rollback.py", "share/tillkeeper/rollback.py")
"""Its place beside our code in a checkout, and below the prefix of an installation."""


class Order(NamedTuple):
    """Everything that a kit is made of."""

    platform: str
    repository: Path
    description: Description
    wheels: Path
    app_version: str | None = None
    python: Path | None = None
    """The embeddable Windows Python."""
    python_sha256: str = ""
    sign: str = ""
    """The vendor's command that signs a program."""
    stub: str = "x86"
    """Kind of the setup program."""


class Payload(NamedTuple):
    """The finished folder of a kit."""

    folder: Path
    id: str
    app: str
    bill: str


def code_folder() -> Path:
    """Return the folder with our packages.

    Raises:
        PublishError: this product runs from an archive or is frozen.
    """
    if not children.CODE.is_dir() or vars(sys).get("frozen"):
        raise PublishError(
            operation="make a kit", cause="this product is a single file", hint="Install it with pip on this machine."
        )
    return children.CODE


def begin(order: Order, *, into: Path) -> str:
    """Write all parts of a kit that every platform has into a folder; return the app's name.

    Raises:
        PublishError: something is missing, or does not fit the platform.
    """
    config = load(order.repository)
    root = storage_of(config.public).read("metadata/1.root.json")
    if root is None:
        cause = f"{config.public} has no root"
        raise PublishError(operation="make a kit", cause=cause, hint="`updater publish init`")
    site = into / "site"
    site.mkdir(parents=True)
    for package in ("dbsync", "updater"):
        shutil.copytree(code_folder() / package, site / package, ignore=_not_for_terminals)
    (into / "root.json").write_bytes(root)
    if order.description.ca_file is not None:
        if not order.description.ca_file.is_file():
            raise PublishError(operation="make a kit", path=order.description.ca_file, cause="there is no such file")
        shutil.copy(order.description.ca_file, into / "ca.pem")
    script = into / "rescue" / "lib" / "scripts" / "rollback.py"
    script.parent.mkdir(parents=True)
    shutil.copy(_rollback_script(), script)
    if order.app_version is not None:
        _first(order, config.app, into / "first")
    return config.app


def _not_for_terminals(folder: str, names: list[str]) -> list[str]:
    is_updater = Path(folder).name == "updater" and Path(folder).parent == code_folder()
    return [name for name in names if name == "__pycache__" or (is_updater and name == "publish")]


def _rollback_script() -> Path:
    places = (code_folder() / ROLLBACK[0], Path(sys.prefix) / ROLLBACK[1])
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise PublishError(
            operation="make a kit", path=places[0], cause="the script for a rollback is missing",
            hint="Install the product from its wheel, or run it from a checkout.",
        )  # fmt: skip
    return found


def _first(order: Order, app: str, into: Path) -> None:
    """Unpack the app's first version, as it was published."""
    targets = order.repository / "workshop" / "targets"
    name = f"{app}-{order.app_version}"
    archive, manifest = targets / f"{name}.tar.gz", targets / f"{name}.manifest"
    if not archive.is_file() or not manifest.is_file():
        raise PublishError(
            operation="take the first version", path=archive, cause=f"{app} {order.app_version} is not published here",
            hint=f"`updater publish release --repository {order.repository} BUNDLE`",
        )  # fmt: skip
    platform = parse(manifest.read_bytes()).platform
    if platform not in ("any", HOST_TAGS[order.platform]):
        raise PublishError(
            operation="take the first version",
            path=manifest,
            cause=f"it is for {platform}, the kit for {order.platform}",
        )
    into.mkdir()
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")


def libraries(order: Order, into: Path, parts: tuple[Part, ...], *, pythons: Collection[str]) -> str:
    """Unpack the libraries for the Pythons that may run the kit; write licences; return the bill of materials.

    Raises:
        PublishError: a wheel is missing.
    """
    site, described = into / "site", order.description
    found = unpack(wheels=order.wheels, site=site, platform=order.platform, pythons=pythons)
    shutil.rmtree(site / "bin", ignore_errors=True)
    folder = into / "licences"
    folder.mkdir()
    for text in importlib.metadata.files("tillkeeper") or ():
        if text.name == "LICENSE":
            shutil.copy(Path(str(text.locate())), folder / "tillkeeper-LICENSE")
    for library, path in licence_files(site):
        shutil.copy(path, folder / f"{library}-{path.name}")
    identity = hashlib.sha256("".join(_sums(into)).encode()).hexdigest()[:ID_LENGTH]
    return bill(product=described.name, version=described.version, identity=identity, libraries=found, parts=parts)


def finish(order: Order, into: Path, *, app: str, materials: str, programs: Mapping[str, bytes]) -> Payload:
    """Write what names the kit, and the list of all hashes; return the kit in its final folder.

    Args:
        order: the kit.
        into: the folder with everything else.
        app: the app's name.
        materials: the bill of materials.
        programs: the programs of the home, by name.
    """
    described = order.description
    (into / "sbom.cdx.json").write_text(materials, encoding="utf-8", newline="\n")
    identity = hashlib.sha256("".join(_sums(into)).encode()).hexdigest()[:ID_LENGTH]
    document = {
        "format": FORMAT, "id": identity, "app": app, "platform": HOST_TAGS[order.platform], "url": described.url,
        "mirrors": list(described.mirrors), "proxy": described.proxy, "has_ca_file": described.ca_file is not None,
        "till_user": described.till_user, "till_group": described.till_group,
        "interpreters": dict(described.interpreters), "version": described.version,
    }  # fmt: skip
    (into / "kit.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8", newline="\n")
    (into / PROGRAMS).mkdir()
    for name, data in programs.items():
        path = into / PROGRAMS / name
        path.write_bytes(data)
        path.chmod(0o755)
    folder = into.with_name(FOLDER.format(identity))
    into.rename(folder)
    return Payload(folder, identity, app, materials)


def seal(payload: Payload) -> None:
    """Write the list of hashes: the last file of a kit, after its programs were signed; set all modes."""
    for path in payload.folder.rglob("*"):
        if not path.is_symlink():
            runs = path.is_dir() or path.parent.name == PROGRAMS or path == payload.folder / "rescue" / "rollback"
            path.chmod(0o755 if runs else 0o644)
    payload.folder.chmod(0o755)
    (payload.folder / SUMS).write_text("".join(_sums(payload.folder)), encoding="utf-8", newline="\n")


def _sums(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != SUMS:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            yield f"{sha256}  {path.relative_to(folder).as_posix()}\n"
