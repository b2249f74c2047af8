"""Rules over the records of a terminal as a power cut left them: what they name is there, and acts are counted.

Plain JSON and names of folders: the product is not asked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.drills.faults.calls import Call

NAMED: Final = ("good", "candidate")
"""The releases of a journal that may start next."""
_COUNTS: Final = ("launches_count", "clean_exits_count", "interruptions_count")
"""A launch is counted as one of these."""


def missing_folders(till: Path) -> list[str]:
    """Return each release that the journal names and that has no version folder."""
    journal = _document(till / "state" / "journal.json")
    named = {word: journal[word] for word in NAMED if journal.get(word)}
    return [
        f"the journal names {release['version']} as {word}, and its version folder is not there"
        for word, release in named.items()
        if not (till / "program" / "versions" / _folder(release)).is_dir()
    ]


def uncounted_launches(till: Path, calls: Sequence[Call]) -> list[str]:
    """Return that an app on trial was started more often than its trial's file says.

    Args:
        till: the terminal's folder.
        calls: of the run that was cut.
    """
    journal = _document(till / "state" / "journal.json")
    if journal.get("phase") != "SWAPPED":
        return []
    trial = _document(till / "state" / "shared" / "trial" / f"{journal['trial_id']}.json")
    if trial.get("verdict", "open") != "open":
        return []
    app = f"program/versions/{_folder(journal['candidate'])}/"
    started = sum(call.name == "exec" and call.path.startswith(app) for call in calls)
    counted = sum(int(trial.get(name, 0)) for name in _COUNTS)
    if counted >= started:
        return []
    return [f"{journal['candidate']['version']} was started {started} times on trial, and {counted} are counted"]


def _folder(release: dict[str, Any]) -> str:
    return f"{release['version']}-{release['release_id'][:12]}"


def _document(path: Path) -> dict[str, Any]:
    """Return a state file; empty if there is none, or none that can be read: that is another promise."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
