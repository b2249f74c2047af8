"""Requests to one address of a repository: a web server, or a folder of this machine, with limits on everything.

Used only in the child process of `repository.child`. Each request runs in a thread of its own (`exchange`), so that
name servers and dripping headers are bounded too.
"""

from __future__ import annotations

import itertools
import os
import re
import ssl
import stat
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple, Self
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import (
    HTTPError,
    LocationValueError,
    MaxRetryError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from dbsync.storage import file_calls
from dbsync.storage.platform import this_platform
from updater import __version__
from updater.addresses import folder_of, is_folder, joined, plain, scrubbed, secrets_of, shown, without
from updater.answers import Answer
from updater.decisions.transfer import BUSY, Head, most_bytes, undoes
from updater.network.exchange import Exchange, Late
from updater.network.manner import Manner
from updater.network.proxies import BadProxy, Proxy, chosen

DETAIL_LIMIT: Final = 500
"""Characters of a cause: a server can send a line of 64 kB where a status is."""
REDIRECTS_COUNT: Final = 5
CONNECT_SECONDS: Final = 10.0
RATE_WINDOW_SECONDS: Final = 10.0
READ_BYTES: Final = 1 << 16
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_SPAN: Final = re.compile(r"^bytes (\d+)-(\d+)/(\d+|\*)$")
_WRONG_SERVER: Final = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "HTTP_REQUEST", "doesn't match")
"""Words of TLS errors that the same server gives again; the others are a bad line."""


class Trouble(Exception):
    """Failed fetch: the answer it leads to, and the cause, which shows no secret of any URL."""

    def __init__(self, answer: Answer, detail: str, *, wait_seconds: float | None = None) -> None:
        super().__init__(scrubbed(detail))
        self.answer = answer
        self.detail = scrubbed(detail)
        self.wait_seconds = wait_seconds
        """How long the server asked to be left alone; None if it did not."""

    def without(self, secrets: Sequence[str]) -> Self:
        """Return it without secrets that a server has repeated, and short: what people read is no place for pages."""
        self.detail = without(self.detail, secrets)[:DETAIL_LIMIT]
        self.args = (self.detail,)
        return self


class ForeignCoding(Trouble):
    """An answer in a content coding that nobody asked for and that cannot be undone."""


class Told(NamedTuple):
    """Head of an answer."""

    head: Head
    url: str
    """Where it came from in the end, as people may see it."""
    date: str | None = None
    wait_seconds: float | None = None


