"""A shop that the real Django has migrated so far: taken over, moved on by Django itself on a copy, and back."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.backups.catalog import list_backups
from dbsync.commands import downgrade
from dbsync.migrations import folder as migration_folder
from tests.helpers.django import Project
from tests.helpers.shop import ask, dump, effects, files, upgrade, version

SELL = """
p = Product.objects.create(name='tea', price='2.50')
for _ in range(3):
    Sale.objects.create(product=p, cents=250)
"""
BARCODE = """
command = [{python}, "../migrate_copy.py", "{{database}}", "shop", "0002"]
proves = ["SELECT 1 FROM django_migrations WHERE app = 'shop' AND name = '0002_barcode'"]
"""


def baseline(project: Project) -> Path:
    """The schema as it is, and what Django says of it, as docs/adopting.md has it."""
    folder = project.folder / "migrations"
    folder.mkdir()
    file = folder / "0001_initial_schema.sql"
    words = [sys.executable, "-m", "dbsync", "write-schema", str(file), "--database", str(project.database)]
    subprocess.run(words, check=True, capture_output=True)
    tables = ("django_migrations", "django_content_type", "auth_permission")
    with closing(sqlite3.connect(project.database)) as live, file.open("a") as text:
        for line in live.iterdump():
            inserts = any(line.startswith(f'INSERT INTO "{one}"') for one in tables)
            if inserts or line.startswith('CREATE TABLE "django_migrations"'):
                text.write(line + "\n")
    return folder


def by_django(folder: Path, project: Project) -> None:
    (folder / "0002_barcode.toml").write_text(BARCODE.format(python=f'"{project.python.as_posix()}"'))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "pos")
    made.do(SELL)
    return made


def test_a_shop_of_djangos_is_taken_over_moved_on_by_django_and_taken_back(project: Project) -> None:
    folder = baseline(project)
    # The release that brings dbsync changes nothing: the shop is known by its structure.
    before = ask(project.database, "SELECT group_concat(name) FROM django_migrations")
    outcome = upgrade(project.database, migration_folder.load(folder))
    assert (outcome.name, version(project.database)) == ("UP_TO_DATE", 1), outcome.cause
    project.grow()
    by_django(folder, project)
    found = migration_folder.load(folder)
    outcome = upgrade(project.database, found)
    assert (outcome.name, version(project.database)) == ("MIGRATED", 2), outcome.cause
    assert ask(project.database, "SELECT group_concat(name) FROM django_migrations") == f"{before},0002_barcode"
    assert "No planned migration operations" in project.manage("migrate", "--plan")
    project.do("Product.objects.create(name='bun', price='0.90', barcode='')" + SELL)
    assert ask(project.database, "SELECT sum(cents) FROM shop_sale") == 1500
    # Going back: what people did comes along, and Django's own table says what it said.
    (base, *_) = list_backups(backups=project.database.parent / "backups", database=project.database)
    returned = downgrade.downgrade(effects(project.database), base, found, accept_loss=False)
    assert returned.outcome.name == "CARRIED_BACK", returned.outcome.cause
    assert (version(project.database), ask(project.database, "SELECT sum(cents) FROM shop_sale")) == (1, 1500)
    assert ask(project.database, "SELECT group_concat(name) FROM django_migrations") == before
    assert "Add field barcode" in project.manage("migrate", "--plan")
    assert not [one for one in files(project.database.parent) if ".part-" in one]


def test_a_new_shop_and_one_that_came_a_long_way_are_the_same_to_django(project: Project) -> None:
    folder = baseline(project)
    project.grow()
    by_django(folder, project)
    old, project.database = project.database, project.database.parent.parent / "new" / "shop.db"
    project.database.parent.mkdir()
    assert upgrade(project.database, migration_folder.load(folder)).name == "CREATED"
    assert upgrade(old, migration_folder.load(folder)).name == "MIGRATED"
    assert "No planned migration operations" in project.manage("migrate", "--plan")
    project.do(SELL)
    for rows in ("name FROM django_migrations", "app_label || model FROM django_content_type"):
        said = f"SELECT group_concat(one) FROM (SELECT {rows} ORDER BY 1)".replace(" FROM dj", " AS one FROM dj")
        assert ask(project.database, said) == ask(old, said)


def test_rows_of_djangos_own_that_a_new_model_brings_have_to_be_declared(project: Project) -> None:
    folder = baseline(project)
    assert upgrade(project.database, migration_folder.load(folder)).name == "UP_TO_DATE"
    models = project.folder / "shop/models.py"
    models.write_text(models.read_text() + "class Shelf(models.Model):\n    name = models.CharField(max_length=9)\n")
    project.manage("makemigrations", "shop", "-n", "barcode")
    by_django(folder, project)
    before = dump(project.database)
    outcome = upgrade(project.database, migration_folder.load(folder))
    assert (outcome.name, "auth_permission: 4 rows are new" in outcome.cause) == ("VERIFICATION_FAILED", True), outcome
    assert dump(project.database) == before
    file = folder / "0002_barcode.toml"
    file.write_text(file.read_text() + 'changes = ["insert django_content_type", "insert auth_permission"]\n')
    assert upgrade(project.database, migration_folder.load(folder)).name == "MIGRATED"
    assert "No planned migration operations" in project.manage("migrate", "--plan")


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX's")
def test_a_migration_of_djangos_that_fails_or_is_killed_leaves_the_shop_as_it_was(project: Project) -> None:
    folder = baseline(project)
    assert upgrade(project.database, migration_folder.load(folder)).name == "UP_TO_DATE"
    project.grow()
    by_django(folder, project)
    (written,) = (project.folder / "shop/migrations").glob("0002_*.py")
    good = written.read_text()
    code = "def wait(*_):\n    {}\n\n\nclass Migration"
    step = "operations = [\n        migrations.RunPython(wait),"
    after = good.replace("operations = [", step)
    before = dump(project.database)
    # Django commits each migration by itself; here the first statement of the next one fails.
    written.write_text(after.replace("class Migration", code.format("raise ValueError('no shelf')")))
    outcome = upgrade(project.database, migration_folder.load(folder))
    assert (outcome.name, "ValueError: no shelf" in outcome.cause) == ("MIGRATION_FAILED", True), outcome.cause
    assert dump(project.database) == before
    mark = project.folder / "started"
    loop = f"import os\n    open({str(mark)!r}, 'w').close()\n    while os.path.exists({str(mark)!r}): os.sched_yield()"
    written.write_text(after.replace("class Migration", code.format(loop)))
    words = [
        sys.executable,
        "-m",
        "dbsync",
        "upgrade",
        "--database",
        str(project.database),
        "--migrations",
        str(folder),
    ]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not mark.exists() and time.monotonic() < deadline:
        os.sched_yield()
    process.send_signal(signal.SIGKILL)
    process.wait()
    mark.unlink()
    assert dump(project.database) == before
    with closing(sqlite3.connect(project.database)) as live, live:
        live.execute("INSERT INTO shop_sale (product_id, cents) VALUES (1, 1)")
    written.write_text(good)
    outcome = upgrade(project.database, migration_folder.load(folder), again=True)
    assert (outcome.name, ask(project.database, "SELECT sum(cents) FROM shop_sale")) == ("MIGRATED", 751), outcome.cause
    assert not [one for one in files(project.database.parent) if ".part-" in one]
