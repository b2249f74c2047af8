"""The service that runs the agent of a terminal: its name, its command, its account, and the folders that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dbsync.storage import children, files
from updater.host import stub, this_host
from updater.host.services.base import Service, ServiceOrder
from updater.settings import Settings
from updater.terminal import kit_dummy, kit_pointer, kit_use, rights

NAME: Final = "tillkeeper-{}"
MODULE: Final = "updater.__main__"


def service_of(settings: Settings) -> Service:
    """Return the service of a terminal's agent; nothing is asked or changed yet.

    Raises:
        NoPython: this process is no Python that can be started again.
        SettingsError: the settings name an account that this machine does not have.
    """
    return this_host().service(order_for(settings))


def order_for(settings: Settings, *, command: tuple[str, ...] = ()) -> ServiceOrder:
    """Return what a service manager must know.

    Args:
        settings: the terminal.
        command: the command of `updater`; by default the Python that runs this, and our code.
    """
    host = this_host()
    accounts = rights.accounts_of(settings) if host.has_accounts else None
    start = command or _started_by_kit() or tuple(children.command(MODULE))
    clerks = (settings.shared, settings.data, settings.backups, settings.database.parent)
    kits = kit_use.own_folder()
    home = kits.parent if kits is not None else None
    # Of two accounts the agent's leads the stable path: it is replaced in the folder above.
    link = settings.stable_path.parent if settings.stable_path is not None and settings.till_user else None
    writes = (settings.path.parent, settings.program, settings.state, *clerks, settings.backup_second, home, link)
    return ServiceOrder(
        name=NAME.format(settings.app),
        title=f"Tillkeeper agent of {settings.app}",
        command=(*start, "run", "--settings", str(settings.path)),
        account=host.account_name(accounts.agent) if accounts is not None else "",
        writes=_once(writes),
        reads=_once((children.FOLDER, *_read(settings))),
        clerks_write=_once(clerks),
        only_read=_fixed(home) if home is not None else (),
        for_machine=settings.state == host.machine_folders(settings.app).state,
        two_accounts=bool(settings.till_user),
        sets_group_bit=bool(settings.till_group),
    )


def _started_by_kit() -> tuple[str, ...]:
    """Return the command of the program that starts kits, with the Python that no kit changes; empty without a kit.

    The service then follows the pointer, also to a kit that the agent has brought.
    """
    folder = kit_use.own_folder()
    if folder is None or not kit_pointer.has_stub(folder.parent):
        return ()
    home = folder.parent
    python = home / kit_use.RESCUE / stub.PYTHON
    if files.is_there(python):
        return str(python), "-I", str(home / kit_dummy.PROGRAMS[1])
    return (str(home / kit_dummy.PROGRAMS[0]),)


def _fixed(home: Path) -> tuple[Path, ...]:
    """Return what no kit changes: the rescue folder, and the programs of the home."""
    places = (home / kit_use.RESCUE, *files.listed(home, "*.exe"), home / kit_dummy.PROGRAMS[0])
    return tuple(path for path in places if files.is_there(path))


def _read(settings: Settings) -> Iterator[Path]:
    """Yield places that the agent reads: folders instead of web servers, programs, certificates."""
    places = (settings.url, *settings.mirrors, *settings.interpreters.values(), settings.ca_file, settings.python)
    yield from (path for path in map(Path, filter(None, places)) if path.is_absolute())


def _once(paths: tuple[Path | None, ...] | Iterator[Path]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(path for path in paths if path is not None))
