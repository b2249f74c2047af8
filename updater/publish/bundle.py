"""Making a manifest from a build folder: the vendor's description of the bundle, and the files found in it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from packaging.version import InvalidVersion, Version

from dbsync.errors import BadMigrations
from dbsync.lint.least_sqlite import least_sqlite
from dbsync.migrations import folder as migration_folder
from dbsync.upgrade.released_history import Kind, departures
from updater.bundle_names import ANY_PLATFORM, OWN_NAMES, is_version
from updater.host import this_host
from updater.manifest import (
    FileEntry,
    Manifest,
    ManifestError,
    MigrationEntry,
    check_path,
    checked,
    empty_folders,
    scan,
)
from updater.publish.errors import BadBundle

CONFIG_NAME: Final = "tillkeeper.toml"
SELF_TEST_SECONDS: Final = 60.0
FIRST_AGENT: Final = "0.1.0"
PLATFORMS: Final = (
    ANY_PLATFORM, "linux-x86_64", "linux-aarch64", "linux-armv7l", "linux-i686", "win32-amd64", "win32-arm64",
    "win32-x86", "darwin-arm64", "darwin-x86_64",
)  # fmt: skip
"""Names that terminals give themselves: the words of Python's `sys.platform` and `platform.machine()`."""
"""The lowest agent that understands every field that a manifest of format 1 can have: a field that a later one adds
needs that one where it is used."""
_KNOWN: Final = frozenset(
    [
        "app",
        "version",
        "entry",
        "interpreter",
        "arguments",
        "self_test",
        "self_test_timeout_seconds",
        "migrations",
        "platform",
        "least_agent",
        "least_free_bytes",
        "least_sqlite",
        "urgent",
    ]
)


def describe(*, bundle: Path, app: str, version: str | None, config: Path | None = None) -> Manifest:
    """Return the manifest of a bundle.

    Args:
        bundle: the folder; nothing in it is changed.
        app: the repository's app; an app named in the bundle's description must be the same.
        version: the release's version; None takes it from the bundle's description.
        config: the description, if it is not `tillkeeper.toml` in the bundle.

    Raises:
        BadBundle: the bundle is empty, has names or links that a terminal of its platform cannot hold, is larger than a
            terminal reads, or its description or migrations are invalid.
    """
    if not bundle.is_dir():
        raise BadBundle(operation="publish", path=bundle, cause="there is no such folder")
    said = _read(config or bundle / CONFIG_NAME)
    if said.get("app", app) != app:
        raise BadBundle(
            operation="publish", path=bundle, cause=f"it is of the app {said['app']!r}, the repository of {app!r}"
        )
    try:
        files, folders = scan(bundle), empty_folders(bundle)
    except ManifestError as error:
        raise BadBundle(operation="publish", path=bundle, cause=error.cause) from error
    entry = _entry(said, bundle, files)
    folder = said.get("migrations")
    test = said.get("self_test")
    interpreter = said.get("interpreter")
    manifest = Manifest(
        app=app,
        version=checked_version(version or said.get("version")),
        platform=_platform(said, interpreter),
        files=files,
        entry=entry,
        interpreter=interpreter,
        arguments=tuple(said.get("arguments", ())),
        self_test=None if test is None else tuple(test),
        self_test_timeout_seconds=float(
            said.get("self_test_timeout_seconds", SELF_TEST_SECONDS if test is not None else 0)
        ),
        migrations_folder=folder,
        migrations=() if folder is None else _migrations(bundle, folder),
        least_agent=said.get("least_agent", FIRST_AGENT),
        least_free_bytes=int(said.get("least_free_bytes", 0)),
        least_sqlite=_least_sqlite(said, bundle, folder),
        urgent=_urgent(said, bundle),
        folders=folders,
    )
    try:
        checked(manifest)
    except ManifestError as error:
        raise BadBundle(operation="publish", path=bundle, cause=error.cause) from error
    return manifest


def _entry(said: dict[str, Any], bundle: Path, files: Mapping[str, FileEntry]) -> str:
    """Return the path of the entry, if the bundle can be started by it and holds nothing of ours."""
    own = next((name for name in sorted(OWN_NAMES) if (bundle / name).exists()), None)
    if own is not None:
        raise BadBundle(operation="publish", path=bundle / own, cause="this name is Tillkeeper's own")
    if not files.keys() - {CONFIG_NAME}:
        raise BadBundle(operation="publish", path=bundle, cause="it is empty")
    entry = _text(said, "entry", bundle)
    if entry not in files:
        raise BadBundle(operation="publish", path=bundle / entry, cause="the entry is not in the bundle")
    if (
        not said.get("interpreter")
        and this_host().keeps_executable_bit
        and files[entry].link is None
        and files[entry].mode != 0o755
    ):
        hint = 'chmod +x it; or say which interpreter runs it: interpreter = "python"'
        raise BadBundle(operation="publish", path=bundle / entry, cause="the entry is not executable", hint=hint)
    return entry


