"""`updater publish serve`: a web server on loopback, for development."""

from __future__ import annotations

from pathlib import Path

import click

from updater.cli.shared import FOLDER
from updater.publish.serve import make_server


@click.command("serve")
@click.argument("public", type=FOLDER)
@click.option("--port", type=int, default=8000, show_default=True, help="0 takes a free one.")
def command(public: Path, port: int) -> None:
    """Serve the folder PUBLIC on this machine, for development only."""
    server = make_server(public, port=port, told=lambda line: click.echo(line, err=True))
    click.echo(f"http://127.0.0.1:{server.server_port}")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