class Reply:
    """Answer whose body has not been read yet."""

    def __init__(self, name: str, told: Told, exchange: Exchange[Told], manner: Manner, until: float) -> None:
        self._name: Final = name
        self.told: Final = told
        self.status: Final = told.head.status
        self.received_bytes = 0
        """What came over the line."""
        self._exchange: Final = exchange
        self._manner: Final = manner
        self._until: Final = until

    def refuse_busy(self) -> None:
        """Raise Trouble if the server is to be asked later: overloaded, closed, or without what lies behind it."""
        if self.status in BUSY:
            detail = f"{self.told.url}: status {self.status}"
            raise Trouble(Answer.SERVER_BUSY, detail, wait_seconds=self.told.wait_seconds)

    def chunks(
        self, *, size_bytes: int | None = None, limit_bytes: int | None = None, least_rate: float | None = None
    ) -> Iterator[bytes]:
        """Yield the body as it arrives, its content coding undone where it is none of the file's own.

        Args:
            size_bytes: the signed size of the file; None where it is not known.
            limit_bytes: what it may have at most, where its size is not known; None for what metadata may have.
            least_rate: bytes per second; None for that of the settings.

        Raises:
            Trouble: the server stalls, is too slow, closes the connection, or the coding is not one that can be undone.
        """
        rate = self._manner.least_rate if least_rate is None else least_rate
        head, raw = self.told.head, self._raw(rate, most_bytes(limit_bytes if size_bytes is None else size_bytes))
        if head.coding in ("", "identity"):
            yield from raw
            return
        first = next(raw, b"")
        is_gzip, decoded = self._name.endswith(".gz"), _begin(head.coding, first)
        undone = undoes(head, is_gzip=is_gzip, first=first, decoded=decoded, size_bytes=size_bytes)
        if undone is None:
            cause = f"{self.told.url}: content coding {head.coding}, which nobody asked for"
            raise ForeignCoding(Answer.SERVER_WRONG, cause)
        if not undone:
            yield first
            yield from raw
            return
        yield from _decoded(head.coding, first, raw, self.told.url)

    def _raw(self, least_rate: float, limit_bytes: int) -> Iterator[bytes]:
        began, window_bytes, opened = time.monotonic(), 0, time.monotonic()
        while True:
            limit = min(time.monotonic() + self._manner.silence_seconds, self._until)
            try:
                chunk = self._exchange.next(until=limit)
            except Late:
                raise Trouble(Answer.TIMED_OUT, f"{self.told.url}: the server went silent") from None
            except (HTTPError, OSError, ValueError) as cause:
                raise _trouble(self.told.url, cause, in_body=True) from cause
            if not isinstance(chunk, bytes):
                return
            self.received_bytes += len(chunk)
            window_bytes += len(chunk)
            if self.received_bytes > limit_bytes:
                raise Trouble(Answer.SERVER_WRONG, f"{self.told.url}: more than {limit_bytes} bytes came, and no end")
            yield chunk
            now = time.monotonic()
            if now >= self._until:
                raise Trouble(Answer.TIMED_OUT, f"{self.told.url}: its time was up")
            if now - began >= RATE_WINDOW_SECONDS:
                rate = window_bytes / (now - began)
                if rate < least_rate:
                    raise Trouble(Answer.TIMED_OUT, f"{self.told.url}: only {rate:.0f} bytes per second")
                began, window_bytes = now, 0
            if self._manner.most_rate:
                time.sleep(max(0.0, self.received_bytes / self._manner.most_rate - (now - opened)))

    def close(self) -> None:
        """Do not wait for the rest of the body."""
        self._exchange.leave()


