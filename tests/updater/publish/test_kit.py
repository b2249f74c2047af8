"""Kits: what is in them, what is refused, and how one takes the place of another on a terminal."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from dbsync.errors import Refused, UnreadableFile
from tests.helpers.vendor import Vendor
from tests.sample_till.bundles import APP
from updater.host import this_host
from updater.model import Sha256
from updater.publish.errors import PublishError
from updater.publish.kit import debian, payload, setup, starters, wheels
from updater.publish.kit.build import build
from updater.publish.kit.description import Description
from updater.publish.kit.payload import Order
from updater.publish.kit.sign import sign
from updater.terminal import kit

DESCRIPTION: Final = """\
name = "Corner Shop"
vendor = "Corner Shop GmbH"
contact = "support@corner.example"
version = "1.2"
url = "https://updates.corner.example"
[interpreters]
python = "/usr/bin/python3"
"""
TILL: Final = '[accounts]\ntill = "clerk"\n'


def make_wheel(folder: Path, name: str = "tiny", files: tuple[str, ...] = ("tiny/__init__.py",)) -> Path:
    """A wheel of a library."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in (*files, f"{name}-1.0.dist-info/licenses/LICENSE"):
            archive.writestr(file, "# a library\n")
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Name: {name}\nVersion: 1.0\nLicense-Expression: MIT\n\n")
    return path


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the wheels of a kit that has one library."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    pin(make_wheel(folder), tmp_path, monkeypatch)
    return folder


