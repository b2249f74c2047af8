"""Files that a person carries to the machines of offline keys: what to sign, and the signatures.

A machine that signs trusts nothing in such a file but what it signs: the words that people read are made of the bytes
themselves, never of a description beside them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from securesystemslib.signer import Signature
from tuf.api.metadata import Key, Metadata

from dbsync.errors import UnreadableFile
from dbsync.storage import files
from updater.publish import keys
from updater.publish.errors import BadRequest
from updater.publish.keys import ROLES, KeyFile, Passwords

FORMAT: Final = 1
SIZE_LIMIT_BYTES: Final = 128_000_000
SHOWN_COUNT: Final = 20
"""Files of a release that are named one by one."""


class Request(NamedTuple):
    """A role that waits for signatures."""

    role: str
    signed: bytes
    """The canonical bytes that a signature covers."""
    before: bytes
    """The canonical bytes of the role before this change; empty for none."""
    keys: Mapping[str, Mapping[str, Any]]
    """The public keys that may sign, by id."""
    signatures: Mapping[str, str]
    """Signatures by id of the key, in hex."""

    @property
    def sha256(self) -> str:
        """The hash by which two people compare what they sign."""
        return hashlib.sha256(self.signed).hexdigest()

    @property
    def value(self) -> dict[str, Any]:
        """The content of the role."""
        return _canonical(self.signed)

    @property
    def title(self) -> str:
        """The role with its version."""
        return f"{self.role} {self.value['version']}"

    def words(self) -> list[str]:
        """Return what changes, in words."""
        before = _canonical(self.before) if self.before else {}
        return list(_changes(self.role, before, self.value))


def _canonical(data: bytes) -> dict[str, Any]:
    """Return the content of canonical JSON, in which the lines of a key in PEM are not escaped."""
    found = json.loads(data, strict=False)
    assert isinstance(found, dict)
    return found


def request_of(role: str, metadata: Metadata[Any], before: Metadata[Any] | None, allowed: Mapping[str, Key]) -> Request:
    """Return the request for the signatures of a role."""
    return Request(
        role,
        metadata.signed_bytes,
        before.signed_bytes if before is not None else b"",
        {keyid: key.to_dict() for keyid, key in allowed.items()},
        {keyid: signature.signature for keyid, signature in metadata.signatures.items()},
    )


def write(path: Path, app: str, requests: list[Request]) -> None:
    """Write the file that a person carries."""
    values = [
        {
            "role": request.role,
            "version": request.value["version"],
            "sha256": request.sha256,
            "changes": request.words(),
            "signed": base64.b64encode(request.signed).decode(),
            "before": base64.b64encode(request.before).decode(),
            "keys": request.keys,
            "signatures": request.signatures,
        }
        for request in requests
    ]
    files.write_json(path, {"format": FORMAT, "app": app, "requests": values})


def read(path: Path) -> tuple[str, list[Request]]:
    """Return the app and the requests of a file.

    Raises:
        BadRequest: it is no such file.
        DiskProblem: it cannot be read now.
    """
    try:
        with files.disk_errors("read", path):
            size_bytes = path.stat().st_size
        if size_bytes > SIZE_LIMIT_BYTES:
            raise ValueError(f"it has {size_bytes} bytes")  # noqa: TRY301
        found = files.read_json(path)
        if found["format"] != FORMAT:
            raise ValueError(f"its format is {found['format']}; this version reads {FORMAT}")  # noqa: TRY301
        return str(found["app"]), [_request(value) for value in found["requests"]]
    except (UnreadableFile, KeyError, TypeError, ValueError, AttributeError, RecursionError) as cause:
        words = f"{type(cause).__name__}: {cause}"
        raise BadRequest(
            operation="read", path=path, cause=f"it is no file of `updater publish sign export` ({words})"
        ) from cause


def _request(value: Mapping[str, Any]) -> Request:
    request = Request(
        str(value["role"]),
        base64.b64decode(value["signed"], validate=True),
        base64.b64decode(value["before"], validate=True),
        {str(keyid): dict(key) for keyid, key in value["keys"].items()},
        {str(keyid): str(signature) for keyid, signature in value["signatures"].items()},
    )
    if request.role not in ROLES or request.value["_type"] != request.role:
        raise ValueError(f"{request.role!r} is not the role of the bytes")
    if int(request.value["version"]) < 1:
        raise ValueError("there is no such version")
    return request


def signed_with(requests: list[Request], key: KeyFile, passwords: Passwords) -> tuple[list[Request], list[str]]:
    """Return the requests with the signatures of a key, and the titles of those that it signed now.

    Raises:
        BadPassword: the key does not open.
        BadRequest: the key is none of those that are asked for.
    """
    found, titles = [], []
    for request in requests:
        keyid = next((id_ for id_, public in request.keys.items() if public["keyval"].get("public") == key.value), None)
        if keyid is None or keyid in request.signatures:
            found.append(request)
            continue
        signature = keys.opened(key, passwords, keyid=keyid).sign(request.signed)
        found.append(request._replace(signatures={**request.signatures, keyid: signature.signature}))
        titles.append(request.title)
    if not any(key.value == public["keyval"].get("public") for request in requests for public in request.keys.values()):
        raise BadRequest(operation="sign", path=key.private, cause="none of the requests asks for this key")
    return found, titles


def signatures_for(role: str, metadata: Metadata[Any], allowed: Mapping[str, Key], request: Request) -> list[Signature]:
    """Return the signatures of a request that are right and new.

    Raises:
        BadRequest: the request is not for what waits here, or a signature is wrong.
    """
    if request.signed != metadata.signed_bytes:
        raise BadRequest(
            operation="import", cause=f"{request.title}, {request.sha256[:12]}, is not what waits here",
            hint="It was changed after the export: `updater publish sign export FILE` again.",
        )  # fmt: skip
    found = []
    for keyid, text in request.signatures.items():
        if keyid in metadata.signatures or keyid not in allowed:
            continue
        signature = Signature(keyid, text)
        try:
            allowed[keyid].verify_signature(signature, request.signed)
        except Exception as cause:
            words = f"the signature of {keyid[:8]} for {role} is wrong"
            raise BadRequest(operation="import", cause=words) from cause
        found.append(signature)
    return found


def _changes(role: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a version of a role changes, for people."""
    yield f"version {before.get('version', 0)} → {after['version']}, good until {after['expires']}"
    if role == "root":
        yield from _changes_of_keys(before, after)
    elif role == "targets":
        yield from _changes_of_files(before.get("targets", {}), after["targets"])
    else:
        for name, meta in sorted(after["meta"].items()):
            yield f"{name} is version {meta['version']}"
    known = {"_type", "version", "expires", "spec_version", "keys", "roles", "targets", "meta", "consistent_snapshot"}
    for name in sorted((before.keys() | after.keys()) - known):
        if before.get(name) != after.get(name):
            yield f"{name}: {_short(before.get(name))} → {_short(after.get(name))}"


