"""Copying from the workshop to the public files, in the order that keeps them consistent for clients at any moment."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, Root, TargetFile, Targets
from tuf.ngclient import FetcherInterface, Updater

from dbsync.errors import TillkeeperError
from updater.publish.errors import OldWorkshop, PublishError
from updater.publish.keys import ROLES
from updater.publish.signing import taken_versions
from updater.publish.storage import TIMESTAMP, FolderStorage, Public, Storage, storage_of

OTHER_BYTES: Final = "it is public already with other bytes"


def deploy(*, work: Path, public: Public) -> int:
    """Bring the public files to the state of the workshop; return the number of files placed.

    Order: targets under their hash, then targets, snapshot, roots, and timestamp.json last. Only timestamp.json is ever
    replaced, and only after a fresh client has accepted all of it. A crash anywhere leaves clients with the previous
    state, and the next run finishes the copy; what is there already is not sent again. Where keys were replaced and
    both the old and the new ones have signed, the root comes after the timestamp, so that no client is refused at any
    moment.

    Raises:
        OldWorkshop: what is public is newer than the workshop; nothing was changed.
        PublishError: a file differs from the signed one, a public file has other bytes, or signatures are missing.
        StorageProblem: the store cannot be reached now.
    """
    storage = storage_of(public)
    signed = _signed(work)
    before = check_not_behind(work / "metadata", storage)
    placed = _place_targets(work / "targets", storage, signed["targets"])
    listed = storage.sizes("metadata")
    # Those that are there were compared.
    names = [path.name for path in (work / "metadata").glob("*.root.json") if path.name not in listed]
    roots = {name: (work / "metadata" / name).read_bytes() for name in sorted(names, key=_numbered)}
    for role in ("targets", "snapshot"):
        name = f"{signed[role].signed.version}.{role}.json"
        if name not in listed:
            storage.send(work / "metadata" / name, f"metadata/{name}")
            placed += 1
    timestamp = (work / "metadata" / "timestamp.json").read_bytes()
    fits_before = bool(roots) and _fits_without(roots, storage, signed)
    _check_with_a_fresh_client(storage, {"timestamp.json": timestamp, **roots})
    if fits_before:
        _check_with_a_fresh_client(storage, {"timestamp.json": timestamp})
    else:
        placed += _place_roots(storage, roots)
    now = storage.read(TIMESTAMP)
    if now != before:
        raise OldWorkshop(operation="deploy", cause=f"{storage.place} was changed by another publisher meanwhile")
    if now != timestamp:
        # Commit point of a publish: before this no client sees any of it.
        storage.write(TIMESTAMP, timestamp)
        placed += 1
    return placed + (_place_roots(storage, roots) if fits_before else 0)


def _fits_without(roots: Mapping[str, bytes], storage: Storage, signed: Mapping[str, Metadata[Any]]) -> bool:
    """Return whether clients of the public root, and of every root in between, take the new roles too.

    Then the roots may come after the timestamp: a client takes a root as soon as it is there, and would refuse the old
    roles under it if their keys were replaced.
    """
    version = min(_numbered(name)[0] for name in roots) - 1
    before = storage.read(f"metadata/{version}.root.json")
    if before is None:
        return False
    for data in (before, *roots.values()):
        root = Metadata[Root].from_bytes(data)
        if not all(_is_signed(root, role, signed[role].to_bytes()) for role in ROLES[1:]):
            return False
    return True


def _place_roots(storage: Storage, roots: Mapping[str, bytes]) -> int:
    for name, data in roots.items():
        storage.write(f"metadata/{name}", data)
    return len(roots)


def check_not_behind(metadata: Path, storage: Storage, *, follows: bool = False) -> bytes | None:
    """Compare a workshop's metadata with what is public; return the public timestamp.

    A public file counts if the workshop's keys have signed it: what a thief has put there with a key that was replaced
    does not. Roots always count, because no terminal goes back behind one.

    Args:
        metadata: the workshop's folder of metadata.
        storage: the public files.
        follows: whether a newer public timestamp over the same state is right, because the next one is signed above it.

    Raises:
        OldWorkshop: a public role is newer than the workshop's.
        PublishError: a public file of the same version has other bytes.
    """
    listed = storage.sizes("metadata")
    root = Metadata[Root].from_file(str(metadata / "root.json"))
    for name in sorted(listed):
        version, role = _numbered(name)
        if role == "root":
            if version > root.signed.version:
                raise _behind(storage, "root", here=root.signed.version, there=version)
            _compare(metadata / name, storage)
    taken = taken_versions(metadata.parent)
    for role in ("targets", "snapshot"):
        ours = Metadata.from_file(str(metadata / f"{role}.json")).signed.version
        there = max((version for version, kind in map(_numbered, listed) if kind == role), default=0)
        # A workshop that was rebuilt knows of files that a lost one has left, and signs above them.
        if there > max(ours, taken.get(role, 0)) and _is_signed(
            root, role, storage.read(f"metadata/{there}.{role}.json")
        ):
            raise _behind(storage, role, here=ours, there=there)
        if f"{ours}.{role}.json" in listed:
            _compare(metadata / f"{ours}.{role}.json", storage)
    public = storage.read(TIMESTAMP)
    data = (metadata / "timestamp.json").read_bytes()
    if public is not None and public != data and _is_signed(root, "timestamp", public):
        here, there = (Metadata.from_bytes(found).signed.version for found in (data, public))
        if follows and there >= here:
            return public
        if there > here:
            raise _behind(storage, "timestamp", here=here, there=there)
        if there == here:
            raise PublishError(operation="deploy", cause=f"{storage.place}/{TIMESTAMP}: {OTHER_BYTES}")
    return public


def _numbered(name: str) -> tuple[int, str]:
    """Return version and role of a file's name; 0 and an empty string for one that has none."""
    number, _, rest = name.partition(".")
    role = rest.removesuffix(".json")
    return (int(number), role) if number.isdecimal() and rest.endswith(".json") else (0, "")


