"""Addresses of a repository: web servers and folders, checked, put together, and shown without their secrets."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit, urlunsplit

HIDDEN: Final = "***"
WEB: Final = ("http", "https")
LEAST_SECRET_LENGTH: Final = 6
_WORD: Final = re.compile(r"[^/\s'\"]+")
"""A word, which may hold a user: a server can send a line of any length, so each character is looked at once."""
_QUERY: Final = re.compile(r"\?[^\s'\"<>()]+")


def problem(address: str) -> str:
    """Return why an address cannot be one of a repository; empty if it can."""
    if is_folder(address):
        return "" if folder_of(address).is_absolute() else "is not an address: the path of a folder must be absolute"
    try:
        parts = urlsplit(address)
        # Reading the port checks it.
        has_port = parts.port is None or parts.port > 0
    except ValueError as cause:
        return f"is not a URL: {cause}"
    if parts.scheme not in WEB or not parts.hostname or not has_port:
        return "is not an address: give a URL with http:// or https://, or a folder as an absolute path or file:///PATH"
    return ""


def is_folder(address: str) -> bool:
    """Return whether an address is a folder of this machine, such as a USB stick or a mounted share."""
    return address.lower().startswith("file:") or "://" not in address


def folder_of(address: str) -> Path:
    """Return the folder of an address that is one."""
    if not address.lower().startswith("file:"):
        return Path(address)
    parts = urlsplit(address)
    if parts.netloc not in ("", "localhost"):
        # A share, as Windows writes it.
        return Path(f"//{parts.netloc}{unquote(parts.path)}")
    # Here, because it loads much, and a look at a web server does not need it.
    from urllib.request import url2pathname

    return Path(url2pathname(parts.path))


def plain(address: str) -> str:
    """Return an address without user, password, query and last slash: what TUF and people get to see."""
    if is_folder(address):
        return folder_of(address).as_uri()
    parts = urlsplit(address)
    return urlunsplit(SplitResult(parts.scheme, _host(parts), parts.path.rstrip("/"), "", ""))


def joined(address: str, name: str) -> str:
    """Return the URL of a file of the repository; the query of the address, such as a token of a store, stays."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}", fragment=""))


def shown(url: str) -> str:
    """Return a URL for people and records: without user and password, and with the query hidden."""
    if is_folder(url):
        return url
    parts = urlsplit(url)
    return urlunsplit(SplitResult(parts.scheme, _host(parts), parts.path, HIDDEN if parts.query else "", ""))


def secrets_of(address: str) -> tuple[str, ...]:
    """Return the passwords and tokens of an address, as requests and as what a server repeats of them have them."""
    if is_folder(address):
        return ()
    parts = urlsplit(address)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    found = {password, parts.password or "", b64encode(f"{user}:{password}".encode()).decode() if password else ""}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        found |= {value or name, quote(value or name, safe="")}
    # A shorter one is a part of too many words: what is hidden everywhere tells what it is.
    return tuple(sorted((secret for secret in found if len(secret) >= LEAST_SECRET_LENGTH), key=len, reverse=True))


def without(text: str, secrets: Iterable[str]) -> str:
    """Return a string without secrets, however a server has changed their capital letters."""
    for secret in secrets:
        text = re.sub(re.escape(secret), HIDDEN, text, flags=re.IGNORECASE)
    return text


def scrubbed(text: str) -> str:
    """Return a string, such as a library's error, without the users, passwords and queries of the URLs in it."""
    return _QUERY.sub(f"?{HIDDEN}", _WORD.sub(_without_user, text))


def _without_user(found: re.Match[str]) -> str:
    """Return a word without the user and password in it; also of a proxy that is written without a scheme."""
    user, _, rest = found[0].rpartition("@")
    is_of_url = found.string.endswith("://", 0, found.start())
    return f"{HIDDEN}@{rest}" if user and (is_of_url or ":" in user) else found[0]


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]
