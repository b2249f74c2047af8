"""Servers with a script: real sockets, and every way of being wrong that a line, a proxy or a server has."""

from __future__ import annotations

import gzip
import socket
import ssl
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PORTAL: Final = b"<html><body>Welcome to the shop's wireless network. Please log in.</body></html>" * 8
DRIP_SECONDS: Final = 0.1
NAMES: Final = "subjectAltName=IP:127.0.0.1,DNS:localhost"
PATIENCE_SECONDS: Final = 60.0
"""How long a server that says nothing stays."""


class Request:
    """One request, and the connection to answer it on."""

    def __init__(self, server: Wire, connection: socket.socket, head: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.server = server
        self.connection = connection
        self.path = lines[0].split(" ")[1]
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        asked = self.headers.get("range", "").removeprefix("bytes=").rstrip("-")
        self.start = int(asked) if asked.isdigit() else 0
        file = server.public / self.path.partition("?")[0].lstrip("/")
        self.data = file.read_bytes() if file.is_file() else None

    @property
    def rest(self) -> bytes:
        """What was asked for; a missing file has nothing."""
        return (self.data or b"")[self.start :]

    def send(self, data: bytes) -> None:
        """Sends and counts."""
        for place in range(0, len(data), 1 << 16):
            self.connection.sendall(data[place : place + (1 << 16)])
            self.server.sent_bytes += len(data[place : place + (1 << 16)])

    def head(self, status: str, *headers: str, length: int | None = None) -> None:
        """Sends the head of an answer; without a length the connection's end is the body's."""
        lines = [f"HTTP/1.1 {status}", *headers, "Connection: close"]
        lines += [f"Content-Length: {length}"] if length is not None else []
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode())

    def reply(self, status: str, body: bytes = b"", *headers: str) -> None:
        """Sends a whole answer."""
        self.head(status, *headers, length=len(body))
        self.send(body)

    def span(self) -> str:
        """The header of a part."""
        size = len(self.data or b"")
        return f"Content-Range: bytes {self.start}-{size - 1}/{size}"

    def good(self, *headers: str) -> None:
        """Answers as a good server does."""
        if self.data is None:
            self.reply("404 Not Found")
        elif self.start:
            self.reply("206 Partial Content", self.rest, self.span(), *headers)
        else:
            self.reply("200 OK", self.data, *headers)

    def begin(self) -> None:
        """Sends the head of a good answer, whose body is the script's."""
        if self.start:
            self.head("206 Partial Content", self.span(), length=len(self.rest))
        else:
            self.head("200 OK", length=len(self.rest))

    def wait(self) -> None:
        """Says nothing until the other side goes."""
        with suppress(OSError):
            self.connection.settimeout(PATIENCE_SECONDS)
            self.connection.recv(1)

    def drip(self, data: bytes, *, seconds: float = DRIP_SECONDS, count: int = 1) -> None:
        """Sends byte by byte, or so many at once."""
        for place in range(0, len(data), count):
            self.send(data[place : place + count])
            time.sleep(seconds)


Script = Callable[[Request], None]


class Wire:
    """A server of a public folder with a script for paths that contain `on`; counts what it sends."""

    def __init__(
        self,
        public: Path,
        script: Script = Request.good,
        *,
        on: str = "",
        tls: Path | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.public = public
        self.script = script
        self.on = on
        self.sent_bytes = 0
        self.asked: list[Request] = []
        self._context = None
        if tls is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(tls)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=50)
        shown = f"[{host}]" if ":" in host else host
        self.port = self._listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://{shown}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Ends; what is being answered is left."""
        # A close alone leaves the thread that accepts with the socket.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError, IndexError), connection:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    more = connection.recv(65536)
                    if not more:
                        return
                    head += more
                    if not head[:1].isalpha():
                        # TLS on a port without: as nginx answers it.
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                        return
                request = Request(self, connection, head)
                self.asked.append(request)
                (self.script if self.on in request.path else Request.good)(request)
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)

    def starts(self, on: str) -> list[int]:
        """The first bytes that were asked for of files whose path contains `on`."""
        return [request.start for request in self.asked if on in request.path]


@contextmanager
def wired(
    public: Path, script: Script = Request.good, *, on: str = "", tls: Path | None = None, host: str = "127.0.0.1"
) -> Iterator[Wire]:
    """Runs a server while something happens."""
    server = Wire(public, script, on=on, tls=tls, host=host)
    try:
        yield server
    finally:
        server.close()


def certificate(folder: Path) -> Path:
    """A certificate authority of a shop's own, that is also the server's: one file with key and certificate."""
    path = folder / "server.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(path), "-days", "9",
        "-out", str(folder / "ca.pem"), "-subj", "/CN=127.0.0.1", "-addext", NAMES,
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (folder / "ca.pem").read_bytes())
    return path


