"""The manifest of a release: its files with size, mode and hash, the command of the app, and the migrations.

Publisher and terminal share every rule: the publisher signs the bytes only after `checked` has read them back.
"""

# Annotations are evaluated here: as texts, NamedTuple compiles each again at every start (`scripts/bench launch`).
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from dbsync.facts import NO_SCHEMA, NO_SHA256, ReleaseId, SchemaNumber, Sha256
from dbsync.storage import file_calls
from updater.bundle_names import (
    MANIFEST_NAME,
    OWN_NAMES,
    START_NAME,
    ManifestError,
    check_app_fits,
    check_fits,
    check_link,
    check_path,
    check_tree,
    is_app,
    is_version,
    wrong,
)

__all__ = [
    "MANIFEST_NAME", "START_NAME", "FileEntry", "Manifest", "ManifestError", "MigrationEntry", "NewerFormat", "Start",
    "check_fits_here", "check_path", "checked", "empty_folders", "entry_of", "names_below", "parse", "parse_start",
    "release_id", "scan", "start_of", "start_to_bytes", "to_bytes",
]  # fmt: skip

FORMAT: Final = 1
SIZE_LIMIT_BYTES: Final = 32_000_000
"""Of a manifest: some 200 000 files. A larger one is neither published nor read."""
VALUES_LIMIT: Final = 1_000_000
"""Of a manifest, as its commas tell: JSON of short values takes 25 times its bytes when it is read."""
LONGEST_SELF_TEST_SECONDS: Final = 24 * 3600.0
_HEX: Final = frozenset("0123456789abcdef")
MIGRATIONS_LIMIT: Final = 100_000
SIGNED_AT: Final = "x-tillkeeper-signed-at"
"""A field of timestamp.json: the vendor's clock at signing. Terminals keep the newest as a floor under their own."""


class NewerFormat(ManifestError):
    """A manifest that only a newer agent understands."""


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
    folders: tuple[str, ...] = ()
    """Folders of the bundle in which no file lies, sorted; manifests before it had none."""

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
    if manifest.folders:
        document["folders"] = list(manifest.folders)
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def release_id(data: bytes) -> ReleaseId:
    """Return the identity of the release that has this manifest."""
    import hashlib

    return ReleaseId(hashlib.sha256(data).hexdigest())


def parse(data: bytes, *, installed: bool = False) -> Manifest:
    """Read a manifest.

    Args:
        data: the signed bytes.
        installed: whether its files are on this disk already. Then only what is used is checked: a release that works
            here goes on working, whatever later rules refuse.

    Raises:
        NewerFormat: its format is newer than this agent.
        ManifestError: it is too large, is not JSON, lacks a field, has a value that cannot be one, or names paths or
            links that leave the bundle.
    """
    if len(data) > SIZE_LIMIT_BYTES:
        raise wrong(f"it has {len(data)} bytes, at most {SIZE_LIMIT_BYTES} are read")
    try:
        if data.count(b",") > VALUES_LIMIT:
            raise wrong(f"it has more than {VALUES_LIMIT} values")
        document = json.loads(data)
        number = document["format"]
        if isinstance(number, int) and number > FORMAT:
            raise NewerFormat(operation="read the manifest", cause=f"format {number} is not known to this agent")
        if number != FORMAT:
            raise wrong(f"format {number!r} is none")
        manifest = _manifest(document)
        if not installed:
            _check(manifest)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as cause:
        raise wrong(f"{type(cause).__name__}: {str(cause)[:200]}") from cause
    return manifest


def checked(manifest: Manifest) -> bytes:
    """Return the bytes that are to be signed, if every terminal of its platform can use them.

    Raises:
        ManifestError: a terminal would refuse them.
    """
    try:
        data = to_bytes(manifest)
    except (UnicodeEncodeError, ValueError, TypeError) as cause:
        raise wrong(f"a value cannot be written: {str(cause)[:200]}") from cause
    if parse(data) != manifest:
        raise wrong("a value has another type than the manifest holds")
    check_fits_here(manifest, manifest.platform)
    return data


