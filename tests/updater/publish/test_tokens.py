"""Keys on PKCS#11 tokens: real ones of SoftHSM, whose keys sign, and every way in which a token is not there."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from securesystemslib import rsa_keys
from tuf.api.metadata import Metadata, Root

from tests.helpers import hardware
from tests.helpers.hardware import PIN, Socket
from tests.helpers.places import ROOT
from tests.helpers.shop import contents
from tests.helpers.terminal import Till
from tests.helpers.vendor import ITERATIONS_COUNT, PASSWORD, Vendor
from tests.test_guides import blocks
from tests.updater.publish.test_deploy import source
from tests.updater.publish.test_keys import check, elsewhere, names, sign_with
from updater.answers import Answer
from updater.publish import ceremony, keys, repository, tokens
from updater.publish.cli.main import command
from updater.publish.errors import AwaitsSignatures, BadPassword, PublishError, TokenProblem
from updater.publish.keys import KeyFile
from updater.publish.tokens import PinOf, Place
from updater.repository import client as repository_client

pytestmark = pytest.mark.skipif(bool(hardware.reason_to_skip()), reason=hardware.reason_to_skip())

LABEL = "till vendor"


@pytest.fixture(autouse=True)
def _quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rsa_keys, "_PBKDF2_ITERATIONS", ITERATIONS_COUNT)


@pytest.fixture
def socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Socket]:
    """One token with a key, plugged in."""
    found = Socket(tmp_path / "softhsm", monkeypatch)
    found.make(LABEL)
    found.make_key(LABEL)
    yield found
    found.anew()


def password(key: str) -> str:
    return PIN if isinstance(key, PinOf) else PASSWORD


def wrong_pin(key: str) -> str:
    return "000000" if isinstance(key, PinOf) else PASSWORD


def run(*words: str, **variables: str) -> Result:
    """`updater publish …` in this process: SoftHSM is loaded anew, and counted."""
    Socket.anew()
    passwords = {"TILLKEEPER_KEY_PASSWORD": PASSWORD, "TILLKEEPER_KEY_PASSWORD_TARGETS_T": PIN}
    return CliRunner().invoke(command, words, env={**passwords, **variables})


def taken(vendor: Vendor, name: str = "targets-t") -> Path:
    """The key of the token, in the vendor's folder of keys."""
    keys.take_from_token(vendor.repository / "keys" / name, Place(tokens.DEFAULT_ID, {"label": LABEL}))
    return vendor.repository / "keys" / name


def rotate(vendor: Vendor) -> Path:
    """The key of the token in place of the file for targets."""
    key = taken(vendor)
    ceremony.change_keys(
        vendor.repository, ceremony.rotating("targets", "targets", "targets-t"), passwords=password, new_key="targets-t"
    )
    return key


def test_a_key_file_is_rotated_to_a_token_that_signs_a_release_and_a_terminal_takes_it(
    socket: Socket, vendor: Vendor, till: Till
) -> None:
    repo = str(vendor.repository)
    told = run("keys", "token", str(vendor.repository / "keys" / "targets-t"))
    assert (told.exit_code, "id 2 on the token till vendor" in told.output) == (0, True), told.output
    told = run("keys", "rotate", "targets", "targets", "--name", "targets-t", "--repository", repo)
    assert told.exit_code == 0, told.output
    assert re.search(r"targets-t  \w{12}  on the token till vendor\n", run("keys", "list", "--repository", repo).output)
    bundle = str(vendor.bundle("1.1"))
    told = run("release", bundle, "--version", "1.1", "--unverified", "--repository", repo)
    assert told.exit_code == 0, told.output
    assert socket.logins == [PIN] * 4, "one for the check and one for the signature; no other key's password"
    check(vendor)
    assert till.check().outcome == "SWAPPED"
    assert till.launch().returncode == 0
    folder = vendor.repository / "keys"
    assert json.loads((folder / "targets-t.token").read_text())["uri"].startswith(
        "hsm:2?label=till+vendor&serialNumber="
    )
    assert not (folder / "targets-t").exists()
    assert all(PIN.encode() not in path.read_bytes() for path in vendor.folder.rglob("*") if path.is_file())


def all_roles(root: Root, known: Mapping[str, KeyFile]) -> None:
    """One key in place of all four."""
    for role in keys.ROLES:
        ceremony.rotating(role, role, "all-t")(root, known)


