"""The terminal of a kit: installed with the root and the settings of the kit; a kit stays while its app runs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dbsync.errors import Refused, TryLater
from dbsync.storage import files
from updater.host import this_host
from updater.settings import load
from updater.terminal import layout
from updater.terminal.installation import Wish, install
from updater.terminal.kit import Kit

RESCUES_PYTHON: Final = "{rescue}"


def begin(kit: Kit, *, rescue: Path) -> str:
    """Install the terminal with the kit's root and settings, unless it is installed; return what was done.

    The app's first version comes out of the kit if it is the newest that the vendor has signed, else from the server.

    Raises:
        TryLater: the update server cannot be reached; the same call may succeed later.
        Refused: it cannot be installed.
    """
    path = this_host().machine_folders(kit.app).settings_file
    if files.is_there(path) and files.is_there(load(path, {}).state / "journal.json"):
        return ""
    wish = Wish(
        app=kit.app,
        url=kit.url,
        root=kit.folder / "root.json",
        mirrors=kit.mirrors,
        proxy=kit.proxy or None,
        ca_file=rescue / "ca.pem" if kit.has_ca_file else None,
        interpreters=tuple((role, _program(place, rescue)) for role, place in kit.interpreters.items()),
        machine=True,
        till_user=kit.till_user or None,
        till_group=kit.till_group or None,
    )
    first = kit.folder / "first"
    try:
        settings, journal = install(wish._replace(bundle=first if files.is_there(first) else None))
    except Refused:
        if not files.is_there(first):
            raise
        # The vendor has a newer version than the kit.
        settings, journal = install(wish)
    return f"{settings.app} {journal.good.version} is installed as {settings.terminal_id}"


def _program(place: str, rescue: Path) -> str:
    if place != RESCUES_PYTHON:
        return place
    return str(rescue / "python" / "python.exe")


def refuse_running(kit: Kit) -> None:
    """Refuse to remove a kit while the app runs: its keeper, which answers the app, is a process of the kit.

    Raises:
        TryLater: the app runs.
    """
    path = this_host().machine_folders(kit.app).settings_file
    if not files.is_there(path):
        return
    settings = layout.settled(load(path, {}), reads_only=True)
    if this_host().running_app(settings.shared / "app.lock") is not None:
        raise TryLater(
            operation="remove the kit", path=kit.folder, cause="the app is running",
            hint="Close the app, and remove it again.",
        )  # fmt: skip
