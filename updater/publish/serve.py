"""Development server for a public folder, with the ranges and cache headers of the real site. Not for production."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

CHUNK_BYTES: Final = 1 << 16
POLL_SECONDS: Final = 0.05
_RANGE: Final = re.compile(r"^bytes=(\d+)-$")
_NAME: Final = re.compile(r"^/(metadata|targets)/([A-Za-z0-9][A-Za-z0-9._+-]*)$")


def make_server(public: Path, *, port: int = 0, told: Callable[[str], None] | None = None) -> ThreadingHTTPServer:
    """Return a server on loopback; port 0 takes a free one."""
    return _Server(("127.0.0.1", port), partial(_Handler, public, told))


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about a client that went away; show any other error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    """Headers and body are two writes: a client that delays its ACK would get each body 40 ms late."""

    def __init__(self, public: Path, told: Callable[[str], None] | None, *rest: object) -> None:
        self._public = public
        self._told = told
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Serve a file, or the rest of it."""
        self._serve(body=True)

    def do_HEAD(self) -> None:
        """Serve the headers of a file."""
        self._serve(body=False)

    def _serve(self, *, body: bool) -> None:
        match = _NAME.match(self.path)
        path = self._public / match[1] / match[2] if match else None
        try:
            file = path.open("rb") if path is not None else None
        except OSError:
            file = None
        if file is None or path is None:
            self.send_response(HTTPStatus.NOT_FOUND)
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Length", "0")
            self.end_headers()
            self._tell(f"{self.path} not found")
            return
        with file:
            # The size of the open file, never of the name: timestamp.json may have been replaced since, and the length
            # of the newer file would leave the client waiting for bytes that never come.
            size_bytes = os.fstat(file.fileno()).st_size
            asked = _RANGE.match(self.headers.get("Range") or "")
            start = min(int(asked[1]), size_bytes) if asked else 0
            self.send_response(HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{size_bytes - 1}/{size_bytes}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(size_bytes - start))
            short = path.name == "timestamp.json"
            self.send_header("Cache-Control", "no-cache" if short else "public, max-age=31536000, immutable")
            self.end_headers()
            file.seek(start)
            sent_bytes = 0
            while body and (chunk := file.read(CHUNK_BYTES)):
                self.wfile.write(chunk)
                sent_bytes += len(chunk)
            self._tell(f"{self.path} {sent_bytes} bytes")

    def _tell(self, line: str) -> None:
        if self._told is not None:
            self._told(line)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class names it so
        """Drop the base class's log lines: `_serve` reports one line per request."""


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[str]:
    """Run a server in a thread of its own until the block ends; yield its address."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": POLL_SECONDS}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
