"""Names, passwords and tokens of a terminal's addresses, in a file of the agent's own: `private/secrets.toml`.

The settings can be read by every account of the terminal, so they should hold none.
"""

from __future__ import annotations

import tomllib
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from dbsync.errors import disk_problem
from dbsync.storage import file_calls
from updater.addresses import is_folder, shown
from updater.errors import SettingsError
from updater.settings import Settings

FORMAT: Final = 1
NAME: Final = "secrets.toml"


def with_secrets(settings: Settings) -> Settings:
    """Return the settings with the secrets of their addresses and their proxy put in; for requests only.

    The file has `format = 1` and a table `secrets`: an address as the settings have it, and `name:password`, or `?` and
    a query such as a token. A terminal without the file has no secrets.

    Raises:
        SettingsError: the file is invalid, or names an address that the settings do not have; no secret is shown.
        DiskProblem: the file cannot be read now.
    """
    secrets = _read(settings)
    if not secrets:
        return settings
    known = {settings.url, *settings.mirrors, settings.proxy} - {""}
    for address in secrets:
        if address not in known:
            raise _wrong(settings, f"{shown(address)} is neither url, nor one of mirrors, nor network.proxy")

    def put(address: str) -> str:
        return _joined(settings, address, secrets[address]) if address in secrets else address

    return settings._replace(
        url=put(settings.url), mirrors=tuple(put(mirror) for mirror in settings.mirrors), proxy=put(settings.proxy)
    )


def _read(settings: Settings) -> dict[str, str]:
    path = settings.private / NAME
    try:
        found = tomllib.loads(file_calls.read_text(path))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except tomllib.TOMLDecodeError as cause:
        # Where it is wrong, and nothing of the line: that may be a password.
        position = str(cause).rpartition("(")[2].rstrip(")")
        raise _wrong(settings, f"it is no TOML ({position})") from None
    except (IsADirectoryError, ValueError):
        raise _wrong(settings, "it is no text") from None
    except OSError as cause:
        raise disk_problem("read", path, cause) from cause
    if not found:
        return {}
    secrets = found.get("secrets", {})
    if found.get("format") != FORMAT or found.keys() - {"format", "secrets"} or not isinstance(secrets, dict):
        raise _wrong(settings, f"it must have `format = {FORMAT}` and a table `secrets`, and nothing else")
    if not all(isinstance(secret, str) and secret for secret in secrets.values()):
        raise _wrong(settings, 'each secret must be a string, "name:password" or "?query"')
    return secrets


def _joined(settings: Settings, address: str, secret: str) -> str:
    parts = urlsplit(address if "://" in address else f"http://{address}")
    if is_folder(address) and address != settings.proxy:
        raise _wrong(settings, f"{address} is a folder, which takes no secret")
    if "@" in parts.netloc or parts.query:
        raise _wrong(settings, f"{shown(address)} has a secret in the settings too: remove that one")
    if secret.startswith("?"):
        if address == settings.proxy:
            raise _wrong(settings, f"{shown(address)} is a proxy, which takes a name and a password")
        return urlunsplit(parts._replace(query=secret[1:]))
    name, _, password = secret.partition(":")
    return urlunsplit(parts._replace(netloc=f"{quote(name, safe='')}:{quote(password, safe='')}@{parts.netloc}"))


def _wrong(settings: Settings, cause: str) -> SettingsError:
    path = settings.private / NAME
    return SettingsError(operation="read", path=path, cause=cause, hint=f"Fix {path}.")
