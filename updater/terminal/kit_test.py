"""Self-test of a kit, run by the agent before it, in a child: all modules, the terminal's files, one line of JSON.

The agent before knows no more of it than its command and its answer: `id` and `version`, or `problem`, which begins
with `refused` if this kit can never run here.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from pathlib import Path
from typing import Final

from dbsync.errors import Refused, described, wrapped
from updater import __version__
from updater.settings import load
from updater.terminal import kit
from updater.terminal.state_files import StateFolder

OPTIONAL: Final = frozenset({"dbsync.migrations.engines.alembic"})
"""Modules whose libraries a kit does not ship."""


def tested(*, folder: Path, settings_path: Path) -> dict[str, str]:
    """Verify a kit, compile it, import everything in it, and read the terminal's files; change none of them.

    Raises:
        Refused: it cannot run here.
    """
    found = kit.read(folder)
    kit.refuse_other_platform(found)
    kit.verify(found)
    kit.compile_code(folder / "site")
    for package in ("dbsync", "updater"):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not module.name.endswith("__main__") and module.name not in OPTIONAL:
                importlib.import_module(module.name)
    settings = load(settings_path, {})
    journal, broken = StateFolder(settings.state, shared=settings.shared).read_journal()
    if journal is None and broken:
        raise Refused(operation="read the journal", path=settings.state, cause="this kit cannot read it")
    return {"id": found.id, "version": found.version, "product": __version__}


def main() -> None:
    """Test the kit in the folder of the first argument, with the settings file of the second."""
    try:
        answer = tested(folder=Path(sys.argv[1]), settings_path=Path(sys.argv[2]))
    except Refused as error:
        answer = {"problem": f"refused: {error}"}
    except (ImportError, SyntaxError) as error:
        answer = {"problem": f"refused: {described(error)}"}
    except Exception as error:  # noqa: BLE001 - of any type: the agent before reads why
        answer = {"problem": str(wrapped(error))}
    sys.stdout.write(json.dumps(answer) + "\n")
