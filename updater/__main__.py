"""The command line: `launch`, `confirm` and `check` are dispatched before the CLI library loads."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

CHECK_OBJECTS_COUNT = 50_000
"""New objects after which `check` looks for garbage; Python's own number is 700."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if vars(sys).get("frozen"):
        from dbsync.storage import children

        if children.serve(words):
            return
    if words[:1] == ["launch"]:
        sys.exit(_launch(words[1:]))
    if words[:1] == ["confirm"]:
        from updater.cli import start

        sys.exit(start.confirm(words[1:]))
    if words[:1] == ["check"]:
        # As for a launch; but an update takes long enough to look for garbage now and then.
        gc.set_threshold(CHECK_OBJECTS_COUNT)
        from updater.cli import start

        status = start.check(words[1:])
        if status is not None:
            sys.exit(status)
    from updater.cli.main import commands

    commands(words, prog_name="updater")


def launch() -> None:
    """Run `updater launch`: the entry of the shortcut without a console."""
    sys.exit(_launch(sys.argv[1:]))


def _launch(words: list[str]) -> int:
    # A start creates no garbage worth collecting; garbage collection would cost a tenth of the start.
    gc.disable()
    from updater.cli import start

    return start.launch(words)


if __name__ == "__main__":
    main()
