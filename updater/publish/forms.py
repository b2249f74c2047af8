"""The forms of a release beside tufup's archive: a pack of all of it, and deltas from the releases before it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from packaging.version import Version

from updater.bundle_names import is_version
from updater.bundles import packs
from updater.manifest import Manifest, ManifestError, parse, release_id
from updater.model import ReleaseId
from updater.publish.deltas import Delta, Earlier, Progress, make_deltas
from updater.publish.packs import make_pack
from updater.publish.signing import Workshop
from updater.repository.listing import DELTA_END, PACK_END, named, packs_by_version
from updater.summary import pack_custom

DELTAS_COUNT: Final = 5
LISTED_COUNT: Final = 2
"""The newest releases whose packs and deltas stay in the metadata: every look fetches it. The others have archives."""


class Forms(NamedTuple):
    """The forms that are made."""

    pack: bool = True
    deltas_count: int = DELTAS_COUNT
    """From so many of the last releases."""


class Form(NamedTuple):
    """A file to be signed."""

    path: Path
    custom: dict[str, Any]


def make(
    workshop: Workshop, bundle: Path, manifest: Manifest, data: bytes, *, forms: Forms, progress: Progress
) -> list[Form]:
    """Make the forms of a release in the workshop, beside each other. A crash leaves files that no metadata names.

    Raises:
        PublishError: an earlier release is not what was signed, or the comparison was ended.
        DiskFull: or another problem of the disk.
    """
    targets, identity = workshop.targets_dir, release_id(data)
    known = _earlier(workshop, manifest)[: forms.deltas_count]
    deltas = [
        Delta(earlier, *(_delta(targets, earlier.manifest, later) for later in (manifest, known[0].manifest)))
        for earlier in known
    ]
    with _scratch(workshop) as scratch, ThreadPoolExecutor(1) as beside:
        made, packing, pack = [], None, targets / f"{manifest.app}-{manifest.version}{PACK_END}"
        if forms.pack and packs.has_zstd():
            packing = beside.submit(
                make_pack, bundle=bundle, target=pack, manifest=manifest, release_id=identity, scratch=scratch
            )
        if deltas:
            make_deltas(
                deltas, bundle=bundle, manifest=manifest, release_id=identity, scratch=scratch, progress=progress
            )
        if packing is not None:
            packing.result()
            made.append(Form(pack, pack_custom(release_id=identity, since=None)))
    whole_bytes = (
        pack.stat().st_size if packing is not None else sum(entry.size_bytes for entry in manifest.files.values())
    )
    for delta in deltas:
        if delta.target.stat().st_size < whole_bytes:
            since = delta.earlier.release_id
            made.append(Form(delta.target, pack_custom(release_id=identity, since=since)))
        else:
            delta.target.unlink()
    return made


def _delta(targets: Path, earlier: Manifest, later: Manifest) -> Path:
    return targets / f"{later.app}-{earlier.version}-{later.version}{DELTA_END}"


def forget_old(workshop: Workshop) -> None:
    """Take the packs and deltas of all but the newest releases out of the metadata."""
    targets = workshop.roles.targets.signed.targets
    found = packs_by_version(targets)
    own = (key for key in found if key[0] == workshop.app_name and is_version(key[1]))
    versions = sorted(own, key=lambda key: Version(key[1]), reverse=True)
    for key in versions[LISTED_COUNT:]:
        for name in found[key]:
            del targets[name]


def _earlier(workshop: Workshop, manifest: Manifest) -> list[Earlier]:
    """Return the releases before one whose bundles are in the workshop, newest first."""
    found: list[tuple[Version, Earlier]] = []
    for name in workshop.roles.targets.signed.targets:
        app, version = named(name)
        path = workshop.targets_dir / name
        archive = workshop.targets_dir / f"{app}-{version}.tar.gz"
        if app != manifest.app or not is_version(version) or Version(version) >= Version(manifest.version):
            continue
        try:
            data = path.read_bytes()
            known = parse(data, installed=True)
        except (FileNotFoundError, ManifestError):
            continue
        if known.platform == manifest.platform and archive.exists():
            found.append((Version(version), Earlier(ReleaseId(release_id(data)), known, archive)))
    return [earlier for _, earlier in sorted(found, key=lambda pair: pair[0], reverse=True)]


@contextmanager
def _scratch(workshop: Workshop) -> Iterator[Path]:
    """An empty folder in the workshop, removed afterwards; what an interrupted publish left in it goes first."""
    folder = workshop.repo_dir / "scratch"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
