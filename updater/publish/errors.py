"""Errors of publishing, as the release engineer reads them."""

from __future__ import annotations

from dbsync.errors import Refused


class PublishError(Refused):
    """Nothing was published; the public folder is as it was."""


class BadBundle(PublishError):
    """The bundle cannot be a release."""


class BadPassword(PublishError):
    """A key's password is missing or wrong."""

    hint_by_default = (
        "Give it in TILLKEEPER_KEY_PASSWORD (or …_ROOT, …_TARGETS, …_SNAPSHOT, …_TIMESTAMP), or by --password-file."
    )
