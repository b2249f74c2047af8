"""The manifest of a release: its files with size, mode and hash, the command of the app, and the migrations."""

# Annotations are evaluated here: as texts, NamedTuple compiles each again at every start (`scripts/bench launch`).
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from dbsync.errors import Refused
from dbsync.facts import NO_SCHEMA, NO_SHA256, ReleaseId, SchemaNumber, Sha256
from dbsync.storage import file_calls

FORMAT: Final = 1
MANIFEST_NAME: Final = "tillkeeper-manifest.json"
SIGNED_AT: Final = "x-tillkeeper-signed-at"
"""A field of timestamp.json: the vendor's clock at signing. Terminals keep the newest as a floor under their own."""


class ManifestError(Refused):
    """A manifest that cannot be used."""

    hint_by_default = "It is signed but not understood: tell the release engineer, or update the agent."


class FileEntry(NamedTuple):
    """One file of a bundle."""

    size_bytes: int
    sha256: Sha256
    mode: int
    link: str | None = None
    """For a symbolic link: its target, relative, inside the bundle."""


class MigrationEntry(NamedTuple):
    """One migration of a bundle, by identity."""

    number: SchemaNumber
    name: str
    sha256: Sha256
    replaces: tuple[Sha256, ...]


class Manifest(NamedTuple):
    """Signed description of a release. Its canonical bytes are signed; their SHA-256 is the release id."""

    app: str
    version: str
    platform: str
    files: Mapping[str, FileEntry]
    entry: str
    interpreter: str | None
    """A role such as "python"; the terminal's settings map it to a program."""
    arguments: tuple[str, ...]
    self_test: tuple[str, ...] | None
    """Arguments with which the entry tests itself; None if there is no self-test."""
    self_test_timeout_seconds: float
    migrations_folder: str | None
    migrations: tuple[MigrationEntry, ...]
    least_agent: str
    least_free_bytes: int
    least_sqlite: str = ""
    """The least SQLite that its migrations need, such as 3.35; empty: any. Manifests before it had none."""
    urgent: bool = False
    """Whether no terminal may be kept from it for long, such as for a security problem."""

    @property
    def schema(self) -> SchemaNumber:
        """Number of the newest migration; 0 without any."""
        return self.migrations[-1].number if self.migrations else NO_SCHEMA


def to_bytes(manifest: Manifest) -> bytes:
    """Return the canonical bytes of a manifest; they are the same on every machine."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "app": manifest.app,
        "version": manifest.version,
        "platform": manifest.platform,
        "files": {path: _entry_to(entry) for path, entry in manifest.files.items()},
        "entry": {
            "path": manifest.entry,
            "interpreter": manifest.interpreter,
            "arguments": list(manifest.arguments),
        },
        "self_test": None
        if manifest.self_test is None
        else {"arguments": list(manifest.self_test), "timeout_seconds": manifest.self_test_timeout_seconds},
        "migrations": None
        if manifest.migrations_folder is None
        else {
            "folder": manifest.migrations_folder,
            "list": [migration._asdict() | {"replaces": list(migration.replaces)} for migration in manifest.migrations],
        },
        "schema": manifest.schema,
        "least_agent": manifest.least_agent,
        "least_free_bytes": manifest.least_free_bytes,
    }
    if manifest.least_sqlite:
        # Left out where there is none: the bytes of a manifest are its identity, and older ones have no such field.
        document["least_sqlite"] = manifest.least_sqlite
    if manifest.urgent:
        document["urgent"] = True
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def release_id(data: bytes) -> ReleaseId:
    """Return the identity of the release that has this manifest."""
    import hashlib

    return ReleaseId(hashlib.sha256(data).hexdigest())


def parse(data: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        ManifestError: it is not JSON, has an unknown format, lacks a field, or names a path that leaves the bundle.
    """
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise _wrong(f"format {document['format']} is not known to this agent")
        return _manifest(document)
    except (KeyError, TypeError, ValueError, AttributeError) as cause:
        raise _wrong(f"{type(cause).__name__}: {cause}") from cause


def check_path(path: str) -> str:
    """Return a path of the bundle unchanged; refuse a path that leaves the bundle."""
    parts = PurePosixPath(path).parts
    reserved = any(part.rstrip(". ") != part or ":" in part or "\\" in part or "\0" in part for part in parts)
    if (
        not parts
        or path.startswith("/")
        or ".." in parts
        or "." in path.split("/")
        or "" in path.split("/")
        or reserved
    ):
        raise _wrong(f"the path {path!r} is not one inside the bundle")
    return path


