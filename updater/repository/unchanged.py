"""The cheap look: whether the server still has the timestamp that this terminal verified last.

It uses the standard library and no signature, and it can only confirm an answer that a full look has given. Whatever
else it meets, another byte, a redirect, an error, a proxy, is left to the full look, which names it.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from dbsync.errors import TillkeeperError
from dbsync.storage import files
from updater import __version__
from updater.addresses import WEB, shown
from updater.answers import Answer
from updater.host import this_host
from updater.network import record
from updater.network.small import Line, Reply
from updater.repository import listing, trust

GAP_SECONDS: Final = 10.0
LIMIT_SECONDS: Final = 10.0
"""Of the whole cheap look, and at most a quarter of what there is for the look: the rest is that of the full one."""
SIZE_LIMIT_BYTES: Final = 100_000
"""Of a timestamp; it has about a thousand bytes."""
NO_SUCH_ROOT: Final = (403, 404)
"""The statuses by which a server says that there is no newer root."""
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE: Final = re.compile(r"[A-Z][a-z]{2}, (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT", re.ASCII)
_ASKING: Final[list[threading.Thread]] = []
"""The last cheap look of this process; while it hangs, at a silent name server for instance, none is added."""


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
    found: list[bool] = []
    base = request["bases"][0].rstrip("/")
    # Its own thread, because nothing else bounds a name server or headers that drip: the full look goes on without it.
    asking = threading.Thread(target=lambda: found.append(_is_unchanged(base, kept, now)), daemon=True)
    if any(thread.is_alive() for thread in _ASKING):
        return None
    _ASKING[:] = [asking]
    asking.start()
    asking.join(min(LIMIT_SECONDS, float(request["seconds"]) / 4))
    if found != [True]:
        return None
    return {"answer": Answer.OK, "detail": "", "offers": list(kept.offers), "steering": kept.steering}


def _is_plain(request: dict[str, Any]) -> bool:
    """Return whether the first address is asked first, and as the settings of most terminals say."""
    manner = request["manner"]
    if not request["bases"] or manner["ca_file"] or manner["proxy"]:
        return False
    return shown(request["bases"][0]) not in record.read(Path(request["record"]))


def _is_unchanged(base: str, kept: listing.Kept, now: datetime) -> bool:
    parts = urlsplit(base)
    has_secrets = parts.username is not None or bool(parts.query)
    if parts.scheme not in WEB or parts.hostname is None or has_secrets or _has_proxy(parts.scheme, parts.hostname):
        return False
    try:
        with _line(parts) as line:
            found = _get(line, f"{parts.path}/metadata/timestamp.json", now)
            if found.status != 200 or hashlib.sha256(found.body).hexdigest() != kept.timestamp_sha256:
                return False
            root = f"{parts.path}/metadata/{kept.root_version + 1}.root.json"
            if not line.is_over:
                return _get(line, root, now).status in NO_SUCH_ROOT
        with _line(parts) as line:
            return _get(line, root, now).status in NO_SUCH_ROOT
    except (OSError, ValueError):
        return False


def _line(parts: SplitResult) -> Line:
    return Line(parts.hostname or "", parts.port, is_secure=parts.scheme == "https", timeout_seconds=GAP_SECONDS)


def _get(line: Line, target: str, now: datetime) -> Reply:
    """Return one answer; raise ValueError if its clock contradicts this terminal's."""
    headers = {"User-Agent": f"tillkeeper/{__version__}", "Accept-Encoding": "identity"}
    reply = line.get(target, headers, limit_bytes=SIZE_LIMIT_BYTES)
    date = reply.headers.get("date")
    if date and abs(_time_of(date) - now) > trust.CLOCK_DOUBT:
        raise ValueError("the clocks differ")
    return reply


def _time_of(text: str) -> datetime:
    """Return the time of a Date header in the form that servers must send (RFC 9110, 5.6.7)."""
    found = _DATE.fullmatch(text)
    if found is None:
        raise ValueError("the server's clock cannot be read")
    day, year, hour, minute, second = (int(found[number]) for number in (1, 3, 4, 5, 6))
    return datetime(year, MONTHS.index(found[2]) + 1, day, hour, minute, second, tzinfo=UTC)


def _has_proxy(scheme: str, host: str) -> bool:
    in_environment = any(name.lower().endswith("_proxy") for name in os.environ)
    if not in_environment and not this_host().has_proxy_settings:
        return False
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    return bool(proxies.get(scheme) or proxies.get("all")) and not proxy_bypass(host)
