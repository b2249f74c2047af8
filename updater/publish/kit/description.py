"""The vendor's description of a kit: what the terminals are told, and how the installed product is called."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from updater.addresses import problem, scrubbed
from updater.publish.errors import PublishError

REQUIRED: Final = ("name", "vendor", "contact", "version", "url")
OPTIONAL: Final = ("mirrors", "proxy", "ca_file", "accounts", "interpreters")
VERSION: Final = re.compile(r"[0-9]+(\.[0-9]+){0,3}")
ONE_LINE: Final = re.compile(r"[^\x00-\x1f\"$`\\<>|]{1,100}")
"""For names: they stand in a setup script, in a control file and in the registry."""


class Description(NamedTuple):
    """Settings of a kit, as its file has them."""

    name: str
    """The product's name, as people read it."""
    vendor: str
    contact: str
    """An address of mail: the maintainer of the package."""
    version: str
    """The version of the kit, not of the app."""
    url: str
    mirrors: tuple[str, ...]
    proxy: str
    ca_file: Path | None
    till_user: str
    """The account that runs the app; on Linux there must be one."""
    till_group: str
    interpreters: Mapping[str, str]
    """Role → program on the terminal; `{rescue}` is the Python of the rescue folder."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the description in a file.

        Raises:
            PublishError: it cannot be read, or something in it is missing, not known or wrong.
        """
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as cause:
            raise PublishError(operation="read", path=path, cause=str(cause)) from cause
        known = {*REQUIRED, *OPTIONAL}
        wrong = [f"{name}: not known" for name in found.keys() - known]
        wrong += [f"{name}: missing" for name in REQUIRED if not isinstance(found.get(name), str)]
        if not wrong:
            wrong += list(_wrong(found))
        if wrong:
            raise PublishError(
                operation="use", path=path, cause="; ".join(sorted(wrong)), hint="docs/kit.md lists the keys."
            )
        accounts = found.get("accounts", {})
        return cls(
            name=found["name"].strip(),
            vendor=found["vendor"].strip(),
            contact=found["contact"].strip(),
            version=found["version"],
            url=found["url"],
            mirrors=tuple(found.get("mirrors", ())),
            proxy=found.get("proxy", ""),
            ca_file=path.parent / found["ca_file"] if found.get("ca_file") else None,
            till_user=accounts.get("till", ""),
            till_group=accounts.get("group", ""),
            interpreters=dict(found.get("interpreters", {})),
        )


def _wrong(found: Mapping[str, Any]) -> list[str]:
    wrong = [
        f"{name}: one line, without quotes and signs" for name in REQUIRED[:3] if not ONE_LINE.fullmatch(found[name])
    ]
    if not VERSION.fullmatch(found["version"]):
        wrong.append("version: up to four numbers with dots")
    mirrors = found.get("mirrors", [])
    if not isinstance(mirrors, list) or not all(isinstance(mirror, str) for mirror in mirrors):
        return [*wrong, "mirrors: a list of strings"]
    wrong += [f"{scrubbed(url)} {cause}" for url in (found["url"], *mirrors) if (cause := problem(url))]
    for name in ("accounts", "interpreters"):
        table = found.get(name, {})
        if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
            wrong.append(f"{name}: a table of strings")
        elif name == "accounts" and (unknown := table.keys() - {"till", "group"}):
            wrong.append(f"accounts: {', '.join(sorted(unknown))} not known")
    return wrong + [f"{name}: a string" for name in ("proxy", "ca_file") if not isinstance(found.get(name, ""), str)]