def check_link(*, path: str, target: str) -> str:
    """Return the target of a symbolic link unchanged; refuse a link that leaves the bundle."""
    if target.startswith("/") or "\\" in target or ":" in target or not target:
        raise _wrong(f"the link {path} -> {target} leaves the bundle")
    depth = len(PurePosixPath(path).parts) - 1
    for part in PurePosixPath(target).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            raise _wrong(f"the link {path} -> {target} leaves the bundle")
    return target


def scan(folder: Path) -> dict[str, FileEntry]:
    """Return all files below a folder except the manifest, sorted by their path with slashes.

    Raises:
        ManifestError: an entry is neither a file, nor a folder, nor a link that stays inside the folder.
    """
    found: dict[str, FileEntry] = {}
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in (*names, *links):
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            if relative != MANIFEST_NAME:
                found[check_path(relative)] = entry_of(path, relative)
    return dict(sorted(found.items()))


def entry_of(path: Path, relative: str) -> FileEntry:
    """Return size, hash, mode and link of one file."""
    import hashlib

    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            target = check_link(path=relative, target=path.readlink().as_posix())
            return FileEntry(0, NO_SHA256, 0, target)
        if not stat.S_ISREG(status.st_mode):
            raise _wrong(f"{relative} is neither a file nor a folder nor a link")
        with file_calls.open_to_read(path) as file:
            sha256 = Sha256(hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as cause:
        raise ManifestError(operation="read", path=path, cause=cause.strerror or str(cause)) from cause
    executable = 0o755 if status.st_mode & 0o100 else 0o644
    return FileEntry(status.st_size, sha256, executable)


def _entry_to(entry: FileEntry) -> dict[str, Any]:
    if entry.link is not None:
        return {"link": entry.link}
    return {"size_bytes": entry.size_bytes, "sha256": entry.sha256, "mode": f"{entry.mode:04o}"}


def _entry_from(path: str, data: Mapping[str, Any]) -> FileEntry:
    if "link" in data:
        return FileEntry(0, NO_SHA256, 0, check_link(path=path, target=data["link"]))
    size_bytes, sha256 = data["size_bytes"], data["sha256"]
    if not isinstance(size_bytes, int) or size_bytes < 0 or len(sha256) != 64:
        raise ValueError(f"{path} has a wrong size or hash")
    return FileEntry(size_bytes, Sha256(sha256), int(data["mode"], 8) & 0o755)


def _manifest(document: Mapping[str, Any]) -> Manifest:
    files = {check_path(path): _entry_from(path, data) for path, data in document["files"].items()}
    entry, test, migrations = document["entry"], document["self_test"], document["migrations"]
    manifest = Manifest(
        app=str(document["app"]),
        version=str(document["version"]),
        platform=str(document["platform"]),
        files=dict(sorted(files.items())),
        entry=check_path(entry["path"]),
        interpreter=entry["interpreter"],
        arguments=tuple(entry["arguments"]),
        self_test=None if test is None else tuple(test["arguments"]),
        self_test_timeout_seconds=0.0 if test is None else float(test["timeout_seconds"]),
        migrations_folder=None if migrations is None else check_path(migrations["folder"]),
        migrations=() if migrations is None else tuple(_migration(migration) for migration in migrations["list"]),
        least_agent=str(document["least_agent"]),
        least_free_bytes=int(document["least_free_bytes"]),
        least_sqlite=str(document.get("least_sqlite", "")),
        urgent=document.get("urgent", False) is True,
    )
    if manifest.entry not in files:
        raise ValueError(f"the entry {manifest.entry} is not among the files")
    if manifest.least_sqlite and not all(part.isdecimal() for part in manifest.least_sqlite.split(".")):
        raise ValueError(f"least_sqlite {manifest.least_sqlite!r} is not a version of SQLite")
    if [migration.number for migration in manifest.migrations] != list(range(1, len(manifest.migrations) + 1)):
        raise ValueError("the migrations are not numbered 1, 2, 3 …")
    return manifest


def _migration(data: Mapping[str, Any]) -> MigrationEntry:
    number, sha256 = SchemaNumber(int(data["number"])), Sha256(str(data["sha256"]))
    return MigrationEntry(number, str(data["name"]), sha256, tuple(map(Sha256, data["replaces"])))


def _wrong(cause: str) -> ManifestError:
    return ManifestError(operation="read the manifest", cause=cause)
