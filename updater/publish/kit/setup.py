"""A setup program for Windows: the embeddable Python with the kit, compiled by NSIS."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import zipfile
from pathlib import Path, PurePosixPath
from typing import Final

from dbsync.storage import children
from updater.model import Sha256
from updater.publish.errors import PublishError
from updater.publish.kit import payload, starters
from updater.publish.kit.bill import Part
from updater.publish.kit.sign import VARIABLE, sign

MAKENSIS: Final = "makensis"
SCRIPT: Final = Path(__file__).with_name("setup.nsi")
ROLLBACK: Final = Path(__file__).with_name("rollback.cmd")
STUBS: Final = {"x86": "x86-unicode", "amd64": "amd64-unicode"}
"""Kinds of setup programs. Only the first runs on a Windows of 32 bit, to say that it is not served."""
PYTHON: Final = "CPython"
LEAST_PYTHON: Final = (3, 11)
_OPENSSL: Final = re.compile(rb"OpenSSL (\d\.\d{1,2}\.\d{1,2}[a-z]?) ")
_SQLITE: Final = re.compile(rb"\x00(3\.\d{1,2}\.\d{1,2})\x00")


def build(order: payload.Order, *, output: Path, scratch: Path) -> payload.Payload:
    """Write the setup program; return its kit.

    Raises:
        PublishError: something is missing or wrong; no file is written.
    """
    if shutil.which(MAKENSIS) is None:
        raise PublishError(
            operation="make a setup program", cause=f"there is no {MAKENSIS}", hint="Debian: apt-get install nsis"
        )
    if order.python is None or not order.python_sha256:
        raise PublishError(
            operation="make a setup program", cause="it takes the Python that terminals run, and its hash",
            hint="Pass --python and --python-sha256: the embeddable package (64-bit) of python.org, 3.11 or newer.",
        )  # fmt: skip
    if order.description.till_user:
        raise PublishError(operation="make a setup program", cause="[accounts] is not implemented on Windows")
    made = scratch / "new"
    app = payload.begin(order, into=made)
    parts = _python(order.python, sha256=Sha256(order.python_sha256.strip().lower()), into=made / "python")
    shutil.copy(ROLLBACK, made / "rescue" / "rollback.cmd")
    text = ROLLBACK.read_text(encoding="ascii").replace("{app}", app)
    (made / "rescue" / "rollback.cmd").write_text(text, encoding="ascii", newline="\r\n")
    (python,) = (part.version for part in parts if part.name == PYTHON)
    materials = payload.libraries(order, made, (*parts, starters.part()), pythons=(python,))
    programs = {
        "tillkeeper.exe": starters.starter(app, windowed=False),
        "tillkeeper-launch.exe": starters.starter(app, windowed=True),
    }
    kit = payload.finish(order, made, app=app, materials=materials, programs=programs)
    if order.sign:
        for program in sorted((kit.folder / "programs").glob("*.exe")):
            sign(order.sign, program)
    payload.seal(kit)
    _compile(order, kit, output)
    if order.sign:
        sign(order.sign, output)
    return kit


def _python(archive: Path, *, sha256: Sha256, into: Path) -> tuple[Part, ...]:
    """Unpack the embeddable Python, with our libraries on its path and nothing else; return what is in it."""
    found = Sha256(hashlib.sha256(archive.read_bytes()).hexdigest())
    if found != sha256:
        raise PublishError(operation="take the Python", path=archive, cause=f"its hash is {found}, not the one given")
    with zipfile.ZipFile(archive) as packed:
        names = [name for name in packed.namelist() if not name.endswith("/")]
        program = next((name for name in names if PurePosixPath(name).name == "python.exe"), None)
        top = program.removesuffix("python.exe") if program is not None else ""
        paths = [name for name in names if name.endswith("._pth") and name.startswith(top)]
        if program is None or len(paths) != 1:
            raise PublishError(operation="take the Python", path=archive, cause="it is no embeddable Windows Python")
        for name in names:
            target = into / name.removeprefix(top)
            if not name.startswith(top) or ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
                raise PublishError(operation="take the Python", path=archive, cause=f"it has {name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(packed.read(name))
    tag = PurePosixPath(paths[0]).name.removesuffix("._pth").removeprefix("python")
    version = (int(tag[:1]), int(tag[1:] or 0))
    if version < LEAST_PYTHON:
        raise PublishError(
            operation="take the Python", path=archive, cause=f"it is {version[0]}.{version[1]}, before 3.11"
        )
    # All there is of sys.path; without `import site`, nothing on the machine adds to it.
    (into / f"python{tag}._pth").write_text(f"python{tag}.zip\n.\n..\\site\n", encoding="ascii", newline="\r\n")
    return tuple(_parts(into, f"{version[0]}.{version[1]}", found))


def _parts(folder: Path, version: str, sha256: Sha256) -> list[Part]:
    """Return the Python and the libraries in it whose version can be read."""
    parts = [Part(PYTHON, version, "PSF-2.0", sha256)]
    for pattern, name, licence, expression in (
        ("libcrypto-*.dll", "OpenSSL", "Apache-2.0", _OPENSSL), ("sqlite3.dll", "SQLite", "blessing", _SQLITE),
    ):  # fmt: skip
        for path in sorted(folder.glob(pattern)):
            data = path.read_bytes()
            match = expression.search(data)
            known = match.group(1).decode() if match is not None else "unknown"
            parts.append(Part(name, known, licence, Sha256(hashlib.sha256(data).hexdigest())))
    return parts


def _compile(order: payload.Order, kit: payload.Payload, output: Path) -> None:
    described = order.description
    numbers = [*described.version.split("."), "0", "0", "0"][:4]
    values = {
        "PAYLOAD": kit.folder, "AGENT": kit.folder.name, "NAME": described.name, "VENDOR": described.vendor,
        "VERSION": described.version, "NUMBERS": ".".join(numbers), "APP": kit.app, "OUTPUT": output,
        "TARGET": STUBS[order.stub],
    }  # fmt: skip
    if order.sign:
        values["FINALIZE"] = " ".join(f'"{word}"' for word in children.command("updater.publish.kit.sign"))
    words = [
        MAKENSIS,
        "-V2",
        "-INPUTCHARSET",
        "UTF8",
        *(f"-D{name}={value}" for name, value in values.items()),
        str(SCRIPT),
    ]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=None,
        env=children.inherited(**{VARIABLE: order.sign}), check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise PublishError(operation="make a setup program", cause=done.stdout.decode(errors="replace").strip()[-800:])
