"""Keys on a PKCS#11 token: a security key, a smart card, an HSM. The private half never leaves the token.

`NAME.token` says on which token a key is and is no secret; the PIN takes the place of the password. A token locks after
a few wrong PINs, so a PIN is tried once, after everything else is known to be right, and never on the last try.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

from securesystemslib.signer import HSMSigner, Signature, SSlibKey

from dbsync.errors import TillkeeperError
from dbsync.storage import files
from updater.publish.errors import BadPassword, PublishError, TokenProblem

VARIABLE: Final = "TILLKEEPER_KEY_PASSWORD"
"""The variable of the environment for the password of all keys."""
SUFFIX: Final = ".token"
"""Of the file that takes the place of a private half."""
FORMAT: Final = 1
MODULE_VARIABLE: Final = "PYKCS11LIB"
"""Names the PKCS#11 module of the token's vendor, as the library has it. Each machine has its own."""
DEFAULT_ID: Final = 2
"""Of the slot for signatures on a PIV token (9c)."""
SCHEME: Final = "hsm"
ED25519: Final = "ed25519"
"""The scheme that every terminal can verify; others need a library that kits do not have."""
ED25519_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


class PinOf(str):
    """Name of a key whose password is the PIN of a token: a password that is meant for other keys too is not tried."""

    __slots__ = ()


class Place(NamedTuple):
    """The place of a key: its id, and the fields by which its token is known."""

    key_id: int
    fields: Mapping[str, str]
    """`label`, `serialNumber` and others, as PKCS#11 names them."""

    @property
    def uri(self) -> str:
        """The place as the signing library writes it."""
        return f"{SCHEME}:{self.key_id}?{urlencode(self.fields)}"

    @property
    def label(self) -> str:
        """The token's label, or what else it is known by."""
        return self.fields.get("label") or ", ".join(f"{name} {value}" for name, value in self.fields.items()) or "any"

    @classmethod
    def parse(cls, uri: str) -> Place:
        """Return the place that a URI names.

        Raises:
            ValueError: it is none.
        """
        scheme, _, rest = uri.partition(":")
        number, _, query = rest.partition("?")
        if scheme != SCHEME or not 0 <= int(number or DEFAULT_ID) <= 255:
            raise ValueError(f"{uri!r} is no hsm:ID?label=LABEL")
        return cls(int(number or DEFAULT_ID), dict(parse_qsl(query, strict_parsing=bool(query))))


class TokenSigner:
    """A signer of a key on a token that was found there, with a PIN that was accepted."""

    def __init__(self, path: Path, place: Place, public: SSlibKey, pin: str) -> None:
        self._path = path
        self._place = place
        self._public = public
        self._pin = pin

    def sign(self, payload: bytes) -> Signature:
        """Return the token's signature; some tokens wait for a touch.

        A PIN that was accepted is given again for each: some keys want it directly before.

        Raises:
            TokenProblem: the token was taken out, or does not sign.
        """
        with _token_errors("sign with", self._path):
            if self._public.scheme == ED25519:
                return self._sign_ed25519(payload)
            fields = dict(self._place.fields)
            return HSMSigner(self._place.key_id, fields, self._public, lambda _: self._pin).sign(payload)

    def _sign_ed25519(self, payload: bytes) -> Signature:
        from PyKCS11 import Mechanism, PyKCS11

        module = _module(self._path)
        slot, _ = _slot(module, self._path, self._place)
        with _session(module, slot) as session:
            session.login(self._pin)
            (key,) = _objects(session, PyKCS11.CKO_PRIVATE_KEY, self._place, ED25519)
            signature = bytes(session.sign(key, payload, Mechanism(PyKCS11.CKM_EDDSA, None)))
            session.logout()
        if len(signature) != SIGNATURE_BYTES:
            raise ValueError(f"its signature has {len(signature)} bytes, not {SIGNATURE_BYTES}")
        return Signature(self._public.keyid, signature.hex())


