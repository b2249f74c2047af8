"""The vendor's steering of a fleet: its signed document and its brake, parsed, and what a terminal follows of them.

Pure functions of values, so anyone can compute what a terminal will do (`<app>.rollout.json`, a TUF target).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from updater.model import STABLE, ReleaseId

FORMAT: Final = 1
BRAKE: Final = "x-tillkeeper-brake"
"""The field of timestamp.json that holds the brake."""
DOCUMENT_END: Final = ".rollout.json"
SIZE_LIMIT_BYTES: Final = 256_000
"""Of a document: some 1 500 releases that are named."""
BRAKE_RELEASES_LIMIT: Final = 64
"""Releases that a brake may name: TUF reads at most 16 KiB of a timestamp."""
SEQUENCE_LIMIT: Final = 2**53
NAME_LIMIT: Final = 40
REASON_LIMIT: Final = 200
UNDERSTOOD: Final[frozenset[str]] = frozenset()
"""Words of `needs` that this agent understands: fields of format 1 that it obeys beside those of the first version."""
_HEX: Final = frozenset("0123456789abcdef")
_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


class Channel(NamedTuple):
    """The release that a channel's terminals should run."""

    release: ReleaseId
    needs: tuple[str, ...] = ()


class Steered(NamedTuple):
    """Statement about one release."""

    version: str
    """For people."""
    recalled: bool
    reason: str = ""
    needs: tuple[str, ...] = ()


class Document(NamedTuple):
    """The steering document of one app.

    A field that is not known is left aside, so that a later version can add some. Where leaving one aside would be
    wrong, such as a share of terminals, its name stands in `needs` beside it: an agent that does not understand each of
    these words takes nothing new by that part of the document. It obeys pauses and recalls all the same.
    """

    app: str
    sequence: int
    """Rises with every change: a terminal follows none that is lower than one it has seen."""
    issued_at: str
    channels: Mapping[str, Channel]
    paused: bool = False
    reason: str = ""
    """Of the pause."""
    releases: Mapping[ReleaseId, Steered] = {}
    needs: tuple[str, ...] = ()


class Brake(NamedTuple):
    """The brake of a repository: it stops, and never offers anything."""

    paused: tuple[str, ...] = ()
    """Names of apps."""
    recalled: tuple[ReleaseId, ...] = ()


NO_BRAKE: Final = Brake()


class Said(NamedTuple):
    """The vendor's document and brake as a terminal has verified them."""

    document: Document | None = None
    """None if there is none, or none that is followed."""
    problem: str = ""
    """Why what there is cannot be followed; empty where it can, and where no document was ever seen."""
    brake: Brake = NO_BRAKE


NOTHING_SAID: Final = Said()


class Direction(NamedTuple):
    """The part of the vendor's steering that a terminal follows."""

    target: ReleaseId | None = None
    """The release of its channel; None for none."""
    is_newest: bool = False
    """Whether no document was ever seen: then the newest release counts, as in a repository of tufup."""
    stays: str = ""
    """Why nothing new begins here; empty if it may."""
    paused: str = ""
    """Why nothing is downloaded or swapped, and a swap that has not begun is taken back; empty if nothing is paused."""
    recalled: Mapping[ReleaseId, str] = {}
    """Releases that are never installed, each with the reason, which may be empty."""


def direct(said: Said, *, app: str, channel: str) -> Direction:
    """Return what a terminal follows; the first rule that stops it counts, and recalls count in any case.

    Args:
        said: what it has verified.
        app: its app.
        channel: the channel that its settings ask for.
    """
    document = said.document
    found = Direction(paused=_paused(said, app), recalled=_recalled(said))
    if said.problem:
        return found._replace(stays=said.problem)
    if document is None:
        return found._replace(is_newest=True)
    named = document.channels.get(channel) or document.channels.get(STABLE)
    needs = [*document.needs]
    if named is not None:
        about = document.releases.get(named.release)
        needs += [*named.needs, *(about.needs if about is not None else ())]
    foreign = sorted(set(needs) - UNDERSTOOD)
    if foreign:
        return found._replace(stays=f"the vendor's steering needs a newer Tillkeeper: {', '.join(foreign)}")
    return found._replace(target=named.release if named is not None else None)


def _paused(said: Said, app: str) -> str:
    if said.document is not None and said.document.paused:
        return f"the vendor paused updates{f': {said.document.reason}' if said.document.reason else ''}"
    return "the vendor paused updates by the brake" if app in said.brake.paused else ""


