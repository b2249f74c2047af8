"""Interface between the updater and a service manager."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

STOP_SECONDS: Final = 30.0
"""How long a service manager waits for an agent that was asked to end, before it kills it."""
RESTART_SECONDS: Final = 10
"""How long a service manager waits before it starts an agent again that ended by itself."""
TOOL_SECONDS: Final = 60.0
"""How long a tool of the service manager may take, beyond the time that a stop takes."""


class ServiceOrder(NamedTuple):
    """Everything that a service manager must know about the agent of one terminal."""

    name: str
    title: str
    command: tuple[str, ...]
    """The command of the agent; the same starts it by hand."""
    account: str
    """The account that owns the state folder; empty where accounts are not known."""
    writes: tuple[Path, ...]
    """Folders that the agent writes."""
    reads: tuple[Path, ...]
    """Further places that it reads."""
    clerks_write: tuple[Path, ...] = ()
    """Folders among these that the accounts of the clerks write as well."""
    only_read: tuple[Path, ...] = ()
    """Folders and programs below `writes` that the agent must not change: they work when it does not."""
    for_machine: bool = True
    """Whether the terminal lies in the places of this machine; False for those of one account."""
    two_accounts: bool = False
    """Whether the agent gives files to the till's account, and starts processes with its rights."""
    sets_group_bit: bool = False
    """Whether it makes folders whose files get the group of the folder."""


class ServiceState(StrEnum):
    """State of a service, as its manager reports it."""

    NOT_INSTALLED = "not installed"
    STOPPED = "stopped"
    RUNNING = "running"
    CHANGING = "starting or stopping"
    FAILED = "failed"


class ServiceStatus(NamedTuple):
    """State of a service, and one line of its manager's own words."""

    state: ServiceState
    detail: str
    starts_at_boot: bool = False


class Service(ABC):
    """The service that runs the agent of one terminal."""

    def __init__(self, order: ServiceOrder) -> None:
        self.order: Final = order

    @abstractmethod
    def install(self) -> tuple[Path, ...]:
        """Register the service, to start with the machine; return the files that were written. May be repeated.

        Raises:
            Refused: this account may not, or this machine has no such service manager.
        """

    @abstractmethod
    def start(self) -> None:
        """Start it; do nothing if it runs.

        Raises:
            Refused: it is not installed, this account may not, or it ended at once.
        """

    @abstractmethod
    def stop(self) -> None:
        """Ask it to end and wait for that; do nothing if it does not run.

        Raises:
            Refused: it is not installed, or this account may not.
            TryLater: it still runs.
        """

    @abstractmethod
    def status(self) -> ServiceStatus:
        """Return its state."""

    @abstractmethod
    def uninstall(self) -> bool:
        """Stop it and remove it; return whether there was one.

        Raises:
            Refused: this account may not.
        """
