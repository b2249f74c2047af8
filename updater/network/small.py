"""A plain request with the sockets of the standard library, for the one question that every look asks.

`http.client` loads the parsers of mail, which are a third of a look that finds nothing new. This reads what a server of
files sends, and raises ValueError for everything else: the full look (`network.http`) then asks again, and names it.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Final, NamedTuple, Self

HEAD_LIMIT_BYTES: Final = 32_000
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*?)[ \t]*")
_ONCE: Final = ("content-length", "transfer-encoding")
_TARGET: Final = re.compile(r"/[!-~]*")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[^\r\n]*)?")


class Reply(NamedTuple):
    """An answer, with its headers by their names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Line:
    """One connection to a server.

    Args:
        host: a name or an address, in ASCII.
        port: its port; None for the usual one.
        is_secure: whether it speaks TLS, with the authorities of this system.
        timeout_seconds: of each step.
    """

    def __init__(self, host: str, port: int | None, *, is_secure: bool, timeout_seconds: float) -> None:
        # As bytes: a name that is a string would load the tables of international names.
        name = host.encode("ascii")
        usual = 443 if is_secure else 80
        shown = f"[{host}]" if ":" in host else host
        self._host: Final = shown if port in (None, usual) else f"{shown}:{port}"
        self._socket = socket.create_connection((name, port or usual), timeout_seconds)  # type: ignore[arg-type]
        if is_secure:
            self._socket = _secured(self._socket, host)
        self._rest = b""
        """What has arrived and belongs to what follows."""
        self.is_over = False
        """Whether the server takes no further question on it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def get(self, target: str, headers: Mapping[str, str], *, limit_bytes: int) -> Reply:
        """Return the answer for a path with its query.

        Raises:
            ValueError: the answer is none that a server of files sends, or is longer than the limit.
            OSError: of the connection.
        """
        if self.is_over or not _TARGET.fullmatch(target):
            raise ValueError("the server has closed the connection, or the path is none")
        lines = [
            f"GET {target} HTTP/1.1",
            f"Host: {self._host}",
            *(f"{name}: {text}" for name, text in headers.items()),
        ]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        status, found = self._head()
        return Reply(status, found, self._body(status, found, limit_bytes))

    def _head(self) -> tuple[int, dict[str, str]]:
        first, *lines = self._until(b"\r\n\r\n").split(b"\r\n")
        status = _STATUS.fullmatch(first)
        if status is None or int(status[1]) < 200:
            raise ValueError("the answer does not begin as one of HTTP does")
        found: dict[str, str] = {}
        for line in lines:
            header = _HEADER.fullmatch(line)
            name = "" if header is None else header[1].decode().lower()
            if header is None or (name in _ONCE and name in found):
                raise ValueError("a header is none, or is there twice")
            found[name] = header[2].decode("latin-1")
        self.is_over = first.startswith(b"HTTP/1.0") or found.get("connection", "").lower() == "close"
        return int(status[1]), found

    def _body(self, status: int, headers: Mapping[str, str], limit_bytes: int) -> bytes:
        coding, length = headers.get("transfer-encoding"), headers.get("content-length", "")
        if status in (204, 304):
            return b""
        if coding is not None:
            if coding.lower() != "chunked" or length:
                raise ValueError("the length of the answer is not clear")
            return self._chunks(limit_bytes)
        if not length.isdecimal() or not length.isascii():
            raise ValueError("the answer has no length")
        return self._exactly(int(length[:12]), limit_bytes)

    def _chunks(self, limit_bytes: int) -> bytes:
        body = b""
        while True:
            size = _CHUNK.fullmatch(self._until(b"\r\n"))
            if size is None:
                raise ValueError("the length of a part of the answer is none")
            if int(size[1], 16) == 0:
                if self._until(b"\r\n"):
                    raise ValueError("something follows the answer")
                return body
            body += self._exactly(int(size[1], 16), limit_bytes - len(body))
            if self._until(b"\r\n"):
                raise ValueError("a part of the answer is longer than its length")

    def _until(self, end: bytes) -> bytes:
        """Return what comes before an end, which is dropped."""
        while end not in self._rest:
            if len(self._rest) > HEAD_LIMIT_BYTES:
                raise ValueError("the head of the answer is too long")
            self._more()
        found, _, self._rest = self._rest.partition(end)
        return found

    def _exactly(self, size_bytes: int, limit_bytes: int) -> bytes:
        if size_bytes > limit_bytes:
            raise ValueError("the answer is too long")
        while len(self._rest) < size_bytes:
            self._more()
        found, self._rest = self._rest[:size_bytes], self._rest[size_bytes:]
        return found

    def _more(self) -> None:
        data = self._socket.recv(1 << 16)
        if not data:
            raise ValueError("the answer ends too early")
        self._rest += data


def _secured(plain: socket.socket, host: str) -> socket.socket:
    import ssl

    try:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise
