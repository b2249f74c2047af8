"""Going back on a disk with little space, really small: it is done whole, or nothing is begun."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.dbsync.test_bad_days import mounted

COURSE = """
import json, os, sys
from pathlib import Path
from dbsync.cli.main import main
from tests.helpers import shop
folder, small, copies, command, wal = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4], sys.argv[5]
database = shop.make_shop(small, schema=2, items_count=8000, wal=wal == "wal")
assert shop.upgrade(database, shop.released(folder, 5)).ready
shop.sell(database, 3)
before = shop.dump(database)
size_bytes = database.stat().st_size
free = os.statvfs(small)
keep = int(copies * size_bytes)
with (small / "filler").open("wb") as file:
    os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - keep))
(backup,) = (small / "data" / "backups").glob("*-v2-*.db")
words = {"downgrade": ["downgrade", "--yes"], "restore": ["restore", str(backup), "--yes", "--accept-loss"]}[command]
try:
    main([*words, "--database", str(database), "--json"])
    status = 0
except SystemExit as end:
    status = end.code
sys.stdout.flush()
aside = list(database.parent.glob("*-backup-before-restore-*.db"))
print(json.dumps({
    "status": status, "schema": shop.version(database), "sales": shop.sales(database),
    "same": shop.dump(database) == before, "aside": [shop.sales(path) for path in aside],
    "left": [path.name for path in small.rglob(".part-*")], "intents": len(list(small.rglob("restore-*.json"))),
}))
"""


def course(tmp_path: Path, copies: float, command: str, mode: str) -> dict[str, Any]:
    """Return the end of a command on a disk with that many times the database's size free."""
    small = tmp_path / "small"
    small.mkdir()
    done = mounted(
        f'mount -t tmpfs -o size=40m till "{small}"',
        [sys.executable, "-c", COURSE, str(tmp_path), str(small), str(copies), command, mode],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("copies", [0.5, 1.0, 2.0, 2.6, 3.2, 3.8, 4.5, 6.0])
def test_a_downgrade_is_whole_or_not_begun(tmp_path: Path, copies: float, mode: str) -> None:
    end = course(tmp_path, copies, "downgrade", mode)
    assert end["left"] == []
    if end["status"] == 0:
        assert (end["schema"], end["aside"], end["intents"]) == (2, [end["sales"]], 0)
    else:
        assert (end["status"], end["schema"], end["same"], end["aside"], end["intents"]) == (75, 5, True, [], 0)
    assert (end["status"] == 75) or copies > 2.0
    assert (end["status"] == 0) or copies < 6.0


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("copies", [0.5, 1.0, 1.8, 2.6, 4.0])
def test_a_restore_is_whole_or_not_begun(tmp_path: Path, copies: float, mode: str) -> None:
    end = course(tmp_path, copies, "restore", mode)
    assert end["left"] == []
    if end["status"] == 6:
        assert (end["schema"], end["aside"][0] - end["sales"], end["intents"]) == (2, 3, 0)
    else:
        assert (end["status"], end["schema"], end["same"], end["aside"], end["intents"]) == (75, 5, True, [], 0)
    assert (end["status"] == 75) or copies > 1.0
    assert (end["status"] == 6) or copies < 4.0