WITHOUT = """
import pathlib, sys
for name in ("cryptography", "nacl"):
    sys.modules[name] = None
from tuf.api.metadata import Metadata
folder = pathlib.Path(sys.argv[1])
old, new = (Metadata.from_bytes((folder / f"{number}.root.json").read_bytes()) for number in (1, 2))
old.verify_delegate("root", new)
new.verify_delegate("timestamp", Metadata.from_bytes((folder / "timestamp.json").read_bytes()))
"""
"""A kit has none of the libraries in C."""


@pytest.mark.parametrize(
    ("curve", "everywhere"),
    [(hardware.ED25519, True), (hardware.P384, False)],
    ids=["Ed25519", "P-384"],
)
def test_terminals_verify_the_signatures_of_tokens_and_without_a_library_those_of_ed25519(
    socket: Socket, vendor: Vendor, url: str, tmp_path: Path, curve: bytes, everywhere: bool
) -> None:
    socket.make_key(LABEL, key_id=7, curve=curve)
    asked = source(url, tmp_path / "trust", vendor.root)
    assert repository_client.look(asked, now=datetime.now(UTC)).answer is Answer.OK
    key = vendor.repository / "keys" / "all-t"
    told = run("keys", "token", str(key), "--id", "7")
    assert (told.exit_code == 0, "would refuse every update" in told.output) == (everywhere, not everywhere)
    assert key.with_suffix(".pub").exists() is everywhere
    keys.take_from_token(key, Place(7, {}), accepts_ecdsa=True)
    assert ceremony.change_keys(vendor.repository, all_roles, passwords=password) > 3
    assert repository.refresh(vendor.repository, passwords=password).files_placed == 1
    assert {name for role in keys.ROLES for name in names(vendor, role)} == {"all-t"}
    looked = repository_client.look(asked, now=datetime.now(UTC))
    assert looked.answer is Answer.OK, looked.detail
    check(vendor)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(vendor.public / "metadata")], capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) is everywhere, done.stderr


def test_a_repository_begins_with_a_key_on_a_token(socket: Socket, tmp_path: Path) -> None:
    vendor = Vendor(tmp_path / "vendor")
    socket.make_key(LABEL, key_id=9, curve=hardware.P256)
    keys.take_from_token(vendor.repository / "keys" / "targets", Place(9, {}), accepts_ecdsa=True)
    repository.init(
        folder=vendor.repository, app="sample-till", public=vendor.public, keys=None, passwords=password,
        expiration_days={},
    )  # fmt: skip
    check(vendor)
    (line,) = [line for line in ceremony.listed(vendor.repository) if line.role == "targets"]
    assert [(key.name, key.is_here, key.token) for key in line.keys] == [("targets", True, LABEL)]
    assert not (vendor.repository / "keys" / "targets").exists()


def test_a_wrong_pin_is_tried_once_and_nothing_is_signed(socket: Socket, vendor: Vendor) -> None:
    rotate(vendor)
    socket.logins.clear()
    before = (contents(vendor.public), contents(vendor.repository))
    told = run(
        "release", str(vendor.bundle("1.1")), "--version", "1.1", "--unverified",
        "--repository", str(vendor.repository),
        TILLKEEPER_KEY_PASSWORD_TARGETS_T="000000",
    )  # fmt: skip
    assert (told.exit_code, "refuses the PIN" in told.output) == (4, True), told.output
    assert "TILLKEEPER_KEY_PASSWORD_TARGETS_T" in told.output
    assert socket.logins == ["000000"]
    assert socket.flags(LABEL) & hardware.COUNT_LOW, "the token has counted it"
    assert (contents(vendor.public), contents(vendor.repository)) == before
    told = run("refresh", "--repository", str(vendor.repository), TILLKEEPER_KEY_PASSWORD_TARGETS_T="000000")
    assert (told.exit_code, socket.logins) == (0, ["000000"]), "what needs no signature of the token asks for no PIN"


def test_passwords_that_are_meant_for_other_keys_are_never_tried_as_a_pin(
    socket: Socket, vendor: Vendor, tmp_path: Path
) -> None:
    rotate(vendor)
    socket.logins.clear()
    file, folder = tmp_path / "password", tmp_path / "passwords"
    file.write_text(PASSWORD)
    folder.mkdir()
    for name in ("root", "targets", "snapshot", "timestamp"):
        (folder / name).write_text(PASSWORD)
    before = contents(vendor.public)
    words = ("sign", "renew", "targets", "--repository", str(vendor.repository))
    for more in ((), ("--password-file", str(file)), ("--password-file", str(folder))):
        told = run(*words, *more, TILLKEEPER_KEY_PASSWORD_TARGETS_T="")
        assert (told.exit_code, "no PIN of the token till vendor was given" in told.output) == (4, True), told.output
    assert (socket.logins, contents(vendor.public)) == ([], before)
    (folder / "targets-t").write_text(f"{PIN}\n")
    told = run(*words, "--password-file", str(folder), TILLKEEPER_KEY_PASSWORD_TARGETS_T="")
    assert (told.exit_code, set(socket.logins)) == (0, {PIN}), told.output


