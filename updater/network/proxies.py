"""Proxies: which one a request takes, by settings, environment or system, in the forms that curl takes."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

NONE: Final = "none"
"""In the settings: no proxy, whatever the environment says."""
SOCKS: Final = ("socks4", "socks4a", "socks5", "socks5h")
"""Kinds of SOCKS proxies. With socks4 and socks5 this terminal asks its name server, with the others the proxy does."""
_PORTS: Final = {"http": 1080, "https": 443, **dict.fromkeys(SOCKS, 1080)}
"""Where a proxy is without a port, as curl has it."""


class Proxy(NamedTuple):
    """A proxy, and the name and password that it asks for."""

    url: str
    user_password: str = ""
    """`user:password`; empty for none."""

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS, not HTTP."""
        return self.url.partition(":")[0] in SOCKS


class BadProxy(ValueError):
    """A proxy that cannot be used."""


def parsed(text: str) -> Proxy:
    """Return the proxy of a string such as `host:port` or `http://user:password@host:port`.

    Raises:
        BadProxy: it is none that can be used; the cause shows no password.
    """
    whole = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(whole)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as cause:
        raise BadProxy("is no proxy: give it as host:port") from cause
    if parts.scheme not in _PORTS or not parts.hostname:
        raise BadProxy("is no proxy: give it as host:port, http://host:port or socks5h://host:port")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    names = [unquote(part) for part in (parts.username, parts.password) if part is not None]
    user_password = f"{names[0]}:{names[1] if len(names) > 1 else ''}" if names else ""
    return Proxy(f"{parts.scheme}://{host}:{port}", user_password)


def chosen(
    url: str, *, setting: str, no_proxy: Sequence[str], environment: Mapping[str, str], system: Mapping[str, str]
) -> Proxy | None:
    """Return the proxy for a URL; None for none.

    Args:
        url: what is asked for.
        setting: the proxy of the settings; empty for that of the environment or the system.
        no_proxy: hosts that are asked directly, by the settings.
        environment: variables of this process.
        system: proxies of the operating system, by scheme; they count where the environment names none.

    Raises:
        BadProxy: it is none that can be used.
    """
    parts = urlsplit(url)
    names = {name.lower(): value for name, value in sorted(environment.items()) if value}
    # Small letters win, as in curl; sorted() puts them last.
    hosts = [*no_proxy, *names.get("no_proxy", "").replace(" ", ",").split(",")]
    if setting == NONE or bypasses(parts.hostname or "", parts.port, hosts):
        return None
    named = any(name.endswith("_proxy") and name != "no_proxy" for name in names)
    found = setting or names.get(f"{parts.scheme}_proxy") or names.get("all_proxy")
    found = found or ("" if named else system.get(parts.scheme, ""))
    return parsed(found) if found else None


def bypasses(host: str, port: int | None, hosts: Sequence[str]) -> bool:
    """Return whether a host is asked directly: `*`, names and their subdomains, addresses, networks, `host:port`."""
    address = _address(host)
    for pattern in (pattern.strip().lower() for pattern in hosts):
        if not pattern:
            continue
        if pattern == "*":
            return True
        name, _, its_port = pattern.rpartition(":") if pattern.count(":") == 1 or "]:" in pattern else (pattern, "", "")
        if its_port and its_port != str(port):
            continue
        name = name.strip("[]").removeprefix("*").removeprefix(".").rstrip(".")
        if address is not None and (_is_in(address, name)):
            return True
        if address is None and (host.lower().rstrip(".") == name or host.lower().rstrip(".").endswith(f".{name}")):
            return True
    return False


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_in(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
