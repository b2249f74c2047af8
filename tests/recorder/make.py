"""Record terminals as the code of one commit leaves them, for the tests of later code.

The reader is tests/helpers/recorded.py.

Run it in the environment and from the root of the commit that is to be recorded, on a machine that may listen on
loopback; it takes about a minute:

    python -m tests.recorder.make tests/fixtures/terminals/COMMIT

The last part of the target names the commit. To record a commit that has no recorder, or an older one, copy
`tests/recorder/` into its tree. A recording is made once and never again: a fixture that is made anew shows what the
code of today writes, not what terminals in stores hold.

All of it is real. A vendor's repository is made, signed and served with `updater publish`; a terminal is installed with
`updater install`; each scene is reached with commands that run as processes and that end by themselves, or are killed
at a moment that is the same each time (tests/recorder/cut.py). Only commands and files are used, no module of the
product, so the recorder survives its reorganisations. What is kept of a scene is the terminal's whole folder. The
vendor's keys are thrown away.

The folder is made relocatable: in every text file the terminal's folder becomes `@TERMINAL@`, the interpreter
`@PYTHON@`, the vendor's address `@URL@`. No other file names a place, and the recorder ends with an error if one does.
`scenes.json` lists what a checkout can lose: empty folders and executable bits. `names.json` lists names and codes that
are on disks from now on (tests/recorder/names.py).

Two recordings of one commit differ in random ids, times, and receipt numbers, and in nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Final

from tests.recorder import BINARY, BOOT, PYTHON, TERMINAL, URL, names

APP: Final = Path(__file__).parent / "app"
GIVEN_UP: Final = ("sqlite3.connect", "state/trial/[!.]*.json", '"verdict": "given_up"')
REJECTED: Final = ("state/rejected/[!.]*.json", '"by": "person"')


class Stage:
    """One terminal folder that is brought from scene to scene, and what has been kept of it."""

    def __init__(self, work: Path, target: Path) -> None:
        self.work: Final = work
        self.target: Final = target
        self.terminal: Final = work / "terminal"
        self.url = ""
        self.scenes: dict[str, dict[str, object]] = {}

    # -------------------------------------------------------------------------------------------------- commands

    def environment(self, **values: str) -> dict[str, str]:
        """Return what every process gets; the boot is named, so that no name of this machine is recorded."""
        return {
            **os.environ,
            "PYTHONPATH": str(Path.cwd()),
            "PYTHONUNBUFFERED": "1",
            "TILLKEEPER_SETTINGS": str(self.terminal / "settings.toml"),
            "TILLKEEPER_BOOT_ID": BOOT,
            "TILLKEEPER_KEY_PASSWORD": "thrown away",
            "SMALL_TILL_RECEIPTS": str(self.terminal / "receipts.txt"),
            **values,
        }

    def run(self, *words: str, mood: str = "", status: int = 0) -> str:
        """Run `python -m WORDS`; return its output.

        Raises:
            SystemExit: it ended in another way than expected.
        """
        done = subprocess.run(
            [sys.executable, "-m", *words],
            env=self.environment(SMALL_TILL_MOOD=mood), capture_output=True, encoding="utf-8", check=False,
        )  # fmt: skip
        if done.returncode != status:
            raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def launch(self, *, sell: int, mood: str = "", status: int = 0) -> None:
        """Run `updater launch` until the app has ended."""
        self.run("updater", "launch", "--", "--sell", str(sell), mood=mood, status=status)

    def cut(self, event: str, pattern: str, text: str, *words: str, mood: str = "") -> None:
        """Run a command that is killed at the first such event once a file of the terminal holds the text."""
        place = str(self.terminal / pattern)
        self.run("tests.recorder.cut", event, place, text, *words, mood=mood, status=-signal.SIGKILL)

    def cut_launch(self, event: str, pattern: str, text: str, *, mood: str = "") -> None:
        """Run a launch that is killed."""
        self.cut(event, pattern, text, "updater", "launch", "--", "--sell", "1", mood=mood)

    @contextmanager
    def waiting_app(self, *, sell: int, mood: str) -> Iterator[int]:
        """Launch an app that stays; yields its process id, and sees launcher and app gone."""
        words = [sys.executable, "-m", "updater", "launch", "--", "--sell", str(sell)]
        with subprocess.Popen(words, env=self.environment(SMALL_TILL_MOOD=mood), stdout=subprocess.PIPE) as launcher:
            pid = int(_line(launcher.stdout, "waits ").split()[1])
            try:
                yield pid
            finally:
                launcher.kill()
                os.kill(pid, signal.SIGKILL)
                assert launcher.stdout is not None
                launcher.stdout.read()  # at its end both have gone: each had the pipe open

    # ---------------------------------------------------------------------------------------------------- scenes

    def keep(self, scene: str, says: str) -> None:
        """Keep the terminal as it is now, as a scene."""
        shutil.copytree(self.terminal, self.work / scene, symlinks=True)
        self.scenes[scene] = {"says": says, **write_out(self.terminal, self.target / scene, self._replacements())}

    def back_to(self, scene: str) -> None:
        """Make the terminal what it was in a scene."""
        shutil.rmtree(self.terminal)
        shutil.copytree(self.work / scene, self.terminal, symlinks=True)

    def _replacements(self) -> dict[str, str]:
        return {str(self.terminal): TERMINAL, sys.executable: PYTHON, self.url: URL}


def write_out(folder: Path, target: Path, replacements: dict[str, str]) -> dict[str, object]:
    """Copy a folder with placeholders in its texts; return what a checkout can lose.

    Raises:
        SystemExit: a file names a place of this machine.
    """
    places = (*replacements, str(folder.parent), sys.prefix, str(Path.cwd()), str(Path.home()))
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if not path.name.endswith(BINARY):
            for place, placeholder in replacements.items():
                data = data.replace(place.encode(), placeholder.encode()) if place else data
        if any(place.encode() in data for place in places if len(place) > 1):
            raise SystemExit(f"{path} names a place of this machine")
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(data)
        shutil.copymode(path, copy)
    inside = sorted(folder.rglob("*"))
    return {
        "empty_folders": [_name(path, folder) for path in inside if path.is_dir() and not any(path.iterdir())],
        "executable": [_name(path, folder) for path in inside if path.is_file() and os.access(path, os.X_OK)],
    }


def record(work: Path, target: Path) -> Stage:
    """Play every scene of a terminal."""
    stage = Stage(work, target)
    repository, public = str(work / "vendor"), work / "public"
    stage.run("updater", "publish", "init", "--repository", repository, "--app", "small-till", "--public", str(public))
    _publish(stage, "1.0", schema=1)
    words = [sys.executable, "-m", "updater", "publish", "serve", str(public), "--port", "0"]
    with subprocess.Popen(words, env=stage.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        stage.url = _line(server.stdout, "http").strip()
        try:
            _install(stage, public / "metadata" / "1.root.json")
            _scenes_of_an_update(stage)
            _scenes_of_a_bad_update(stage)
            _scenes_of_a_person(stage)
        finally:
            server.kill()
    shutil.rmtree(stage.terminal)
    _scenes_of_dbsync(stage)
    return stage


def _install(stage: Stage, root: Path) -> None:
    folders = [word for name in ("program", "state", "data") for word in (f"--{name}", str(stage.terminal / name))]
    settings = ("--settings", str(stage.terminal / "settings.toml"), "--interpreter", f"python={sys.executable}")
    stage.run("updater", "install", "--root", str(root), "--url", stage.url, *folders, *settings)
    stage.launch(sell=3)
    _shrink(stage.terminal / "data" / "pos_system.db")
    stage.keep("idle", "1.0 (schema 1) is confirmed and has sold 3 times; nothing newer is known")
    for _ in range(2):
        stage.launch(sell=0, mood="crashes", status=1)
    stage.keep("failing", "as idle; then 1.0 ended with an error at two starts, one after another")
    stage.back_to("idle")


def _scenes_of_an_update(stage: Stage) -> None:
    _publish(stage, "2.0", schema=3)
    with stage.waiting_app(sell=1, mood="stays open"):
        stage.run("updater", "check")
    stage.keep("staged", "2.0 (schema 3) is complete on disk, not swapped: 1.0 ran, and was killed; 4 sales")
    stage.run("updater", "check")
    stage.keep("swapped", "2.0 starts next; its trial has not begun; 4 sales")
    event, pattern, text = "sqlite3.connect", "state/trial/[!.]*.json", '"backup": "/'
    stage.cut_launch(event, pattern, text)
    stage.keep("attempt", "killed in the first attempt of 2.0, between the backup and the migration's COMMIT; 4 sales")
    stage.back_to("swapped")
    with stage.waiting_app(sell=0, mood="hangs"):
        pass
    stage.keep("trial", "2.0 was migrated to (schema 3) and launched; then app and launcher were killed; 4 sales")
    stage.back_to("swapped")
    stage.launch(sell=2)
    stage.keep("confirmed", "2.0 has confirmed and sold twice; the agent has not folded that yet; 6 sales")
    stage.run("updater", "check")
    stage.keep("updated", "2.0 is the good release, after a whole update; 1.0 can be gone back to; 6 sales")
    with stage.waiting_app(sell=2, mood="writes ahead"):
        pass
    stage.keep("write_ahead", "as updated; then the database was put into WAL mode and 2 sales are in its hot -wal")


def _scenes_of_a_bad_update(stage: Stage) -> None:
    stage.back_to("trial")
    stage.cut_launch(*GIVEN_UP, mood="crashes")
    stage.keep("owing", "2.0 was given up after two failed launches; the database still has schema 3; 4 sales")
    stage.launch(sell=1)
    stage.run("updater", "check")
    stage.keep("rejected", "as owing; then the backup was restored, 1.0 sold once, and the agent rejected 2.0; 5 sales")
    stage.back_to("swapped")
    stage.cut_launch(*GIVEN_UP, mood="sells and crashes")
    stage.keep("owing_sales", "as owing, and 2.0 sold at each of its two launches before it crashed; 6 sales")


def _scenes_of_a_person(stage: Stage) -> None:
    back = ("updater", "rollback", "--yes")
    stage.back_to("updated")
    stage.cut("os.rename", "state/rejected/.new-*.json", '"by": "person"', *back)
    stage.keep("undecided_person", "a person's rollback, killed before its rejection had its name: 2.0 stays; 6 sales")
    stage.back_to("updated")
    stage.cut("sqlite3.connect", *REJECTED, *back)
    stage.keep("owing_person", "a person goes back from 2.0 to 1.0: rejected, carried copy made, not restored; 6 sales")
    stage.back_to("updated")
    stage.cut("os.rename", *REJECTED, *back)
    stage.keep("restored_person", "as owing_person, and restored; the intent does not say so yet; 6 sales")
    stage.back_to("updated")
    stage.run(*back)
    stage.keep("rolled_back", "a person went back from 2.0 to 1.0 with all 6 sales")


def _scenes_of_dbsync(stage: Stage) -> None:
    """A database without a terminal: the folders `data` and `migrations`."""
    database, folder = stage.terminal / "data" / "shop.db", stage.terminal / "migrations"
    for made in (database.parent, folder):
        made.mkdir(parents=True)
    on = ("--database", str(database))
    for schema in (1, 2, 3):
        _copy_migrations(folder, schema)
        if schema == 3:
            stage.run("dbsync", "rehearse", *on, "--migrations", str(folder))
        stage.run("dbsync", "upgrade", *on, "--migrations", str(folder))
        if schema == 1:
            _shrink(database)
        with closing(sqlite3.connect(database)) as live, live:
            live.execute("INSERT INTO sales (receipt, cents) VALUES (?, 250)", (f"S{schema}",))
    stage.run("dbsync", "backup", *on)
    stage.run("dbsync", "backups", *on, "--compress", "--keep-plain", "1")
    stage.keep(
        "dbsync_shop", "schemas 1 to 3 by three upgrades, one sale (S1, S2, S3) after each; four kinds of records"
    )
    (newest,) = database.parent.glob("backups/*-backup-v2-*.db")
    pattern, text = "data/backups/[!.]*.json", '"done": false'
    stage.cut("sqlite3.connect", pattern, text, "dbsync", "restore", *on, "--yes", str(newest))
    stage.keep("dbsync_restore", "as dbsync_shop; killed in `dbsync restore` of schema 2, before anything was restored")


def _shrink(database: Path) -> None:
    """Give a database the page size that SQLite had before 3.12, so that every file of it and its copies is small."""
    with closing(sqlite3.connect(database)) as live:
        live.execute("PRAGMA page_size=1024")
        live.execute("VACUUM")


def _publish(stage: Stage, version: str, *, schema: int) -> None:
    bundle = stage.work / f"bundle-{version}"
    shutil.copytree(APP, bundle, ignore=shutil.ignore_patterns("__pycache__", "migrations"))
    (bundle / "migrations").mkdir()
    _copy_migrations(bundle / "migrations", schema)
    (bundle / "release.txt").write_text(f"{version}\n", encoding="ascii", newline="\n")
    words = ("--repository", str(stage.work / "vendor"), str(bundle), "--version", version, "--unverified")
    stage.run("updater", "publish", "release", *words)


def _copy_migrations(folder: Path, schema: int) -> None:
    for path in sorted((APP / "migrations").glob("0*"))[:schema]:
        shutil.copy(path, folder / path.name)


def _line(output: IO[bytes] | None, beginning: str) -> str:
    """Return the first line of an output that begins so."""
    assert output is not None
    for line in output:
        if line.decode().startswith(beginning):
            return line.decode()
    raise SystemExit(f"no line begins with {beginning!r}")


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8", newline="\n")


def main() -> None:
    """Record into a folder that is not there yet."""
    target = Path(sys.argv[1]).absolute()
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as work:
        stage = record(Path(work).resolve(), target)
    made_with = {"python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version}
    _write_json(target / "scenes.json", {"format": 1, "made_with": made_with, "scenes": stage.scenes})
    _write_json(target / "names.json", names.persisted())


if __name__ == "__main__":
    main()
