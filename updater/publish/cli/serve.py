"""`updater publish serve`: a web server on loopback, for development."""

from __future__ import annotations

from pathlib import Path

import click

from dbsync.outcomes import ExitStatus
from updater.cli.shared import Failure
from updater.publish.serve import make_server


@click.command("serve")
@click.argument("public", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
def command(public: Path, port: int) -> None:
    """Serve the folder PUBLIC on this machine, for development only."""
    try:
        server = make_server(public, port=port, told=lambda line: click.echo(line, err=True))
    except OSError as cause:
        raise Failure(
            f"could not use port {port}: {cause.strerror}. Choose another --port.", ExitStatus.TRY_LATER
        ) from cause
    click.echo(f"http://127.0.0.1:{server.server_port}")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
