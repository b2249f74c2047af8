"""The stable path of an app: a link that leads to the version that runs, or that starts next.

For what must name one path: exclusions of a virus scanner, rules of AppArmor, scripts of a shop. No decision reads it.
With two accounts the agent alone moves it: who may lead it elsewhere chooses what such a rule covers.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dbsync.errors import Refused, TillkeeperError
from dbsync.storage import files
from updater.host import this_host
from updater.settings import Settings

if TYPE_CHECKING:
    from updater.terminal.live import Terminal


def check(settings: Settings) -> None:
    """Refuse a stable path in whose place something else is.

    Raises:
        Refused: it names the entry.
    """
    link = settings.stable_path
    if link is None:
        return
    try:
        this_host().link_target(link)
    except OSError as cause:
        raise Refused(
            operation="make the stable path",
            path=link,
            cause="something that is no link has this name",
            hint="Give another path by --stable-path, or none.",
        ) from cause


def install(terminal: Terminal, *, before: Path | None) -> None:
    """Make the link of the settings, and remove the one that they had before.

    Raises:
        Refused: the link cannot be made. The terminal is installed; the settings name the link.
    """
    settings = terminal.settings
    if before is not None and before != settings.stable_path:
        remove(settings._replace(stable_path=before))
    if settings.stable_path is None:
        return
    try:
        _point(settings.stable_path, wanted(terminal))
    except OSError as cause:
        command = f"updater install --change --stable-path none --settings {settings.path}"
        raise Refused(
            operation="make the stable path", path=settings.stable_path, cause=cause.strerror or str(cause),
            hint=f"The terminal is installed. `{command}` with the other options gives the path up.",
        ) from cause  # fmt: skip


def follow(terminal: Terminal, folder: Path | None = None) -> None:
    """Lead the link to a version folder that is about to start, or to what runs or starts next.

    A failure stops nothing: `updater doctor` names a link that leads elsewhere.
    """
    if terminal.settings.stable_path is not None:
        with suppress(OSError, TillkeeperError):
            _point(terminal.settings.stable_path, folder or wanted(terminal))


def wanted(terminal: Terminal) -> Path | None:
    """Return the version folder that the link should lead to; None if none can start.

    While the app runs, that is its version, also if another one starts next.
    """
    from updater.flows.launch import journal_of
    from updater.flows.rollback import current_release

    view = terminal.look()
    if view.running is not None and view.running.release_id is not None:
        for name in view.installed:
            if name.endswith(f"-{view.running.release_id[:12]}"):
                return terminal.versions.folder(name)
    release = current_release(view, journal_of(view, now=terminal.now()))
    return terminal.versions.folder(release.folder) if release is not None else None


def _point(link: Path, target: Path | None) -> None:
    if target is None or this_host().link_target(link) == target:
        return
    files.make_folder(link.parent)
    this_host().point_link(link=link, target=target)


def remove(settings: Settings) -> None:
    """Remove the link, if it leads into the program folder; a failure leaves it."""
    link = settings.stable_path
    if link is None:
        return
    with suppress(OSError, TillkeeperError):
        target = this_host().link_target(link)
        if target is not None and target.parent == settings.program / "versions":
            this_host().remove_link(link)
