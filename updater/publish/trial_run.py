"""The child that works on a sample database: made-up trade in it, or the way of a release forward and back."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Final

from dbsync.commands.rehearse import rehearse
from dbsync.errors import TillkeeperError
from dbsync.migrations import folder as migration_folder
from dbsync.rehearsal.made_up_trade import trade
from dbsync.rehearsal.way_back import findings
from dbsync.storage.connections import open_writing

DONE: Final = "done"


def main() -> None:
    """Do `trade DATABASE` or `rehearse MIGRATIONS DATABASE`; the last line is DONE, or the problem."""
    words = sys.argv[1:]
    try:
        problem = _trade(Path(words[1])) if words[0] == "trade" else _rehearse(Path(words[1]), database=Path(words[2]))
    except TillkeeperError as error:
        problem = error.in_words
    sys.stdout.write(f"{problem or DONE}\n")


def _trade(database: Path) -> str:
    with closing(open_writing(database)) as connection:
        trade(connection)
    return ""


def _rehearse(folder: Path, *, database: Path) -> str:
    """Return why a database cannot go forward and back; what is only lost on the way back is no problem."""
    done = rehearse(migration_folder.load(folder), database=database, backups=database.parent / "backups")
    if not done.good:
        return f"its migrations fail: {done.cause}"
    back = findings(done.way_back) if done.way_back is not None else []
    return "; ".join(f"the way back: {finding.where}: {finding.what}" for finding in back if finding.wrong)


if __name__ == "__main__":
    main()
