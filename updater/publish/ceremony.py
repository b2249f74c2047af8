"""Changes of keys, and signatures that are collected from other machines, for a vendor's repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from tuf.api.metadata import Root

from updater.publish import keys, signing_requests
from updater.publish.errors import BadRequest, PublishError
from updater.publish.keys import ROLES, KeyFile, Passwords, RoleKey
from updater.publish.repository import Verify, _open, _publish, load, locked, tried
from updater.publish.signing import ends_at
from updater.publish.signing_requests import Request

Change = Callable[[Root, Mapping[str, KeyFile]], None]


class KeyLine(NamedTuple):
    """A key of a role, for a list."""

    name: str
    keyid: str
    is_here: bool
    """Whether the private half, or the file that names its token, is on this machine."""
    token: str = ""
    """Label of the token that has the private half; empty for a file."""


class RoleLine(NamedTuple):
    """A role with its keys, for a list."""

    role: str
    version: int
    threshold: int
    expires: datetime
    keys: tuple[KeyLine, ...]
    waits: str
    """What the role waits for; empty for nothing."""


def listed(folder: Path) -> list[RoleLine]:
    """Return the roles with their keys as they are signed, and what waits for signatures."""
    config = load(folder)
    with locked(folder):
        workshop = _open(folder, config, _no_password)
        known = keys.in_folder(config.keys)
        pending = workshop.pending()
        found = []
        for role in ROLES:
            stored = workshop.stored("root")
            root = stored[0].signed if stored is not None else workshop.roles.root.signed
            metadata = (workshop.stored(role) or pending.get(role) or (getattr(workshop.roles, role), b""))[0]
            lines = [_line(key, known) for key in keys.keys_of(root, role)]
            waits = ""
            if role in pending and not workshop.is_complete(role, pending[role][0]):
                waiting = pending[role][0]
                waits = f"version {waiting.signed.version} waits with {len(waiting.signatures)} signatures"
            found.append(
                RoleLine(
                    role, metadata.signed.version, root.roles[role].threshold, ends_at(metadata), tuple(lines), waits
                )
            )
    return found


def _line(key: RoleKey, known: Mapping[str, KeyFile]) -> KeyLine:
    file = known.get(key.value)
    is_here, token = (file.is_here, file.token) if file is not None else (False, "")
    return KeyLine(keys.shown_name(key, known), key.keyid, is_here, token)


def change_keys(folder: Path, change: Change, *, passwords: Passwords, new_key: str = "") -> int:
    """Change the root, sign it with the keys that are here, and publish it once all needed keys have signed.

    Roles whose keys were replaced are signed anew. A repeat of a change that was made already finishes it.

    Args:
        folder: the workshop.
        change: changes a root; it does nothing where it was made already.
        passwords: of the keys.
        new_key: name of a key to make first; empty for none.

    Returns:
        The number of files that became public.

    Raises:
        AwaitsSignatures: keys of other machines must sign first.
        PublishError: nobody could sign the changed root; nothing was changed.
    """
    config = load(folder)
    with locked(folder):
        if new_key:
            keys.make(config.keys / new_key, passwords)
        workshop = _open(folder, config, passwords)
        root = workshop.roles.root.signed
        change(root, keys.in_folder(config.keys))
        keys.check(root)
        workshop.check_keys(ROLES)
        return _publish(workshop, config)


def renew(folder: Path, role: str, *, passwords: Passwords) -> int:
    """Sign a role anew with its keys, wherever they are; return the number of files that became public.

    Raises:
        AwaitsSignatures: keys of other machines must sign first.
    """
    config = load(folder)
    with locked(folder):
        workshop = _open(folder, config, passwords)
        workshop.check_keys(ROLES)
        workshop.renew(role)
        return _publish(workshop, config)


def adding(role: str, name: str) -> Change:
    """Return the change by which a key of the folder signs a role too."""

    def change(root: Root, known: Mapping[str, KeyFile]) -> None:
        keys.add(root, role, _named(known, name))

    return change


def removing(role: str, name: str) -> Change:
    """Return the change by which a key signs a role no more."""

    def change(root: Root, known: Mapping[str, KeyFile]) -> None:
        keyid = keys.found_in(root, role, name, known)
        if keyid is None:
            raise PublishError(operation="remove the key", cause=f"{role} has no key {name}")
        keys.remove(root, role, keyid)

    return change


def rotating(role: str, old: str, new: str) -> Change:
    """Return the change by which one key takes the place of another, in one version of the root."""

    def change(root: Root, known: Mapping[str, KeyFile]) -> None:
        key = _named(known, new)
        is_there = any(other.value == key.value for other in keys.keys_of(root, role))
        keyid = keys.found_in(root, role, old, known)
        if keyid is None and not is_there:
            raise PublishError(operation="rotate the key", cause=f"{role} has no key {old}")
        if keyid is not None and is_there:
            raise PublishError(
                operation="rotate the key", cause=f"{new} is a key of {role} already: {role} would have one key fewer",
                hint=f"Name a new key; or, to have one fewer: `updater publish keys remove {role} {old}`.",
            )  # fmt: skip
        keys.add(root, role, key)
        if keyid is not None:
            keys.remove(root, role, keyid)

    return change


def with_threshold(role: str, count: int) -> Change:
    """Return the change by which a role needs this number of signatures."""

    def change(root: Root, _: Mapping[str, KeyFile]) -> None:
        keys.set_threshold(root, role, count)

    return change


def adopt(*, folder: Path, public: Path) -> str:
    """Copy the public half of a key of another machine into the folder of keys; return its name."""
    return keys.adopt(source=public, into=load(folder).keys)


def export(*, folder: Path, target: Path) -> list[Request]:
    """Write the file of what waits for signatures, and return its requests.

    Raises:
        PublishError: nothing waits.
    """
    config = load(folder)
    with locked(folder):
        workshop = _open(folder, config, _no_password)
        requests = [
            signing_requests.request_of(role, metadata, (workshop.stored(role) or (None,))[0], workshop.allowed(role))
            for role, (metadata, _) in workshop.pending().items()
            if not workshop.is_complete(role, metadata)
        ]
    if not requests:
        raise PublishError(operation="export", path=folder, cause="nothing waits for signatures")
    signing_requests.write(target, config.app, requests)
    return requests


def import_signatures(*, folder: Path, path: Path, passwords: Passwords, verify: Verify | None = None) -> int:
    """Take the signatures of a file, and publish what they complete; return the number of files that became public.

    A file whose signatures are known changes nothing, so a repeat after a crash finishes the publish.

    Args:
        folder: the repository.
        path: the file.
        passwords: of the keys that are here.
        verify: tries the releases that are complete now before they are public; None for no trial.

    Raises:
        AwaitsSignatures: more are needed.
        BadRequest: the file is not for what waits here; nothing was changed.
    """
    config = load(folder)
    app, requests = signing_requests.read(path)
    if app != config.app:
        raise BadRequest(operation="import", path=path, cause=f"it is for {app!r}, this is {config.app!r}")
    with locked(folder):
        if verify is None:
            return _take(folder, path, requests, passwords)
        _, placed = tried(
            folder, lambda copy: _take(copy, path, requests, passwords), passwords=passwords, verify=verify
        )
        return placed


def _take(folder: Path, path: Path, requests: list[Request], passwords: Passwords) -> int:
    config = load(folder)
    workshop = _open(folder, config, passwords)
    workshop.check_keys(ROLES)
    pending = workshop.pending()
    found = {}
    for request in requests:
        stored = workshop.stored(request.role)
        if request.role in pending:
            metadata = pending[request.role][0]
        elif stored is not None and stored[0].signed_bytes == request.signed:
            continue
        else:
            raise BadRequest(operation="import", path=path, cause=f"{request.title} does not wait here")
        allowed = workshop.allowed(request.role)
        found[request.role] = signing_requests.signatures_for(request.role, metadata, allowed, request)
    for role, signatures in found.items():
        workshop.accept(role, signatures)
    return _publish(workshop, config)


def discard(folder: Path) -> int:
    """Give up what waits for signatures; return the number of roles. What is public stays as it is."""
    config = load(folder)
    with locked(folder):
        return _open(folder, config, _no_password).discard()


def _named(known: Mapping[str, KeyFile], name: str) -> KeyFile:
    found = [key for key in known.values() if key.name == name]
    if not found:
        raise PublishError(operation="find the key", cause=f"the folder of keys has no {name}.pub")
    return found[0]


def _no_password(_: str) -> str | None:
    return None
