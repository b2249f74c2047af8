"""`updater publish kit` without its command line: one file for one platform."""

from __future__ import annotations

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


def build(order: Order, output: Path) -> Built:
    """Make the file that installs a terminal; a file of that name is replaced when it is complete.

    Raises:
        PublishError: something is missing or wrong; nothing is written.
    """
    if order.platform not in HOST_TAGS:
        raise PublishError(operation="make a kit", cause=f"{order.platform} is none of {', '.join(PLATFORMS)}")
    output = output.absolute()
    new = output.with_name(f".new-{output.name}")
    try:
        made = setup.build(order, new) if order.platform.startswith("windows") else debian.build(order, new)
        bill = output.with_name(f"{output.name}.cdx.json")
        bill.write_text(made.bill, encoding="utf-8", newline="\n")
        new.replace(output)
    finally:
        new.unlink(missing_ok=True)
    return Built(made.app, made.id, output.stat().st_size, bill)