class Http:
    """Requests to one address.

    Args:
        address: a web server or a folder.
        manner: limits, proxy and certificates.
        until: monotonic time at which this address has had its share; None for no end.
    """

    def __init__(self, address: str, manner: Manner, *, until: float | None = None) -> None:
        self.address: Final = address
        self.shown: Final = shown(address)
        self._manner: Final = manner
        self._until: Final = float("inf") if until is None else until
        self._pools: dict[Proxy | None, urllib3.PoolManager] = {}
        self.date: str | None = None
        """Date header of the last answer: not trusted, but a hint which clock is wrong."""

    @contextmanager
    def get(self, name: str, *, start: int = 0, strict: bool = False) -> Iterator[Reply]:
        """Ask for a file of the repository, or for the rest of it from byte `start` on.

        Args:
            name: its name, such as `metadata/timestamp.json`.
            start: the first byte.
            strict: whether every content coding is refused by name; the usual words do not forbid one.

        Raises:
            Trouble: no answer, or too many redirects. An error status counts as an answer.
        """
        steps = self._from_folder(name, start) if is_folder(self.address) else self._from_web(name, start, strict)
        exchange: Exchange[Told] = Exchange(steps)
        try:
            told = self._told(exchange, f"{plain(self.address)}/{name}")
            self.date = told.date or self.date
            yield Reply(name, told, exchange, self._manner, self._until)
        except Trouble as trouble:
            trouble.without(secrets_of(self.address))
            raise
        finally:
            exchange.leave()

    def _told(self, exchange: Exchange[Told], url: str) -> Told:
        try:
            told = exchange.next(until=min(time.monotonic() + self._manner.answer_seconds, self._until))
        except Late:
            raise Trouble(Answer.TIMED_OUT, f"{url}: no answer in time") from None
        except BadProxy as cause:
            raise Trouble(Answer.TROUBLE, f"the proxy of the settings or the environment {cause}") from None
        except (HTTPError, LocationValueError, OSError, ValueError) as cause:
            raise _trouble(url, cause, in_body=False) from cause
        assert isinstance(told, Told)
        return told

    # ---------------------------------------------------------------------------------------------- in the thread

    def _from_web(self, name: str, start: int, strict: bool) -> Iterator[Told | bytes]:
        headers = {
            "User-Agent": f"tillkeeper/{__version__}",
            "Accept-Encoding": "identity;q=1, *;q=0" if strict else "identity",
            "Cache-Control": "no-transform",
        }
        if start:
            headers["Range"] = f"bytes={start}-"
        parts = urlsplit(joined(self.address, name))
        first, user_password = _without_user(parts.geturl()), _user_password(self.address)
        response, url = self._follow(first, headers, user_password)
        try:
            yield _told(response, url)
            # read1 returns the bytes at hand: reading a fixed amount would hide a very slow server in one endless call.
            while chunk := response.read1(READ_BYTES, decode_content=False):
                yield chunk
        finally:
            response.close()

    def _follow(self, url: str, headers: dict[str, str], user_password: str) -> tuple[urllib3.BaseHTTPResponse, str]:
        first = url
        for _ in range(REDIRECTS_COUNT + 1):
            # Name and password are this server's: no other one gets them.
            own = (
                urllib3.make_headers(basic_auth=user_password)
                if user_password and _origin(url) == _origin(first)
                else {}
            )
            response = self._pool(url).request(
                "GET",
                url,
                headers={**headers, **own},
                preload_content=False,
                redirect=False,
                retries=False,
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=self._manner.silence_seconds),
            )
            if response.status not in _REDIRECTS:
                return response, url
            where = urljoin(url, response.headers.get("Location", ""))
            response.close()
            if urlsplit(where).scheme not in ("https", urlsplit(url).scheme):
                raise Trouble(Answer.SERVER_WRONG, f"{shown(url)} leads to {shown(where)}")
            url = _without_user(where)
        raise Trouble(Answer.SERVER_WRONG, f"{shown(url)}: more than {REDIRECTS_COUNT} redirects")

    def _pool(self, url: str) -> urllib3.PoolManager:
        proxy = _proxy(url, self._manner)
        if proxy not in self._pools:
            options: dict[str, Any] = {}
            if self._manner.ca_file:
                options["ssl_context"] = _context(self._manner.ca_file)
            if proxy is None:
                self._pools[proxy] = urllib3.PoolManager(**options)
            elif proxy.is_socks:
                self._pools[proxy] = _through_socks(proxy, options)
            else:
                auth = urllib3.make_headers(proxy_basic_auth=proxy.user_password) if proxy.user_password else None
                if proxy.url.startswith("https:") and options:
                    options["proxy_ssl_context"] = options["ssl_context"]
                self._pools[proxy] = urllib3.ProxyManager(proxy.url, proxy_headers=auth, **options)
        return self._pools[proxy]

    def _from_folder(self, name: str, start: int) -> Iterator[Told | bytes]:
        folder = folder_of(self.address)
        if not folder.is_dir():
            raise Trouble(Answer.OFFLINE, f"{folder} is not there")
        url = str(folder / name)
        try:
            # Anybody may have written a stick: no FIFO, no device.
            descriptor = this_platform().open_claim(folder / name, through_links=True)
        except FileNotFoundError:
            yield Told(Head(404), url)
            return
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Trouble(Answer.SERVER_WRONG, f"{url} is no file")
            size = found.st_size
            if start > size:
                yield Told(Head(416), url)
                return
            file.seek(start)
            yield Told(Head(206 if start else 200, size - start, (start, size - 1, size) if start else None), url)
            while chunk := file.read(READ_BYTES):
                yield chunk


def _proxy(url: str, manner: Manner) -> Proxy | None:
    from urllib.request import getproxies, getproxies_environment, proxy_bypass

    parts = urlsplit(url)
    system: dict[str, str] = {}
    if not getproxies_environment():
        # Of the operating system: its own rules for direct hosts count there.
        system = {} if proxy_bypass(parts.hostname or "") else getproxies()
    return chosen(url, setting=manner.proxy, no_proxy=manner.no_proxy, environment=dict(os.environ), system=system)


def _through_socks(proxy: Proxy, options: dict[str, Any]) -> urllib3.PoolManager:
    # Here, because it loads a library that few terminals need.
    from urllib3.contrib.socks import SOCKSProxyManager

    user, _, password = proxy.user_password.partition(":")
    return SOCKSProxyManager(proxy.url, username=user or None, password=password or None, **options)


