"""A terminal after a disturbance: its next starts until it is at rest, and the four sentences that have to be true.

Something complete starts; the schema fits it; no sale that a customer has a receipt of is lost; it settles.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.storage.locks import Lock
from tests.helpers.recorded import read_json
from tests.helpers.shop import files, version
from tests.helpers.terminal import Till
from updater.repository import unchanged

SETTLING_COUNT: Final = 6
"""So many starts, each with a cycle of the agent, have to be enough."""
SOLD_COUNT: Final = 2
"""Count of sales that the cashier makes at each of them."""


class Rest(NamedTuple):
    """How a terminal ended up."""

    opened: str
    """The version that sells; empty if none did."""
    phase: str
    violations: tuple[str, ...]


def come_to_rest(till: Till, *, schemas: Mapping[str, int], reboots: bool = False) -> Rest:
    """Open, sell, close and look for updates until the terminal is at rest; return what is not as promised.

    Args:
        till: the terminal; nothing disturbs it any more.
        schemas: the schema that fits each version.
        reboots: whether every start is in a boot of its own.
    """
    held, opened, refused = len(till.held_receipts()), "", list[str]()
    for number in range(SETTLING_COUNT):
        done = till.launch(sell=SOLD_COUNT, **({"TILLKEEPER_BOOT_ID": f"boot-{number}"} if reboots else {}))
        if done.returncode != 0:
            refused.append(f"start {number + 1} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
        opened = next((line.split()[1] for line in done.stdout.splitlines() if line.endswith("is open")), "")
        unchanged._ASKED.clear()
        till.check()
        if opened and _journal(till)[0] == "IDLE":
            break
    phase, starts = _journal(till)
    found = [*refused, *_broken(till, opened=opened, schemas=schemas)]
    if len(till.held_receipts()) < held + SOLD_COUNT:
        found.append("nothing was sold at the end")
    if (phase, starts) != ("IDLE", opened):
        found.append(f"it does not settle: {phase}, {starts} starts next, {opened or 'nothing'} opened")
    return Rest(opened, phase, tuple(found))


def _journal(till: Till) -> tuple[str, str]:
    """The phase, and the version that starts when it is IDLE: as it is on disk."""
    found = read_json(till.folder / "state" / "journal.json")
    return found["phase"], found["good"]["version"]


def _broken(till: Till, *, opened: str, schemas: Mapping[str, int]) -> Iterator[str]:
    if opened not in schemas:
        yield f"nothing complete starts: {opened!r}"
        return
    folders = list((till.folder / "program" / "versions").glob(f"{opened}-*"))
    wrong = [name for folder in folders for name in _differing(folder)]
    if len(folders) != 1 or wrong:
        yield f"{opened} is not complete: {[folder.name for folder in folders]}, {wrong}"
    schema = version(till.database)
    if schema != schemas[opened]:
        yield f"{opened} runs on schema {schema}"
    with closing(sqlite3.connect(till.database)) as database:
        if (answer := database.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            yield f"the database is damaged: {answer}"
    if lost := till.lost_receipts():
        yield f"{len(lost)} sales are lost: {lost[:3]}"
    if not Lock(Path(f"{till.database}.lock")).is_free():
        yield "the lock of the database is held"
    if parts := [name for name in files(till.database.parent) if ".part-" in name]:
        yield f"parts are left: {parts}"


def _differing(folder: Path) -> Iterator[str]:
    """Yield the files of a version that are not as its manifest lists them."""
    for name, entry in read_json(folder / "tillkeeper-manifest.json")["files"].items():
        path = folder / name
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            yield name