def _urgent(said: dict[str, Any], bundle: Path) -> bool:
    urgent = said.get("urgent", False)
    if not isinstance(urgent, bool):
        raise BadBundle(operation="read", path=bundle / CONFIG_NAME, cause="urgent must be true or false")
    return urgent


def _least_sqlite(said: dict[str, Any], bundle: Path, folder: object) -> str:
    """Return the least SQLite that a terminal must have: the pinned one, or the one that the migrations show."""
    pinned = said.get("least_sqlite")
    if pinned is not None:
        if not isinstance(pinned, str) or not all(part.isdecimal() for part in pinned.split(".")):
            cause = "least_sqlite must be a version of SQLite, such as 3.35"
            raise BadBundle(operation="read", path=bundle / CONFIG_NAME, cause=cause)
        return pinned
    needed = least_sqlite(migration_folder.load(bundle / check_path(folder))) if isinstance(folder, str) else None
    return needed.version if needed is not None else ""


def checked_version(text: object) -> str:
    """Return a version that is in its normal form.

    Raises:
        BadBundle: it is missing, not a version (PEP 440), or not in its normal form.
    """
    if not isinstance(text, str) or not text:
        raise BadBundle(
            operation="publish", cause="no version was given", hint="Pass --version, or put it in tillkeeper.toml."
        )
    try:
        normal = str(Version(text))
    except InvalidVersion:
        raise BadBundle(
            operation="publish", cause=f"{text!r} is not a version (PEP 440)", hint="E.g. 1.4.0 or 2.0rc1."
        ) from None
    if normal != text or "!" in text:
        raise BadBundle(operation="publish", cause=f"{text!r} is not in its normal form", hint=f"Write {normal}.")
    if not is_version(text):
        raise BadBundle(operation="publish", cause=f"{text!r} is longer than a version may be", hint="E.g. 1.4.0.")
    return text


def _platform(said: dict[str, Any], interpreter: object) -> str:
    """Return the platform of a bundle, as terminals compare it with their own (`Host.platform_tag`)."""
    own = this_host().platform_tag()
    found = said.get("platform", ANY_PLATFORM if interpreter else own)
    if isinstance(found, str) and found not in (*PLATFORMS, own):
        raise BadBundle(
            operation="publish", cause=f"{found!r} is no platform that terminals know",
            hint=f"Write one of {', '.join(PLATFORMS)}.",
        )  # fmt: skip
    return found  # type: ignore[no-any-return]


def check_follows(*, earlier: Manifest, manifest: Manifest) -> None:
    """Refuse a release whose database could not follow the release before it (requirements S53, S61 to S63).

    Raises:
        BadBundle: a released migration is missing, has another name, or was changed without naming it in `replaces`.
    """
    for departure in departures(earlier=earlier.migrations, now=manifest.migrations):
        if departure.kind is not Kind.MENDED:
            where = f"{departure.number:04d}_{departure.name}, released with {earlier.version},"
            raise BadBundle(operation="publish", cause=f"{where} {departure.what}", hint=departure.safe)


def _read(path: Path) -> dict[str, Any]:
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadBundle(
            operation="publish", path=path, cause="there is no description of the bundle",
            hint='It says at least: entry = "your-app"',
        ) from None  # fmt: skip
    except (OSError, ValueError) as cause:
        raise BadBundle(operation="read", path=path, cause=str(cause)) from cause
    unknown = sorted(said.keys() - _KNOWN)
    if unknown:
        raise BadBundle(operation="read", path=path, cause=f"{', '.join(unknown)}: not known")
    for key in ("arguments", "self_test"):
        if key in said and not (isinstance(said[key], list) and all(isinstance(item, str) for item in said[key])):
            raise BadBundle(operation="read", path=path, cause=f"{key} must be a list of strings")
    return said


def _text(said: dict[str, Any], key: str, bundle: Path) -> str:
    value = said.get(key)
    if not isinstance(value, str):
        raise BadBundle(operation="read", path=bundle / CONFIG_NAME, cause=f"{key} must be a string")
    try:
        return check_path(value)
    except ManifestError as error:
        raise BadBundle(operation="read", path=bundle / CONFIG_NAME, cause=error.cause) from error


def _migrations(bundle: Path, folder: object) -> tuple[MigrationEntry, ...]:
    if not isinstance(folder, str):
        raise BadBundle(
            operation="read", path=bundle / CONFIG_NAME, cause="migrations must name a folder in the bundle"
        )
    try:
        found = migration_folder.load(bundle / check_path(folder))
    except (BadMigrations, ManifestError) as error:
        raise BadBundle(
            operation="read the migrations", path=error.path or bundle / folder, cause=error.cause
        ) from error
    return tuple(
        MigrationEntry(migration.number, migration.name, migration.sha256, migration.replaces) for migration in found
    )
