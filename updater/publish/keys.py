"""Keys of the roles: their files, and changes of the root that says which keys sign what.

A key is two files of one name in the folder of keys: the private one, encrypted, and `NAME.pub`. A key on a token has
`NAME.token` in place of the private one (`tokens`). Which role a key signs is said by the root alone, so a file may lie
on another machine, on a stick, or nowhere any more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.exceptions import CryptoError, Error
from securesystemslib.interface import (
    generate_and_write_ed25519_keypair,
    import_ed25519_privatekey_from_file,
    import_ed25519_publickey_from_file,
)
from securesystemslib.keys import format_keyval_to_metadata
from securesystemslib.signer import Signature, SSlibKey, SSlibSigner
from tuf.api.metadata import Root

from dbsync.storage import files
from updater.publish import tokens
from updater.publish.errors import BadPassword, PublishError
from updater.publish.tokens import VARIABLE, PinOf, Place, variable_of

ROLES: Final = ("root", "targets", "snapshot", "timestamp")
Passwords = Callable[[str], str | None]
"""Name of a key → its password, or `PinOf` a name → the PIN; None if none is known."""
PUBLIC: Final = ".pub"
CURVES: Final = {"ecdsa-sha2-nistp256": "secp256r1", "ecdsa-sha2-nistp384": "secp384r1"}
"""Schemes of keys on tokens, and the curves that they mean."""
_NAME: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")


class Signer(Protocol):
    """A private half that is ready to sign."""

    def sign(self, payload: bytes) -> Signature:
        """Return the signature of these bytes."""


class KeyFile(NamedTuple):
    """A key that this machine knows: its public half, and whether the private half is here too."""

    name: str
    private: Path
    """The encrypted private half, or the file that says on which token it is."""
    public: SSlibKey

    @property
    def is_on_token(self) -> bool:
        """Whether the private half is on a token."""
        return self.private.suffix == tokens.SUFFIX

    @property
    def token(self) -> str:
        """Label of the token that this machine knows for the key; empty for none."""
        return tokens.read(self.private).label if self.is_on_token and self.is_here else ""

    @property
    def value(self) -> str:
        """The public half itself, by which keys are compared: libraries compute ids in different ways."""
        return str(self.public.keyval["public"])

    @property
    def is_here(self) -> bool:
        """Whether the private half, or the file that names its token, is on this machine."""
        return self.private.exists()

    @property
    def is_at_hand(self) -> bool:
        """Whether the key could sign now: one on a token needs the token."""
        return self.is_here and (not self.is_on_token or tokens.is_in(self.private))


def make(path: Path, passwords: Passwords) -> None:
    """Make a key pair, encrypted; a pair that is there stays.

    The private half comes first: after a crash in between, the public one is made from it.

    Raises:
        BadPassword: no password was given, or it does not open what is there.
        PublishError: the name cannot be one of a key, or the key of that name is on another machine.
    """
    check_name(path.name)
    public, token = path_of_public(path), path.with_suffix(tokens.SUFFIX)
    if public.exists() and token.exists():
        return
    if public.exists() and path.exists():
        if given := passwords(path.name):
            _private(path, given)
        return
    if token.exists():
        raise PublishError(
            operation="make the key", path=path, cause=f"{token.name} says that the key of that name is on a token",
            hint=f"`updater publish keys token {path}` writes its public half.",
        )  # fmt: skip
    if public.exists():
        cause = "the private half of that name is on another machine"
        raise PublishError(operation="make the key", path=path, cause=cause, hint="Give the new key another name.")
    password = passwords(path.name)
    if not password:
        raise BadPassword(
            operation=f"make the key {path.name}",
            path=path,
            cause="no password was given",
            hint=_where_to_give(path.name),
        )
    files.make_folder(path.parent)
    if not path.exists():
        part = path.with_name(f".new-{path.name}")
        with files.disk_errors("make", path):
            # The library has an error of its own for a folder that cannot be written.
            part.touch(mode=0o600)
            generate_and_write_ed25519_keypair(password, filepath=str(part))
            part.with_suffix(PUBLIC).unlink()
            part.chmod(0o600)
            files.sync_file(part)
            files.rename_durably(source=part, target=path)
    values = _private(path, password)
    text = json.dumps(format_keyval_to_metadata(values["keytype"], values["scheme"], values["keyval"], private=False))
    files.write_durably(public, text.encode())


def check_name(name: str) -> None:
    """Refuse a name that is no plain file name on every system.

    Raises:
        PublishError: it is not made of letters, digits, `-` and `_`.
    """
    if not _NAME.match(name):
        raise PublishError(operation="name a key", cause=f"{name!r} is no name: letters, digits, - and _")


def read_public(path: Path) -> KeyFile:
    """Return the key of a `.pub` file, or of the file beside one.

    Raises:
        PublishError: there is none, or it is damaged.
    """
    public = path_of_public(path)
    try:
        values = json.loads(public.read_bytes())
        if values["keytype"] == "ed25519":
            key = SSlibKey.from_securesystemslib_key(import_ed25519_publickey_from_file(str(public)))
            token = public.with_suffix(tokens.SUFFIX)
            return KeyFile(public.stem, token if token.exists() else public.with_suffix(""), key)
        key = _on_curve(values["keyval"]["public"], values["scheme"])
    except Exception as cause:
        raise PublishError(operation="read the key", path=public, cause=str(cause) or type(cause).__name__) from cause
    return KeyFile(public.stem, public.with_suffix(tokens.SUFFIX), key)


def _on_curve(pem: str, scheme: str) -> SSlibKey:
    """Return the public half of an ECDSA key, which only a token has.

    Raises:
        KeyError, ValueError: it is none, or on another curve than its scheme says.
    """
    found = load_pem_public_key(pem.encode())
    curve = getattr(getattr(found, "curve", None), "name", "none")
    if curve != CURVES[scheme]:
        raise ValueError(f"it is on the curve {curve}, and {scheme} needs {CURVES[scheme]}")
    return SSlibKey.from_crypto(found, scheme=scheme)


def take_from_token(path: Path, wanted: Place, *, accepts_ecdsa: bool = False) -> Place:
    """Write `NAME.token` and `NAME.pub` for a key that is on a token; return its place. A repeat is no change.

    The file of the place comes first: after a crash in between, `NAME` is no key, and a repeat makes it one.

    Args:
        path: the key, without the end of its name.
        wanted: its id, and fields that its token must have.
        accepts_ecdsa: whether every terminal can verify ECDSA, for which it needs a library that kits do not have.

    Raises:
        PublishError: terminals could not verify its signatures; or the name is no name, or that of another key.
        TokenProblem: not exactly one token is like that, or it has no such key.
    """
    check_name(path.name)
    public, token = path_of_public(path), path.with_suffix(tokens.SUFFIX)
    place, key = tokens.found_on(token, wanted)
    if key.scheme != tokens.ED25519 and not accepts_ecdsa:
        raise PublishError(
            operation="take the key", path=path,
            cause=f"its scheme is {key.scheme}: terminals without the library cryptography, all kits among them, cannot"
            " verify it and would refuse every update",
            hint="Make an Ed25519 key on the token. If every terminal has that library:"
            f" `updater publish keys token {path} --ecdsa`.",
        )  # fmt: skip
    other = public.exists() and read_public(public).value != key.value
    if path.exists() or other:
        raise PublishError(
            operation="take the key", path=path, cause="another key has that name",
            hint=f"Give it another one: `updater publish keys token {path.with_name('NAME')}`.",
        )  # fmt: skip
    files.make_folder(path.parent)
    tokens.write(token, place)
    values = {"keytype": key.keytype, "scheme": key.scheme, "keyval": {"public": key.value}}
    files.write_durably(public, json.dumps(values).encode())
    return place


def adopt(*, source: Path, into: Path) -> str:
    """Copy the public half of a key of another machine into the folder of keys; return its name.

    Raises:
        PublishError: it is none, or another key has that name here.
    """
    key = read_public(source)
    check_name(key.name)
    target = into / f"{key.name}{PUBLIC}"
    if target.exists() and read_public(target).value != key.value:
        raise PublishError(
            operation="add the key", path=source, cause=f"another key here is called {key.name}: rename it"
        )
    if not target.exists():
        files.make_folder(into)
        files.write_durably(target, path_of_public(source).read_bytes())
    return key.name


def path_of_public(path: Path) -> Path:
    """Return the file of the public half, whichever half a person names."""
    return path if path.suffix == PUBLIC else path.with_suffix(PUBLIC)


def in_folder(folder: Path) -> dict[str, KeyFile]:
    """Return the keys of a folder by the value of their public half; a file that is none is left out."""
    found: dict[str, KeyFile] = {}
    for path in sorted(folder.glob(f"*{PUBLIC}")) if folder.is_dir() else ():
        try:
            key = read_public(path)
        except PublishError:
            continue
        found[key.value] = key
    return found


def opened(key: KeyFile, passwords: Passwords, *, keyid: str) -> Signer:
    """Return a signer of a key, under the id that the root has for it.

    Raises:
        BadPassword: it does not open.
        PublishError: the private half belongs to another public one, or its token cannot be used.
    """
    if key.is_on_token:
        public = SSlibKey(keyid, key.public.keytype, key.public.scheme, key.public.keyval)
        return tokens.opened(key.private, public, passwords(PinOf(key.name)), name=key.name)
    values = _private(key.private, passwords(key.name))
    if values["keyval"]["public"] != key.value:
        raise PublishError(operation="open the key", path=key.private, cause="it is not the half of its .pub file")
    signer: Signer = SSlibSigner({**values, "keyid": keyid})
    return signer


def _private(path: Path, password: str | None) -> dict[str, Any]:
    """Return the values of a private key.

    Raises:
        BadPassword: it does not open.
    """
    try:
        with files.disk_errors("open the key", path):
            path.open("rb").close()
        found: dict[str, Any] = import_ed25519_privatekey_from_file(filepath=str(path), password=password or None)
    except (CryptoError, Error, ValueError) as cause:
        why = "its password is wrong" if password else "it has a password and none was given"
        raise BadPassword(operation="open the key", path=path, cause=why, hint=_where_to_give(path.name)) from cause
    return found


def _where_to_give(name: str) -> str:
    """Return where a command takes the password of a key from."""
    return f"Give it in {variable_of(name)} or {VARIABLE} (all keys), or by --password-file."


class RoleKey(NamedTuple):
    """A key of a role, as a root has it."""

    keyid: str
    value: str
    public: Mapping[str, Any]


def keys_of(root: Root, role: str) -> Iterator[RoleKey]:
    """Yield the keys that sign a role."""
    for keyid in root.roles[role].keyids:
        key = root.keys[keyid]
        yield RoleKey(keyid, str(key.keyval.get("public", "")), key.to_dict())


def add(root: Root, role: str, key: KeyFile) -> None:
    """Let a key sign a role too; nothing changes if it does already."""
    if not any(known.value == key.value for known in keys_of(root, role)):
        root.add_key(key.public, role)


def remove(root: Root, role: str, keyid: str) -> None:
    """End a key's signing of a role.

    Raises:
        PublishError: fewer keys than the threshold would be left.
    """
    root.revoke_key(keyid, role)
    check(root)


def set_threshold(root: Root, role: str, count: int) -> None:
    """Let a role need this number of signatures.

    Raises:
        PublishError: it has not as many keys.
    """
    root.roles[role].threshold = count
    check(root)


def check(root: Root) -> None:
    """Refuse a root that nobody could sign.

    Raises:
        PublishError: a role has fewer keys than its threshold, or no threshold.
    """
    for role in ROLES:
        keys_count, threshold = len(root.roles[role].keyids), root.roles[role].threshold
        if not 1 <= threshold <= keys_count:
            raise PublishError(
                operation="change the keys",
                cause=f"{role} would need {threshold} signatures and have {keys_count} keys",
                hint=f"`updater publish keys add {role}` first, or another `updater publish keys threshold {role}`.",
            )  # fmt: skip


def found_in(root: Root, role: str, wanted: str, known: Mapping[str, KeyFile]) -> str | None:
    """Return the id of the key of a role that a person names, by its file name or the beginning of its id.

    Raises:
        PublishError: more than one key begins so.
    """
    named = [key.keyid for key in keys_of(root, role) if key.value in known and known[key.value].name == wanted]
    by_id = [key.keyid for key in keys_of(root, role) if len(wanted) >= 7 and key.keyid.startswith(wanted)]
    if len(named or by_id) > 1:
        raise PublishError(operation="find the key", cause=f"{wanted} is not one key of {role}: write its whole id")
    return next(iter(named or by_id), None)


def shown_name(key: RoleKey, known: Mapping[str, KeyFile]) -> str:
    """Return how people call a key: its file name where the file is known, else the beginning of its id."""
    return known[key.value].name if key.value in known else key.keyid[:8]