def _is_signed(root: Metadata[Root], role: str, data: bytes | None) -> bool:
    try:
        root.verify_delegate(role, Metadata.from_bytes(data))
    except Exception:  # noqa: BLE001 - whatever is wrong with it, our keys have not signed it
        return False
    return True


def _behind(storage: Storage, role: str, *, here: int, there: int) -> OldWorkshop:
    cause = f"the workshop is older than {storage.place}: {role} is {here} here and {there} there"
    return OldWorkshop(operation="deploy", cause=cause)


def _compare(ours: Path, storage: Storage) -> None:
    """Refuse a public file of metadata that is not what the workshop has under that name."""
    if not ours.exists() or storage.read(f"metadata/{ours.name}") != ours.read_bytes():
        raise PublishError(
            operation="deploy", cause=f"{storage.place}/metadata/{ours.name}: {OTHER_BYTES}",
            hint="Published files never change. Is this the place of another repository? After a loss of the workshop:"
            " `updater publish rebuild --repository DIR`.",
        )  # fmt: skip


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


def _place_targets(staged: Path, storage: Storage, targets: Metadata[Targets]) -> int:
    placed = 0
    listed = storage.sizes("targets")
    known = _public_targets(storage)
    for name, info in targets.signed.targets.items():
        source, target = staged / name, f"{info.hashes['sha256']}.{name}"
        if listed.get(target) == info.length and (target in known or _is_sent(storage, target, info)):
            continue
        if target in listed:
            raise PublishError(operation="deploy", cause=f"{storage.place}/targets/{target}: {OTHER_BYTES}")
        verify(source, info)
        storage.send(source, f"targets/{target}")
        placed += 1
    return placed


