"""The cheap look: whether the server still has the timestamp that this terminal verified last.

It uses the standard library and no signature, and it can only confirm an answer that a full look has given. Whatever
else it meets, another byte, a redirect, an error, a proxy, is left to the full look, which names it.
"""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from dbsync.errors import TillkeeperError
from dbsync.storage import files
from updater import __version__
from updater.addresses import shown
from updater.answers import Answer
from updater.host import this_host
from updater.network import record
from updater.repository import listing, trust

GAP_SECONDS: Final = 10.0
LIMIT_SECONDS: Final = 10.0
"""Of the whole cheap look, and at most a quarter of what there is for the look: the rest is that of the full one."""
SIZE_LIMIT_BYTES: Final = 100_000
"""Of a timestamp; it has about a thousand bytes."""
NO_SUCH_ROOT: Final = (403, 404)
"""The statuses by which a server says that there is no newer root."""


class _Asked:
    """One question, in a thread of its own: nothing else bounds a name server, or headers that drip."""

    def __init__(self, base: str, kept: listing.Kept, now: datetime) -> None:
        self.is_unchanged = False
        self.connection: Any = None
        self._thread: Final = threading.Thread(target=_ask, args=(self, base, kept, now), daemon=True)

    def start(self) -> None:
        """Ask."""
        self._thread.start()

    def is_over(self, *, seconds: float = 0.0) -> bool:
        """Return whether it has ended, after at most so many seconds. One that has not loses its connection.

        A server that never ends its answer would keep the thread at work for as long as the agent runs.
        """
        self._thread.join(seconds)
        if not self._thread.is_alive():
            return True
        import socket

        opened = getattr(self.connection, "sock", None)
        with suppress(OSError):
            if opened is not None:
                # Of the connection itself, not of TLS, which is the thread's.
                socket.socket.shutdown(opened, socket.SHUT_RDWR)
        return False


_ASKED: Final[list[_Asked]] = []
"""The last question of this process; while it hangs, at a silent name server for instance, none is added."""


def answer(request: dict[str, Any]) -> dict[str, Any] | None:
    """Return the answer of the last full look if it still holds; None for a full look."""
    folder = Path(request["trust_folder"])
    kept = listing.read(folder)
    if kept is None or not _is_plain(request):
        return None
    try:
        root_sha256 = files.sha256_of(folder / trust.ROOT_NAME)
        seen = trust.read(folder)
    except TillkeeperError:
        return None
    now = datetime.fromisoformat(request["now"])
    if not listing.holds(
        kept,
        app=request["app"],
        root_sha256=root_sha256,
        now=now,
        floor=trust.moment(seen.floor),
    ):
        return None
    if not all(before.is_over() for before in _ASKED):
        return None
    asked = _Asked(request["bases"][0].rstrip("/"), kept, now)
    _ASKED[:] = [asked]
    asked.start()
    if not asked.is_over(seconds=min(LIMIT_SECONDS, float(request["seconds"]) / 4)) or not asked.is_unchanged:
        return None
    return {"answer": Answer.OK, "detail": "", "offers": list(kept.offers), "steering": kept.steering}


def _is_plain(request: dict[str, Any]) -> bool:
    """Return whether the first address is asked first, and as the settings of most terminals say."""
    manner = request["manner"]
    if not request["bases"] or manner["ca_file"] or manner["proxy"]:
        return False
    return shown(request["bases"][0]) not in record.read(Path(request["record"]))


def _ask(asked: _Asked, base: str, kept: listing.Kept, now: datetime) -> None:
    import http.client

    parts = urlsplit(base)
    kind = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}.get(parts.scheme)
    has_secrets = parts.username is not None or bool(parts.query)
    if kind is None or parts.hostname is None or has_secrets or _has_proxy(parts.scheme, parts.hostname):
        return
    asked.connection = connection = kind(parts.hostname, parts.port, timeout=GAP_SECONDS)
    # Whatever goes wrong is left to the full look.
    with suppress(OSError, http.client.HTTPException, ValueError, OverflowError), closing(connection):
        status, data = _get(connection, f"{parts.path}/metadata/timestamp.json", now)
        if status != 200 or hashlib.sha256(data).hexdigest() != kept.timestamp_sha256:
            return
        status, _ = _get(connection, f"{parts.path}/metadata/{kept.root_version + 1}.root.json", now)
        asked.is_unchanged = status in NO_SUCH_ROOT


def _get(connection: Any, path: str, now: datetime) -> tuple[int, bytes]:
    """Return status and body of one answer; raise ValueError if its clock contradicts this terminal's."""
    from email.utils import parsedate_to_datetime

    connection.request("GET", path, headers={"User-Agent": f"tillkeeper/{__version__}", "Accept-Encoding": "identity"})
    response = connection.getresponse()
    date = response.getheader("Date")
    if date and abs(parsedate_to_datetime(date).astimezone(UTC) - now) > trust.CLOCK_DOUBT:
        raise ValueError("the clocks differ")
    data = response.read(SIZE_LIMIT_BYTES)
    if response.read(1):
        raise ValueError("it does not end")
    return response.status, data


def _has_proxy(scheme: str, host: str) -> bool:
    in_environment = any(name.lower().endswith("_proxy") for name in os.environ)
    if not in_environment and not this_host().has_proxy_settings:
        return False
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    return bool(proxies.get(scheme) or proxies.get("all")) and not proxy_bypass(host)
