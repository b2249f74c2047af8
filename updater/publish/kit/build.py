"""`updater publish kit` without its command line: one file for one platform."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from updater.publish.errors import PublishError
from updater.publish.kit import debian, setup
from updater.publish.kit.payload import HOST_TAGS, Order

PLATFORMS: Final = tuple(HOST_TAGS)


class Built(NamedTuple):
    """A finished kit."""

    app: str
    id: str
    size_bytes: int
    bill: Path
    """The bill of materials beside it."""
    payload: Path | None = None
    """The folder of the kit, if it was to be left."""


def build(order: Order, *, output: Path, payload: Path | None = None) -> Built:
    """Make the file that installs a terminal; a file of that name is replaced when it is complete.

    Args:
        order: the kit.
        output: the file.
        payload: a folder in which the folder of the kit is left too, for a release of the agent.

    Raises:
        PublishError: something is missing or wrong; nothing is written.
    """
    if order.platform not in HOST_TAGS:
        raise PublishError(operation="make a kit", cause=f"{order.platform} is none of {', '.join(PLATFORMS)}")
    output = output.absolute()
    new = output.with_name(f".new-{output.name}")
    try:
        with tempfile.TemporaryDirectory(prefix="tillkeeper-kit-") as scratch:
            maker = setup if order.platform.startswith("windows") else debian
            made = maker.build(order, output=new, scratch=Path(scratch))
            kept = None if payload is None else _kept(made.folder, payload)
        bill = output.with_name(f"{output.name}.cdx.json")
        bill.write_text(made.bill, encoding="utf-8", newline="\n")
        new.replace(output)
    finally:
        new.unlink(missing_ok=True)
    return Built(made.app, made.id, output.stat().st_size, bill, kept)


def _kept(folder: Path, payload: Path) -> Path:
    target = payload / folder.name
    if target.exists():
        raise PublishError(operation="leave the folder of the kit", path=target, cause="it is there already")
    return Path(shutil.copytree(folder, target))