def check_fits_here(manifest: Manifest, platform: str) -> None:
    """Refuse a manifest with names that a platform cannot hold; the error names the first one."""
    check_app_fits(manifest.app, platform=platform)
    check_fits(_links_of(manifest), manifest.folders, platform=platform)


def _links_of(manifest: Manifest) -> dict[str, str | None]:
    return {path: entry.link for path, entry in manifest.files.items()}


def scan(folder: Path) -> dict[str, FileEntry]:
    """Return all files below a folder except our own, sorted by their path with slashes.

    Raises:
        ManifestError: an entry is neither a file, nor a folder, nor a link that stays inside the folder.
    """
    return {relative: entry_of(folder / relative, relative) for relative in sorted(names_below(folder))}


def names_below(folder: Path) -> Iterator[str]:
    """Yield the paths, with slashes, of everything below a folder but folders and our own files; nothing is read."""
    for parent, folders, names in os.walk(folder):
        above = "" if parent == str(folder) else f"{Path(parent).relative_to(folder).as_posix()}/"
        links = [name for name in folders if os.path.islink(f"{parent}/{name}")]  # noqa: PTH114 - of every folder
        for name in (*names, *links):
            relative = f"{above}{name}"
            if relative not in OWN_NAMES:
                yield check_path(relative)


def empty_folders(folder: Path) -> tuple[str, ...]:
    """Return the folders below a folder that hold nothing at all, sorted by their path with slashes."""
    return tuple(
        sorted(
            check_path(Path(parent).relative_to(folder).as_posix())
            for parent, folders, names in os.walk(folder)
            if not folders and not names and Path(parent) != folder
        )
    )


def entry_of(path: Path, relative: str) -> FileEntry:
    """Return size, hash, mode and link of one file."""
    import hashlib

    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            target = check_link(path=relative, target=path.readlink().as_posix())
            return FileEntry(0, NO_SHA256, 0, target)
        if not stat.S_ISREG(status.st_mode):
            raise wrong(f"{relative} is neither a file nor a folder nor a link")
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
        return FileEntry(0, NO_SHA256, 0, check_link(path=path, target=_string(data, "link")))
    size_bytes = data["size_bytes"]
    if isinstance(size_bytes, bool) or not isinstance(size_bytes, int) or size_bytes < 0:
        raise ValueError(f"{path} has a wrong size")
    return FileEntry(size_bytes, _sha256(data["sha256"]), int(_string(data, "mode"), 8) & 0o755)


def _manifest(document: Mapping[str, Any]) -> Manifest:
    files = {check_path(path): _entry_from(path, data) for path, data in document["files"].items()}
    entry, test, migrations = document["entry"], document["self_test"], document["migrations"]
    interpreter = entry["interpreter"]
    manifest = Manifest(
        app=_string(document, "app"),
        version=_string(document, "version"),
        platform=_string(document, "platform"),
        files=dict(sorted(files.items())),
        entry=check_path(entry["path"]),
        interpreter=None if interpreter is None else _string(entry, "interpreter"),
        arguments=_strings(entry["arguments"]),
        self_test=None if test is None else _strings(test["arguments"]),
        self_test_timeout_seconds=0.0 if test is None else float(test["timeout_seconds"]),
        migrations_folder=None if migrations is None else check_path(migrations["folder"]),
        migrations=() if migrations is None else tuple(_migration(migration) for migration in migrations["list"]),
        least_agent=_string(document, "least_agent"),
        least_free_bytes=int(document["least_free_bytes"]),
        least_sqlite=str(document.get("least_sqlite", "")),
        urgent=document.get("urgent", False) is True,
        folders=tuple(map(check_path, _strings(document.get("folders", [])))),
    )
    if manifest.entry not in files:
        raise ValueError(f"the entry {manifest.entry} is not among the files")
    if manifest.least_sqlite and not all(part.isdecimal() for part in manifest.least_sqlite.split(".")):
        raise ValueError(f"least_sqlite {manifest.least_sqlite!r} is not a version of SQLite")
    if [migration.number for migration in manifest.migrations] != list(range(1, len(manifest.migrations) + 1)):
        raise ValueError("the migrations are not numbered 1, 2, 3 …")
    return manifest


