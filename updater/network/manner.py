"""The manner in which addresses are asked: limits, proxy, certificates. Small: the agent's own process has it."""

from __future__ import annotations

from typing import NamedTuple


class Manner(NamedTuple):
    """Limits, proxy and certificates of all requests of a terminal."""

    least_rate: int
    """Bytes per second below which a server is given up."""
    most_rate: int = 0
    """Bytes per second that a download may take of the shop's line; 0 for no limit."""
    answer_seconds: float = 30.0
    """From the name of a server to the last of its headers, redirects included."""
    silence_seconds: float = 20.0
    """Longest silence of a server in the middle of an answer."""
    retries_count: int = 3
    """Tries in a row that bring nothing, until an address is given up."""
    retry_seconds: float = 1.0
    """The wait after the first of them; it doubles."""
    give_up_seconds: float = 4 * 3600.0
    """The longest time that an address is left alone, also if it asks for more."""
    reserve_bytes: int = 50_000_000
    """Free space that a download leaves on its disk."""
    proxy: str = ""
    """As in the settings: empty for what the environment or the system says."""
    no_proxy: tuple[str, ...] = ()
    ca_file: str = ""
    """PEM file with further certificate authorities; empty for none."""
