"""HTTP for a till: limits on bytes, redirects, gaps and speed; interrupted downloads are resumed.

Used only in the child process of `repository.child`. The parent sets the overall deadline: this module cannot bound a
name server, or a server that sends its headers byte by byte.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import (
    HTTPError,
    LocationValueError,
    MaxRetryError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from dbsync.storage import file_calls, files
from updater import __version__
from updater.answers import Answer
from updater.model import Sha256

REDIRECTS_COUNT: Final = 5
CONNECT_SECONDS: Final = 10.0
GAP_SECONDS: Final = 20.0
"""Longest silence of a server in the middle of an answer."""
RATE_WINDOW_SECONDS: Final = 10.0
READ_BYTES: Final = 1 << 16
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class Trouble(Exception):
    """Failed fetch: the answer it leads to, and the cause."""

    def __init__(self, answer: Answer, detail: str) -> None:
        super().__init__(detail)
        self.answer = answer
        self.detail = detail


class Reply:
    """HTTP answer whose body has not been read yet."""

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str, least_rate: int) -> None:
        self.status: Final = response.status
        self.date: Final = response.headers.get("Date")
        self._response: Final = response
        self._url: Final = url
        self._least_rate: Final = least_rate

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it arrives; raise Trouble if the server stalls, is too slow or closes the connection."""
        began, received_bytes = time.monotonic(), 0
        try:
            # read1 returns the bytes at hand: reading a fixed amount would hide a very slow server in one endless call.
            while chunk := self._response.read1(READ_BYTES):
                received_bytes += len(chunk)
                yield chunk
                now = time.monotonic()
                if now - began >= RATE_WINDOW_SECONDS:
                    if received_bytes < self._least_rate * (now - began):
                        rate = received_bytes / (now - began)
                        raise Trouble(Answer.TIMED_OUT, f"{self._url}: only {rate:.0f} bytes per second")
                    began, received_bytes = now, 0
        except (HTTPError, OSError, ValueError) as cause:
            raise _trouble(self._url, cause) from cause

    def close(self) -> None:
        """Close the connection without waiting for the rest of the body."""
        self._response.close()


class Http:
    """HTTP client for any web server; uses the system's proxy if there is one."""

    def __init__(self, *, least_rate: int) -> None:
        self._least_rate: Final = least_rate
        self._pools: dict[str, urllib3.PoolManager] = {}
        self.date: str | None = None
        """Date header of the last answer: not trusted, but a hint which clock is wrong."""

    @contextmanager
    def get(self, url: str, *, start: int = 0) -> Iterator[Reply]:
        """Ask for a file, or for the rest of it from byte `start` on.

        Raises:
            Trouble: no answer, or too many redirects. An error status counts as an answer.
        """
        reply = self._follow(url, start)
        self.date = reply.date or self.date
        try:
            yield reply
        finally:
            reply.close()

    def _follow(self, url: str, start: int) -> Reply:
        headers = {"User-Agent": f"tillkeeper/{__version__}", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        for _ in range(REDIRECTS_COUNT + 1):
            try:
                response = self._pool(url).request(
                    "GET",
                    url,
                    headers=headers,
                    preload_content=False,
                    redirect=False,
                    retries=False,
                    timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=GAP_SECONDS),
                )
            except (HTTPError, LocationValueError, OSError, ValueError) as cause:
                raise _trouble(url, cause) from cause
            if response.status not in _REDIRECTS:
                return Reply(response, url, self._least_rate)
            where = urljoin(url, response.headers.get("Location", ""))
            response.close()
            if urlsplit(where).scheme not in ("https", urlsplit(url).scheme):
                raise Trouble(Answer.SERVER_WRONG, f"{url} leads to {where}")
            url = where
        raise Trouble(Answer.SERVER_WRONG, f"{url}: more than {REDIRECTS_COUNT} redirects")

    def _pool(self, url: str) -> urllib3.PoolManager:
        from urllib.request import getproxies, proxy_bypass

        parts = urlsplit(url)
        proxies = getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
        if proxy_bypass(parts.hostname or ""):
            proxy = ""
        if proxy not in self._pools:
            self._pools[proxy] = urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager()
        return self._pools[proxy]


def _trouble(url: str, cause: Exception) -> Trouble:
    if isinstance(cause, NewConnectionError | MaxRetryError | ConnectionRefusedError):
        return Trouble(Answer.OFFLINE, f"{url}: {cause}")
    if isinstance(cause, SSLError | LocationValueError):
        return Trouble(Answer.SERVER_WRONG, f"{url}: {cause}")
    if isinstance(cause, ReadTimeoutError | TimeoutError):
        return Trouble(Answer.TIMED_OUT, f"{url}: the server went silent")
    return Trouble(Answer.OFFLINE, f"{url}: {cause}")


def fetch_file(
    http: Http, url: str, target: Path, *, size_bytes: int, sha256: Sha256, progress: Callable[[int], None]
) -> int:
    """Download a file of known size and hash, resuming an earlier try; return the number of bytes downloaded.

    Bytes are appended to `<target>.part`. Only a file with the right hash gets the final name, durably.

    Raises:
        Trouble: the download is incomplete, and its part is kept for the next try; or, with the answer REFUSED, the
            file differs from the signed one.
    """
    part = target.with_name(f"{target.name}.part")
    fetched_bytes = 0
    for _ in range(2):
        start = min(part.stat().st_size, size_bytes) if part.exists() else 0
        fetched_bytes += _fetch_rest(http, url, part, start=start, size_bytes=size_bytes, progress=progress)
        if files.sha256_of(part) == sha256:
            _finish(part, target)
            return fetched_bytes
        file_calls.remove(part, missing_ok=False)
        if start == 0:
            break
        # The part from an earlier try may have been damaged: retry from the start.
    raise Trouble(Answer.REFUSED, f"{url}: it is not what was signed")


def _fetch_rest(
    http: Http, url: str, part: Path, *, start: int, size_bytes: int, progress: Callable[[int], None]
) -> int:
    if start == size_bytes:
        return 0
    with http.get(url, start=start) as reply:
        if reply.status not in (200, 206):
            raise Trouble(Answer.SERVER_WRONG, f"{url}: status {reply.status}")
        done = start if reply.status == 206 else 0
        try:
            with file_calls.open_to_write(part, "r+b" if done else "wb") as file:
                file.seek(done)
                file.truncate()
                for chunk in reply.chunks():
                    done += len(chunk)
                    if done > size_bytes:
                        # Larger than signed, so it is another file; the hash check will refuse it.
                        break
                    file.write(chunk)
                    progress(done)
        except OSError as cause:
            full = cause.errno in (errno.ENOSPC, errno.EDQUOT)
            raise Trouble(Answer.NO_SPACE if full else Answer.TROUBLE, f"{part}: {cause.strerror or cause}") from cause
    if done < size_bytes:
        raise Trouble(Answer.OFFLINE, f"{url}: it ended after {done} of {size_bytes} bytes")
    return done - (start if reply.status == 206 else 0)


def _finish(part: Path, target: Path) -> None:
    files.sync_file(part)
    files.rename_durably(source=part, target=target)