def _check(manifest: Manifest) -> None:
    """Refuse what no release may have; a release that was installed under earlier rules is not asked."""
    if not is_app(manifest.app):
        raise wrong(f"{manifest.app!r} is no name of an app")
    for name, version in (("version", manifest.version), ("least_agent", manifest.least_agent)):
        if not is_version(version):
            raise wrong(f"{name} {version!r} is not a version in its normal form")
    if not all(part.isascii() and part.isalnum() for part in manifest.platform.replace("_", "-").split("-")):
        raise wrong(f"{manifest.platform!r} is no platform")
    if not 0 <= manifest.self_test_timeout_seconds <= LONGEST_SELF_TEST_SECONDS or manifest.least_free_bytes < 0:
        raise wrong("a time limit or a size is out of range")
    if list(manifest.folders) != sorted(set(manifest.folders)):
        raise wrong("the folders are not sorted")
    own = next((path for path in (*manifest.files, *manifest.folders) if path in OWN_NAMES), None)
    if own is not None:
        raise wrong(f"the name {own} is Tillkeeper's own")
    check_tree(_links_of(manifest), manifest.folders)


def _migration(data: Mapping[str, Any]) -> MigrationEntry:
    number = data["number"]
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= MIGRATIONS_LIMIT:
        raise ValueError("a migration has no number")
    return MigrationEntry(
        SchemaNumber(number), _string(data, "name"), _sha256(data["sha256"]), tuple(map(_sha256, data["replaces"]))
    )


def _string(data: Mapping[str, Any], key: str) -> str:
    value = data[key]
    if not isinstance(value, str) or not _is_plain(value):
        raise ValueError(f"{key} is not a string that can be passed on")
    return value


def _strings(values: Sequence[Any]) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) and _is_plain(value) for value in values):
        raise ValueError("a list holds something else than strings that can be passed on")
    return tuple(values)


def _is_plain(text: str) -> bool:
    """Return whether a string can be an argument or a part of a path: no NUL, no half of a character."""
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text)


def _sha256(value: Any) -> Sha256:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= _HEX:
        raise ValueError("a hash is not one of SHA-256")
    return Sha256(value)


# ------------------------------------------------------------------------------------------------ the start of an app


class Start(NamedTuple):
    """All that a launch needs of a manifest: it is kept beside it, because a manifest has a line for every file."""

    entry: str
    interpreter: str | None
    arguments: tuple[str, ...]
    migrations_folder: str | None


def start_of(manifest: Manifest) -> Start:
    """Return how a release's app is started."""
    return Start(manifest.entry, manifest.interpreter, manifest.arguments, manifest.migrations_folder)


def start_to_bytes(start: Start) -> bytes:
    """Return the content of the file beside the manifest."""
    return json.dumps({"format": FORMAT, **start._asdict()}, ensure_ascii=False).encode()


def parse_start(data: bytes) -> Start:
    """Read the file beside the manifest.

    Raises:
        ManifestError: it is damaged, or of another format.
    """
    try:
        found = json.loads(data)
        if found["format"] != FORMAT:
            raise wrong(f"format {found['format']!r} is not known to this agent")
        interpreter, folder = found["interpreter"], found["migrations_folder"]
        return Start(
            entry=check_path(found["entry"]),
            interpreter=None if interpreter is None else _string(found, "interpreter"),
            arguments=_strings(found["arguments"]),
            migrations_folder=None if folder is None else check_path(folder),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as cause:
        raise wrong(f"{type(cause).__name__}: {cause}") from cause