def write(path: Path, place: Place) -> None:
    """Write the file that says where a key is."""
    files.write_json(path, {"format": FORMAT, "uri": place.uri})


def read(path: Path) -> Place:
    """Return where a key is.

    Raises:
        PublishError: the file is damaged, or of a later version.
    """
    try:
        return _parsed(files.read_json(path))
    except (TillkeeperError, FileNotFoundError, KeyError, TypeError, ValueError) as cause:
        words = cause.cause if isinstance(cause, TillkeeperError) else str(cause)
        if isinstance(cause, KeyError):
            words = f"the field {cause} is missing"
        raise PublishError(
            operation="read the place of the key", path=path, cause=words,
            hint=f"Write it again: `updater publish keys token {path.with_suffix('')}`.",
        ) from cause  # fmt: skip


def _parsed(values: Any) -> Place:
    if values["format"] != FORMAT:
        raise ValueError(f"its format is {values['format']!r}, this version reads {FORMAT}")
    return Place.parse(str(values["uri"]))


class PublicHalf(NamedTuple):
    """A public half as TUF writes it."""

    keytype: str
    scheme: str
    value: str


def found_on(path: Path, wanted: Place) -> tuple[Place, PublicHalf]:
    """Return the exact place of a key, and its public half. No PIN is needed.

    Args:
        path: the file that is to name it, for messages.
        wanted: its id, and fields that its token must have.

    Raises:
        TokenProblem: not exactly one token is like that, or it has no such key.
    """
    module = _module(path)
    slot, info = _slot(module, path, wanted)
    fields = {"label": info.label.strip(), "serialNumber": info.serialNumber.strip()}
    place = Place(wanted.key_id, {name: value for name, value in fields.items() if value})
    return place, _public(module, slot, path, place)


def is_in(path: Path) -> bool:
    """Return whether this machine can reach the token of a key now.

    Raises:
        PublishError: the file that names the token is damaged.
    """
    place = read(path)
    try:
        _slot(_module(path), path, place)
    except TokenProblem:
        return False
    return True


def opened(path: Path, public: SSlibKey, pin: str | None, *, name: str) -> TokenSigner:
    """Return a signer, after one login with the PIN.

    Args:
        path: the file that names the key's place.
        public: the public half, under the id that the root has for it.
        pin: the token's PIN.
        name: name of the key.

    Raises:
        BadPassword: no PIN was given, or it is wrong, or the token is locked or has one try left.
        TokenProblem: the token is not there, or it has another key.
    """
    place, module = read(path), _module(path)
    slot, info = _slot(module, path, place)
    if _public(module, slot, path, place).value != public.keyval["public"]:
        raise TokenProblem(
            operation="open the key", path=path, cause=f"{_words(place)} is not the half of its .pub file",
            hint="Was it made anew on the token? Then give it a name of its own: `updater publish keys token FILE`.",
        )  # fmt: skip
    _check_tries(path, place, info)
    if not pin:
        raise BadPassword(
            operation="open the key", path=path, cause=f"no PIN of the token {place.label} was given", hint=_ask(name)
        )
    count = _log_in(module, slot, path, place, pin, scheme=public.scheme, name=name)
    if count != 1:
        raise TokenProblem(
            operation="open the key", path=path, cause=f"the token has {count} private halves of {_words(place)}",
            hint=_listing(place),
        )  # fmt: skip
    return TokenSigner(path, place, public, pin)


def _log_in(module: Any, slot: int, path: Path, place: Place, pin: str, *, scheme: str, name: str) -> int:
    """Try the PIN once, and return the number of private halves: they are needed later, for several roles.

    Raises:
        BadPassword: the token refuses the PIN.
    """
    from PyKCS11 import PyKCS11

    wrong = {PyKCS11.CKR_PIN_INCORRECT, PyKCS11.CKR_PIN_INVALID, PyKCS11.CKR_PIN_LEN_RANGE, PyKCS11.CKR_ARGUMENTS_BAD}
    with _token_errors("open the key", path), _session(module, slot) as session:
        try:
            session.login(pin)
        except PyKCS11.PyKCS11Error as cause:
            if cause.value == PyKCS11.CKR_PIN_LOCKED:
                raise _locked(path, place) from cause
            if cause.value not in wrong:
                raise
            raise BadPassword(
                operation="open the key", path=path,
                cause=f"the token {place.label} refuses the PIN; it locks after a few wrong ones", hint=_ask(name),
            ) from cause  # fmt: skip
        count = len(_objects(session, PyKCS11.CKO_PRIVATE_KEY, place, scheme))
        session.logout()
        return count