def verify(path: Path, info: TargetFile) -> None:
    """Check that a file is the signed one.

    Raises:
        PublishError: it is missing or differs.
    """
    try:
        with path.open("rb") as file:
            info.verify_length_and_hashes(file)
    except (OSError, RepositoryError) as cause:
        raise PublishError(operation="deploy", path=path, cause=f"it is not what was signed: {cause}") from cause


def _is_sent(storage: Storage, name: str, info: TargetFile) -> bool:
    """Return whether a file that no public metadata names yet, of a publish that was cut, is whole and right."""
    return bool(storage.sha256_of(f"targets/{name}") == info.hashes["sha256"])


def _public_targets(storage: Storage) -> frozenset[str]:
    """Return the names that the public timestamp leads to: these were checked when they became public."""
    try:
        version = Metadata.from_bytes(storage.read(TIMESTAMP)).signed.snapshot_meta.version
        snapshot: Any = Metadata.from_bytes(storage.read(f"metadata/{version}.snapshot.json"))
        version = snapshot.signed.meta["targets.json"].version
        found = Metadata[Targets].from_bytes(storage.read(f"metadata/{version}.targets.json"))
    except TillkeeperError:
        raise
    except Exception:  # noqa: BLE001 - nothing is public yet, or a claim that cannot be read: it spares no check
        return frozenset()
    return frozenset(f"{info.hashes['sha256']}.{name}" for name, info in found.signed.targets.items())


class _FromStorage(FetcherInterface):  # type: ignore[misc]
    """Fetcher that reads the public files as a client would over HTTP, with the files that are not public yet."""

    def __init__(self, storage: Storage, coming: Mapping[str, bytes]) -> None:
        self._storage = storage
        self._coming = coming

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rpartition("/")[2]
        data = self._coming[name] if name in self._coming else self._storage.read(f"metadata/{name}")
        if data is None:
            raise DownloadHTTPError(f"no such file: {name}", 404)
        return iter([data])


def check_with_a_fresh_client(public: Public, timestamp: bytes) -> None:
    """Walk from the first root to the targets as a new terminal would.

    Raises:
        PublishError: the client would refuse the files that are about to become public.
    """
    _check_with_a_fresh_client(storage_of(public), {"timestamp.json": timestamp})


def check_stick(folder: Path, timestamp: bytes, wanted: frozenset[str]) -> None:
    """Walk as a new terminal would, over a stick that has only these targets.

    Raises:
        PublishError: the client would refuse it.
    """
    _check_with_a_fresh_client(FolderStorage(folder), {"timestamp.json": timestamp}, wanted)


def _check_with_a_fresh_client(
    storage: Storage, coming: Mapping[str, bytes], wanted: frozenset[str] | None = None
) -> None:
    numbered = [_numbered(name) for name in (*storage.sizes("metadata"), *coming)]
    first = f"{min(version for version, role in numbered if role == 'root')}.root.json"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "root.json").write_bytes(coming.get(first) or storage.read(f"metadata/{first}") or b"")
        try:
            client = Updater(
                metadata_dir=folder,
                metadata_base_url="file:///metadata/",
                fetcher=_FromStorage(storage, coming),
            )
            client.refresh()
            targets = Metadata[Targets].from_file(str(Path(folder, "targets.json"))).signed.targets
            _check_targets(storage, targets if wanted is None else {name: targets[name] for name in wanted})
        except TillkeeperError:
            raise
        except Exception as cause:
            raise PublishError(
                operation="deploy",
                cause=f"a fresh client would refuse {storage.place}: {type(cause).__name__}: {cause}",
            ) from cause


def _check_targets(storage: Storage, targets: dict[str, TargetFile]) -> None:
    listed = storage.sizes("targets")
    for name, info in targets.items():
        if listed.get(f"{info.hashes['sha256']}.{name}") != info.length:
            raise PublishError(operation="deploy", cause=f"{storage.place}/targets has no {name}, which is signed")
