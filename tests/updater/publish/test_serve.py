"""The development server: a client that goes away is nothing to report."""

from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path

import pytest

from updater.publish.serve import make_server


def test_a_client_that_breaks_off_leaves_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "timestamp.json").write_text("{}")
    server = make_server(tmp_path)
    server.daemon_threads = False  # so that closing it waits for every request
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    try:
        for sent in (b"", b"GET /metadata/timestamp.json HTTP/1.1\r\n"):
            client = socket.create_connection(("127.0.0.1", server.server_port))
            client.sendall(sent)
            # Closed with a reset, as by a process that was killed.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        with socket.create_connection(("127.0.0.1", server.server_port)) as client:
            client.sendall(b"GET /metadata/timestamp.json HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(4096), b""))
    finally:
        server.shutdown()
        server.server_close()
        serving.join()
    assert answer.endswith(b"{}")
    assert capsys.readouterr().err == ""
