"""Proof that an agent can activate a kit: the code of activation, and the program that starts kits, on dummies.

Two kits that only say their name lie in a scratch home, with a copy of the program of the real one. The first is in
place, the second goes on trial, is started, is taken back, goes on trial again and confirms. What answered each time
decides.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from dbsync.storage import file_calls, files
from dbsync.storage.claims import plain
from updater.host import stub, this_host
from updater.model import Release
from updater.terminal import kit_pointer, kit_use

PROGRAMS: Final = ("start", "tillkeeper.exe")
BEFORE, AFTER = "dummy1", "dummy2"
FIRST, SECOND = "first", "second"
LIMIT_SECONDS: Final = 60.0
SCRIPT: Final = 'import sys\n\n\ndef main():\n    print("{} answers", sys.argv[1], flush=True)\n'


def python_of(folder: Path) -> str:
    """Return the Python that runs a kit: its own, or the one of this process."""
    own = folder / stub.PYTHON
    return str(own) if files.is_there(own) else sys.executable


def activate(*, home: Path, scratch: Path, release: Release) -> str:
    """Activate dummies in a scratch home; return what went wrong, empty if nothing did."""
    program = next((home / name for name in PROGRAMS if files.is_there(home / name)), None)
    if program is None:
        return f"there is no program in {home}"
    files.make_folder(scratch)
    own = scratch / program.name
    files.copy_bytes(source=program, target=own)
    for name in (BEFORE, AFTER):
        site = scratch / f"agent-{name}" / "site" / "updater"
        files.make_folder(site)
        file_calls.write_bytes(site / "__init__.py", b"")
        file_calls.write_bytes(site / "__main__.py", SCRIPT.format(name).encode())
        file_calls.write_bytes(scratch / f"agent-{name}" / "kit.json", b"{}")
    # On Windows with the Python of the rescue folder, as the real program; that Python is not the one of this process.
    python = python_of(home / kit_use.RESCUE)

    def asks(word: str, wanted: str) -> str:
        command = [python, "-I", "-S", str(own), word]
        code, output = this_host().run_and_wait(command, timeout_seconds=LIMIT_SECONDS, env=None, cwd=scratch)
        if code == 0 and f"{wanted} answers {word}" in output:
            return ""
        return (
            f"the program that starts kits was to start {wanted} and ended with {code}: {plain(output.strip())[-300:]}"
        )

    def begin(token: str) -> None:
        kit_pointer.begin_trial(
            scratch, kit_id=AFTER, token=token, release=release, limit_seconds=LIMIT_SECONDS, shared=""
        )

    kit_pointer.settle(scratch, kit_id=BEFORE, before=None)
    begin(FIRST)
    problem = asks("status", BEFORE) or asks("run", AFTER)
    if problem:
        return problem
    kit_pointer.end_trial(scratch, token=FIRST)
    problem = asks("run", BEFORE)
    if problem:
        return problem
    begin(SECOND)
    if not kit_pointer.confirm(scratch, token=SECOND):
        return "the trial of a dummy could not be confirmed"
    return asks("run", AFTER)
