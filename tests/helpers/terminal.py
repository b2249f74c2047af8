"""A real terminal: installed from a real server, its commands run as real processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.helpers import forks, shop
from tests.helpers.places import ROOT, moved
from tests.sample_till.fill import fill
from updater.flows.agent import Cycle, cycle
from updater.model import ProcessKind
from updater.settings import ACCEPTED_VARIABLE, Settings, load
from updater.terminal import events
from updater.terminal.installation import Wish, install
from updater.terminal.live import Terminal
from updater.terminal.state_files import StateFolder

os.environ.setdefault(ACCEPTED_VARIABLE, "forgets,removable,fat")
"""The files of tests and drills may lie in memory, or on any other disk."""
COMMAND_SECONDS = 120.0


class Till:
    """One terminal in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings_path = folder / "settings.toml"
        self.database = folder / "data" / "pos_system.db"
        self.receipts = folder / "receipts.txt"

    @property
    def settings(self) -> Settings:
        """As installed."""
        return load(self.settings_path, {})

    def install(self, root: Path, url: str, *, bundle: Path | None = None) -> None:
        """Makes the folder a terminal."""
        install(self.wish(root, url, bundle=bundle))

    def wish(self, root: Path, url: str, *, bundle: Path | None = None) -> Wish:
        """What is asked of an installation."""
        return Wish(
            app=None,
            url=url,
            root=root,
            settings=self.settings_path,
            program=self.folder / "program",
            state=self.folder / "state",
            data=self.folder / "data",
            backup_prefix="auraswift",
            interpreters=(("python", sys.executable),),
            bundle=bundle,
        )

    def fill(self, *, schema: int = 2, items_count: int = 400, duplicate_sku: bool = False) -> None:
        """The shop moves in."""
        found = shop.released(self.folder / "made-of", schema) if (self.folder / "made-of").exists() else None
        if found is None:
            (self.folder / "made-of").mkdir()
            found = shop.released(self.folder / "made-of", schema)
        assert shop.upgrade(self.database, found).ready
        fill(self.database, items_count=items_count, duplicate_sku=duplicate_sku)

    def copy_to(self, folder: Path, url: str) -> Till:
        """A terminal like this one in another folder: only its settings name the folder and the server."""
        shutil.copytree(self.folder, folder, symlinks=True)
        found = Till(folder)
        moved(found.settings_path, source=self.folder, target=folder)
        text = found.settings_path.read_text(encoding="utf-8")
        # A folder as an address has backslashes on Windows.
        found.settings_path.write_text(text.replace(self.settings.url, url.replace("\\", "\\\\")), encoding="utf-8")
        return found

    def limits(self, **values: float) -> None:
        """Puts limits into the settings file."""
        with self.settings_path.open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = {value}\n" for name, value in values.items())

    def check(self) -> Cycle:
        """One cycle of the agent, in this process."""
        return cycle(Terminal(self.settings, kind=ProcessKind.AGENT))

    def environment(self, **values: str) -> dict[str, str]:
        """What the till's processes get."""
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TILLKEEPER_SETTINGS": str(self.settings_path),
            "SAMPLE_TILL_RECEIPTS": str(self.receipts),
            **values,
        }

    def run(self, *words: str, **values: str) -> subprocess.CompletedProcess[str]:
        """`updater …` as a process."""
        return forks.run(["-m", "updater", *words], env=self.environment(**values), timeout=COMMAND_SECONDS)

    def launch(self, *, sell: int = 2, **values: str) -> subprocess.CompletedProcess[str]:
        """The cashier opens, sells, closes."""
        return self.run("launch", "--", "--sell", str(sell), **values)

    def status(self) -> dict[str, Any]:
        """`updater status --json`."""
        found: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return found

    def outcomes(self) -> list[str]:
        """What is on record, oldest first."""
        return [str(one["outcome"]) for one in events.read(self.settings.private, self.settings.shared)]

    def report(self, outcome: str) -> dict[str, Any]:
        """The last event of that name."""
        return [one for one in events.read(self.settings.private, self.settings.shared) if one["outcome"] == outcome][
            -1
        ]

    def terminal(self) -> Terminal:
        """As `updater status` looks at it: only reads."""
        return Terminal(self.settings, kind=ProcessKind.STATUS)

    def state(self) -> StateFolder:
        """The state files."""
        return StateFolder(self.settings.state, shared=self.settings.shared)

    def held_receipts(self) -> list[str]:
        """What customers hold."""
        return self.receipts.read_text().split("\n")[:-1] if self.receipts.exists() else []

    def lost_receipts(self) -> list[str]:
        """What customers hold and nobody knows."""
        import sqlite3
        from contextlib import closing

        known: set[str] = set()
        for path in (self.database, *self.database.parent.glob("*-backup-before-*.db")):
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as connection:
                rows = connection.execute("SELECT receiptNumber || ' ' || totalCents FROM transactions")
                known.update(row[0] for row in rows)
        return [one for one in self.held_receipts() if one not in known]
