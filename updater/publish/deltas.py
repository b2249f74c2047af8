"""Deltas: which file of an earlier release each new file is made of, and the files with the patches.

Each delta leads directly from one earlier release to the new one. What two of them need alike is compared once. Large
files are compared with the newest earlier release alone: what that one has of older ones lies in the deltas to it.
"""

from __future__ import annotations

import os
import re
import tarfile
import threading
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.storage import files
from dbsync.storage.files import READ_SIZE_BYTES, disk_errors
from updater.bundles.packs import Codec, Moved, New, Part, Patched, Stream, read_head, sources
from updater.errors import PackUnusable
from updater.manifest import FileEntry, Manifest
from updater.model import ReleaseId, Sha256
from updater.publish.differ import Between, Differ, Made
from updater.publish.errors import PublishError
from updater.publish.packs import by_kind, content, join, squeeze

SMALLEST_BYTES: Final = 128
"""A smaller file travels whole: its patch would not be smaller."""
COUNTED: Final = (Stream.COVERS, Stream.LENGTHS, Stream.DIFFERENCES)
"""The streams whose sizes the head gives for each file."""
_VERSION: Final = re.compile(r"\d+(?:\.\d+)*")

Progress = Callable[[str, int, int], None]
"""Receives what is made, and how much of it is done and in all."""
Pair = tuple[Sha256, Sha256]
"""The hashes of an old file and of a new one."""


class Earlier(NamedTuple):
    """An earlier release of which a delta is made."""

    release_id: ReleaseId
    manifest: Manifest
    archive: Path


class Delta(NamedTuple):
    """A delta that is to be made, or is made."""

    earlier: Earlier
    target: Path
    before: Path
    """The delta from the same release to the newest of them; it may be missing."""


class _Plan(NamedTuple):
    """The file of the earlier release that each changed file may be made of."""

    moved: tuple[Moved, ...]
    patched: Mapping[str, str]
    new: tuple[str, ...]


def plan(*, earlier: Manifest, manifest: Manifest) -> _Plan:
    """Return what each file of a release can be made of.

    A file that has another name is found by its content, and then by its name without numbers: names with a version in
    them would end every delta.
    """
    old = {path: entry for path, entry in earlier.files.items() if entry.link is None}
    by_content = {entry.sha256: path for path, entry in old.items()}
    by_name: dict[str, list[str]] = {}
    for path in old:
        for name in _names(path):
            by_name.setdefault(name, []).append(path)
    moved, patched, new = [], {}, []
    for path in sorted(manifest.files, key=by_kind):
        entry = manifest.files[path]
        if entry.link is not None or (path in old and old[path].sha256 == entry.sha256):
            continue
        base = by_content.get(entry.sha256)
        if base is not None:
            moved.append(Moved(path, base))
            continue
        base = path if path in old else _likest(path, entry, old, by_name)
        if base is None or min(entry.size_bytes, old[base].size_bytes) < SMALLEST_BYTES:
            new.append(path)
        else:
            patched[path] = base
    return _Plan(tuple(moved), patched, tuple(new))


def _names(path: str) -> tuple[str, str]:
    """Return a path without its numbers, and the last part of it."""
    name = _VERSION.sub("#", path)
    return name, f"…/{name.rpartition('/')[2]}"


def _likest(
    path: str, entry: FileEntry, old: Mapping[str, FileEntry], by_name: Mapping[str, Sequence[str]]
) -> str | None:
    for name in _names(path):
        if name in by_name:
            return min(by_name[name], key=lambda base: (abs(old[base].size_bytes - entry.size_bytes), base))
    return None


def make_deltas(
    deltas: Sequence[Delta], *, bundle: Path, manifest: Manifest, release_id: ReleaseId, scratch: Path,
    progress: Progress,
) -> None:  # fmt: skip
    """Write the deltas to a release, with all cores.

    Args:
        deltas: earlier releases and the files to write.
        bundle: the new release's files.
        manifest: and their list.
        release_id: and their identity.
        scratch: an empty folder on a disk with room for what changed in each earlier release.
        progress: receives what is done.

    Raises:
        PublishError: an earlier release's archive is not what was signed, or the comparison was ended.
        DiskFull: or another problem of the disk.
    """
    plans = {delta.target: plan(earlier=delta.earlier.manifest, manifest=manifest) for delta in deltas}
    newest, *older = deltas
    pairs = _pairs(newest, plans[newest.target], bundle=bundle, manifest=manifest, scratch=scratch)
    made = _compared(pairs, {}, scratch, progress)
    rest: dict[Pair, Path] = {}
    known: dict[Pair, Between] = {}
    for delta in older:
        pairs = _pairs(delta, plans[delta.target], bundle=bundle, manifest=manifest, scratch=scratch)
        rest |= {pair: path for pair, path in pairs.items() if pair not in made}
        known |= _known(delta, newest.earlier, made, rest, scratch)
    made |= _compared(rest, known, scratch, progress)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for count, delta in enumerate(deltas):
            _write(
                delta, plans[delta.target], made, pool, bundle=bundle, manifest=manifest, release_id=release_id,
                scratch=scratch,
            )  # fmt: skip
            progress(f"delta from {delta.earlier.manifest.version}", count + 1, len(deltas))


def _pairs(delta: Delta, found: _Plan, *, bundle: Path, manifest: Manifest, scratch: Path) -> dict[Pair, Path]:
    """Return what a delta needs compared, and the new files; the old ones are unpacked."""
    old = delta.earlier.manifest.files
    pairs = {(old[base].sha256, manifest.files[path].sha256): bundle / path for path, base in found.patched.items()}
    _take_out(delta.earlier, {sha256 for sha256, _ in pairs if not (scratch / sha256).exists()}, scratch)
    return pairs