def _context(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        file_calls.patiently(lambda: context.load_verify_locations(cafile=ca_file))
    except (OSError, ssl.SSLError) as cause:
        raise Trouble(Answer.TROUBLE, f"network.ca_file {ca_file}: {cause}") from cause
    return context


def _told(response: urllib3.BaseHTTPResponse, url: str) -> Told:
    headers = response.headers
    length, span = headers.get("Content-Length", ""), _SPAN.match(headers.get("Content-Range", ""))
    return Told(
        Head(
            response.status,
            int(length) if length.isdigit() else None,
            (int(span[1]), int(span[2]), None if span[3] == "*" else int(span[3])) if span else None,
            headers.get("Content-Encoding", "").strip().lower(),
        ),
        shown(url),
        headers.get("Date"),
        _wait_seconds(headers.get("Retry-After", "").strip(), headers.get("Date")),
    )


def _wait_seconds(text: str, date: str | None) -> float | None:
    """Return what Retry-After says: seconds, or a time that is compared with the server's own clock."""
    if text.isdigit():
        return float(text[:9])
    try:
        began = parsedate_to_datetime(date).timestamp() if date else time.time()
        return max(0.0, parsedate_to_datetime(text).timestamp() - began)
    except (TypeError, ValueError, OverflowError):
        return None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _user_password(address: str) -> str:
    parts = urlsplit(address)
    return f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if "@" in parts.netloc else ""


def _begin(coding: str, first: bytes) -> bytes:
    """Return the first bytes of a body with its coding undone; empty if that fails."""
    try:
        return bytes(_decoder(coding, first).decompress(first, READ_BYTES))
    except zlib.error:
        return b""


def _decoder(coding: str, first: bytes) -> Any:
    if coding != "deflate":
        return zlib.decompressobj(31)
    # By the standard with a head of zlib, by some servers without it.
    has_head = len(first) > 1 and first[0] & 0x0F == 8 and int.from_bytes(first[:2], "big") % 31 == 0
    return zlib.decompressobj(15 if has_head else -15)


def _decoded(coding: str, first: bytes, rest: Iterator[bytes], url: str) -> Iterator[bytes]:
    """Yield a body with its coding undone, in pieces that are never large, whatever they unpack to."""
    decoder = _decoder(coding, first)
    try:
        for chunk in itertools.chain((first,), rest):
            left = chunk
            while left:
                piece = decoder.decompress(left, READ_BYTES)
                left = decoder.unconsumed_tail
                if piece:
                    yield piece
                if decoder.eof and decoder.unused_data:
                    left, decoder = decoder.unused_data, _decoder(coding, decoder.unused_data)
    except zlib.error as cause:
        raise Trouble(Answer.SERVER_WRONG, f"{url}: the content coding {coding} is damaged") from cause
    if not decoder.eof:
        raise Trouble(Answer.OFFLINE, f"{url}: it ended before its content coding did")


def _trouble(url: str, cause: Exception, *, in_body: bool) -> Trouble:
    words = str(cause)
    if isinstance(cause, SSLError | ssl.SSLError):
        wrong = not in_body and any(word in words for word in _WRONG_SERVER)
        return Trouble(Answer.SERVER_WRONG if wrong else Answer.OFFLINE, f"{url}: {words}")
    if isinstance(cause, LocationValueError):
        return Trouble(Answer.SERVER_WRONG, f"{url}: {words}")
    if isinstance(cause, ProxyError):
        wrong = "407" in words or "403" in words
        asks = ": it asks for a name and a password" if "407" in words else ""
        answer = Answer.SERVER_WRONG if wrong else Answer.OFFLINE
        return Trouble(answer, f"{url}: the proxy does not let it through{asks}: {words}")
    if isinstance(cause, NewConnectionError) and "authentication" in words:
        # PySocks has no other sign of it: that of a SOCKS proxy which does not know this name and password.
        detail = f"{url}: the proxy does not let it through: it asks for a name and a password: {words}"
        return Trouble(Answer.SERVER_WRONG, detail)
    if isinstance(cause, NewConnectionError | MaxRetryError | ConnectionRefusedError):
        return Trouble(Answer.OFFLINE, f"{url}: {words}")
    if isinstance(cause, ReadTimeoutError | TimeoutError):
        return Trouble(Answer.TIMED_OUT, f"{url}: the server went silent")
    return Trouble(Answer.OFFLINE, f"{url}: {words}")
