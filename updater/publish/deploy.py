"""Copying from the workshop to the public folder, in the order that keeps it consistent for clients at any moment."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, Root, Targets
from tuf.ngclient import FetcherInterface, Updater

from dbsync.storage import files
from dbsync.storage.files import disk_errors
from updater.publish.errors import PublishError
from updater.publish.signing import ROLES


def deploy(*, work: Path, public: Path) -> int:
    """Bring the public folder to the state of the workshop; return the number of files placed.

    Order: targets under their hash, then roots, targets, snapshot, and timestamp.json last. Only timestamp.json is ever
    replaced, and only after a fresh client has accepted all of it. A crash anywhere leaves clients with the previous
    state, and the next run finishes the copy.

    Raises:
        PublishError: a file differs from the signed one, a public file has other bytes, or signatures are missing.
    """
    metadata, targets = public / "metadata", public / "targets"
    for folder in (metadata, targets):
        folder.mkdir(parents=True, exist_ok=True)
    signed = _signed(work)
    placed = _place_targets(work / "targets", targets, signed["targets"])
    for path in sorted((work / "metadata").glob("*.root.json"), key=lambda path: int(path.name.split(".")[0])):
        placed += _place(path, metadata / path.name)
    for role in ("targets", "snapshot"):
        name = f"{signed[role].signed.version}.{role}.json"
        placed += _place(work / "metadata" / name, metadata / name)
    timestamp = (work / "metadata" / "timestamp.json").read_bytes()
    check_with_a_fresh_client(public, timestamp)
    if not (metadata / "timestamp.json").exists() or (metadata / "timestamp.json").read_bytes() != timestamp:
        # Commit point of a publish: before this rename no client sees any of it.
        files.write_durably(metadata / "timestamp.json", timestamp)
        placed += 1
    return placed


def _signed(work: Path) -> dict[str, Metadata[Targets]]:
    """Return the four roles of the workshop, after checking that all thresholds are met."""
    found: dict[str, Metadata[Targets]] = {}
    for role in ROLES:
        try:
            found[role] = Metadata.from_file(str(work / "metadata" / f"{role}.json"))
        except Exception as cause:
            raise PublishError(operation="read", path=work / "metadata" / f"{role}.json", cause=str(cause)) from cause
    root: Metadata[Root] = found["root"]
    for role in ROLES:
        try:
            root.verify_delegate(role, found[role])
        except Exception as cause:
            raise PublishError(
                operation="deploy", cause=f"{role} has not enough signatures: {cause}",
                hint="Sign with the missing keys first; nothing was made public.",
            ) from cause  # fmt: skip
    return found


def _place_targets(staged: Path, public: Path, targets: Metadata[Targets]) -> int:
    placed = 0
    for name, info in targets.signed.targets.items():
        source, target = staged / name, public / f"{info.hashes['sha256']}.{name}"
        if target.exists() and target.stat().st_size == info.length:
            continue
        try:
            with source.open("rb") as file:
                info.verify_length_and_hashes(file)
        except (OSError, RepositoryError) as cause:
            raise PublishError(operation="deploy", path=source, cause=f"it is not what was signed: {cause}") from cause
        placed += _place(source, target)
    return placed


def _place(source: Path, target: Path) -> int:
    """Copy a file to a name that never changes; an existing file must have the same bytes. Return the files placed."""
    if target.exists():
        if files.sha256_of(target) != files.sha256_of(source):
            raise PublishError(
                operation="deploy", path=target, cause="it is public already with other bytes",
                hint="Published files never change; is this the public folder of another repository?",
            )  # fmt: skip
        return 0
    part = target.with_name(f".part-{target.name}")
    with disk_errors("deploy", target):
        # A copy, not a link: a tool that rewrites the staged file must not change the public one.
        shutil.copyfile(source, part)
        files.sync_file(part)
        files.rename_durably(source=part, target=target)
    return 1


class _FromFolder(FetcherInterface):  # type: ignore[misc]
    """Fetcher that reads the public folder as a client would over HTTP, with one file that is not public yet."""

    def __init__(self, metadata: Path, timestamp: bytes) -> None:
        self._metadata = metadata
        self._timestamp = timestamp

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rpartition("/")[2]
        if name == "timestamp.json":
            return iter([self._timestamp])
        try:
            return iter([(self._metadata / name).read_bytes()])
        except FileNotFoundError:
            raise DownloadHTTPError(f"no such file: {name}", 404) from None


def check_with_a_fresh_client(public: Path, timestamp: bytes) -> None:
    """Walk from the first root to the targets as a new terminal would.

    Raises:
        PublishError: the client would refuse the files that are about to become public.
    """
    metadata = public / "metadata"
    with tempfile.TemporaryDirectory() as folder:
        first = min(metadata.glob("*.root.json"), key=lambda path: int(path.name.split(".")[0]))
        shutil.copyfile(first, Path(folder, "root.json"))
        try:
            client = Updater(
                metadata_dir=folder,
                metadata_base_url="file:///metadata/",
                fetcher=_FromFolder(metadata, timestamp),
            )
            client.refresh()
            for name, info in Metadata[Targets].from_file(str(Path(folder, "targets.json"))).signed.targets.items():
                path = public / "targets" / f"{info.hashes['sha256']}.{name}"
                if not path.exists() or path.stat().st_size != info.length:
                    raise PublishError(  # noqa: TRY301
                        operation="deploy", path=path, cause="it is signed and not in the public folder"
                    )
        except PublishError:
            raise
        except Exception as cause:
            raise PublishError(
                operation="deploy",
                path=public,
                cause=f"a fresh client would refuse it: {type(cause).__name__}: {cause}",
            ) from cause
