"""Real PKCS#11 tokens of SoftHSM, in a folder of the test's own."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from securesystemslib.signer import _hsm_signer

from updater.publish import tokens

MODULES: Final = (
    "/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)  # fmt: skip
PIN: Final = "482913"
SO_PIN: Final = "90817263"
P256: Final = bytes.fromhex("06082a8648ce3d030107")
P384: Final = bytes.fromhex("06052b81040022")
ED25519: Final = bytes.fromhex("130c656477617264733235353139")
"""Parameters of the curves, in DER."""
COUNT_LOW, FINAL_TRY, LOCKED = 0x10000, 0x20000, 0x40000
"""Flags of a token: a wrong PIN since the last right one; the next wrong one locks it; it is locked."""


def module() -> str:
    """Path of SoftHSM's module; empty where it is not."""
    return next((path for path in MODULES if Path(path).exists()), "")


def reason_to_skip() -> str:
    """Return the name of what is missing on this machine; empty if nothing is."""
    if not module() or shutil.which("softhsm2-util") is None:
        return "SoftHSM is not installed (apt-get install softhsm2)"
    if any(importlib.util.find_spec(name) is None for name in ("PyKCS11", "asn1crypto")):
        return "PyKCS11 is not installed (pip install 'tillkeeper[hsm]')"
    return ""


class Socket:
    """The folder of the tokens: each is a folder in it, and SoftHSM reads them when it is loaded."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "tokens"
        self._drawer = folder / "drawer"
        self.folder.mkdir(parents=True)
        self._drawer.mkdir()
        conf = folder / "softhsm2.conf"
        conf.write_text(f"directories.tokendir = {self.folder}\nobjectstore.backend = file\nlog.level = ERROR\n")
        patch.setenv("SOFTHSM2_CONF", str(conf))
        patch.setenv(tokens.MODULE_VARIABLE, module())
        self.logins: list[str] = []
        self._count_logins(patch)

    def _count_logins(self, patch: pytest.MonkeyPatch) -> None:
        import PyKCS11

        right = PyKCS11.Session.login

        def noted(session: Any, pin: str, **more: Any) -> Any:
            self.logins.append(pin)
            return right(session, pin, **more)

        patch.setattr(PyKCS11.Session, "login", noted)

    @staticmethod
    def anew() -> None:
        """Lets the next command be a new process to the module, which then sees what is plugged in."""
        # Unloaded by name: an error that a test keeps may hold the objects.
        for name in list(_hsm_signer.PyKCS11.PyKCS11Lib._loaded_libs):
            tokens._loaded(name).unload()
        tokens._loaded.cache_clear()
        if _hsm_signer._PYKCS11LIB is not None:
            _hsm_signer._PYKCS11LIB.unload()
            _hsm_signer._PYKCS11LIB = None

    def make(self, label: str) -> str:
        """A new token, without a key; its serial number."""
        before = set(self._serials())
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", PIN],
            check=True, capture_output=True,
        )  # fmt: skip
        self.anew()
        (serial,) = set(self._serials()) - before
        return serial

    def make_key(self, label: str, *, key_id: int = tokens.DEFAULT_ID, curve: bytes = ED25519) -> None:
        """A new key on a token, made by the token."""
        from PyKCS11 import Mechanism, PyKCS11, Session

        place = tokens.Place(key_id, {"label": label})
        lib = tokens._module(self.folder)
        slot, _ = tokens._slot(lib, self.folder, place)
        session = lib.openSession(slot, PyKCS11.CKF_SERIAL_SESSION | PyKCS11.CKF_RW_SESSION)
        Session.login(session, PIN)
        is_edwards = curve == ED25519
        key_type = PyKCS11.CKK_EC_EDWARDS if is_edwards else PyKCS11.CKK_ECDSA
        mechanism = PyKCS11.CKM_EC_EDWARDS_KEY_PAIR_GEN if is_edwards else PyKCS11.CKM_EC_KEY_PAIR_GEN
        common = [(PyKCS11.CKA_TOKEN, True), (PyKCS11.CKA_ID, (key_id,)), (PyKCS11.CKA_KEY_TYPE, key_type)]
        session.generateKeyPair(
            [*common, (PyKCS11.CKA_EC_PARAMS, curve), (PyKCS11.CKA_VERIFY, True)],
            [*common, (PyKCS11.CKA_PRIVATE, True), (PyKCS11.CKA_SENSITIVE, True), (PyKCS11.CKA_SIGN, True)],
            mecha=Mechanism(mechanism, None),
        )
        session.logout()
        session.closeSession()
        self.logins.clear()

    def remove_key(self, label: str) -> None:
        """Destroys everything on a token but its PIN."""
        for path in self._place(label).glob("*.object"):
            if path.name != "token.object":
                path.unlink()
        self.anew()

    def take_out(self, label: str) -> None:
        """Pulls a token."""
        (self._drawer / label).mkdir()
        place = self._place(label)
        place.rename(self._drawer / label / place.name)
        self.anew()

    def plug_in(self, label: str) -> None:
        """Plugs a token in that was pulled."""
        (place,) = (self._drawer / label).iterdir()
        place.rename(self.folder / place.name)
        (self._drawer / label).rmdir()
        self.anew()

    def flags(self, label: str) -> int:
        """The flags of a token."""
        self.anew()
        return int(tokens._slot(tokens._module(self.folder), self.folder, tokens.Place(2, {"label": label}))[1].flags)

    def set_flag(self, label: str, flag: int) -> None:
        """Sets a flag in the token's own file, as a token does that counts wrong PINs; SoftHSM does not count them."""
        before = self.flags(label)
        path = self._place(label) / "token.object"
        data = path.read_bytes()
        assert data.count(before.to_bytes(8, "big")) == 1
        path.write_bytes(data.replace(before.to_bytes(8, "big"), (before | flag).to_bytes(8, "big")))
        assert self.flags(label) == before | flag

    def _place(self, label: str) -> Path:
        (found,) = (path for path in self.folder.iterdir() if label.encode() in (path / "token.object").read_bytes())
        return found

    def _serials(self) -> list[str]:
        lib = tokens._module(self.folder)
        return [lib.getTokenInfo(slot).serialNumber.strip() for slot in lib.getSlotList(tokenPresent=True)]