def _changes_of_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for role in ROLES:
        old = before.get("roles", {}).get(role, {"keyids": [], "threshold": 0})
        new = after["roles"][role]
        for keyid in sorted(set(new["keyids"]) - set(old["keyids"])):
            yield f"{role}: key {keyid[:8]} is added ({_public(after['keys'][keyid]['keyval'])})"
        for keyid in sorted(set(old["keyids"]) - set(new["keyids"])):
            yield f"{role}: key {keyid[:8]} is removed"
        if new["threshold"] != old["threshold"]:
            yield f"{role}: {new['threshold']} of {len(new['keyids'])} keys must sign, before {old['threshold']}"
    if before and before.get("consistent_snapshot") != after.get("consistent_snapshot"):
        yield f"consistent_snapshot: {after.get('consistent_snapshot')}"


def _changes_of_files(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    lines = [
        *(f"{name} is added: {_file(after[name])}" for name in sorted(after.keys() - before.keys())),
        *(f"{name} is removed" for name in sorted(before.keys() - after.keys())),
        *(
            f"{name} is replaced: {_file(after[name])}"
            for name in sorted(after.keys() & before.keys())
            if after[name] != before[name]
        ),
    ]
    yield from lines[:SHOWN_COUNT]
    if len(lines) > SHOWN_COUNT:
        yield f"and {len(lines) - SHOWN_COUNT} more files"


def _file(value: Mapping[str, Any]) -> str:
    return f"{value['length']} bytes, SHA-256 {value['hashes'].get('sha256', '?')}"


def _public(keyval: Mapping[str, Any]) -> str:
    """Return a public half in one line; one in PEM without the lines around it."""
    lines = str(keyval.get("public", "?")).splitlines()
    return "".join(line for line in lines if not line.startswith("-----"))


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 200 else f"{text[:200]}…"
