"""A database that lost its first page after a migration: the schema is its own, not that of the backup before it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.helpers.shop import ask, make_shop, released, sales, sell, upgrade, version


def test_a_backup_from_before_the_migration_is_brought_to_the_schema_that_was_lost(tmp_path: Path) -> None:
    database, into = make_shop(tmp_path, schema=2, items_count=4000), tmp_path / "new.db"
    assert upgrade(database, released(tmp_path, 5)).name == "MIGRATED"
    sell(database, 7)
    count, categories = sales(database), ask(database, "SELECT count(*) FROM categories")
    with database.open("r+b") as file:
        file.write(bytes(4096))
    words = [sys.executable, "-m", "dbsync", "repair", "--database", str(database), "--into", str(into), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    # Nobody can know that nothing is missing, so it is not called whole; but every row is there.
    assert (done.returncode, told["whole"]) == (1, False)
    assert (version(into), sales(into), ask(into, "SELECT count(*) FROM categories")) == (5, count, categories)
    assert ask(into, "SELECT count(*) FROM pragma_table_info('products') WHERE name = 'barcode'") == 1
    assert ask(into, "PRAGMA integrity_check") == "ok"
