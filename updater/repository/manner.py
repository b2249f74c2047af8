"""The manner of asking that a terminal's settings describe, checked before anything is asked."""

from __future__ import annotations

from typing import NamedTuple

from updater.addresses import problem, shown
from updater.errors import SettingsError
from updater.network import proxies
from updater.network.manner import Manner
from updater.repository import credentials
from updater.settings import Settings


class Asked(NamedTuple):
    """Addresses of a repository with their secrets, for requests only, and the manner of asking them."""

    url: str
    mirrors: tuple[str, ...]
    manner: Manner


def asked_by(settings: Settings) -> Asked:
    """Return what is asked by these settings.

    Raises:
        SettingsError: the file of secrets is invalid.
        DiskProblem: the file of secrets cannot be read now.
    """
    found, limits = credentials.with_secrets(settings), settings.limits
    manner = Manner(
        least_rate=limits.minimum_bytes_per_second,
        most_rate=limits.maximum_bytes_per_second,
        answer_seconds=limits.answer_seconds,
        silence_seconds=limits.silence_seconds,
        retries_count=limits.retries_count,
        retry_seconds=limits.retry_seconds,
        give_up_seconds=limits.give_up_seconds,
        reserve_bytes=limits.least_free_bytes,
        proxy=found.proxy,
        no_proxy=settings.no_proxy,
        ca_file=settings.ca_file,
    )
    return Asked(found.url, found.mirrors, manner)


def check(settings: Settings) -> None:
    """Refuse addresses and a proxy that cannot be: on the agent's side alone. A till opens whatever they say.

    Raises:
        SettingsError: one of them, or the file of their secrets, cannot be used; the message shows no password.
        DiskProblem: the file of their secrets cannot be read now.
    """

    def wrong(key: str, cause: str) -> SettingsError:
        return SettingsError(operation="read the settings", path=settings.path, cause=f"{key}: {cause}")

    credentials.with_secrets(settings)
    for key, address in (("url", settings.url), *(("mirrors", mirror) for mirror in settings.mirrors)):
        if found := problem(address):
            raise wrong(key, f"{shown(address)} {found}")
    if settings.proxy and settings.proxy != proxies.NONE:
        try:
            proxies.parsed(settings.proxy)
        except proxies.BadProxy as cause:
            raise wrong("network.proxy", str(cause)) from None
    most, least = settings.limits.maximum_bytes_per_second, settings.limits.minimum_bytes_per_second
    if 0 < most < 2 * least:
        raise wrong("limits.maximum_bytes_per_second", f"must be 0 or at least twice the minimum, {2 * least}")