@pytest.mark.parametrize(
    ("flag", "words"), [(hardware.FINAL_TRY, "one more wrong PIN would lock"), (hardware.LOCKED, "is locked after")]
)
def test_no_pin_is_tried_on_a_token_that_it_could_lock(socket: Socket, vendor: Vendor, flag: int, words: str) -> None:
    rotate(vendor)
    socket.logins.clear()
    socket.set_flag(LABEL, flag)
    before = (contents(vendor.public), contents(vendor.repository))
    with pytest.raises(BadPassword, match=words):
        ceremony.renew(vendor.repository, "targets", passwords=password)
    assert (socket.logins, contents(vendor.public), contents(vendor.repository)) == ([], *before)


def no_library(socket: Socket, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "PyKCS11", None)


def no_points(socket: Socket, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "asn1crypto", None)


def no_module(socket: Socket, patch: pytest.MonkeyPatch) -> None:
    patch.delenv(tokens.MODULE_VARIABLE)


def wrong_module(socket: Socket, patch: pytest.MonkeyPatch) -> None:
    patch.setenv(tokens.MODULE_VARIABLE, str(ROOT / "README.md"))


def out(socket: Socket, patch: pytest.MonkeyPatch) -> None:
    socket.take_out(LABEL)


def another(socket: Socket, patch: pytest.MonkeyPatch) -> None:
    socket.take_out(LABEL)
    socket.make("someone else's")


def emptied(socket: Socket, patch: pytest.MonkeyPatch) -> None:
    socket.remove_key(LABEL)


def made_anew(socket: Socket, patch: pytest.MonkeyPatch) -> None:
    socket.remove_key(LABEL)
    socket.make_key(LABEL)


def twice(socket: Socket, patch: pytest.MonkeyPatch) -> None:
    socket.make_key(LABEL)


