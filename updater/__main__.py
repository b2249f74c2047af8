"""The command line: `launch` and `confirm` are dispatched before the CLI library loads."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in (["launch"], ["confirm"]):
        from updater.cli import start

        sys.exit(start.launch(words[1:]) if words[0] == "launch" else start.confirm(words[1:]))
    from updater.cli.main import commands

    commands(words, prog_name="updater")


def launch() -> None:
    """Run `updater launch`: the entry of the shortcut without a console."""
    from updater.cli import start

    sys.exit(start.launch(sys.argv[1:]))


if __name__ == "__main__":
    main()