def pin(wheel: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a wheel be the only library of a kit."""
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    requirements, binaries = folder / "requirements.txt", folder / "binaries.txt"
    requirements.write_text(f"{wheel.name.split('-')[0]}==1.0 --hash=sha256:{sha256}\n")
    binaries.touch()
    monkeypatch.setattr(wheels, "REQUIREMENTS", requirements)
    monkeypatch.setattr(wheels, "BINARIES", binaries)


def described(folder: Path, text: str = DESCRIPTION) -> Description:
    path = folder / "kit.toml"
    path.write_text(text, encoding="utf-8")
    return Description.read(path)


@pytest.fixture
def order(first_release: Vendor, tmp_path: Path, library: Path) -> Order:
    """A kit for Linux with the first version."""
    return Order("linux-x86_64", first_release.repository, described(tmp_path, DESCRIPTION + TILL), library, "1.0")


@pytest.fixture
def make(order: Order, tmp_path: Path) -> Callable[[str], kit.Kit]:
    """Makes a kit with some content in the home of a terminal."""
    home = tmp_path / "home"

    def make(content: str) -> kit.Kit:
        into = tmp_path / f"new-{content}"
        app = payload.begin(order, into=into)
        (into / "content").write_text(content)
        materials = payload.libraries(order, into, (), pythons=())
        made = payload.finish(order, into, app=app, materials=materials, programs={"start": b"#!/bin/sh\n"})
        payload.seal(made)
        home.mkdir(exist_ok=True)
        made.folder.rename(home / made.folder.name)
        found = kit.read(home / made.folder.name)
        # Whatever machine the tests run on.
        return found._replace(platform=this_host().platform_tag())

    return make


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="this machine has no dpkg-deb")
def test_a_debian_package_has_everything_hashed_and_listed(order: Order, tmp_path: Path) -> None:
    output = tmp_path / "kit.deb"
    built = build(order, output=output)
    unpacked = tmp_path / "unpacked"
    subprocess.run(["dpkg-deb", "-R", output, unpacked], check=True)
    names = debian.names_of(APP)
    (folder,) = (unpacked / names.payload.relative_to("/")).iterdir()
    found = kit.read(folder)
    assert (found.id, found.app, found.till_user, found.url) == (
        built.id,
        APP,
        "clerk",
        "https://updates.corner.example",
    )
    kit.verify(found)
    listed = {line.partition("  ")[2] for line in (folder / kit.SUMS).read_text().splitlines()}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert listed == there - {kit.SUMS}
    assert (folder / "root.json").read_bytes() == (order.repository.parent / "public/metadata/1.root.json").read_bytes()
    assert (folder / "first" / "tillkeeper.toml").is_file()
    assert (folder / "site" / "tiny" / "__init__.py").is_file()
    assert not (folder / "site" / "updater" / "publish").exists(), "the vendor's side stays with the vendor"
    assert {"tillkeeper-LICENSE", "tiny-1.0-LICENSE"} <= {path.name for path in (folder / "licences").iterdir()}
    materials = json.loads((folder / "sbom.cdx.json").read_text())
    assert (materials["bomFormat"], materials["specVersion"]) == ("CycloneDX", "1.5")
    (tiny,) = [component for component in materials["components"] if component["name"] == "tiny"]
    (wheel,) = order.wheels.iterdir()
    assert tiny["hashes"][0]["content"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert (tiny["purl"], tiny["licenses"][0]["license"]["name"]) == ("pkg:pypi/tiny@1.0", "MIT")
    assert json.loads(built.bill.read_text()) == materials
    assert "/usr/lib/tillkeeper-sample-till/start run --settings /etc/tillkeeper/" in next(
        line for line in (unpacked / "usr/lib/systemd/system/tillkeeper-sample-till.service").read_text().splitlines()
        if line.startswith("ExecStart=")
    )  # fmt: skip
    entry = (unpacked / "etc/xdg/autostart/tillkeeper-sample-till.desktop").read_text()
    (command,) = [line.removeprefix("Exec=") for line in entry.splitlines() if line.startswith("Exec=")]
    # The Desktop Entry Specification, "The Exec key": rules for strings first, then for quoted arguments.
    program, option, quoted = command.replace("\\\\", "\\").split(" ", 2)
    script = re.sub(r'\\(["`$\\])', r"\1", quoted.removeprefix('"').removesuffix('"'))
    assert (program, option) == ("sh", "-c")
    assert script == 'test "$(id -un)" = "clerk" && exec /usr/bin/tillkeeper-sample-till launch'
    for script in ("postinst", "prerm", "postrm"):
        text = unpacked / "DEBIAN" / script
        assert subprocess.run(["sh", "-n", text], check=False).returncode == 0
        assert "$" + "{" not in text.read_text()
    assert sorted(path.name for path in tmp_path.glob(".new-*")) == []


def test_a_newer_kit_lies_beside_the_one_before_and_programs_are_replaced(
    make: Callable[[str], kit.Kit], tmp_path: Path
) -> None:
    home, rescue = tmp_path / "home", tmp_path / "home" / "rescue"
    names: list[str] = []
    for content in ("1", "2", "3"):
        found = make(content)
        kit.place(found, home=home, rescue=rescue)
        names.append(found.folder.name)
        assert json.loads((home / "current.json").read_text())["id"] == found.id
        assert sorted(folder.name for folder in home.glob("agent-*")) == sorted(names[-2:])
        if content == "1":
            (rescue / "mark").write_text("of the first")
    assert (rescue / "mark").read_text() == "of the first", "the rescue folder is never made again"
    kit.place(found, home=home, rescue=rescue)
    assert len(list(home.glob("agent-*"))) == 2, "a repeated setup keeps the kit before"
    if this_host().keeps_executable_bit:
        assert stat.S_IMODE((home / "start").stat().st_mode) == 0o755
    for folder in home.glob("agent-*"):
        shutil.rmtree(folder)
    words = [sys.executable, "-I", "-S", str(rescue / "lib/scripts/rollback.py"), "--list", "--settings", str(home)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "Error: could not" in done.stdout, "it runs, and finds no settings there"


def test_a_kit_that_is_not_whole_or_not_for_this_machine_changes_nothing(make: Callable[[str], kit.Kit]) -> None:
    good, bad = make("good"), make("bad")
    home, rescue = good.folder.parent, good.folder.parent / "rescue"
    shutil.move(bad.folder, home / "aside")
    kit.place(good, home=home, rescue=rescue)
    before = (home / "start").read_bytes(), (home / "current.json").read_bytes()
    (home / "aside").rename(bad.folder)
    text = (bad.folder / "site/updater/__init__.py").read_bytes()
    (bad.folder / "site/updater/__init__.py").write_text("")
    with pytest.raises(Refused, match="1 files differ"):
        kit.place(bad, home=home, rescue=rescue)
    (bad.folder / "site/updater/__init__.py").write_bytes(text)
    (bad.folder / "root.json").unlink()
    with pytest.raises(Refused, match=r"root\.json"):
        kit.place(bad, home=home, rescue=rescue)
    with pytest.raises(Refused, match="its place is"):
        kit.place(bad._replace(id="0" * 12), home=home, rescue=rescue)
    with pytest.raises(Refused, match="it serves win32-arm64, and this machine is"):
        kit.place(bad._replace(platform="win32-arm64"), home=home, rescue=rescue)
    assert ((home / "start").read_bytes(), (home / "current.json").read_bytes()) == before
    with pytest.raises(UnreadableFile, match="no kit"):
        kit.read(home)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DESCRIPTION.replace('url = "https://updates.corner.example"', ""), "url: missing"),
        (DESCRIPTION + 'colour = "red"', "interpreters|colour"),
        ('colour = "red"\n' + DESCRIPTION, "colour: not known"),
        (DESCRIPTION.replace('"1.2"', '"1.2b"'), "version: up to four numbers"),
        (DESCRIPTION.replace("Corner Shop GmbH", "Corner $HOME"), "vendor: one line"),
        (DESCRIPTION.replace("https://", "ftp://"), "ftp"),
        ("name = [", "kit.toml"),
    ],
)
def test_a_description_that_cannot_be_one_is_refused(tmp_path: Path, text: str, words: str) -> None:
    if "colour" in text and not text.startswith("colour"):
        # A role of a language: any name is one.
        assert described(tmp_path, text).interpreters["colour"] == "red"
        return
    with pytest.raises(PublishError, match=words):
        described(tmp_path, text)


def test_a_wheel_that_is_not_the_pinned_one_is_refused(order: Order, tmp_path: Path) -> None:
    (wheel,) = order.wheels.iterdir()
    wheel.write_bytes(wheel.read_bytes() + b"more")
    with pytest.raises(PublishError, match=r"no wheel with the pinned hash for tiny 1\.0") as error:
        wheels.unpack(wheels=order.wheels, site=tmp_path / "site", platform=order.platform, pythons=())
    assert "--require-hashes" in error.value.hint


def test_a_wheel_with_files_outside_its_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    pin(make_wheel(folder, files=("../outside.py",)), tmp_path, monkeypatch)
    with pytest.raises(PublishError, match=r"\.\./outside.py"):
        wheels.unpack(wheels=folder, site=tmp_path / "site", platform="linux-x86_64", pythons=())
    assert not (tmp_path / "outside.py").exists()


def test_a_library_in_c_is_taken_for_each_python_that_may_run_the_kit(order: Order, tmp_path: Path) -> None:
    for tag in ("311", "312"):
        files = ("fast/__init__.py", f"fast/_fast.cpython-{tag}.so")
        made = make_wheel(tmp_path, "fast", files)
        made = made.rename(order.wheels / f"fast-1.0-cp{tag}.whl")
        sha256 = hashlib.sha256(made.read_bytes()).hexdigest()
        with wheels.BINARIES.open("a") as lines:
            lines.write(f"linux-x86_64 3.{tag[1:]} fast==1.0 --hash=sha256:{sha256}\n")
    pythons, into = ("3.11", "3.12", "3.14"), tmp_path / "kit"
    payload.begin(order, into=into)
    bill = json.loads(payload.libraries(order, into, (), pythons=pythons))
    assert {path.name for path in (into / "site/fast").iterdir()} == {
        "__init__.py", "_fast.cpython-311.so", "_fast.cpython-312.so",
    }  # fmt: skip
    told = sorted(part["bom-ref"] for part in bill["components"] if part["name"] == "fast")
    assert told == ["fast-1.0-3.11", "fast-1.0-3.12"]
    made.unlink()
    with pytest.raises(PublishError, match=re.escape("for fast 1.0 (Python 3.12)")) as error:
        wheels.unpack(wheels=order.wheels, site=tmp_path / "site", platform="linux-x86_64", pythons=pythons)
    assert "--platform manylinux_2_28_x86_64 --python-version 3.12 fast==1.0`" in error.value.hint


def test_every_pin_is_a_line_and_windows_has_two_more() -> None:
    linux, windows = wheels.pins("linux-x86_64", ()), wheels.pins("windows-x86_64", ())
    assert {found.name for found in windows} - {found.name for found in linux} == wheels.WINDOWS_ONLY
    for platform in wheels.TAGS:
        binaries = [pin.name for pin in wheels.pins(platform, debian.PYTHONS) if pin.python]
        assert binaries == ["backports.zstd"] * len(debian.PYTHONS)
        assert [pin for pin in wheels.pins(platform, ("3.14",)) if pin.python] == [], "it has zstd itself"
    assert next(found.version for found in linux if found.name == "tuf").startswith("7."), "as the tests have it"


def test_a_first_version_that_is_not_published_or_is_for_another_platform_is_refused(
    order: Order, tmp_path: Path
) -> None:
    with pytest.raises(PublishError, match=r"sample-till 9\.9 is not published here"):
        payload.begin(order._replace(app_version="9.9"), into=tmp_path / "a")


def embeddable(folder: Path, tag: str = "311") -> Path:
    """An archive with the names of the embeddable Python."""
    path = folder / f"python-{tag}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("python.exe", "pythonw.exe", f"python{tag}.zip", f"python{tag}._pth"):
            archive.writestr(name, name)
        archive.writestr("libcrypto-3.dll", b"\0OpenSSL 3.0.13 30 Jan 2024\0")
        archive.writestr("sqlite3.dll", b"\x003.45.1\x00")
    return path


def on_windows(order: Order, folder: Path) -> Order:
    archive = embeddable(folder)
    return order._replace(
        platform="windows-x86_64", description=described(folder, DESCRIPTION), python=archive,
        python_sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
    )  # fmt: skip


needs_nsis = pytest.mark.skipif(shutil.which("makensis") is None, reason="this machine has no makensis (Debian: nsis)")


@needs_nsis
def test_a_setup_program_is_signed_and_its_parts_are_named(
    order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "signed.txt"
    tool = tmp_path / "tool.py"
    tool.write_text(
        "import pathlib, shutil, sys\n"
        f"open({str(log)!r}, 'a').write(pathlib.Path(sys.argv[1]).name + '\\n')\n"
        "shutil.copy(sys.argv[1], sys.argv[2])\nopen(sys.argv[2], 'ab').write(b'signature')\n"
    )
    output = tmp_path / "setup.exe"
    built = build(
        on_windows(order, tmp_path)._replace(sign=f"{sys.executable} {tool} {{file}} {{signed}}"), output=output
    )
    data = output.read_bytes()
    assert (data[:2], data[-9:]) == (b"MZ", b"signature")
    signed = log.read_text().splitlines()
    assert signed[:2] == ["tillkeeper-launch.exe", "tillkeeper.exe"]
    assert (len(signed), signed[-1]) == (4, ".new-setup.exe"), "the uninstaller, and the setup program last"
    names = {
        component["name"]: component.get("version") for component in json.loads(built.bill.read_text())["components"]
    }
    assert (names["OpenSSL"], names["SQLite"], names["CPython"]) == ("3.0.13", "3.45.1", "3.11")
    assert "distlib-launcher" in names


@needs_nsis
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"python_sha256": "0" * 64}, "its hash is"),
        ({"python": None}, "--python"),
        ({"sign": "false {file}"}, "the command ended with 1"),
        ({"sign": "true {file} {signed}"}, "made no"),
    ],
)
def test_a_setup_program_that_cannot_be_right_is_not_made(
    order: Order, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    output = tmp_path / "setup.exe"
    wanted = on_windows(order, tmp_path)._replace(**change)  # type: ignore[arg-type]
    with pytest.raises(PublishError) as error:
        build(wanted, output=output)
    assert words in f"{error.value} {error.value.hint}"
    assert list(tmp_path.glob("*setup.exe*")) == []


@needs_nsis
def test_a_python_that_is_too_old_is_refused(order: Order, tmp_path: Path) -> None:
    old = embeddable(tmp_path, tag="310")
    sha256 = hashlib.sha256(old.read_bytes()).hexdigest()
    with pytest.raises(PublishError, match=r"it is 3\.10"):
        setup._python(old, sha256=Sha256(sha256), into=tmp_path / "python")


@pytest.mark.parametrize("windowed", [False, True])
def test_a_starter_runs_the_python_of_the_rescue_folder_isolated(windowed: bool) -> None:
    data = starters.starter(APP, windowed=windowed)
    assert data[:2] == b"MZ"
    python = b"pythonw.exe" if windowed else b"python.exe"
    assert b"#!<launcher_dir>\\rescue\\python\\" + python + b" -I\r\n" in data
    script = zipfile.ZipFile(io.BytesIO(data)).read("__main__.py").decode()
    compile(script, "__main__.py", "exec")
    assert ("FIRST_WORD = 'launch'" if windowed else "FIRST_WORD = ''") in script
    assert rf"%PROGRAMDATA%\Tillkeeper\{APP}\settings.toml".replace("\\", "\\\\") in script


@pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("osslsigncode", "openssl")), reason="no osslsigncode, or no openssl"
)
def test_a_starter_is_signed_by_osslsigncode(tmp_path: Path) -> None:
    key, certificate, program = (tmp_path / name for name in ("key.pem", "certificate.pem", "tillkeeper.exe"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
         "-subj", "/CN=Corner Shop GmbH", "-days", "2", "-addext", "extendedKeyUsage=codeSigning"],
        check=True, capture_output=True,
    )  # fmt: skip
    program.write_bytes(starters.starter(APP, windowed=False))
    sign(f"osslsigncode sign -certs {certificate} -key {key} -in {{file}} -out {{signed}}", program)
    seen = subprocess.run(
        ["osslsigncode", "verify", "-CAfile", certificate, "-in", program], capture_output=True, text=True, check=False
    )
    assert "Corner Shop GmbH" in seen.stdout
    assert zipfile.ZipFile(program).namelist() == ["__main__.py"], "the script is found before the signature"


def test_the_pinned_wheels_make_a_kit_that_runs_alone(
    order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real libraries, which are fetched once; an updater of this folder sees nothing of this environment."""
    monkeypatch.undo()
    folder = Path(os.environ.get("TILLKEEPER_KIT_WHEELS") or tmp_path / "real")
    site = tmp_path / "kit" / "site"
    payload.begin(order, into=tmp_path / "kit")
    python = f"3.{sys.version_info.minor}"

    def unpack() -> tuple[wheels.Library, ...]:
        return wheels.unpack(wheels=folder, site=site, platform="linux-x86_64", pythons=(python,))

    if not folder.is_dir():
        with pytest.raises(PublishError) as missing:
            unpack()
        for command in re.findall("`python (.+?)`", missing.value.hint):
            words = [sys.executable, *command.split(), "--quiet"]
            fetched = subprocess.run(words, capture_output=True, text=True, check=False)
            if fetched.returncode != 0:
                pytest.skip(f"the pinned wheels cannot be had: {fetched.stderr[-200:]}")
    found = unpack()
    assert [library.pin.name for library in found if not library.licence] == []
    code = f"import sys; sys.path.insert(0, {str(site)!r}); import tuf, click, rich, urllib3, apscheduler; "
    code += "from dbsync.backups import compression; assert compression.is_there(); "
    code += (
        "from updater.__main__ import main; print(tuf.__version__, tuf.__file__); sys.argv[1:] = ['--version']; main()"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("7.")
    assert str(site) in done.stdout
    for source, target in kit.RESCUE_PARTS:
        if (tmp_path / "kit" / source).is_dir():
            shutil.copytree(tmp_path / "kit" / source, tmp_path / "rescue" / target, dirs_exist_ok=True)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'rescue/lib')!r}); import dbsync.backups.compression as used;"
    )
    code += " assert used.is_there(), 'a backup may be compressed'"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