def _recalled(said: Said) -> dict[ReleaseId, str]:
    found = dict.fromkeys(said.brake.recalled, "")
    if said.document is not None:
        found |= {release_id: about.reason for release_id, about in said.document.releases.items() if about.recalled}
    return found


# ------------------------------------------------------------------------------------------------------------- parsing


def parse(data: object, *, app: str) -> Document:
    """Return the document in decoded JSON.

    Raises:
        ValueError: it is none of this app, of another format, or a value is none that can be.
    """
    found = _object(data, "the document")
    number = found.get("format")
    if number != FORMAT or isinstance(number, bool):
        raise ValueError(f"format {str(number)[:NAME_LIMIT]} is not known to this agent")
    if found.get("app") != app:
        raise ValueError(f"it is of the app {str(found.get('app'))[:NAME_LIMIT]!r}")
    sequence = found.get("sequence")
    if isinstance(sequence, bool) or not isinstance(sequence, int) or not 0 < sequence < SEQUENCE_LIMIT:
        raise ValueError("sequence is no number that can be")
    channels, releases = _object(found.get("channels"), "channels"), _object(found.get("releases", {}), "releases")
    return Document(
        app=app,
        sequence=sequence,
        issued_at=_text(found.get("issued_at"), "issued_at"),
        channels={_name(name): _channel(value) for name, value in channels.items()},
        paused=_flag(found.get("paused", False), "paused"),
        reason=_text(found.get("reason", ""), "reason"),
        releases={_release_id(release_id): _steered(value) for release_id, value in releases.items()},
        needs=_needs(found),
    )


def parse_brake(data: object) -> Brake:
    """Return the brake in the field of a timestamp; None in the field is no brake.

    Raises:
        ValueError: a value is none that can be.
    """
    if data is None:
        return NO_BRAKE
    found = _object(data, "the brake")
    paused, recalled = _list(found.get("paused", []), "paused"), _list(found.get("recalled", []), "recalled")
    return Brake(tuple(_text(app, "paused") for app in paused), tuple(map(_release_id, recalled)))


def document_json(document: Document) -> dict[str, Any]:
    """Return a document as plain data."""
    return {
        "format": FORMAT,
        "app": document.app,
        "sequence": document.sequence,
        "issued_at": document.issued_at,
        "channels": {name: _plain(channel) for name, channel in document.channels.items()},
        "paused": document.paused,
        "reason": document.reason,
        "releases": {release_id: _plain(about) for release_id, about in document.releases.items()},
        **({"needs": list(document.needs)} if document.needs else {}),
    }


def brake_json(brake: Brake) -> dict[str, Any]:
    """Return a brake as plain data."""
    return {"paused": list(brake.paused), "recalled": list(brake.recalled)}


def _plain(value: Channel | Steered) -> dict[str, Any]:
    found = value._asdict()
    needs = found.pop("needs")
    return {**found, **({"needs": list(needs)} if needs else {})}


def _channel(data: object) -> Channel:
    found = _object(data, "a channel")
    return Channel(_release_id(found.get("release")), _needs(found))


def _steered(data: object) -> Steered:
    found = _object(data, "a release")
    return Steered(
        _text(found.get("version", ""), "version"),
        _flag(found.get("recalled", False), "recalled"),
        _text(found.get("reason", ""), "reason"),
        _needs(found),
    )


def _object(data: object, what: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping) or not all(isinstance(key, str) for key in data):
        raise ValueError(f"{what} is no object")
    return data


def _list(data: object, what: str) -> list[Any]:
    if isinstance(data, list):
        return data
    raise ValueError(f"{what} is no list")


def _needs(found: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(_text(word, "needs") for word in _list(found.get("needs", []), "needs"))


def _flag(data: object, what: str) -> bool:
    if isinstance(data, bool):
        return data
    raise ValueError(f"{what} is neither true nor false")


def _text(data: object, what: str) -> str:
    if not isinstance(data, str) or len(data) > REASON_LIMIT or not data.isprintable():
        raise ValueError(f"{what} is no line of text of at most {REASON_LIMIT} characters")
    return data


def _name(data: str) -> str:
    if not is_channel(data):
        raise ValueError(f"{data[:NAME_LIMIT]!r} is no name of a channel")
    return data


def is_channel(text: str) -> bool:
    """Return whether a string can name a channel: small letters, digits and hyphens."""
    return 0 < len(text) <= NAME_LIMIT and set(text) <= _NAME


def _release_id(data: object) -> ReleaseId:
    if not isinstance(data, str) or len(data) != 64 or not set(data) <= _HEX:
        raise ValueError("a release id is none")
    return ReleaseId(data)
