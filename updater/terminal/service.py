"""The service that runs the agent of a terminal: its name, its command, its account, and the folders that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dbsync.storage import children
from updater.host import this_host
from updater.host.services.base import Service, ServiceOrder
from updater.settings import Settings
from updater.terminal import rights

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
    start = command or tuple(children.command(MODULE))
    clerks = (settings.shared, settings.data, settings.backups, settings.database.parent)
    writes = (settings.path.parent, settings.program, settings.state, *clerks, settings.backup_second)
    return ServiceOrder(
        name=NAME.format(settings.app),
        title=f"Tillkeeper agent of {settings.app}",
        command=(*start, "run", "--settings", str(settings.path)),
        account=host.account_name(accounts.agent) if accounts is not None else "",
        writes=_once(writes),
        reads=_once((children.FOLDER, *_read(settings))),
        clerks_write=_once(clerks),
        for_machine=settings.state == host.machine_folders(settings.app).state,
        two_accounts=bool(settings.till_user),
        sets_group_bit=bool(settings.till_group),
    )


def _read(settings: Settings) -> Iterator[Path]:
    """Yield places that the agent reads: folders instead of web servers, programs, certificates."""
    places = (settings.url, *settings.mirrors, *settings.interpreters.values(), settings.ca_file, settings.python)
    yield from (path for path in map(Path, filter(None, places)) if path.is_absolute())


def _once(paths: tuple[Path | None, ...] | Iterator[Path]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(path for path in paths if path is not None))
