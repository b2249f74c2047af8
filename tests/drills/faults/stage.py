"""One worker's place: the terminal's disk, the vendor's public folder behind a web server, and snapshots of both."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.drills.faults.engine import Engine, Ran
from tests.helpers.places import ROOT

SALES_PER_START: Final = 2


class Stage:
    """Folders of one worker; all scenes use the same paths, because the settings of a terminal are absolute.

    Args:
        folder: an empty folder, on a file system in memory where there is one.
        engine: runs the commands.
    """

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder: Final = folder
        self.engine: Final = engine
        self.till: Final = folder / "till"
        self.database: Final = self.till / "data" / "pos_system.db"
        self.settings: Final = self.till / "settings.toml"
        self.receipts: Final = folder / "receipts.txt"
        self.scratch: Final = folder / "scratch"
        self.vendor: Final = folder / "vendor"
        self.public: Final = folder / "public"
        self.scenes: Final = folder / "scenes"
        self.url: Final = self._serve()

    def _serve(self) -> str:
        """Serve whatever `public` points to, in a process that is no part of any case."""
        from updater.publish.serve import make_server

        server = make_server(self.public)
        self.engine.keep(server.serve_forever)
        server.socket.close()
        return f"http://127.0.0.1:{server.server_port}"

    def show(self, public: Path) -> None:
        """Make a folder the one that is served."""
        link = self.folder / "public.new"
        link.unlink(missing_ok=True)
        link.symlink_to(public)
        link.replace(self.public)

    def keep(self, scene: str) -> None:
        """Take a snapshot of the terminal's disk, of what customers hold, and of what is public."""
        folder = self.scenes / scene
        folder.mkdir(parents=True)
        shutil.copytree(self.till, folder / "till", symlinks=True)
        shutil.copy(self.receipts, folder / "receipts.txt")
        (folder / "public").symlink_to(os.path.realpath(self.public))

    def reset(self, scene: str) -> None:
        """Put a snapshot in place."""
        folder = self.scenes / scene
        clear(self.till)
        shutil.copytree(folder / "till", self.till, symlinks=True, dirs_exist_ok=True)
        shutil.copy(folder / "receipts.txt", self.receipts)
        self.show(folder / "public")

    def environment(self, boot: int) -> Mapping[str, str]:
        """Return the environment of the terminal's commands in a boot of its machine."""
        return {
            "TILLKEEPER_SETTINGS": str(self.settings),
            "TILLKEEPER_BOOT_ID": f"boot-{boot}",
            "DRILL_RECEIPTS": str(self.receipts),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, command: Callable[[], object], *, boot: int = 0) -> Ran:
        """Run a command of the terminal undisturbed."""
        return self.engine.run(command, self.environment(boot))


def clear(folder: Path) -> None:
    """Empty a folder, but keep the folder itself: it may be a mount point."""
    folder.mkdir(exist_ok=True)
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def updater(*words: str) -> Callable[[], object]:
    """Return `updater …` as a command for the engine."""

    def run() -> None:
        import sys

        from updater.__main__ import main

        sys.argv = ["updater", *words]
        main(list(words))

    return run


def dbsync(*words: str) -> Callable[[], object]:
    """Return `dbsync …` as a command for the engine."""

    def run() -> None:
        import sys

        from dbsync.__main__ import main

        sys.argv = ["dbsync", *words]
        main(list(words))

    return run


def rollback_script(*words: str) -> Callable[[], object]:
    """Return `scripts/rollback.py …` as a command for the engine, without installed packages."""

    def run() -> None:
        import runpy
        import sys

        sys.path[:] = [path for path in sys.path if not path.endswith("site-packages")]
        sys.argv = ["rollback.py", *words]
        runpy.run_path(str(ROOT / "scripts" / "rollback.py"), run_name="__main__")

    return run


LAUNCH: Final = ("launch", "--", "--sell", str(SALES_PER_START))
