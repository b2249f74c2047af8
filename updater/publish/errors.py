"""Errors of publishing, as the release engineer reads them."""

from __future__ import annotations

from dbsync.errors import Refused, TryLater


class PublishError(Refused):
    """Nothing was published; the public folder is as it was."""


class BadBundle(PublishError):
    """The bundle cannot be a release."""


class FarVersion(BadBundle):
    """The version is far from the last one, which may be a typing error."""

    hint_by_default = "If it is meant so: --version-jump."


class BadPassword(PublishError):
    """A key's password is missing or wrong."""


class TokenProblem(PublishError):
    """A key on a PKCS#11 token that cannot be used now; nothing was signed."""

    hint_by_default = "Is the token in, and does its vendor's tool list the key? Then repeat the command."


class BadRequest(PublishError):
    """A file of signatures that does not belong to what is waiting here."""


class OldWorkshop(PublishError):
    """A workshop that does not know what is public already."""

    hint_by_default = "`updater publish rebuild --repository DIR` brings the workshop to the state of what is public."


class AwaitsSignatures(TryLater):
    """A change that is kept in the workshop until enough keys have signed it; nothing of it is public."""

    hint_by_default = (
        "`updater publish sign export FILE`, on the machines of the keys `updater publish sign add FILE --key KEY`,"
        " then `updater publish sign import FILE`."
    )


class Occupied(TryLater):
    """A workshop in which another command is at work."""

    hint_by_default = (
        "Repeat the command when that one has ended. The brake can be pulled meanwhile from another machine with"
        " timestamp's key (`updater publish rebuild --metadata-only`, then `updater publish brake on`)."
    )


class StorageProblem(TryLater):
    """A store of objects that could not be reached or did not do what was asked."""

    hint_by_default = "Repeat the command: what arrived is not sent again."