def _check_tries(path: Path, place: Place, info: Any) -> None:
    """Refuse to try a PIN that could lock the token."""
    from PyKCS11 import PyKCS11

    if info.flags & PyKCS11.CKF_USER_PIN_LOCKED:
        raise _locked(path, place)
    if info.flags & PyKCS11.CKF_USER_PIN_FINAL_TRY:
        raise BadPassword(
            operation="open the key", path=path,
            cause=f"one more wrong PIN would lock the token {place.label}, so none is tried",
            hint=f"Log in once with the right one, then repeat the command: {_listing(place)}",
        )  # fmt: skip


def _locked(path: Path, place: Place) -> BadPassword:
    return BadPassword(
        operation="open the key", path=path, cause=f"the token {place.label} is locked after too many wrong PINs",
        hint="Unlock it with its PUK or its SO-PIN and its vendor's tool, then repeat the command.",
    )  # fmt: skip


def _public(module: Any, slot: int, path: Path, place: Place) -> PublicHalf:
    """Return the public half that is on the token."""
    from PyKCS11 import PyKCS11

    with _token_errors("find the key", path, hint=_listing(place)):
        with _session(module, slot) as session:
            of_25519 = _objects(session, PyKCS11.CKO_PUBLIC_KEY, place, ED25519)
            others = _objects(session, PyKCS11.CKO_PUBLIC_KEY, place, "")
            point = bytes(session.getAttributeValue(of_25519[0], [PyKCS11.CKA_EC_POINT])[0]) if of_25519 else b""
        if len(of_25519) + len(others) != 1:
            found = "no" if not of_25519 and not others else "more than one"
            raise ValueError(f"the token {place.label} has {found} key {place.key_id} on an elliptic curve")
        if of_25519:
            return _of_25519(point)
        _, key = HSMSigner.import_(place.key_id, dict(place.fields))
        return PublicHalf(key.keytype, key.scheme, key.keyval["public"])


def _of_25519(point: bytes) -> PublicHalf:
    """Return the public half of a point, which modules write as it is or as an octet string of DER."""
    point = point.removeprefix(bytes((4, ED25519_BYTES))) if len(point) == ED25519_BYTES + 2 else point
    if len(point) != ED25519_BYTES:
        raise ValueError(f"its public half has {len(point)} bytes; Ed25519 has {ED25519_BYTES}")
    return PublicHalf(ED25519, ED25519, point.hex())


def _objects(session: Any, kind: int, place: Place, scheme: str) -> list[Any]:
    """Return the halves of a kind that have the key's id and the type of its scheme."""
    from PyKCS11 import PyKCS11

    key_type = PyKCS11.CKK_EC_EDWARDS if scheme == ED25519 else PyKCS11.CKK_ECDSA
    wanted = [(PyKCS11.CKA_CLASS, kind), (PyKCS11.CKA_KEY_TYPE, key_type), (PyKCS11.CKA_ID, (place.key_id,))]
    return list(session.findObjects(wanted))


@contextmanager
def _session(module: Any, slot: int) -> Iterator[Any]:
    """Open a session with a token, and close it: that ends a login too."""
    session = module.openSession(slot)
    try:
        yield session
    finally:
        session.closeSession()


