"""A SOCKS proxy on loopback (RFC 1928, RFC 1929, SOCKS 4 and 4a): every name leads to 127.0.0.1."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Socks:
    """The proxy; it notes which host and port were wanted."""

    def __init__(self, user_password: str) -> None:
        self.user_password = user_password
        self.wanted: list[tuple[str, int]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End; connections that are open are left."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection, connection.makefile("rb", buffering=0) as reading:
            version = reading.read(1)
            wanted = self._of_socks5(connection, reading) if version == b"\x05" else _of_socks4(reading)
            if wanted is None:
                return
            self.wanted.append(wanted)
            with socket.create_connection(("127.0.0.1", wanted[1])) as server:
                connection.sendall(b"\x05\x00\x00\x01" + bytes(6) if version == b"\x05" else b"\x00\x5a" + bytes(6))
                threading.Thread(target=_pass_on, args=(connection, server), daemon=True).start()
                _pass_on(server, connection)

    def _of_socks5(self, connection: socket.socket, reading: socket.SocketIO) -> tuple[str, int] | None:
        methods = reading.read(reading.read(1)[0])
        wanted = 2 if self.user_password else 0
        connection.sendall(bytes((5, wanted if wanted in methods else 255)))
        if wanted:
            reading.read(1)
            user = reading.read(reading.read(1)[0])
            password = reading.read(reading.read(1)[0])
            is_right = f"{user.decode()}:{password.decode()}" == self.user_password
            connection.sendall(b"\x01\x00" if is_right else b"\x01\x01")
            if not is_right:
                return None
        kind = reading.read(4)[3]
        host = socket.inet_ntoa(reading.read(4)) if kind == 1 else reading.read(reading.read(1)[0]).decode()
        return host, int.from_bytes(reading.read(2), "big")


def _of_socks4(reading: socket.SocketIO) -> tuple[str, int]:
    head = reading.read(7)
    port, address = int.from_bytes(head[1:3], "big"), head[3:]
    _line(reading)
    # Version 4a: an address that cannot be one, and the name behind the user.
    return (_line(reading) if address[:3] == bytes(3) else socket.inet_ntoa(address)), port


def _line(reading: socket.SocketIO) -> str:
    found = b""
    while (byte := reading.read(1)) not in (b"", b"\x00"):
        found += byte
    return found.decode()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def socks(*, user_password: str = "") -> Iterator[Socks]:
    """A SOCKS proxy that asks for name and password, or lets everybody through."""
    proxy = Socks(user_password)
    try:
        yield proxy
    finally:
        proxy.close()