def _known(
    delta: Delta, newest: Earlier, made: Mapping[Pair, Made | None], rest: Collection[Pair], scratch: Path
) -> dict[Pair, Between]:
    """Return the pairs of the rest that need no comparison: the newest earlier release was compared with both files."""
    found: dict[Pair, Between] = {}
    second = {middle: (new, patch) for (middle, new), patch in made.items() if patch is not None}
    for (old, middle), covers in _covers_of(delta, newest):
        new, patch = second.get(middle, (None, None))
        if new is None or patch is None or (old, new) not in rest:
            continue
        between = Between(scratch / f"covers-{old[:32]}-{middle[:32]}", scratch / f"covers-{middle[:32]}")
        with disk_errors("write", scratch):
            between.first.write_bytes(covers)
            if not between.second.exists():
                between.second.write_bytes(patch.read()[Stream.COVERS])
        found[old, new] = between
    return found


def _covers_of(delta: Delta, newest: Earlier) -> Iterator[tuple[Pair, bytes]]:
    """Yield the covers of the delta that leads from the same release to the newest earlier one, as far as it tells."""
    if not delta.before.exists():
        return
    with suppress(PackUnusable), disk_errors("read", delta.before), delta.before.open("rb") as file:
        head = read_head(file)
        stream = sources(file, head).get(Stream.COVERS)
        if stream is None or (head.since, head.release_id) != (delta.earlier.release_id, newest.release_id):
            return
        for part in head.parts:
            if not isinstance(part, Patched):
                continue
            old, middle = delta.earlier.manifest.files.get(part.base), newest.manifest.files.get(part.path)
            if old is not None and middle is not None:
                yield (old.sha256, middle.sha256), stream.read(part.covers_bytes)


def _take_out(earlier: Earlier, wanted: set[Sha256], scratch: Path) -> None:
    """Unpack the files of an earlier release that are compared, each under its hash."""
    entries = {path: entry for path, entry in earlier.manifest.files.items() if entry.sha256 in wanted}
    try:
        with tarfile.open(earlier.archive, "r:gz") as tar:
            for member in tar:
                entry = entries.get(member.name.removeprefix("./"))
                source = tar.extractfile(member) if entry is not None and member.isreg() else None
                if entry is None or source is None:
                    continue
                target = scratch / entry.sha256
                with source, disk_errors("write", target), target.open("wb") as file:
                    while chunk := source.read(READ_SIZE_BYTES):
                        file.write(chunk)
                if files.sha256_of(target) != entry.sha256:
                    raise PublishError(
                        operation="make a delta", path=earlier.archive, cause="it is not what was signed"
                    )
    except (OSError, tarfile.TarError, EOFError, zlib.error) as cause:
        raise PublishError(operation="read", path=earlier.archive, cause=str(cause)) from cause
    lost = next((path for path, entry in entries.items() if not (scratch / entry.sha256).exists()), None)
    if lost is not None:
        raise PublishError(operation="make a delta", path=earlier.archive, cause=f"it has no {lost}")


def _compared(
    pairs: Mapping[Pair, Path], known: Mapping[Pair, Between], scratch: Path, progress: Progress
) -> dict[Pair, Made | None]:
    """Return the patches of all pairs of files, the largest first, made by one child per core."""
    rest = iter(sorted(pairs, key=lambda pair: pairs[pair].stat().st_size, reverse=True))
    made: dict[Pair, Made | None] = {}
    over = threading.Event()

    def work() -> None:
        with closing(Differ()) as differ:
            # The next one is taken without a lock: in CPython an iterator over a list is one step.
            for old, new in rest:
                if over.is_set():
                    return
                target = scratch / f"{old[:32]}-{new[:32]}"
                made[old, new] = differ.make(
                    old=scratch / old, new=pairs[old, new], target=target, between=known.get((old, new))
                )
                progress("files compared", len(made), len(pairs))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for worker in [pool.submit(work) for _ in range(min(os.cpu_count() or 1, len(pairs)))]:
                worker.result()
        finally:
            # Ctrl-C, or one that failed: the others end after what they have begun.
            over.set()
    return made


def _write(
    delta: Delta, found: _Plan, made: Mapping[Pair, Made | None], pool: Executor, *, bundle: Path, manifest: Manifest,
    release_id: ReleaseId, scratch: Path,
) -> None:  # fmt: skip
    """Write one delta: its streams are packed beside each other."""
    old = delta.earlier.manifest.files
    patches = {path: made[old[base].sha256, manifest.files[path].sha256] for path, base in found.patched.items()}
    whole = sorted([*found.new, *(path for path, patch in patches.items() if patch is None)], key=by_kind)
    chosen = {path: patch for path, patch in patches.items() if patch is not None}
    parts: list[Part] = [New(path) for path in whole]
    parts += [
        Patched(path, found.patched[path], *(patch.sizes[stream] for stream in COUNTED))
        for path, patch in chosen.items()
    ]
    plain_bytes = {stream: sum(patch.sizes[stream] for patch in chosen.values()) for stream in Stream}
    plain_bytes[Stream.LITERALS] += sum(manifest.files[path].size_bytes for path in whole)

    def chunks(stream: Stream) -> Iterator[bytes]:
        if stream is Stream.LITERALS:
            yield from content(bundle / path for path in whole)
        for patch in chosen.values():
            yield patch.read()[stream]

    streams = [
        pool.submit(
            squeeze, chunks(stream), scratch / f"{delta.target.name}.{stream}", stream=stream,
            codec=Codec.XZ, plain_bytes=plain_bytes[stream],
        )
        for stream in Stream
    ]  # fmt: skip
    join(
        [stream.result() for stream in streams], delta.target, parts=(*found.moved, *parts), release_id=release_id,
        since=delta.earlier.release_id,
    )  # fmt: skip
