"""Installation of a terminal: folders, trusted root, settings, terminal id. A repeat finishes an interrupted run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from dbsync.errors import Refused
from dbsync.storage import children, files
from updater import settings as settings_file
from updater.flows.first_install import first_version
from updater.host import this_host
from updater.model import Journal, Limits, ProcessKind
from updater.repository.client import only_app
from updater.settings import Settings
from updater.terminal.live import Terminal


class Wish(NamedTuple):
    """Options of an installation, as a person gave them; None takes the default of this system."""

    app: str | None
    """None for the only app of the repository."""
    url: str
    root: Path
    settings: Path | None = None
    program: Path | None = None
    state: Path | None = None
    data: Path | None = None
    database: Path | None = None
    backup_prefix: str | None = None
    interpreters: tuple[tuple[str, str], ...] = ()
    mirrors: tuple[str, ...] = ()
    bundle: Path | None = None


def settings_for(wish: Wish, app: str) -> Settings:
    """Return the settings of an installation, with absolute paths: a service and a clerk have different folders.

    Raises:
        SettingsError: data and program would share a folder.
    """
    folders = this_host().default_folders(app)
    data = _absolute(wish.data or folders.data)
    database = _absolute(wish.database) if wish.database else data / "pos_system.db"
    path = _absolute(wish.settings or folders.settings_file)
    built = Settings(
        path=path,
        app=app,
        terminal_id=_terminal_id(path),
        url=wish.url.rstrip("/"),
        mirrors=wish.mirrors,
        program=_absolute(wish.program or folders.program),
        state=_absolute(wish.state or folders.state),
        data=data,
        database=database,
        backups=database.parent / "backups",
        backup_prefix=wish.backup_prefix or database.stem,
        interpreters=dict(wish.interpreters),
        python=_own_python(),
        window_from="00:00",
        window_until="00:00",
        interval_seconds=4 * 3600.0,
        jitter_seconds=1800.0,
        limits=Limits(),
    )
    settings_file.check_apart(built)
    return built


def _own_python() -> str:
    """Return the Python that installs this; empty for a frozen program."""
    try:
        return children.python()
    except children.NoPython:
        return ""


def prepare(wish: Wish) -> Settings:
    """Make the folders, the trusted root and the settings file, durably and in an order that can be repeated.

    Raises:
        Refused: the root file is missing, or differs from the root that this terminal trusts already.
        SettingsError: an existing settings file or the folders are invalid.
    """
    root = _read_root(wish.root)
    settings = _existing(wish) or settings_for(wish, wish.app or only_app(wish.url.rstrip("/"), root))
    path = settings.path
    for folder in (settings.program / "versions", settings.state, settings.trust, settings.data, settings.backups):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files.sync_folder(folder.parent)
        except OSError as cause:
            raise Refused(operation="make", path=folder, cause=cause.strerror or str(cause)) from cause
    trusted = settings.trust / "root.json"
    if trusted.exists() and trusted.read_bytes() not in (b"", root):
        raise Refused(
            operation="trust", path=wish.root, cause=f"this terminal trusts another root already ({trusted})",
            hint="To change the vendor's root, publish it with root rotation; to start anew, remove that file.",
        )  # fmt: skip
    files.write_durably(trusted, root)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Last: if the settings exist, so do folders and root.
        files.write_durably(path, settings_file.to_toml(settings).encode())
    return settings


def _existing(wish: Wish) -> Settings | None:
    """Return the settings of the installation that is repeated; None for a first installation."""
    path = wish.settings or (this_host().default_folders(wish.app).settings_file if wish.app else None)
    return settings_file.load(_absolute(path)) if path is not None and path.exists() else None


def _read_root(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as cause:
        raise Refused(
            operation="read the trusted root",
            path=path,
            cause=cause.strerror or str(cause),
            hint="It is metadata/1.root.json of the vendor's repository, handed over on a way you trust.",
        ) from cause


def _terminal_id(path: Path) -> str:
    if path.exists():
        return settings_file.load(path).terminal_id
    return f"till-{os.urandom(6).hex()}"


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def install(wish: Wish) -> tuple[Settings, Journal]:
    """Install a terminal with its first version; return settings and journal. See `prepare` and `first_version`."""
    settings = prepare(wish)
    return settings, first_version(Terminal(settings, kind=ProcessKind.INSTALL), bundle=wish.bundle)
