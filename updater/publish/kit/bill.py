"""The bill of materials of a kit (CycloneDX 1.5, JSON), with hashes and licences."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot5
from packageurl import PackageURL

from dbsync.facts import NO_SHA256
from updater import __version__
from updater.model import Sha256
from updater.publish.kit.wheels import Library

NAMESPACE: Final = uuid.UUID("5f4a3c64-7c0d-4a3f-9d0a-3a5a1d0b8f11")


class Part(NamedTuple):
    """A part of a kit that is no library of Python."""

    name: str
    version: str
    licence: str
    sha256: Sha256 = NO_SHA256
    """Of the file that it came in."""


def bill(*, product: str, version: str, identity: str, libraries: Iterable[Library], parts: Iterable[Part]) -> str:
    """Return the bill of materials of a kit."""
    bom = Bom(serial_number=uuid.uuid5(NAMESPACE, identity))
    bom.metadata.timestamp = datetime.now(UTC)
    bom.metadata.component = Component(
        name=product, version=version, type=ComponentType.APPLICATION, bom_ref=f"kit-{identity}"
    )
    bom.components.add(_component("tillkeeper", __version__, "MIT", NO_SHA256, kind=ComponentType.APPLICATION))
    for library in libraries:
        pin = library.pin
        purl = PackageURL("pypi", None, pin.name.replace("_", "-").lower(), pin.version)
        bom.components.add(_component(pin.name, pin.version, library.licence, pin.sha256, purl=purl, python=pin.python))
    for part in parts:
        bom.components.add(_component(*part))
    bom.register_dependency(bom.metadata.component, bom.components)
    return JsonV1Dot5(bom).output_as_string(indent=1) + "\n"


def _component(
    name: str, version: str, licence: str, sha256: Sha256, *, purl: PackageURL | None = None,
    kind: ComponentType = ComponentType.LIBRARY, python: str = "",
) -> Component:  # fmt: skip
    return Component(
        name=name, version=version, type=kind, purl=purl, bom_ref="-".join(filter(None, (name, version, python))),
        description=f"for Python {python}" if python else None,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else [],
        licenses=[DisjunctiveLicense(name=licence)] if licence else [],
    )  # fmt: skip
