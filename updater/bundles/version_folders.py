"""Version folders: unpack into staging, check against the manifest, rename once. A folder that exists is complete."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Final

from dbsync.errors import DiskFull, DiskProblem, Refused, disk_problem, place_of
from dbsync.facts import ReleaseId
from dbsync.storage import file_calls, files
from dbsync.storage.platform import this_platform
from updater.errors import PackUnusable
from updater.host import this_host
from updater.manifest import (
    MANIFEST_NAME,
    START_NAME,
    FileEntry,
    Manifest,
    ManifestError,
    Start,
    entry_of,
    names_below,
    parse,
    parse_start,
    release_id,
    start_of,
    start_to_bytes,
)
from updater.model import Release

if TYPE_CHECKING:
    from dbsync.storage.platform.base import Barrier
    from updater.bundles.foreign_files import Kept

RESERVE_BYTES: Final = 50_000_000
"""Space that stays free for the app and its database when a version is unpacked."""
_DIFFERING: Final = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
SPACE_CHECK_BYTES: Final = 4_000_000
"""How much is written between two looks at the free space."""
_STAGING, _OLD, _GONE = ".staging-", ".old-", ".gone-"
FOLDER_MODE: Final = 0o755
"""Of every folder, whatever the umask is: the till's account runs what the agent's has written."""
FILE_MODE: Final = 0o644


class Versions:
    """The folder `versions` below the program folder, and the file `current` beside it, which is for people only."""

    def __init__(self, program: Path, *, reserve_bytes: int = RESERVE_BYTES) -> None:
        self.root: Final = program / "versions"
        self._reserve_bytes: Final = reserve_bytes
        self._unchecked_bytes = 0
        self._counting: Final = threading.Lock()
        self._known: Final[dict[Path, dict[str, tuple[int, ...]]]] = {}
        """Of staging folders of this process: the states of the files in which they had the signed content."""
        self._barriers: Final[dict[Path, Barrier]] = {}
        self._current: Final = program / "current"

    def names(self) -> frozenset[str]:
        """Return the names of all complete version folders."""
        try:
            return frozenset(
                folder.name for folder in self.root.iterdir() if folder.is_dir() and not folder.name.startswith(".")
            )
        except FileNotFoundError:
            return frozenset()
        except OSError as cause:
            raise disk_problem("read", self.root, cause) from cause

    def folder(self, name: str) -> Path:
        """Return the folder of that name."""
        return self.root / name

    def manifest(self, name: str) -> Manifest:
        """Return the manifest of an installed version.

        Raises:
            Refused: the folder or its manifest is missing or damaged.
            DiskProblem: the manifest cannot be read now.
        """
        path = self.root / name / MANIFEST_NAME
        try:
            return parse(file_calls.read_bytes(path), installed=True)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as cause:
            raise Refused(
                operation="read the manifest", path=path, cause=cause.strerror or str(cause),
                hint="The version folder is damaged: remove it and run `updater check`, or roll back.",
            ) from cause  # fmt: skip
        except OSError as cause:
            raise disk_problem("read the manifest", path, cause) from cause

    def manifest_bytes(self, name: str) -> bytes | None:
        """Return the bytes of the manifest of an installed version; None if they cannot be read."""
        try:
            return file_calls.read_bytes(self.root / name / MANIFEST_NAME)
        except OSError:
            return None

    def start(self, name: str) -> Start:
        """Return how the app of an installed version is started, without its whole manifest where that can be.

        Raises:
            Refused: the folder or its manifest is missing or damaged.
        """
        try:
            return parse_start(file_calls.read_bytes(self.root / name / START_NAME))
        except (OSError, ManifestError):
            # Version folders of earlier releases have no such file, and they never change.
            return start_of(self.manifest(name))

    # ----------------------------------------------------------------------------------------- making a new folder

    def _keep_reserve(self, size_bytes: int) -> None:
        """Look at the free space every few megabytes, before `size_bytes` are written: others write to the disk too."""
        with self._counting:
            self._unchecked_bytes += size_bytes
            if self._unchecked_bytes < SPACE_CHECK_BYTES:
                return
            self._unchecked_bytes = 0
        ahead_bytes = SPACE_CHECK_BYTES + size_bytes
        files.keep_free(self.root, operation="unpack", ahead_bytes=ahead_bytes, reserve_bytes=self._reserve_bytes)

    def unpack(self, archive: Path, manifest: Manifest, manifest_bytes: bytes) -> Path:
        """Unpack an archive into an empty staging folder: only files that the manifest names, with the sizes it gives.

        Raises:
            Refused: the archive is damaged or differs from the manifest.
            DiskFull: the disk is full; the unpacked files are removed again.
        """
        import tarfile
        import zlib

        from updater.bundles import archives

        staging = self._empty_staging(manifest, manifest_bytes)
        with self._discarded_on_failure(staging, Refused, operation="unpack", source=archive):
            try:
                with file_calls.open_to_read(archive) as packed, archives.opened(packed) as tar:
                    for member in archives.members(tar, files_count=len(manifest.files)):
                        self._unpack_member(tar, member, staging, manifest)
            except (tarfile.TarError, zlib.error, EOFError) as cause:
                raise Refused(operation="unpack", path=archive, cause=f"the archive is damaged: {cause}") from cause
        return staging

    def assemble(
        self, pack: Path, manifest: Manifest, manifest_bytes: bytes, *, base: tuple[str, ReleaseId] | None
    ) -> Path:
        """Make the files of a release from a pack, or from a delta and the version folder that it continues.

        Args:
            pack: the verified file.
            manifest: the release's.
            manifest_bytes: its signed bytes.
            base: name and release of the version folder that a delta continues; None for a pack.

        Raises:
            PackUnusable: the release cannot be made of it here; what was written is removed again.
            DiskFull: the disk is full; what was written is removed again.
        """
        from updater.bundles.unpacking import Unpacking
        from updater.bundles.writing import Folder

        staging = self._empty_staging(manifest, manifest_bytes)
        known = self._known.setdefault(staging, {})

        def open_target(path: str, entry: FileEntry) -> BinaryIO:
            target = staging / path
            _make_folders(target.parent)
            file = file_calls.open_to_write(target, "x+b")
            target.chmod(entry.mode)
            return file

        with self._discarded_on_failure(staging, PackUnusable, operation="unpack", source=pack):
            for path, entry in manifest.files.items():
                if entry.link is not None:
                    _make_folders((staging / path).parent)
                    (staging / path).symlink_to(entry.link)
            folder = Folder(
                new_file=open_target,
                keep_reserve=self._keep_reserve,
                written=lambda path: known.__setitem__(path, _state(staging / path)),
            )
            old = self.root / base[0] if base is not None else None
            since = base[1] if base is not None else None
            Unpacking(manifest, base=old, folder=folder).run(pack, release_id=release_id(manifest_bytes), since=since)
        return staging

    def copy_bundle(self, folder: Path, manifest: Manifest, manifest_bytes: bytes) -> Path:
        """Copy the bundle from a local folder into an empty staging folder."""
        from shutil import copyfile

        staging = self._empty_staging(manifest, manifest_bytes)
        with self._discarded_on_failure(staging, Refused, operation="copy the bundle", source=folder):
            try:
                for path, entry in manifest.files.items():
                    target = staging / path
                    _make_folders(target.parent)
                    if entry.link is not None:
                        target.symlink_to(entry.link)
                    else:
                        self._keep_reserve(entry.size_bytes)
                        copyfile(folder / path, target)
                        target.chmod(entry.mode)
            except FileNotFoundError as cause:
                raise Refused(operation="copy the bundle", path=folder, cause=f"{cause.filename} is missing") from cause
        return staging

    @contextmanager
    def _discarded_on_failure(
        self, staging: Path, kind: type[Refused], *, operation: str, source: Path
    ) -> Iterator[None]:
        """Remove a staging folder whose files cannot be written; an OSError becomes one of our errors.

        A name that is there already is another one of the source's, since the folder was empty: an error of that kind.
        """
        try:
            yield
        except FileExistsError as cause:
            self._discard(staging)
            twice = "two of its names are one file on this disk"
            raise kind(operation=operation, path=place_of(cause, source), cause=twice) from cause
        except OSError as cause:
            self._discard(staging)
            raise disk_problem(operation, place_of(cause, source), cause) from cause
        except (Refused, DiskFull):
            self._discard(staging)
            raise

    def check(self, folder: Path, manifest: Manifest, *, remove_extra: bool = False) -> None:
        """Check every file and empty folder against the manifest, and that there are no other files.

        A file of a staging folder is hashed once, and again only if it was touched since.

        Raises:
            Refused: a file is missing, differs, or is not in the manifest; the error names it.
        """
        # Windows has no time of a change that a program, such as a self-test, cannot set: there all is hashed again.
        may_trust = not remove_extra or this_host().keeps_executable_bit
        known = self._known.get(folder, {}) if may_trust else {}
        for path, entry in manifest.files.items():
            if not os.path.lexists(folder / path):
                raise Refused(operation="check", path=folder / path, cause="it is missing")
            if path in known and known[path] == _state(folder / path):
                # Hashed while it was written, or by the check before, and not touched since.
                continue
            found = entry_of(folder / path, path)
            if not _same(found, entry):
                raise Refused(operation="check", path=folder / path, cause="it is not what the signed manifest says")
        for path in manifest.folders:
            if (folder / path).is_symlink() or not (folder / path).is_dir():
                raise Refused(operation="check", path=folder / path, cause="the folder is missing")
        for path in sorted(set(names_below(folder)) - manifest.files.keys()):
            if not remove_extra:
                raise Refused(operation="check", path=folder / path, cause="it is not in the signed manifest")
            file_calls.remove(folder / path, missing_ok=False)

    def reuse(self, release: Release) -> bool:
        """Return whether a release's folder is there and exactly what was signed; one that differs loses its name.

        A name alone proves nothing: an account that could write here may have given it. Tidying keeps the foreign files
        of a folder that lost its name.

        Raises:
            DiskProblem: it cannot be read now, or cannot be renamed; it stays as it is.
        """
        if not os.path.lexists(self.root / release.folder):
            return False
        if self.verified(release.folder) == release.release_id:
            return True
        self.take_name(release.folder)
        return False

    def verified(self, name: str) -> ReleaseId | None:
        """Return the release whose files a version folder has, all of them and no others; None if it is no such folder.

        Raises:
            DiskProblem: it cannot be read now.
        """
        folder = self.root / name
        own = (folder, folder / MANIFEST_NAME, folder / START_NAME)
        try:
            with files.disk_errors("check", folder):
                if any(path.is_symlink() for path in own):
                    # What it leads to may be written by another account.
                    return None
                manifest_bytes = file_calls.read_bytes(folder / MANIFEST_NAME)
                start = file_calls.read_bytes(folder / START_NAME) if files.is_there(folder / START_NAME) else None
            manifest = parse(manifest_bytes, installed=True)
            if start not in (None, start_to_bytes(start_of(manifest))):
                return None
            self.check(folder, manifest)
        except (Refused, DiskProblem) as error:
            if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, _DIFFERING):
                raise disk_problem("check", folder, error.__cause__) from error
            return None
        release = Release(release_id(manifest_bytes), manifest.version, manifest.schema)
        return release.release_id if release.folder == name else None

    def take_name(self, name: str) -> None:
        """Take the final name from a folder: no start finds it any more, and tidying removes it."""
        folder = self.root / name
        if folder.is_symlink():
            with files.disk_errors("remove", folder):
                file_calls.remove(folder)
            return
        aside = folder.with_name(_OLD + name)
        if files.is_there(aside):
            aside = folder.with_name(f"{_OLD}{name}-{os.urandom(4).hex()}")
        files.rename_durably(source=folder, target=aside)

    def shelve(self, staging: Path, name: str) -> None:
        """Make the files durable, then give the folder its final name; from then on it counts as complete.

        Raises:
            DiskFull, DiskProblem: a file cannot be made durable, or a folder has the name; this one has not got it.
        """
        target = self.root / name
        with files.disk_errors("shelve", target):
            barrier = self._barriers.get(staging)
            if barrier is not None:
                barrier.sync()
            else:
                files.sync_tree(staging)
        files.rename_durably(source=staging, target=target)
        self._forget(staging)

    # ------------------------------------------------------------------------------------------------------- cleanup

    def tidy(self, *, keep: AbstractSet[str], kept_files: Path, told: Callable[[Kept], None]) -> None:
        """Remove version folders that are not in `keep`, and leftovers of interrupted runs.

        A folder loses its final name first: a crash in between never leaves an incomplete folder under a final name.

        Args:
            keep: names of the folders that stay.
            kept_files: folder into which files are moved that the release did not bring, or that were changed.
            told: receives what was moved out of a folder, before the folder is removed.
        """
        try:
            for folder in self.root.iterdir():
                if not folder.name.startswith(".") and folder.name not in keep:
                    self.take_name(folder.name)
            for folder in sorted(self.root.iterdir()):
                if folder.name.startswith(_OLD):
                    self._empty(folder, kept_files / folder.name.removeprefix(_OLD), told)
        except OSError as cause:
            raise disk_problem("tidy", self.root, cause) from cause
        self.remove_unfinished()
        from updater.bundles import foreign_files

        foreign_files.limit(kept_files)

    def remove_unfinished(self) -> None:
        """Remove what interrupted runs left, and folders that are being removed: no version is missing then."""
        try:
            for folder in list(self.root.iterdir()):
                if folder.name.startswith((_STAGING, _GONE)):
                    self._discard(folder)
        except FileNotFoundError:
            return
        except OSError as cause:
            raise disk_problem("tidy", self.root, cause) from cause

    def _empty(self, folder: Path, kept_files: Path, told: Callable[[Kept], None]) -> None:
        """Move the foreign files out of a folder that lost its name; then it may be removed in parts."""
        # Here, because no start of a till needs it.
        from updater.bundles import foreign_files

        found = foreign_files.put_aside(folder=folder, into=kept_files, reserve_bytes=self._reserve_bytes)
        if found.paths:
            told(found)
        if not found.problem:
            gone = folder.with_name(_GONE + folder.name.removeprefix(_OLD))
            self._discard(gone)
            files.rename_durably(source=folder, target=gone)

    def write_current(self, name: str) -> None:
        """Write `current` for people; no decision ever reads it."""
        files.write_durably(self._current, f"{name}\n".encode(), like=self._current.parent)

    def _empty_staging(self, manifest: Manifest, manifest_bytes: bytes) -> Path:
        staging = self.root / f"{_STAGING}{manifest.version}-{release_id(manifest_bytes)[:12]}"
        self._discard(staging)
        try:
            _make_folders(staging)
            barrier = this_platform().barrier(staging)
            if barrier is not None:
                self._barriers[staging] = barrier
            for name, data in ((MANIFEST_NAME, manifest_bytes), (START_NAME, start_to_bytes(start_of(manifest)))):
                file_calls.write_bytes(staging / name, data)
                (staging / name).chmod(FILE_MODE)
            for path in manifest.folders:
                _make_folders(staging / path)
        except OSError as cause:
            raise disk_problem("make", place_of(cause, staging), cause) from cause
        return staging

    def _unpack_member(self, tar, member, staging: Path, manifest: Manifest) -> None:  # type: ignore[no-untyped-def]
        path = member.name.removeprefix("./").rstrip("/")
        if member.isdir() or path in ("", "."):
            return
        entry = manifest.files.get(path)
        if entry is None:
            raise Refused(operation="unpack", cause=f"{member.name!r} is in the archive and not in the manifest")
        target = staging / path
        _make_folders(target.parent)
        if entry.link is not None:
            if not member.issym() or member.linkname != entry.link:
                raise Refused(operation="unpack", cause=f"{path} is not the link that the manifest names")
            target.symlink_to(entry.link)
            return
        source = tar.extractfile(member) if member.isreg() or member.islnk() else None
        if source is None:
            raise Refused(operation="unpack", cause=f"{path} is not a plain file in the archive")
        with source, file_calls.open_to_write(target, "xb") as file:
            sha256 = self._copy(source, file, entry, path)
        target.chmod(entry.mode)
        if sha256 == entry.sha256:
            self._known.setdefault(staging, {})[path] = _state(target)

    def _copy(self, source: IO[bytes], target: IO[bytes], entry: FileEntry, path: str) -> str:
        import hashlib

        left_bytes, digest = entry.size_bytes, hashlib.sha256()
        while chunk := source.read(files.READ_SIZE_BYTES):
            left_bytes -= len(chunk)
            if left_bytes < 0:
                # An archive that unpacks to more than was signed would fill the disk before its hash is checked.
                raise Refused(operation="unpack", cause=f"{path} is larger than the manifest says")
            self._keep_reserve(len(chunk))
            digest.update(chunk)
            target.write(chunk)
        return digest.hexdigest()

    def _forget(self, staging: Path) -> None:
        self._known.pop(staging, None)
        barrier = self._barriers.pop(staging, None)
        if barrier is not None:
            barrier.close()

    def _discard(self, folder: Path) -> None:
        from shutil import rmtree

        self._forget(folder)
        rmtree(folder, ignore_errors=True)


def _make_folders(folder: Path) -> None:
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        # Another thread may make it for another file.
        made.mkdir(exist_ok=True)
        made.chmod(FOLDER_MODE)


def _state(path: Path) -> tuple[int, ...]:
    """Return what changes with every write to a file, and with every other file in its place."""
    found = path.lstat()
    return found.st_ino, found.st_dev, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _same(found: FileEntry, entry: FileEntry) -> bool:
    return (found if this_host().keeps_executable_bit else found._replace(mode=entry.mode)) == entry
