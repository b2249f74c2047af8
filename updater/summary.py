"""The fields of a manifest that a look needs, as the signed metadata lists them beside the manifest's hash.

They save fetching the manifest of every release. The manifest decides: one that says something else is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dbsync.facts import ReleaseId, SchemaNumber
from updater.answers import Summary
from updater.bundle_names import ManifestError, is_app, is_version, wrong
from updater.manifest import MIGRATIONS_LIMIT, Manifest, NewerFormat

FORMAT: Final = 1
PACK_FORMAT: Final = 1
"""Of packs and deltas; agents leave one that they do not know, and use the archive."""
KEY: Final = "tillkeeper"
"""The name of our part of a target's `custom`."""


def summary_of(manifest: Manifest) -> Summary:
    """Return the summary of a manifest."""
    return Summary(
        app=manifest.app,
        version=manifest.version,
        platform=manifest.platform,
        schema=manifest.schema,
        least_agent=manifest.least_agent,
        least_sqlite=manifest.least_sqlite,
        interpreter=manifest.interpreter,
        urgent=manifest.urgent,
    )


def custom_of(summary: Summary) -> dict[str, Any]:
    """Return a summary in the form of a target's `custom`."""
    return {KEY: {"format": FORMAT, **summary._asdict()}}


def parse_custom(custom: object) -> Summary | None:
    """Return the summary in a target's `custom`; None if there is none, as in repositories of earlier releases.

    Raises:
        NewerFormat: it is one of a newer format.
        ManifestError: it is damaged.
    """
    found = custom.get(KEY) if isinstance(custom, Mapping) else None
    if found is None:
        return None
    try:
        number = found["format"]
        if isinstance(number, int) and number > FORMAT:
            raise NewerFormat(operation="read the metadata", cause=f"format {number} is not known to this agent")
        summary = Summary(
            app=_text(found, "app"),
            version=_text(found, "version"),
            platform=_text(found, "platform"),
            schema=SchemaNumber(found["schema"]),
            least_agent=_text(found, "least_agent"),
            least_sqlite=_text(found, "least_sqlite"),
            interpreter=None if found["interpreter"] is None else _text(found, "interpreter"),
            urgent=found["urgent"] is True,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as cause:
        raise wrong(f"in the metadata: {type(cause).__name__}: {cause}") from cause
    _check(summary)
    return summary


def _check(summary: Summary) -> None:
    number = summary.schema
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MIGRATIONS_LIMIT:
        raise wrong(f"in the metadata: schema {number!r} is no number of a migration")
    for name, version in (("version", summary.version), ("least_agent", summary.least_agent)):
        if not is_version(version):
            raise wrong(f"in the metadata: {name} {version!r} is not a version in its normal form")
    if not is_app(summary.app):
        raise wrong(f"in the metadata: {summary.app!r} is no name of an app")
    if summary.least_sqlite and not all(part.isdecimal() for part in summary.least_sqlite.split(".")):
        raise wrong(f"in the metadata: least_sqlite {summary.least_sqlite!r} is not a version of SQLite")


def _text(found: Mapping[str, Any], key: str) -> str:
    value = found[key]
    if not isinstance(value, str):
        raise ManifestError(operation="read the metadata", cause=f"{key} is not a string")
    return value


def pack_custom(*, release_id: ReleaseId, since: ReleaseId | None) -> dict[str, Any]:
    """Return what the metadata says of a pack, or of a delta from a release, in the form of a target's `custom`."""
    return {KEY: {"format": PACK_FORMAT, "release_id": release_id, "from": since}}


def parse_pack(custom: object) -> tuple[str, str | None] | None:
    """Return the release that a pack makes and the one that a delta continues; None for no pack of this format.

    What cannot be read is no mistake here: the archive is there.
    """
    found = custom.get(KEY) if isinstance(custom, Mapping) else None
    if not isinstance(found, Mapping) or found.get("format") != PACK_FORMAT:
        return None
    release_id, since = found.get("release_id"), found.get("from")
    if not isinstance(release_id, str) or not (since is None or isinstance(since, str)):
        return None
    return release_id, since