@pytest.mark.parametrize(
    ("how", "words", "hint"),
    [
        (no_library, "libraries for tokens are not installed", "pip install 'tillkeeper[hsm]'"),
        (no_points, "libraries for tokens are not installed", "pip install 'tillkeeper[hsm]'"),
        (no_module, "PYKCS11LIB does not name the PKCS#11 module", "export PYKCS11LIB="),
        (wrong_module, "load the PKCS#11 module", "Correct PYKCS11LIB"),
        (out, "the token till vendor is not in this machine; no token is", "Plug it in"),
        (another, "not in this machine; here: someone else's (serial number ", "targets-t.token: then"),
        (emptied, "the token till vendor has no key 2", "pkcs11-tool --module"),
        (made_anew, "key 2 on the token till vendor is not the half of its .pub file", "updater publish keys token"),
        (twice, "has more than one key 2", "pkcs11-tool --module"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)  # fmt: skip
def test_a_token_that_cannot_be_used_is_said_before_a_pin_is_tried_or_anything_is_signed(
    socket: Socket,
    vendor: Vendor,
    monkeypatch: pytest.MonkeyPatch,
    how: Callable[[Socket, pytest.MonkeyPatch], None],
    words: str,
    hint: str,
) -> None:
    rotate(vendor)
    before = (contents(vendor.public), contents(vendor.repository))
    bundle = vendor.bundle("1.1")
    with monkeypatch.context() as patch:
        how(socket, patch)
        socket.logins.clear()
        told = run("release", str(bundle), "--version", "1.1", "--unverified", "--repository", str(vendor.repository))
        assert told.exit_code == 4, told.output
        assert words in told.output, told.output
        assert hint in told.output, told.output
        assert (contents(vendor.public), contents(vendor.repository)) == before
        told = run("refresh", "--repository", str(vendor.repository))
        assert told.exit_code == 0, told.output
    assert socket.logins == []


def test_the_daily_job_leaves_a_role_whose_token_is_out_as_it_is(
    socket: Socket, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    from updater.publish import clock

    rotate(vendor)
    socket.take_out(LABEL)
    socket.logins.clear()
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=80)
    monkeypatch.setattr(clock, "now", lambda: later)
    before = (vendor.public / "metadata" / "3.targets.json").stat().st_mtime_ns
    told = run("refresh", "--repository", str(vendor.repository))
    assert (told.exit_code, "targets ends on" in told.output) == (5, True), told.output
    assert not (vendor.public / "metadata" / "4.targets.json").exists()
    assert (vendor.public / "metadata" / "3.targets.json").stat().st_mtime_ns == before
    assert socket.logins == []
    socket.plug_in(LABEL)
    told = run("refresh", "--repository", str(vendor.repository))
    assert (told.exit_code, (vendor.public / "metadata" / "4.targets.json").exists()) == (0, True), told.output


def test_two_tokens_of_one_label_are_told_apart_by_their_serial_number(socket: Socket, tmp_path: Path) -> None:
    serial = socket.make(LABEL)
    place = tmp_path / "keys" / "root-t"
    told = run("keys", "token", str(place))
    assert (told.exit_code, "2 tokens fit: till vendor (serial number " in told.output) == (4, True), told.output
    assert re.search(r"--serial \w+`", told.output)
    assert not place.parent.exists()
    told = run("keys", "token", str(place), "--serial", serial)
    assert (told.exit_code, "has no key 2" in told.output) == (4, True), told.output
    (other,) = set(socket._serials()) - {serial, ""}
    told = run("keys", "token", str(place), "--serial", other)
    assert told.exit_code == 0, told.output
    assert sorted(path.name for path in place.parent.iterdir()) == ["root-t.pub", "root-t.token"]
    signer = keys.opened(keys.read_public(place), password, keyid="a" * 64)
    assert signer.sign(b"bytes").keyid == "a" * 64
    tokens.write(place.with_suffix(".token"), Place(2, {"label": LABEL}))
    with pytest.raises(TokenProblem, match="2 tokens fit"):
        keys.opened(keys.read_public(place), password, keyid="a" * 64)


def test_a_root_of_two_is_signed_with_a_file_and_a_token_on_other_machines(
    socket: Socket, vendor: Vendor, tmp_path: Path, url: str
) -> None:
    asked = source(url, tmp_path / "trust", vendor.root)
    (key_a,) = elsewhere(tmp_path / "a", "root-a")
    key_t = tmp_path / "b" / "root-t"
    socket.make_key(LABEL, key_id=9, curve=hardware.P256)
    # In PEM, whose lines canonical JSON does not escape.
    keys.take_from_token(key_t, Place(9, {}), accepts_ecdsa=True)
    for key in (key_a, key_t):
        ceremony.adopt(folder=vendor.repository, public=key)
    assert not (vendor.repository / "keys" / "root-t.token").exists()
    file = tmp_path / "ask.json"

    def two_of_two(root: Root, known: Mapping[str, KeyFile]) -> None:
        ceremony.adding("root", "root-a")(root, known)
        ceremony.rotating("root", "root", "root-t")(root, known)
        ceremony.with_threshold("root", 2)(root, known)

    with pytest.raises(AwaitsSignatures, match="root 2 has 0 of 2 signatures"):
        ceremony.change_keys(vendor.repository, two_of_two, passwords=password)
    (request,) = ceremony.export(folder=vendor.repository, target=file)
    assert any(re.search(r"root: key \w{8} is added \([\w+/=]{124}\)$", word) for word in request.words())
    assert sign_with(file, key_a) == ["root 2"]
    before = (contents(vendor.public), file.read_bytes())
    told = run("sign", "add", str(file), "--key", str(key_t), "--yes", TILLKEEPER_KEY_PASSWORD_ROOT_T="000000")
    assert (told.exit_code, file.read_bytes()) == (4, before[1]), told.output
    told = run("sign", "add", str(file), "--key", f"{key_t}.token", "--yes", TILLKEEPER_KEY_PASSWORD_ROOT_T=PIN)
    assert (told.exit_code, "signed: root 2" in told.output) == (0, True), told.output
    assert contents(vendor.public) == before[0]
    assert PIN not in file.read_text()
    assert ceremony.import_signatures(folder=vendor.repository, path=file, passwords=password) > 0
    root = Metadata.from_file(str(vendor.public / "metadata" / "2.root.json"))
    assert (root.signed.roles["root"].threshold, len(root.signed.roles["root"].keyids)) == (2, 2)
    looked = repository_client.look(asked, now=datetime.now(UTC))
    assert looked.answer is Answer.OK, looked.detail


def test_a_token_that_is_out_stops_nothing_that_other_keys_may_sign(socket: Socket, vendor: Vendor) -> None:
    taken(vendor)
    ceremony.change_keys(vendor.repository, ceremony.adding("targets", "targets-t"), passwords=password)
    socket.take_out(LABEL)
    vendor.release("1.1")
    check(vendor)
    vendor.bundle("1.2")
    change = ceremony.with_threshold("targets", 2)
    before = (contents(vendor.public), contents(vendor.repository))
    with pytest.raises(TokenProblem, match="is not in this machine"):
        ceremony.change_keys(vendor.repository, change, passwords=password)
    assert (contents(vendor.public), contents(vendor.repository)) == before
    socket.plug_in(LABEL)
    assert ceremony.change_keys(vendor.repository, change, passwords=password) > 0
    assert len(Metadata.from_file(str(vendor.public / "metadata" / "4.targets.json")).signatures) == 2
    check(vendor)


def test_a_token_that_is_pulled_while_it_signs_leaves_everything_as_it_was(
    socket: Socket, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotate(vendor)
    before = (contents(vendor.public), contents(vendor.repository))
    right = tokens.TokenSigner.sign

    def pulled(signer: tokens.TokenSigner, payload: bytes) -> object:
        socket.take_out(LABEL)
        return right(signer, payload)

    monkeypatch.setattr(tokens.TokenSigner, "sign", pulled)
    with pytest.raises(TokenProblem, match="is not in this machine"):
        ceremony.renew(vendor.repository, "targets", passwords=password)
    assert (contents(vendor.public), contents(vendor.repository)) == before


def test_a_name_is_one_keys_and_a_damaged_file_is_said(socket: Socket, tmp_path: Path) -> None:
    place = tmp_path / "keys" / "one"
    (file_key,) = elsewhere(tmp_path / "keys", "one")
    with pytest.raises(PublishError, match="another key has that name"):
        keys.take_from_token(file_key, Place(2, {}))
    place.with_suffix(".pub").unlink()
    with pytest.raises(PublishError, match="another key has that name"):
        keys.take_from_token(file_key, Place(2, {}))
    assert [path.name for path in place.parent.iterdir()] == ["one"]
    other = tmp_path / "keys" / "two"
    socket.make_key(LABEL, key_id=9, curve=hardware.P256)
    for _ in range(2):
        keys.take_from_token(other, Place(9, {}), accepts_ecdsa=True)
    assert stat.S_ISREG(other.with_suffix(".token").stat().st_mode)
    # As after a cut between the two files.
    (other.with_suffix(".pub")).unlink()
    with pytest.raises(PublishError, match="says that the key of that name is on a token"):
        keys.make(other, password)
    keys.take_from_token(other, Place(9, {}), accepts_ecdsa=True)
    keys.make(other, password)
    assert not other.exists()
    for text, words in (
        ("{", "Expecting property name"),
        ('{"format": 2, "uri": "hsm:2"}', "its format is 2"),
        ('{"format": 1}', "field 'uri'"),
        ('{"format": 1, "uri": "file:2"}', "is no hsm:ID"), ('{"format": 1, "uri": "hsm:256"}', "is no hsm:ID"),
        ("[]", "indices"),
    ):  # fmt: skip
        other.with_suffix(".token").write_text(text)
        with pytest.raises(PublishError, match=words):
            keys.opened(keys.read_public(other), password, keyid="a" * 64)
    values = json.loads(other.with_suffix(".pub").read_text())
    damages: tuple[dict[str, object], ...] = (
        {"scheme": "ecdsa-sha2-nistp384"},
        {"keytype": "rsa", "scheme": ""},
        {"keyval": {}},
    )
    for damage in damages:
        other.with_suffix(".pub").write_text(json.dumps({**values, **damage}))
        with pytest.raises(PublishError, match="could not read the key"):
            keys.read_public(other)
    assert socket.logins == []


@pytest.mark.skipif(shutil.which("pkcs11-tool") is None, reason="pkcs11-tool is not installed (apt-get install opensc)")
def test_the_page_of_keys_makes_a_key_on_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = next(block for block in blocks("keys.md", "sh") if "pkcs11-tool" in block)
    socket = Socket(tmp_path / "softhsm", monkeypatch)
    place = tmp_path / "bin"
    place.mkdir()
    (place / "updater").write_text(f'#!/bin/sh\nexec {sys.executable} -m updater "$@"\n')
    (place / "updater").chmod(0o755)
    script = block.replace(hardware.MODULES[0], hardware.module())
    environment = {**os.environ, "PATH": f"{place}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        ["sh", "-e", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["root-t.pub", "root-t.token"]
    socket.anew()
    keys.opened(keys.read_public(tmp_path / "a" / "root-t"), lambda _: "123456", keyid="a" * 64).sign(b"bytes")
