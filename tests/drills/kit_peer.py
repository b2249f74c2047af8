"""The peer of the kit: an app with tufup inside, frozen by PyInstaller, as tufup's documentation packages one.

`python -m tests.drills.kit_peer` prints the size of the file that is handed out, what it takes on the disk, and the
seconds and bytes of an update, beside the figures that `tests.drills.kit` prints. tufup has no setup program: its first
version is the archive, unpacked.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import tempfile
import time
import venv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.drills.kit import seen, size_of
from tests.helpers.vendor import served
from updater.publish.serve import make_server

APP: Final = "till"
PACKAGES: Final = ("tufup==0.10.0", "pyinstaller>=6.5", "setuptools<80")
PROGRAM: Final = """
import shutil, sys
from pathlib import Path
from tufup.client import Client

VERSION = (Path(sys._MEIPASS) / "version.txt").read_text()
HERE = Path(sys.executable).resolve().parent

def replace(source, target):
    # A new file each: to write into one that this program has mapped ends it with SIGBUS.
    Path(target).unlink(missing_ok=True)
    return shutil.copy2(source, target)

def install(src_dir, dst_dir, **_):
    shutil.copytree(src_dir, dst_dir, dirs_exist_ok=True, copy_function=replace)

if sys.argv[1:2] == ["--update"]:
    url, place = sys.argv[2], Path(sys.argv[3])
    client = Client(
        app_name="till", app_install_dir=HERE, current_version=VERSION, metadata_dir=place / "metadata",
        metadata_base_url=f"{url}/metadata/", target_dir=place / "targets", target_base_url=f"{url}/targets/",
        extract_dir=place / "extracted", refresh_required=False,
    )
    if client.check_for_updates() is not None:
        client.download_and_apply_update(skip_confirmation=True, install=install, purge_dst_dir=False)
else:
    print("till", VERSION, "is open")
"""


def environment(folder: Path) -> Path:
    """A Python with tufup and PyInstaller alone: what else is installed here would be in the bundle."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    seen([str(python), "-m", "pip", "install", "--quiet", *PACKAGES])
    return python


def freeze(python: Path, folder: Path, version: str) -> Path:
    """The app as PyInstaller's folder."""
    folder.mkdir(parents=True)
    (folder / "till.py").write_text(PROGRAM, encoding="utf-8")
    (folder / "version.txt").write_text(version, encoding="utf-8")
    seen([
        str(python), "-m", "PyInstaller", "--noconfirm", "--onedir", "--name", APP, "--log-level", "ERROR",
        "--distpath", str(folder / "dist"), "--workpath", str(folder / "work"), "--specpath", str(folder),
        "--add-data", f"{folder / 'version.txt'}:.", str(folder / "till.py"),
    ])  # fmt: skip
    return folder / "dist" / APP


def timed(what: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and its result."""
    began = time.monotonic()
    found = what()
    return time.monotonic() - began, found


def main() -> int:
    """Run it."""
    from tufup.repo import Repository

    sent: list[str] = []
    with tempfile.TemporaryDirectory(prefix="tillkeeper-kit-peer-") as name:
        folder = Path(name)
        # tufup writes its configuration into the current folder.
        os.chdir(folder)
        public, keys, place = folder / "public", folder / "keys", folder / "place"
        days = dict.fromkeys(("root", "targets", "snapshot", "timestamp"), 365)
        repository = Repository(
            app_name=APP, repo_dir=public, keys_dir=keys, encrypted_keys=[], expiration_days=days
        )  # fmt: skip
        repository.initialize()
        python, bundles = environment(folder / "environment"), dict[str, Path]()
        for version in ("1.0", "1.1"):
            seconds, bundles[version] = timed(partial(freeze, python, folder / version, version))
            published, _ = timed(partial(_publish, repository, bundles[version], version, keys))
            print(f"{version}: frozen in {seconds:.1f} s, published in {published:.1f} s")
        (archive,) = public.glob("targets/*1.0.tar.gz")
        patches = list(public.glob("targets/*.patch"))
        print(f"the file {archive.stat().st_size / 1e6:.1f} MB, patch {patches[0].stat().st_size / 1e6:.2f} MB")
        seconds, _ = timed(lambda: _install(archive, public, place))
        program = place / "app" / APP / APP if (place / "app" / APP / APP).exists() else place / "app" / APP
        print(f"unpacked in {seconds:.1f} s, on the disk {size_of(place):.1f} MB: {seen([str(program)]).strip()}")
        with served(make_server(public, told=sent.append)) as url:
            seconds, _ = timed(lambda: seen([str(program), "--update", url, str(place)], cwd=folder))
        print(f"updated in {seconds:.1f} s, on the disk {size_of(place):.1f} MB: {seen([str(program)]).strip()}")
        print(f"{len(sent)} requests, {sum(map(bytes_of, sent)) / 1e6:.2f} MB")
    return 0


def bytes_of(line: str) -> int:
    """The bytes of a request, as the server tells it."""
    words = line.split()
    return int(words[1]) if words[-1] == "bytes" else 0


def _publish(repository: Any, bundle: Path, version: str, keys: Path) -> None:
    repository.add_bundle(new_bundle_dir=bundle, new_version=version)
    repository.publish_changes(private_key_dirs=[keys])


def _install(archive: Path, public: Path, place: Path) -> None:
    """The first version, with the root that is trusted and the archive that patches are applied to."""
    for name in ("app", "metadata", "targets"):
        (place / name).mkdir(parents=True)
    with tarfile.open(archive) as tar:
        tar.extractall(place / "app", filter="data")
    shutil.copy(public / "metadata" / "root.json", place / "metadata" / "root.json")
    shutil.copy(archive, place / "targets" / archive.name)


if __name__ == "__main__":
    sys.exit(main())
