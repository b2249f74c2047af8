"""Terminals that the code of earlier commits left: unpacked, used by commands as processes, read as plain files.

`tests/recorder/make.py` makes the recordings. Nothing here imports the product: what is on a disk is read with json and
sqlite3, so that the reading cannot change with the code.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.helpers import forks
from tests.helpers.places import ROOT
from tests.recorder import BINARY, BOOT, PYTHON, TERMINAL, URL

RECORDINGS = ROOT / "tests" / "fixtures" / "terminals"
COMMITS = sorted(path.name for path in RECORDINGS.iterdir() if path.is_dir())
COMMAND_SECONDS = 120.0


def scenes(commit: str) -> dict[str, dict[str, Any]]:
    """Return what a recording says of its scenes."""
    found: dict[str, dict[str, Any]] = read_json(RECORDINGS / commit / "scenes.json")["scenes"]
    return found


def commits_with(scene: str) -> list[str]:
    """Return the commits of which that scene is recorded."""
    return [commit for commit in COMMITS if scene in scenes(commit)]


def read_json(path: Path) -> Any:
    """Return a JSON document."""
    return json.loads(path.read_text(encoding="utf-8"))


def unpack(commit: str, scene: str, folder: Path, *, url: str) -> RecordedTerminal:
    """Make a scene's folder as it was, for this place, this interpreter, and a vendor at that address."""
    source, noted = RECORDINGS / commit / scene, scenes(commit)[scene]
    places = {TERMINAL: folder.as_posix(), PYTHON: Path(sys.executable).as_posix(), URL: url}
    for path in (path for path in source.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if not path.name.endswith(BINARY):
            for placeholder, place in places.items():
                # Inside strings of JSON and TOML: both escape alike.
                data = data.replace(placeholder.encode(), json.dumps(place, ensure_ascii=False)[1:-1].encode())
        copy = folder / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(data)
        copy.chmod(0o755 if path.relative_to(source).as_posix() in noted["executable"] else 0o644)
    for name in noted["empty_folders"]:
        (folder / name).mkdir(parents=True)
    return RecordedTerminal(folder)


class RecordedTerminal:
    """One unpacked terminal; or, with the folders `data` and `migrations` only, a database that dbsync looks after."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.data = folder / "data"
        self.backups = self.data / "backups"

    def _files(self, pattern: str) -> list[Path]:
        """Return files that lie in the state folder, or in one inside it since the files are moved."""
        folders = (self.state, self.state / "shared", self.state / "private")
        return [path for folder in folders for path in folder.glob(pattern)]

    # -------------------------------------------------------------------------------------------------- commands

    def run(self, *words: str, boot: str = BOOT, mood: str = "") -> subprocess.CompletedProcess[str]:
        """Run a Python command, in the boot that was recorded unless another is named."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TILLKEEPER_SETTINGS": str(self.folder / "settings.toml"),
            "TILLKEEPER_BOOT_ID": boot,
            "SMALL_TILL_MOOD": mood,
            "SMALL_TILL_RECEIPTS": str(self.folder / "receipts.txt"),
        }
        return forks.run(words, env=environment, cwd=self.folder, timeout=COMMAND_SECONDS)

    def launch(self, *, boot: str = BOOT, mood: str = "") -> tuple[int, str]:
        """Return the exit status of `updater launch` and the version of the app that opened; it sells once."""
        done = self.run("-m", "updater", "launch", "--", "--sell", "1", boot=boot, mood=mood)
        assert "Traceback" not in done.stderr, done.stderr
        opened = [line.split()[1] for line in done.stdout.splitlines() if line.endswith("is open")]
        return done.returncode, ",".join(opened)

    def check(self) -> tuple[int, str, list[str]]:
        """Return exit status, outcome, and deeds of `updater check`."""
        done = self.run("-m", "updater", "check", "--json")
        assert "Traceback" not in done.stderr, done.stderr
        told = json.loads(done.stdout)
        return done.returncode, told["outcome"], told["done"]

    def status(self) -> dict[str, Any]:
        """Return `updater status --json`."""
        done = self.run("-m", "updater", "status", "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def roll_back(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Return exit status and answer of `scripts/rollback.py`, run by a bare Python."""
        settings = ("--settings", str(self.folder / "settings.toml"))
        done = self.run("-I", "-S", str(ROOT / "scripts" / "rollback.py"), *settings, *words, "--json")
        return done.returncode, json.loads(done.stdout)

    def dbsync(self, command: str, *words: str, name: str = "shop.db", status: int = 0) -> dict[str, Any]:
        """Return the JSON answer of a command of dbsync that ends with this status."""
        done = self.run("-m", "dbsync", command, "--database", str(self.data / name), "--json", *words)
        assert done.returncode == status, done.stderr + done.stdout
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def says(self) -> tuple[str, str, int, bool]:
        """Return what `updater status` says: phase, version that starts, schema of the database, whether they fit."""
        found = self.status()
        return found["phase"], found["starts"]["version"], found["database"]["schema"], found["database"]["fits"]

    # --------------------------------------------------------------------------------------------------- reading

    def journal(self) -> tuple[str, str, str | None, str | None]:
        """Return phase, and the versions of the good release, the candidate and the previous one."""
        found = read_json(self.state / "journal.json")
        candidate, previous = found["candidate"], found["previous"]
        return (
            found["phase"],
            found["good"]["version"],
            candidate and candidate["version"],
            previous and previous["version"],
        )

    def trials(self) -> list[tuple[str, str, str | None, bool]]:
        """Return verdict, outcome, what became of the database, and closed, of every trial."""
        found = []
        for path in sorted(self._files("trial/[!.]*.json")):
            trial, ruling = read_json(path), self.state / "verdicts" / path.name
            ruled = read_json(ruling) if ruling.exists() else {**trial, "folded": trial["closed"]}
            found.append((ruled["verdict"], ruled["outcome"], trial["back"], ruled["folded"]))
        return found

    def counts(self) -> tuple[int, int, int]:
        """Return attempts, launches and interruptions of the only trial."""
        (path,) = self._files("trial/[!.]*.json")
        trial = read_json(path)
        return trial["attempts_count"], trial["launches_count"], trial["interruptions_count"]

    def proofs(self) -> list[tuple[str, str]]:
        """Return version and reason of every proof, in order."""
        found = [read_json(path) for path in sorted(self.state.glob("proofs/[!.]*.json"))]
        return [(proof["release"]["version"], proof["why"]) for proof in found]

    def rejections(self) -> list[tuple[str, str, str]]:
        """Return version, who, and outcome of every rejection."""
        found = [read_json(path) for path in sorted(self.state.glob("rejected/[!.]*.json"))]
        return [(entry["release"]["version"], entry["by"], entry["outcome"]) for entry in found]

    def events(self) -> list[str]:
        """Return the outcomes of all events, oldest first."""
        lines = [line for path in self._files("events-*.jsonl") for line in path.read_bytes().splitlines()]
        found = [json.loads(line) for line in lines]
        return [event["outcome"] for event in sorted(found, key=lambda event: str(event["at"]))]

    def reports(self) -> list[str]:
        """Return the U-codes in the outbox, oldest first."""
        return [read_json(path)["code"] for path in sorted(self._files("outbox/[!.]*.json"))]

    def schema(self, name: str = "pos_system.db") -> int:
        """Return the schema number of a database, which has to be sound."""
        with closing(sqlite3.connect(self.data / name)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            return int(database.execute("PRAGMA user_version").fetchone()[0])

    def sales(self, path: Path | None = None) -> list[str]:
        """Return the receipts of the sales in a database, in order of their ids."""
        with closing(sqlite3.connect(path or self.data / "pos_system.db")) as database:
            return [row[0] for row in database.execute("SELECT receipt FROM sales ORDER BY id")]

    def receipts(self) -> list[str]:
        """Return the receipts that customers hold, oldest first."""
        return (self.folder / "receipts.txt").read_text(encoding="ascii").split()

    def left(self) -> dict[str, Any]:
        """Return what is on disk at the end, in words that hold for every recording.

        `unfinished` names everything that only a command at work may have: parts, scratch files, staging folders,
        hot journals, confirm files without an answer, and restores that a rejection still owes.
        """
        versions = self.folder / "program" / "versions"
        backups = Counter(
            "-".join(path.name.split("-backup-")[1].split("-")[:2])
            for path in (*self.data.glob("*-backup-*.db"), *self.backups.glob("*-backup-*.db*"))
            if path.suffix in (".db", ".zst")
        )
        return {
            "versions": sorted(path.name.split("-")[0] for path in versions.iterdir()) if versions.exists() else [],
            "backups": {_without_stamp(name): count for name, count in sorted(backups.items())},
            "unfinished": self._unfinished(),
        }

    def _unfinished(self) -> list[str]:
        endings = ("-journal", "-wal", ".new", ".part")
        found = [path for path in self.folder.rglob("*") if path.name.endswith(endings)]
        found += [path for path in self.folder.rglob(".*") if path.suffix != ".lock"]
        found += [path for path in self._files("confirm-*") if path.suffix != ".ack"]
        found += [path for path in self._restores() if not read_json(path)["done"]]
        found += list(self._files("downloads/*"))
        return sorted(path.relative_to(self.folder).as_posix() for path in found)

    def _restores(self) -> list[Path]:
        found = [*self.state.glob("rejected/[!.]*.json"), *self._files("choices/[!.]*.json")]
        decided = [read_json(path) for path in found]
        return [self.backups / f"restore-{entry['intent_id']}.json" for entry in decided if entry["backup"]]


def _without_stamp(name: str) -> str:
    """`v1-2026` becomes `v1`; `before-restore` stays."""
    first, _, second = name.partition("-")
    return first if second[:1].isdigit() else name


def differing_files(folder: Path) -> list[str]:
    """Return the files of a version folder that are not what its manifest says, and those that it does not name."""
    manifest = read_json(folder / "tillkeeper-manifest.json")["files"]
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    del there["tillkeeper-manifest.json"]
    wrong = manifest.keys() ^ there.keys()
    for name in manifest.keys() & there.keys():
        data, entry = there[name].read_bytes(), manifest[name]
        # Windows calls everything a program.
        can_run = entry["mode"] == "0755" if sys.platform == "win32" else os.access(there[name], os.X_OK)
        mode = "0755" if can_run else "0644"
        if (hashlib.sha256(data).hexdigest(), len(data), mode) != (entry["sha256"], entry["size_bytes"], entry["mode"]):
            wrong.add(name)
    return sorted(wrong)
