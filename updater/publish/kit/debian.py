"""A Debian package: the kit as a payload, which its script puts beside the kit before, and a unit for the agent."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from string import Template
from typing import Final, NamedTuple

from updater.host.linux import LinuxHost
from updater.host.services.base import ServiceOrder
from updater.host.services.systemd import unit
from updater.publish.errors import PublishError
from updater.publish.kit import payload
from updater.publish.kit.bill import Part
from updater.publish.kit.programs import program
from updater.terminal.service import NAME

DPKG: Final = "dpkg-deb"
LEAST_PYTHON: Final = "3.11"
PYTHONS: Final = (LEAST_PYTHON, "3.12", "3.13")
"""Those of the systems that a package is for: it has their libraries in C."""
DEPENDS: Final = f"python3 (>= {LEAST_PYTHON}), ca-certificates"
TEMPLATES: Final = Path(__file__).parent


class Names(NamedTuple):
    """Names and places of one package."""

    package: str
    home: Path
    """Its folders and programs, made by its script."""
    rescue: Path
    payload: Path
    """What dpkg unpacks; nothing runs from there."""
    settings: Path


def names_of(app: str) -> Names:
    """Return the names and places of the package of an app."""
    package = re.sub(r"[^a-z0-9.+-]", "-", NAME.format(app).lower())
    library = Path("/usr/lib") / package
    return Names(
        package, library, library.with_name(f"{package}-rescue"), Path("/usr/share") / package / "payload",
        LinuxHost().machine_folders(app).settings_file,
    )  # fmt: skip


def build(order: payload.Order, *, output: Path, scratch: Path) -> payload.Payload:
    """Write the package; return its kit.

    Raises:
        PublishError: something is missing or wrong; no file is written.
    """
    if shutil.which(DPKG) is None:
        raise PublishError(operation="make a package", cause=f"there is no {DPKG}", hint="Debian: apt-get install dpkg")
    if not order.description.till_user:
        raise PublishError(
            operation="make a package", cause="the settings name no account that runs the app",
            hint='Add it: [accounts] till = "NAME". The package makes it where it is missing.',
        )  # fmt: skip
    tree = scratch / "package"
    made = tree / "usr/share/new"
    app = payload.begin(order, into=made)
    names = names_of(app)
    system = Part("python3", f">= {LEAST_PYTHON}, of the system", "PSF-2.0")
    materials = payload.libraries(order, made, (system,), pythons=PYTHONS)
    (made / "rescue" / "rollback").write_bytes(_filled("rollback.sh", names, order))
    (made / "rescue" / "rollback").chmod(0o755)
    programs = {"start": b"#!/usr/bin/python3 -IS\n" + program(settings=str(names.settings)).encode()}
    kit = payload.finish(order, made, app=app, materials=materials, programs=programs)
    payload.seal(kit)
    target = tree / names.payload.relative_to("/") / kit.folder.name
    target.parent.mkdir(parents=True)
    kit.folder.rename(target)
    kit = kit._replace(folder=target)
    _write_rest(tree, names, order, kit)
    _run([DPKG, "--root-owner-group", "-Zxz", "--build", str(tree), str(output)])
    return kit


def _write_rest(tree: Path, names: Names, order: payload.Order, kit: payload.Payload) -> None:
    """Write what lies around the kit: links, unit, autostart, control files."""
    for name, place in (
        (names.package, names.home / "start"),
        (f"{names.package}-rollback", names.rescue / "rollback"),
    ):
        link = tree / "usr/bin" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(place)
    autostart = f"etc/xdg/autostart/{names.package}.desktop"
    texts = {
        f"usr/lib/systemd/system/{NAME.format(kit.app)}.service": unit_of(names, kit).encode(),
        autostart: _filled("autostart.desktop", names, order),
        "DEBIAN/conffiles": f"/{autostart}\n".encode(),
        "DEBIAN/control": _control(tree, names, order).encode(),
    }
    for script in ("postinst", "prerm", "postrm"):
        texts[f"DEBIAN/{script}"] = _filled(f"{script}.sh", names, order, kit)
    for written, data in texts.items():
        path = tree / written
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755 if path.name in ("postinst", "prerm", "postrm") else 0o644)


def unit_of(names: Names, kit: payload.Payload) -> str:
    """Return the unit of the agent: it installs the terminal first, which takes the update server, then runs."""
    folders = LinuxHost().machine_folders(kit.app)
    order = ServiceOrder(
        name=NAME.format(kit.app),
        title=f"Tillkeeper agent of {kit.app}",
        command=(str(names.home / "start"), "run", "--settings", str(names.settings)),
        account="",
        # Its own home too: it puts kits there and moves the pointer. The rescue folder is another one.
        writes=(names.settings.parent, folders.program, folders.state, folders.data, names.home),
        reads=(),
        two_accounts=True,
        sets_group_bit=True,
    )
    before = f"ExecStartPre=+{names.home / 'begin'}\nTimeoutStartSec=infinity\n"
    return unit(order).replace("ExecStart=", f"{before}ExecStart=", 1)


def _control(tree: Path, names: Names, order: payload.Order) -> str:
    described = order.description
    size_bytes = sum(path.lstat().st_size for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    fields = {
        "Package": names.package, "Version": described.version, "Architecture": "amd64",
        "Maintainer": f"{described.vendor} <{described.contact}>", "Depends": DEPENDS, "Section": "misc",
        # The payload is there twice: as dpkg unpacks it, and in the folder that runs.
        "Priority": "optional", "Installed-Size": str(size_bytes * 2 // 1024),
        "Description": f"{described.name}\n Keeps the app of this terminal and its database up to date.",
    }  # fmt: skip
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


def _filled(name: str, names: Names, order: payload.Order, kit: payload.Payload | None = None) -> bytes:
    text = (TEMPLATES / "debian" / name).read_text(encoding="utf-8")
    values = {
        "PACKAGE": names.package, "HOME": names.home, "RESCUE": names.rescue, "PAYLOAD": names.payload,
        "SETTINGS": names.settings, "TILL": order.description.till_user, "GROUP": order.description.till_group,
        "NAME": order.description.name, "AGENT": kit.folder.name if kit is not None else "",
        "SERVICE": f"{NAME.format(kit.app)}.service" if kit is not None else "",
    }  # fmt: skip
    return Template(text).substitute({key: str(value) for key, value in values.items()}).encode()


def _run(words: list[str]) -> None:
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=None,
        env=None,
        check=False,
    )
    if done.returncode != 0:
        raise PublishError(operation="make a package", cause=done.stdout.decode(errors="replace").strip()[-500:])
