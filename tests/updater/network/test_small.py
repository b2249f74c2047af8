"""The small request: what a server of files sends is read as it is, and everything else is left to the full look."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.wires import certificate, wired
from updater.network.small import HEAD_LIMIT_BYTES, Line, Reply

LIMIT_BYTES = 1000


@contextmanager
def said(*answers: bytes) -> Iterator[int]:
    """A server that sends these bytes, one after each request on one connection; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                for answer in answers:
                    asked = b""
                    while b"\r\n\r\n" not in asked:
                        more = connection.recv(1 << 16)
                        if not more:
                            return
                        asked += more
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def line(port: int) -> Line:
    return Line("127.0.0.1", port, is_secure=False, timeout_seconds=30)


def asked(port: int) -> Reply:
    with line(port) as connection:
        return connection.get("/metadata/timestamp.json", {}, limit_bytes=LIMIT_BYTES)


def test_two_answers_come_over_one_connection() -> None:
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: now\r\n\r\nhello"
    second = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nnot\r\n2\r\nyo\r\n0\r\n\r\n"
    with said(first, second) as port, line(port) as connection:
        found = connection.get("/a", {"User-Agent": "test"}, limit_bytes=LIMIT_BYTES)
        assert (found.status, found.headers["date"], found.body, connection.is_over) == (200, "now", b"hello", False)
        found = connection.get("/b?x", {}, limit_bytes=LIMIT_BYTES)
        assert (found.status, found.body, connection.is_over) == (404, b"notyo", False)


@pytest.mark.parametrize("head", [b"HTTP/1.0 200 OK", b"HTTP/1.1 200 OK\r\nConnection: Close"])
def test_a_server_that_closes_is_not_asked_again(head: bytes) -> None:
    with said(head + b"\r\nContent-Length: 0\r\n\r\n") as port, line(port) as connection:
        assert connection.get("/a", {}, limit_bytes=LIMIT_BYTES).body == b""
        assert connection.is_over
        with pytest.raises(ValueError, match="has closed"):
            connection.get("/b", {}, limit_bytes=LIMIT_BYTES)


WRONG = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-x\r\n\r\n",
    "an early answer": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no length": b"HTTP/1.1 200 OK\r\n\r\nhello",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a coding of its own": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "a length in other digits": "HTTP/1.1 200 OK\r\nContent-Length: ٥\r\n\r\nhello".encode(),
    "too long": b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + bytes(1001),
    "too long in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n"
    + bytes(1001)
    + b"\r\n0\r\n\r\n",
    "a chunk without a length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello",
    "a chunk that is longer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n",
    "a trailer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nDate: x\r\n\r\n",
    "cut in the body": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
    "cut in the head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "a folded header": b"HTTP/1.1 200 OK\r\nDate: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "an endless head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * (HEAD_LIMIT_BYTES + (1 << 17)),
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG.keys())
def test_everything_else_is_no_answer(answer: bytes) -> None:
    with said(answer) as port, pytest.raises((ValueError, ConnectionError)):
        asked(port)


@pytest.mark.parametrize("target", ["", "metadata", "/a b", "/a\r\nX: y", "/ä"])
def test_a_path_that_is_none_is_not_asked_for(target: str) -> None:
    with said() as port, line(port) as connection, pytest.raises(ValueError, match="the path is none"):
        connection.get(target, {}, limit_bytes=LIMIT_BYTES)


def test_a_server_without_a_certificate_that_counts_is_left_to_the_full_look(tmp_path: Path) -> None:
    with wired(tmp_path, tls=certificate(tmp_path)) as server, pytest.raises(ssl.SSLError):
        Line("127.0.0.1", server.port, is_secure=True, timeout_seconds=30)