def _slot(module: Any, path: Path, place: Place) -> tuple[int, Any]:
    """Return the slot of the one token that has these fields, and its description."""
    from PyKCS11 import PyKCS11

    with _token_errors("find the token", path):
        present = [(slot, module.getTokenInfo(slot)) for slot in module.getSlotList(tokenPresent=True)]
    tokens = [(slot, info) for slot, info in present if info.flags & PyKCS11.CKF_TOKEN_INITIALIZED]
    found = [
        (slot, info)
        for slot, info in tokens
        if all(str(getattr(info, name, "")).strip() == value for name, value in place.fields.items())
    ]
    if len(found) == 1:
        return found[0]
    wanted = f"the token {place.label}" if place.fields else "a token"
    if not found:
        others = ", ".join(_named(info) for _, info in tokens)
        elsewhere = (
            f" If it is lost, or another machine has it, remove {path}: then its signatures are asked for by"
            " `updater publish sign export FILE`."
        )
        raise TokenProblem(
            operation="find the token", path=path,
            cause=f"{wanted} is not in this machine; {f'here: {others}' if others else 'no token is'}",
            hint=f"Plug it in and repeat the command.{elsewhere if path.exists() else ''}",
        )  # fmt: skip
    raise TokenProblem(
        operation="find the token", path=path,
        cause=f"{len(found)} tokens fit: {', '.join(_named(info) for _, info in found)}",
        hint=f"Choose one: `updater publish keys token {path.with_suffix('')} --serial"
        f" {found[0][1].serialNumber.strip()}`.",
    )  # fmt: skip


def _named(info: Any) -> str:
    return f"{info.label.strip() or 'without a label'} (serial number {info.serialNumber.strip() or 'none'})"


def _words(place: Place) -> str:
    return f"key {place.key_id} on the token {place.label}"


def _module(path: Path) -> Any:
    """Return the PKCS#11 module of this machine's tokens."""
    try:
        import asn1crypto  # noqa: F401 - the signing library reads points of curves with it
        import PyKCS11
    except ImportError as cause:
        raise TokenProblem(
            operation="open the key", path=path, cause=f"the libraries for tokens are not installed ({cause.name})",
            hint="`pip install 'tillkeeper[hsm]'`",
        ) from cause  # fmt: skip
    name = os.environ.get(MODULE_VARIABLE)
    if not name:
        raise TokenProblem(
            operation="open the key", path=path,
            cause=f"{MODULE_VARIABLE} does not name the PKCS#11 module of the token",
            hint="Name the module of its vendor, for instance"
            f" `export {MODULE_VARIABLE}=/usr/lib/softhsm/libsofthsm2.so`.",
        )  # fmt: skip
    try:
        return _loaded(name)
    except PyKCS11.PyKCS11Error as cause:
        raise TokenProblem(
            operation="load the PKCS#11 module", path=Path(name), cause=str(cause),
            hint=f"Correct {MODULE_VARIABLE}: it names a library of this system and processor, with all it needs.",
        ) from cause  # fmt: skip


@cache
def _loaded(name: str) -> Any:
    """Load a module once: to begin with it again costs most tokens a second, and would end other sessions."""
    import PyKCS11

    module = PyKCS11.PyKCS11Lib()
    module.load(name)
    return module


@contextmanager
def _token_errors(operation: str, path: Path, *, hint: str = "") -> Iterator[None]:
    """Put errors of the libraries for tokens into words."""
    from PyKCS11 import PyKCS11

    try:
        yield
    except (PyKCS11.PyKCS11Error, ValueError) as cause:
        raise TokenProblem(operation=operation, path=path, cause=str(cause), hint=hint) from cause


def variable_of(name: str) -> str:
    """Return the variable of the environment that has the password, or the PIN, of one key."""
    return f"{VARIABLE}_{name.upper().replace('-', '_')}"


def _ask(name: str) -> str:
    return (
        f"Give the PIN in {variable_of(name)}, or by --password-file DIR with a file {name}; a password for all keys is"
        " not tried."
    )


def _listing(place: Place) -> str:
    module = os.environ.get(MODULE_VARIABLE, "MODULE")
    label = place.fields.get("label", "LABEL")
    return f"`pkcs11-tool --module {module} --token-label '{label}' --login --list-objects`"