# ------------------------------------------------------------------------------------------------------------- scripts


def status(line: str, *headers: str) -> Script:
    """An answer with a status and nothing else."""
    return lambda request: request.reply(line, b"", *headers)


def _portal(request: Request) -> None:
    request.reply("200 OK", PORTAL, "Content-Type: text/html")


def _portal_without_length(request: Request) -> None:
    request.head("200 OK", "Content-Type: text/html")
    request.send(PORTAL)


def _redirect_to_a_portal(request: Request) -> None:
    if "login" in request.path:
        _portal(request)
    else:
        request.reply("302 Found", b"", f"Location: {request.server.url}/login?back={request.path}")


def _redirect_loop(request: Request) -> None:
    request.reply("302 Found", b"", f"Location: {request.path}")


def _redirect_elsewhere(where: str) -> Script:
    return lambda request: request.reply("302 Found", b"", f"Location: {where}")


def _redirect_that_works(request: Request) -> None:
    if "moved" in request.path:
        request.good()
    else:
        request.reply("307 Temporary Redirect", b"", f"Location: {request.path}?moved=1&token=s3cret")


def _cut_in_body(request: Request) -> None:
    request.begin()
    request.send(request.rest[: len(request.rest) // 2])


def _cut_in_head(request: Request) -> None:
    request.send(b"HTTP/1.1 200 OK\r\nContent-Le")


def _close_at_once(request: Request) -> None:
    return


def _reset(request: Request) -> None:
    request.begin()
    request.send(request.rest[:100])
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()


def _drip_head(request: Request) -> None:
    request.drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"y" * 10_000)


def _drip_body(request: Request) -> None:
    request.begin()
    request.drip(request.rest)


def _drip_chunk_sizes(request: Request) -> None:
    request.head("200 OK", "Transfer-Encoding: chunked")
    request.drip(b"0" * 10_000)


def _stall_in_body(request: Request) -> None:
    request.begin()
    request.send(request.rest[: len(request.rest) // 2])
    request.wait()


def _slow(request: Request) -> None:
    request.begin()
    for place in range(0, len(request.rest), 20):
        request.send(request.rest[place : place + 20])
        time.sleep(DRIP_SECONDS)


def _flip(request: Request) -> None:
    if request.data is None:
        request.good()
        return
    data = bytearray(request.rest)
    if data:
        data[len(data) // 2] ^= 1
    request.begin()
    request.send(bytes(data))


def _truncated(request: Request) -> None:
    request.reply("200 OK", (request.data or b"")[: len(request.data or b"") // 2])


def _endless(request: Request) -> None:
    request.head("200 OK")
    while True:
        request.send(b"x" * 65536)


def _longer(request: Request) -> None:
    request.reply("200 OK", (request.data or b"") + b"x" * 1000)


def _wrong_span(request: Request) -> None:
    size = len(request.data or b"")
    if request.start:
        request.reply("206 Partial Content", request.data or b"", f"Content-Range: bytes 0-{size - 1}/{size}")
    else:
        _cut_in_body(request)


def _part_unasked(request: Request) -> None:
    request.reply("206 Partial Content", (request.data or b"")[:1], "Content-Range: bytes 0-0/1")


def _refuse_ranges(line: str) -> Script:
    def script(request: Request) -> None:
        if request.start:
            request.reply(line)
        elif len(request.server.starts(request.path)) > 1:
            request.good()
        else:
            _cut_in_body(request)

    return script


def _ignore_ranges(request: Request) -> None:
    if request.start:
        request.reply("200 OK", request.data or b"")
    else:
        _cut_in_body(request)


def _many_parts(request: Request) -> None:
    if request.start:
        request.reply("206 Partial Content", b"--x\r\n" * 20, "Content-Type: multipart/byteranges; boundary=x")
    elif len(request.server.starts(request.path)) > 1:
        request.good()
    else:
        _cut_in_body(request)


def _label_gzip(request: Request) -> None:
    request.good("Content-Encoding: x-gzip")


def _gzip_in_flight(request: Request) -> None:
    if request.data is None:
        request.good()
    else:
        request.reply("200 OK", gzip.compress(request.data), "Content-Encoding: gzip")


def _gzip_bomb(request: Request) -> None:
    member = gzip.compress(bytes(4 << 20), 1)
    request.head("200 OK", "Content-Encoding: gzip")
    for _ in range(500):
        request.send(member)


def _brotli(request: Request) -> None:
    request.reply("200 OK", (request.data or b"") + b"1", "Content-Encoding: br")


def _damaged_gzip(request: Request) -> None:
    body = bytearray(gzip.compress(request.data or b"x" * 500))
    body[len(body) // 2 :] = bytes(len(body) - len(body) // 2)
    request.reply("200 OK", bytes(body), "Content-Encoding: gzip")


def _garbage(request: Request) -> None:
    request.send(bytes(range(256)) * 20)


def _huge_head(request: Request) -> None:
    request.send(b"HTTP/1.1 200 OK\r\nX-Large: " + b"y" * 200_000 + b"\r\n\r\n")


def _endless_head(request: Request) -> None:
    request.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        request.send(b"X-More: yes\r\n" * 1000)


def _without_length(request: Request) -> None:
    if request.data is None:
        request.good()
    else:
        request.send(b"HTTP/1.0 200 OK\r\n\r\n" + request.data)


def _negative_length(request: Request) -> None:
    request.send(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + request.rest)


def _two_lengths(request: Request) -> None:
    request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n" + request.rest)


def _of_files(script: Script) -> Script:
    """A script for files that are there; the next root is not, and that is well."""
    return lambda request: request.good() if request.data is None else script(request)


def _coding_of_nothing(request: Request) -> None:
    """The right beginning, and then blocks that unpack to no byte."""
    coder = zlib.compressobj(0, zlib.DEFLATED, 31)
    request.head("200 OK", "Content-Encoding: gzip")
    request.send(coder.compress((request.data or b"{")[:1000]) + coder.flush(zlib.Z_FULL_FLUSH))
    while True:
        request.send(b"\0\0\0\xff\xff" * 10_000)


def _hundred_for_ever(request: Request) -> None:
    """Nothing but the time of an answer bounds it, so it is as fast as a shop's line."""
    while True:
        request.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 400)
        time.sleep(0.01)


MODES: Final[dict[str, Script]] = {
    "404": status("404 Not Found"),
    "403": status("403 Forbidden"),
    "500": status("500 Internal Server Error"),
    "503, later": status("503 Service Unavailable", "Retry-After: 120"),
    "429, in a year": status("429 Too Many Requests", "Retry-After: 31536000"),
    "204": status("204 No Content"),
    "304 from a cache": status("304 Not Modified"),
    "407": status("407 Proxy Authentication Required"),
    "401": status("401 Unauthorized", "WWW-Authenticate: Basic"),
    "empty": status("200 OK"),
    "portal": _portal,
    "portal without length": _portal_without_length,
    "redirect to a portal": _redirect_to_a_portal,
    "redirect loop": _redirect_loop,
    "redirect to a file": _redirect_elsewhere("file:///etc/passwd"),
    "redirect to nowhere": _redirect_elsewhere("http://127.0.0.1:9/"),
    "redirect without place": status("302 Found"),
    "redirect that works": _redirect_that_works,
    "cut in the body": _of_files(_cut_in_body),
    "cut in the head": _cut_in_head,
    "close at once": _close_at_once,
    "reset": _of_files(_reset),
    "silent": Request.wait,
    "drip the head": _drip_head,
    "drip the body": _of_files(_drip_body),
    "drip chunk sizes": _drip_chunk_sizes,
    "stall in the body": _of_files(_stall_in_body),
    "slower than the minimum": _of_files(_slow),
    "flip a byte": _of_files(_flip),
    "truncated": _of_files(_truncated),
    "endless": _endless,
    "longer than signed": _of_files(_longer),
    "wrong range": _of_files(_wrong_span),
    "a part that nobody asked for": _of_files(_part_unasked),
    "ranges refused with 416": _of_files(_refuse_ranges("416 Range Not Satisfiable")),
    "ranges refused with 403": _of_files(_refuse_ranges("403 Forbidden")),
    "ranges refused with 501": _of_files(_refuse_ranges("501 Not Implemented")),
    "ranges ignored": _of_files(_ignore_ranges),
    "many parts": _of_files(_many_parts),
    "gzip as a label": _label_gzip,
    "gzip in flight": _gzip_in_flight,
    "gzip bomb": _gzip_bomb,
    "brotli": _of_files(_brotli),
    "damaged gzip": _of_files(_damaged_gzip),
    "garbage": _garbage,
    "huge head": _huge_head,
    "endless head": _endless_head,
    "no length, HTTP/1.0": _without_length,
    "a book for a status": lambda request: request.send(b"HTTP/1.1 200 " + b"a:" * 32_000 + b"\r\n\r\n"),
    "a coding of nothing": _coding_of_nothing,
    "a hundred for ever": _hundred_for_ever,
    "the end of the calendar": lambda request: request.good("Date: Fri, 31 Dec 9999 23:59:59 GMT"),
    "negative length": _of_files(_negative_length),
    "two lengths": _of_files(_two_lengths),
}
"""Ways of being wrong, by name; some of them an update survives."""
