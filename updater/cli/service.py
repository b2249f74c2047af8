"""`updater service`: let the system run the agent."""

from __future__ import annotations

import json
import sys

import click

from dbsync.cli.output import tell
from dbsync.outcomes import ExitStatus
from updater.cli.shared import as_json, with_settings
from updater.settings import Settings


@click.group("service")
def command() -> None:
    """Let the system run the agent: it starts with the machine, without anybody at the till."""


@command.command("install")
@with_settings
def install(settings: Settings) -> None:
    """Register the agent's service and start it. Needs the administrator's rights; may be repeated."""
    from updater.terminal.rights import refuse_unsafe
    from updater.terminal.service import service_of

    refuse_unsafe(settings)
    service = service_of(settings)
    for path in service.install():
        click.echo(f"Written: {path}")
    # Anew: one that runs has been started with the command before.
    service.stop()
    service.start()
    click.echo(f"The service {service.order.name} runs: {' '.join(service.order.command)}")


@command.command("start")
@with_settings
def start(settings: Settings) -> None:
    """Start the agent's service; it starts with the machine by itself."""
    from updater.terminal.service import service_of

    service = service_of(settings)
    service.start()
    click.echo(f"The service {service.order.name} runs.")


@command.command("stop")
@with_settings
def stop(settings: Settings) -> None:
    """Stop the agent's service until the next start of the machine. The app is not touched."""
    from updater.terminal.service import service_of

    service = service_of(settings)
    service.stop()
    click.echo(f"The service {service.order.name} is stopped.")


@command.command("status")
@as_json
@with_settings
def status(settings: Settings, *, as_json: bool) -> None:
    """Show whether the agent's service runs. Status 1 if it does not."""
    from updater.host.services.base import ServiceState
    from updater.terminal.service import service_of

    service = service_of(settings)
    found = service.status()
    if as_json:
        facts = {"name": service.order.name, "state": found.state, "detail": found.detail}
        tell(json.dumps({**facts, "starts_at_boot": found.starts_at_boot}), exactly=True)
    else:
        boot = "starts" if found.starts_at_boot else "does not start"
        tell(f"{service.order.name}: {found.state} ({found.detail}); it {boot} with the machine")
    if found.state is not ServiceState.RUNNING:
        sys.exit(ExitStatus.FAILED)


@command.command("uninstall")
@with_settings
def uninstall(settings: Settings) -> None:
    """Stop the agent's service and remove it. Terminal and app stay as they are."""
    from updater.terminal.service import service_of

    service = service_of(settings)
    removed = service.uninstall()
    missing = f"There is no service {service.order.name} that `updater service install` has made."
    click.echo(f"The service {service.order.name} is removed." if removed else missing)
