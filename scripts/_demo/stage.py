"""The processes of the demonstration: commands, the web server, a till whose plug is pulled; and its disk."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND_SECONDS = 900.0
"""A hung command must end some day; a slow machine is no failure."""


class Launch(NamedTuple):
    """How one `updater launch` went."""

    exit_code: int | None
    """None: its plug was pulled."""
    output: str
    errors: str
    away_seconds: float
    """From the start of the command until the till was open, or until it ended."""
    opened: str
    """The line with which the app said that it is open; empty if it never was."""
    notice: str
    """What the clerk read on the till's screen."""


class Stage:
    """One folder with everything in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vendor, self.public, self.till = folder / "vendor", folder / "public", folder / "till"
        self.settings, self.database = self.till / "settings.toml", self.till / "data" / "pos_system.db"
        self.receipts = folder / "receipts.txt"
        self._server_log = folder / "server.log"
        self._server: subprocess.Popen[str] | None = None
        self._counted_bytes = 0
        self.boots = 1
        self.url = ""

    # ------------------------------------------------------------------------------------------------- processes

    def environment(self) -> dict[str, str]:
        """What every process of the demonstration gets."""
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONIOENCODING": "utf-8",
            "PYTHONUTF8": "1",
            "TILLKEEPER_KEY_PASSWORD": "a password for this demonstration only",
            "TILLKEEPER_SETTINGS": str(self.settings),
            "TILLKEEPER_BOOT_ID": f"demo-boot-{self.boots}",
            "SAMPLE_TILL_RECEIPTS": str(self.receipts),
        }

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Runs one command to its end."""
        return subprocess.run(
            [sys.executable, *map(str, words)], env=self.environment(), cwd=self.folder, capture_output=True,
            encoding="utf-8", timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip

    def updater(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """`updater …`."""
        return self.run("-m", "updater", *words)

    def serve(self) -> None:
        """Starts the web server."""
        with self._server_log.open("w") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "updater", "publish", "serve", str(self.public), "--port", "0"],
                env=self.environment(), cwd=self.folder, stdout=subprocess.PIPE, stderr=log, encoding="utf-8",
            )  # fmt: skip
        assert self._server.stdout is not None
        self.url = self._server.stdout.readline().strip()

    def close(self) -> None:
        """Ends the web server."""
        if self._server is not None:
            self._server.terminate()
            self._server.communicate(timeout=COMMAND_SECONDS)

    def fetched_bytes(self) -> int:
        """What the server has sent since the last question."""
        total = sum(
            int(line.split()[1]) for line in self._server_log.read_text().splitlines() if line.endswith("bytes")
        )
        new, self._counted_bytes = total - self._counted_bytes, total
        return new

    def launch(self, *, sell: int, pull_the_plug_at: str = "", told: Callable[[str], None] | None = None) -> Launch:
        """The cashier starts the till, sells, and closes it; or the plug is pulled when a line says so."""
        began, opened_at, opened, lines = time.monotonic(), 0.0, "", []
        with (self.folder / "launcher-errors.txt").open("w+", encoding="utf-8") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "updater", "launch", "--", "--sell", str(sell)],
                env=self.environment(), cwd=self.folder, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8",
                start_new_session=True,
            )  # fmt: skip
            assert process.stdout is not None
            cut = False
            for line in process.stdout:
                if not cut and pull_the_plug_at and pull_the_plug_at in line:
                    cut = True
                    kill_everything(process)
                lines.append(line)
                if told is not None:
                    told(line.rstrip())
                if line.rstrip().endswith("is open"):
                    opened_at, opened = time.monotonic(), line.strip()
            code = process.wait()
            errors.seek(0)
            text = errors.read()
        self.boots += cut
        away_seconds = (opened_at or time.monotonic()) - began
        notices = [line.removeprefix("notice: ").strip() for line in lines if line.startswith("notice: ")]
        return Launch(None if cut else code, "".join(lines), text, away_seconds, opened, "".join(notices))

    # ------------------------------------------------------------------------------------------------ what is there

    def schema(self) -> int:
        """The live database's schema number."""
        with closing(sqlite3.connect(self.database)) as live:
            return int(live.execute("PRAGMA user_version").fetchone()[0])

    def takings(self) -> tuple[int, int]:
        """Sales and cents in the live database."""
        with closing(sqlite3.connect(self.database)) as live:
            count, cents = live.execute("SELECT count(*), coalesce(sum(totalCents), 0) FROM transactions").fetchone()
        return int(count), int(cents)

    def lost_receipts(self) -> list[str]:
        """Receipts that customers hold and that neither the live database nor what was put aside knows."""
        known: set[str] = set()
        for path in (self.database, *self.database.parent.glob("*-backup-before-*.db")):
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as connection:
                rows = connection.execute("SELECT receiptNumber || ' ' || totalCents FROM transactions")
                known.update(row[0] for row in rows)
        held = self.receipts.read_text(encoding="ascii").split("\n") if self.receipts.exists() else []
        return [one for one in held if one and one not in known]

    def status(self) -> dict[str, Any]:
        """What `updater status --json` tells."""
        found: dict[str, Any] = json.loads(self.updater("status", "--json").stdout)
        return found


def kill_everything(process: subprocess.Popen[str]) -> None:
    """The power goes: nobody gets to do anything any more."""
    if os.name == "nt":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
