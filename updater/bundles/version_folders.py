"""Version folders: unpack into staging, check against the manifest, rename once. A folder that exists is complete."""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from dbsync.errors import DiskFull, Refused, disk_problem, place_of
from dbsync.storage import file_calls, files
from updater.host import this_host
from updater.manifest import MANIFEST_NAME, FileEntry, Manifest, entry_of, parse, release_id, scan

if TYPE_CHECKING:
    from updater.bundles.foreign_files import Kept

RESERVE_BYTES: Final = 50_000_000
"""Space that stays free for the app and its database when a version is unpacked."""
_STAGING, _OLD, _GONE = ".staging-", ".old-", ".gone-"
FOLDER_MODE: Final = 0o755
"""Of every folder, whatever the umask is: the till's account runs what the agent's has written."""
FILE_MODE: Final = 0o644


class Versions:
    """The folder `versions` below the program folder, and the file `current` beside it, which is for people only."""

    def __init__(self, program: Path) -> None:
        self.root: Final = program / "versions"
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
            return parse(file_calls.read_bytes(path))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as cause:
            raise Refused(
                operation="read the manifest", path=path, cause=cause.strerror or str(cause),
                hint="The version folder is damaged: remove it and run `updater check`, or roll back.",
            ) from cause  # fmt: skip
        except OSError as cause:
            raise disk_problem("read the manifest", path, cause) from cause

    # ----------------------------------------------------------------------------------------- making a new folder

    def check_space(self, needed_bytes: int) -> None:
        """Refuse a version that would fill the disk; the message has the numbers."""
        free_bytes = files.free_bytes(self.root)
        if free_bytes < needed_bytes + RESERVE_BYTES:
            raise DiskFull(
                operation="unpack", path=self.root,
                cause=f"{(needed_bytes + RESERVE_BYTES) / 1e6:.1f} MB are needed, {free_bytes / 1e6:.1f} MB are free",
            )  # fmt: skip

    def unpack(self, archive: Path, manifest: Manifest, manifest_bytes: bytes) -> Path:
        """Unpack an archive into an empty staging folder: only files that the manifest names, with the sizes it gives.

        Raises:
            Refused: the archive is damaged or differs from the manifest.
            DiskFull: the disk is full; the unpacked files are removed again.
        """
        import tarfile
        import zlib

        staging = self._empty_staging(manifest, manifest_bytes)
        try:
            with file_calls.open_to_read(archive) as packed, tarfile.open(fileobj=packed, mode="r:*") as tar:
                for member in tar:
                    self._unpack_member(tar, member, staging, manifest)
        except (tarfile.TarError, zlib.error, EOFError) as cause:
            self._discard(staging)
            raise Refused(operation="unpack", path=archive, cause=f"the archive is damaged: {cause}") from cause
        except OSError as cause:
            self._discard(staging)
            raise disk_problem("unpack", place_of(cause, archive), cause) from cause
        except Refused:
            self._discard(staging)
            raise
        return staging

    def copy_bundle(self, folder: Path, manifest: Manifest, manifest_bytes: bytes) -> Path:
        """Copy the bundle from a local folder into an empty staging folder."""
        from shutil import copyfile

        staging = self._empty_staging(manifest, manifest_bytes)
        try:
            for path, entry in manifest.files.items():
                target = staging / path
                _make_folders(target.parent)
                if entry.link is not None:
                    target.symlink_to(entry.link)
                else:
                    copyfile(folder / path, target)
                    target.chmod(entry.mode)
        except FileNotFoundError as cause:
            self._discard(staging)
            raise Refused(operation="copy the bundle", path=folder, cause=f"{cause.filename} is missing") from cause
        except OSError as cause:
            self._discard(staging)
            raise disk_problem("copy the bundle", place_of(cause, folder), cause) from cause
        return staging

    def check(self, folder: Path, manifest: Manifest, *, remove_extra: bool = False) -> None:
        """Check every file against the manifest, and that there are no other files.

        Raises:
            Refused: a file is missing, differs, or is not in the manifest; the error names it.
        """
        for path, entry in manifest.files.items():
            if not os.path.lexists(folder / path):
                raise Refused(operation="check", path=folder / path, cause="it is missing")
            found = entry_of(folder / path, path)
            if not _same(found, entry):
                raise Refused(operation="check", path=folder / path, cause="it is not what the signed manifest says")
        extra = scan(folder).keys() - manifest.files.keys()
        for path in sorted(extra):
            if not remove_extra:
                raise Refused(operation="check", path=folder / path, cause="it is not in the signed manifest")
            file_calls.remove(folder / path, missing_ok=False)

    def shelve(self, staging: Path, name: str) -> None:
        """Make the files durable, then give the folder its final name; from then on it counts as complete.

        Raises:
            DiskFull, DiskProblem: a file cannot be made durable; nothing has the final name.
        """
        target = self.root / name
        if target.is_dir():
            # An earlier run was interrupted after this rename; the existing folder is complete and never overwritten.
            self._discard(staging)
            return
        with files.disk_errors("shelve", target):
            files.sync_tree(staging)
        files.rename_durably(source=staging, target=target)

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
                    aside = folder.with_name(_OLD + folder.name)
                    if not aside.exists():
                        files.rename_durably(source=folder, target=aside)
            for folder in sorted(self.root.iterdir()):
                if folder.name.startswith(_OLD):
                    self._empty(folder, kept_files / folder.name.removeprefix(_OLD), told)
            for folder in self.root.iterdir():
                if folder.name.startswith((_STAGING, _GONE)):
                    self._discard(folder)
        except OSError as cause:
            raise disk_problem("tidy", self.root, cause) from cause
        from updater.bundles import foreign_files

        foreign_files.limit(kept_files)

    def _empty(self, folder: Path, kept_files: Path, told: Callable[[Kept], None]) -> None:
        """Move the foreign files out of a folder that lost its name; then it may be removed in parts."""
        # Here, because no start of a till needs it.
        from updater.bundles import foreign_files

        found = foreign_files.put_aside(folder=folder, into=kept_files)
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
            file_calls.write_bytes(staging / MANIFEST_NAME, manifest_bytes)
            (staging / MANIFEST_NAME).chmod(FILE_MODE)
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
            _copy(source, file, entry, path)
        target.chmod(entry.mode)

    @staticmethod
    def _discard(folder: Path) -> None:
        from shutil import rmtree

        rmtree(folder, ignore_errors=True)


def _make_folders(folder: Path) -> None:
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        made.mkdir()
        made.chmod(FOLDER_MODE)


def _copy(source: IO[bytes], target: IO[bytes], entry: FileEntry, path: str) -> None:
    left_bytes = entry.size_bytes
    while chunk := source.read(files.READ_SIZE_BYTES):
        left_bytes -= len(chunk)
        if left_bytes < 0:
            # An archive that unpacks to more than was signed would fill the disk before its hash is checked.
            raise Refused(operation="unpack", cause=f"{path} is larger than the manifest says")
        target.write(chunk)


def _same(found: FileEntry, entry: FileEntry) -> bool:
    return (found if this_host().keeps_executable_bit else found._replace(mode=entry.mode)) == entry
