"""Run a module as a command, and kill it (SIGKILL) at a moment that is the same each time.

`python -m tests.recorder.cut EVENT PATTERN TEXT MODULE WORDS…` kills the process at the first audit event of the name
EVENT (docs.python.org/3/library/audit_events.html) that finds a file PATTERN holding TEXT. A file that is on disk says
how far a command has come, and it says so in every version of the code; a name inside the code would not.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path


def main() -> None:
    """Arm the hook, then become the command."""
    event, pattern, text, module, *words = sys.argv[1:]
    folder, name = Path(pattern).parent, Path(pattern).name

    def hook(happened: str, _: tuple[object, ...]) -> None:
        if happened == event and any(text in path.read_text(encoding="utf-8") for path in folder.glob(name)):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
