"""`updater kit`: the steps of a vendor's setup program."""

from __future__ import annotations

from pathlib import Path

import click

from updater.cli.shared import FOLDER, in_words

with_kit = click.argument("folder", metavar="KIT", type=FOLDER)
with_own_kit = click.argument("folder", metavar="[KIT]", type=FOLDER, required=False)
with_rescue = click.option("--rescue", type=FOLDER, help="The rescue folder (default: `rescue` beside the kit).")


@click.group("kit")
def command() -> None:
    """Steps of a vendor's setup program: put a kit in place, install the terminal, remove. Not for people."""


@command.command("place")
@with_kit
@with_rescue
def place(folder: Path, *, rescue: Path | None) -> None:
    """Verify the kit, make the rescue folder unless it is there, and let the programs beside the kit run it."""
    from updater.terminal import kit, kit_use

    # The agent removes kits that nobody holds.
    kit_use.hold()
    with in_words():
        found = kit.read(folder)
        removed = kit.place(found, home=found.folder.parent, rescue=_rescue(found.folder, rescue))
    click.echo(f"Kit {found.id} is in place.{f' Removed: {chr(44).join(removed)}' if removed else ''}")


@command.command("begin")
@with_own_kit
@with_rescue
def begin(folder: Path | None, *, rescue: Path | None) -> None:
    """Install the terminal, unless it is installed. Needs the update server. Status 75: try again later."""
    from updater.terminal import kit, kit_installation

    with in_words():
        found = kit.read(_own(folder))
        done = kit_installation.begin(found, rescue=_rescue(found.folder, rescue))
    click.echo(f"{done or 'The terminal is installed already'}.")


@command.command("remove")
@with_own_kit
def remove(folder: Path | None) -> None:
    """Stop and remove the service, unless the app runs; the setup program removes the files after it."""
    from updater import settings as settings_file
    from updater.host import this_host
    from updater.terminal import kit, kit_installation
    from updater.terminal.service import service_of

    with in_words():
        found = kit.read(_own(folder))
        kit_installation.refuse_running(found)
        path = this_host().machine_folders(found.app).settings_file
        if path.exists():
            service_of(settings_file.load(path, {})).uninstall()
    click.echo("The service is removed. The terminal's data stays.")


def _own(folder: Path | None) -> Path:
    """Return the given kit, or the one that this command runs from: its agent may have brought a newer one."""
    from updater.terminal import kit_use

    found = folder or kit_use.own_folder()
    if found is None:
        raise click.UsageError("This command does not run from a kit: name one.")
    return found


def _rescue(folder: Path, rescue: Path | None) -> Path:
    return rescue.absolute() if rescue is not None else folder.absolute().parent / "rescue"
