"""Servers as they are on bad days: real sockets, one way of being wrong each."""

from __future__ import annotations

import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORTAL = b"<html><body>Welcome to the shop's wireless network. Please log in.</body></html>"


def hostile(public: Path, how: str, *, on: str = "") -> ThreadingHTTPServer:
    """A server of a public folder that misbehaves on paths that contain `on`.

    Ways: html (a portal's page for everything), missing, hang up (in mid-body), flip (one byte is another), more
    (endless body), silent (headers, then nothing), drip (headers letter by letter), redirect (in circles), downgrade.
    """
    return ThreadingHTTPServer(("127.0.0.1", 0), partial(_Hostile, public, how, on))


class _Hostile(BaseHTTPRequestHandler):
    def __init__(self, public: Path, how: str, on: str, *rest: object) -> None:
        self._public, self._how, self._on = public, how, on
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        path = self._public / self.path.lstrip("/")
        if self._on not in self.path:
            self._good(path)
            return
        getattr(self, "_" + self._how.replace(" ", "_"))(path)

    def _good(self, path: Path) -> None:
        if not path.is_file():
            self._missing(path)
            return
        self._body(path.read_bytes())

    def _body(self, data: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _html(self, path: Path) -> None:
        self._body(PORTAL)

    def _missing(self, path: Path) -> None:
        self._body(b"", 404)

    def _hang_up(self, path: Path) -> None:
        data = path.read_bytes() if path.is_file() else b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        self.connection.close()

    def _flip(self, path: Path) -> None:
        if not path.is_file():
            self._missing(path)
            return
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        self._body(bytes(data))

    def _more(self, path: Path) -> None:
        self.send_response(200)
        self.end_headers()
        data = (path.read_bytes() if path.is_file() else b"") + b"x" * 100_000
        self.wfile.write(data)
        try:
            for _ in range(1000):
                self.wfile.write(b"x" * 100_000)
        except OSError:
            return

    def _silent(self, path: Path) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.flush()
        self._until_gone()

    def _drip(self, path: Path) -> None:
        try:
            for letter in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"y" * 10_000:
                self.wfile.write(bytes([letter]))
                self.wfile.flush()
                time.sleep(0.05)
        except OSError:
            return

    def _redirect(self, path: Path) -> None:
        self.send_response(302)
        self.send_header("Location", self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _until_gone(self) -> None:
        self.connection.settimeout(60)
        try:
            while self.connection.recv(1):
                continue
        except OSError:
            return

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Quiet."""
