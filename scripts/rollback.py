#!/usr/bin/env python3
"""Go back to a version that worked, with a database that fits it, when everything else is broken.

Needs only Python 3.11 and this source tree: python3 -I -S scripts/rollback.py --help
"""

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path

# The words of `updater rollback --help`: a test compares them.
_HEAD = "Go back to a version that worked, with the database that fits it. What is replaced is kept."
_STATUSES = (
    "Exit status 5: something would be lost, and nothing was changed; pass --accept-loss. 6: something was lost; the"
    " last line names how much and where it is kept."
)
_BACKUP = "The backup to restore as it is (default: the newest good one that fits, with what was recorded since)."
_ACCEPT_LOSS = "Go back even if something is lost. It is kept, and exported if it can be read."


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=_HEAD, epilog=_STATUSES)
    parser.add_argument("--settings", type=Path, help="The terminal's settings file.")
    parser.add_argument(
        "--list", dest="listing", action="store_true", help="Show versions and backups; change nothing."
    )
    parser.add_argument("--to", help="The version to go back to (default: the last one that worked).")
    parser.add_argument("--backup", type=Path, help=_BACKUP)
    parser.add_argument("--dry-run", action="store_true", help="Show what would be done and lost; change nothing.")
    parser.add_argument("--yes", action="store_true", help="Do not ask. This never accepts a loss.")
    parser.add_argument("--accept-loss", action="store_true", help=_ACCEPT_LOSS)
    parser.add_argument("--json", dest="as_json", action="store_true", help="Print JSON.")
    return parser.parse_args()


def _ask(question: str) -> bool:
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _say(line: str) -> None:
    try:
        print(line, flush=True)
    except UnicodeEncodeError:
        print(line.encode("ascii", "replace").decode(), flush=True)
    except (OSError, ValueError):
        # Nobody reads it. The rest of the buffer must not fail at exit: that would replace the exit status.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> int:
    """Run the command and return its exit status."""
    arguments = vars(_arguments())
    if sys.version_info < (3, 11):  # noqa: UP036 - it must run with any Python that is installed
        _say(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}.")
        return 4  # refused (dbsync/outcomes.py, which an older Python cannot read)
    # -I and -S keep the tree of this script off the path; no installed package is needed or read.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from dbsync.errors import interrupts, wrapped

    try:
        from updater import settings
        from updater.cli.rollback_conversation import run

        loaded = settings.load(settings.find(arguments.pop("settings")))
        return run(loaded, ask=_ask, say=_say, **arguments)
    except BaseException as raised:  # noqa: BLE001 - of any type: the last boundary
        if interrupts(raised):
            _say("Interrupted: nothing was changed, or the next start finishes it.")
            return 130  # interrupted (dbsync/outcomes.py)
        error = wrapped(raised)
        _say(f"Error: {error.in_words}")
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
