"""The releases of a repository as its signed metadata lists them, and the last verified list of this terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from dbsync.errors import TillkeeperError
from dbsync.storage import files
from updater.manifest import SIZE_LIMIT_BYTES
from updater.repository.trust import CLOCK_DOUBT, LISTING_NAME, moment

FORMAT: Final = 2
"""1 had no releases of the agent."""
MANIFEST_END: Final = ".manifest"
PACK_END: Final = ".pack"
DELTA_END: Final = ".delta"
_SHA256: Final = re.compile("[0-9a-f]{64}")
FULL_LOOK_DAYS: Final = 7
"""After so long without a new timestamp the signatures are verified again, though nothing has changed."""


class Kept(NamedTuple):
    """The answer of the last look whose signatures were verified, and what it holds for."""

    app: str
    root_sha256: str
    """Of the trusted root that this terminal was given."""
    root_version: int
    timestamp_sha256: str
    verified_at: str
    expires: str
    """The earliest expiry of the four roles."""
    offers: tuple[dict[str, Any], ...]
    steering: dict[str, Any]
    """What the vendor says of the rollout, in the form of an answer; a listing of before has none, and is none."""


def named(target: str) -> tuple[str, str]:
    """Return app and version of a manifest's target; two empty strings for another target.

    A version in its normal form holds no hyphen, so the last one ends the app's name.
    """
    stem = target.removesuffix(MANIFEST_END)
    app, hyphen, version = stem.rpartition("-")
    return (app, version) if stem != target and hyphen and "/" not in target else ("", "")


def packs_by_version(targets: Iterable[str]) -> dict[tuple[str, str], list[str]]:
    """Return the names of packs and deltas by app and version."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in targets:
        stem, _, version = name.rpartition("-")
        if name.endswith(PACK_END):
            found.setdefault((stem, version.removesuffix(PACK_END)), []).append(name)
        elif name.endswith(DELTA_END):
            found.setdefault((stem.rpartition("-")[0], version.removesuffix(DELTA_END)), []).append(name)
    return found


def pack(target: Any, *, hashed: bool) -> dict[str, Any]:
    """Return a verified target of a pack or a delta in the form of an answer."""
    sha256 = _sha256(target)
    return {
        "custom": target.unrecognized_fields.get("custom"),
        "path": f"targets/{f'{sha256}.' if hashed else ''}{target.path}",
        "size_bytes": target.length,
        "sha256": sha256,
    }


def offer(*, app: str, version: str, manifest: Any, archive: Any, hashed: bool) -> dict[str, Any]:
    """Return one release in the form of an answer; one that is listed wrongly has only its name and the problem.

    Args:
        app: from the target's name.
        version: from the target's name; it may be none.
        manifest: the verified target of the manifest.
        archive: the verified target of the archive; None if there is none.
        hashed: whether files are served under their hash (consistent snapshots).
    """
    release_id = _sha256(manifest)
    archive_sha256 = _sha256(archive) if archive is not None else ""
    found: dict[str, Any] = {"app": app, "version": version, "release_id": release_id}
    if archive is None:
        return {**found, "problem": f"{app}-{version}.tar.gz is not signed"}
    if not release_id or not archive_sha256:
        return {**found, "problem": "its files are signed without a SHA-256"}
    if manifest.length > SIZE_LIMIT_BYTES:
        return {**found, "problem": f"its manifest has {manifest.length} bytes, at most {SIZE_LIMIT_BYTES} are read"}
    return {
        **found,
        "custom": manifest.unrecognized_fields.get("custom"),
        "manifest_path": f"targets/{f'{release_id}.' if hashed else ''}{manifest.path}",
        "manifest_size_bytes": manifest.length,
        "archive_name": archive.path,
        "archive_path": f"targets/{f'{archive_sha256}.' if hashed else ''}{archive.path}",
        "archive_size_bytes": archive.length,
        "archive_sha256": archive_sha256,
    }


def _sha256(target: Any) -> str:
    """Return the SHA-256 of a verified target; empty if it has none. It becomes a part of names of files."""
    found = str(target.hashes.get("sha256", ""))
    return found if _SHA256.fullmatch(found) else ""


def write(folder: Path, kept: Kept) -> None:
    """Write the answer; a crash before it leaves the earlier one, which holds for other bytes."""
    files.write_json(folder / LISTING_NAME, {"format": FORMAT, **kept._asdict()})


def read(folder: Path) -> Kept | None:
    """Return the last verified answer; None if there is none that can be used."""
    try:
        found = files.read_json(folder / LISTING_NAME)
        if found.pop("format") != FORMAT:
            return None
        return Kept(**{**found, "root_version": int(found["root_version"]), "offers": tuple(found["offers"])})
    except (FileNotFoundError, TillkeeperError, KeyError, TypeError, ValueError, AttributeError):
        return None


def holds(kept: Kept, *, app: str, root_sha256: str, now: datetime, floor: datetime | None) -> bool:
    """Return whether an answer may stand for a look, if the server still has the same timestamp.

    Byte-equal metadata has the same signatures, so only time can make it worse: it must not have expired by this
    terminal's clock or by the time floor, the clock must not have gone back since, and a week is the longest.

    Args:
        kept: the last verified answer.
        app: the app that is asked for.
        root_sha256: of the root that this terminal trusts now.
        now: this terminal's clock.
        floor: the time floor; None for none.
    """
    verified_at, expires = moment(kept.verified_at), moment(kept.expires)
    if verified_at is None or expires is None or (kept.app, kept.root_sha256) != (app, root_sha256):
        return False
    is_young = verified_at - CLOCK_DOUBT <= now < verified_at + timedelta(days=FULL_LOOK_DAYS)
    return is_young and max(now, floor or now) < expires
