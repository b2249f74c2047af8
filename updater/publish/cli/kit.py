"""`updater publish kit`: make the file that turns a machine into a terminal."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import click

from updater.cli.shared import FILE, FOLDER, in_words
from updater.publish.cli.shared import EXISTING_FILE, with_repository

WHEELS = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command("kit")
@with_repository
@click.option("--platform", type=click.Choice(["windows-x86_64", "linux-x86_64"]), required=True, help="The terminals.")
@click.option(
    "--settings", "settings_file", type=EXISTING_FILE, required=True, help="The kit's description (docs/kit.md)."
)
@click.option("--output", type=FILE, required=True, help="The file to make: a setup program, or a Debian package.")
@click.option("--wheels", type=WHEELS, required=True, help="Folder with the pinned wheels.")
@click.option("--payload", type=FOLDER, help="Also leave the kit's folder here, for `updater publish agent`.")
@click.option("--app-version", help="The app's first version, to be inside the kit.")
@click.option("--python", type=EXISTING_FILE, help="Windows: the embeddable Python of python.org, as a zip archive.")
@click.option("--python-sha256", default="", help="Windows: the hash of that archive, from python.org.")
@click.option("--sign", default="", help="Windows: your command that signs {file}, or makes {signed} of it.")
@click.option(
    "--stub", type=click.Choice(["x86", "amd64"]), default="x86", show_default=True,
    help="Windows: kind of the setup program; only x86 can say on a 32-bit Windows that it is not served.",
)  # fmt: skip
def command(folder: Path, settings_file: Path, output: Path, payload: Path | None, **values: Any) -> None:
    """Make one file that turns a machine without Python into a terminal: Tillkeeper, its Python, root and settings."""
    from updater.publish.kit.build import build
    from updater.publish.kit.description import Description
    from updater.publish.kit.payload import Order

    with in_words():
        order = Order(repository=folder, description=Description.read(settings_file), **values)
        built = build(order, output=output, payload=payload)
    sha256 = hashlib.sha256(output.read_bytes()).hexdigest()
    click.echo(f"{output}: {built.size_bytes / 1e6:.1f} MB, kit {built.id} of {built.app}")
    click.echo(f"sha256 {sha256}")
    click.echo(f"Bill of materials: {built.bill}")
    if built.payload is not None:
        click.echo(f"Folder: {built.payload}")
