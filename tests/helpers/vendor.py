"""A real vendor: a signed repository of the sample till, and a real server on loopback."""

from __future__ import annotations

import shutil
import sys
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from securesystemslib import rsa_keys

from tests.helpers.places import moved
from tests.sample_till.bundles import APP, make_bundle
from updater.decisions.rollout import Channel
from updater.manifest import release_id
from updater.model import STABLE
from updater.publish import repository, rollout
from updater.publish.forms import Forms
from updater.publish.repository import Published
from updater.publish.serve import make_server, running
from updater.publish.storage import storage_of

PASSWORD = "a password"
ELSEWHERE = "linux-x86_64" if sys.platform == "win32" else "win32-amd64"
"""A platform that is not this machine's."""
ARCHIVE_ALONE = Forms(pack=False, deltas_count=0)
ITERATIONS_COUNT = 1000
"""Of the key derivation: a key file says how many it has, and to open one of the usual 100 000 takes 30 ms."""


def password(_: str) -> str:
    """The same for every key."""
    return PASSWORD


class Vendor:
    """A workshop, its public folder, and the bundles that were published."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = folder / "repository"
        self.public = folder / "public"
        self.bundles = folder / "bundles"

    @property
    def root(self) -> Path:
        """What terminals are to trust."""
        return self.public / "metadata" / "1.root.json"

    def init(self, **expiration_days: int) -> None:
        """Makes the repository."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rsa_keys, "_PBKDF2_ITERATIONS", ITERATIONS_COUNT)
            repository.init(
                folder=self.repository,
                app=APP,
                public=self.public,
                keys=None,
                passwords=password,
                expiration_days=expiration_days,
            )

    def bundle(self, version: str, *, schema: int = 2, behaviour: str = "good", mended: bool = False) -> Path:
        """A bundle as the build leaves it."""
        return make_bundle(self.bundles / version, version=version, schema=schema, behaviour=behaviour, mended=mended)

    def release(self, version: str, *, schema: int = 2, behaviour: str = "good", mended: bool = False) -> Published:
        """Builds and publishes."""
        return self.publish(self.bundle(version, schema=schema, behaviour=behaviour, mended=mended), version)

    def publish(
        self, bundle: Path, version: str | None, *, channel: str = STABLE, forms: Forms = ARCHIVE_ALONE
    ) -> Published:
        """Publishes a folder; what is beside tufup's archive has tests of its own."""
        return repository.release(
            folder=self.repository, bundle=bundle, version=version, config_file=None, passwords=password,
            channel=channel, accepts_jump=True, forms=forms,
        )  # fmt: skip

    def sign(self, version: str, data: bytes, *, archive: Path | None = None, custom: Any = None) -> str:
        """Signs bytes as the manifest of a release, whatever they are; an older publisher, or a mistaken one."""
        config = repository.load(self.repository)
        workshop = repository._open(self.repository, config, password)
        for name, content in (
            (f"{APP}-{version}.tar.gz", archive.read_bytes() if archive else b"none"),
            (f"{APP}-{version}.manifest", data),
        ):
            path = workshop.targets_dir / name
            path.write_bytes(content)
            workshop.roles.add_or_update_target(local_path=path, custom=custom if name.endswith("manifest") else None)
        document = rollout.read(workshop, public=storage_of(config.public))
        channels = {"stable": Channel(release_id(data))}
        rollout.write(workshop, document._replace(channels=channels))
        repository._publish(workshop, config)
        return release_id(data)

    def manifest(self, version: str) -> bytes:
        """The signed bytes of a release."""
        return (self.repository / "workshop" / "targets" / f"{APP}-{version}.manifest").read_bytes()

    def archive(self, version: str) -> Path:
        """The archive of a release."""
        return self.repository / "workshop" / "targets" / f"{APP}-{version}.tar.gz"

    def without_summaries(self) -> None:
        """Makes the repository one of a publisher that wrote none."""
        config = repository.load(self.repository)
        workshop = repository._open(self.repository, config, password)
        for target in workshop.roles.targets.signed.targets.values():
            target.unrecognized_fields.pop("custom", None)
        workshop.roles.targets.signed.version += 1
        repository._publish(workshop, config)

    def refresh(self) -> int:
        """The daily job."""
        return repository.refresh(self.repository, passwords=password).files_placed


def copy_of(vendor: Vendor, folder: Path) -> Vendor:
    """A vendor of one's own: making keys takes a while, copying them does not."""
    shutil.copytree(vendor.folder, folder)
    found = Vendor(folder)
    moved(found.repository / "publish.json", source=vendor.folder, target=folder)
    return found


served = running
"""Runs a server while something happens; its address."""


def serving(public: Path) -> ThreadingHTTPServer:
    """The development server on a public folder."""
    return make_server(public)
