"""The real drizzle-kit and drizzle-orm from the npm registry, and histories made with them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from dbsync.storage.locks import Lock
from tests.helpers.places import ROOT

OLD, NEW = "0.31", "1.0"
VERSIONS = {
    OLD: {"drizzle-kit": "0.31.11", "drizzle-orm": "0.45.4", "@libsql/client": "0.18.0"},
    NEW: {"drizzle-kit": "1.0.0-rc.5", "drizzle-orm": "1.0.0-rc.5", "@libsql/client": "0.18.0"},
}
PLACES = {OLD: "drizzle", NEW: "drizzle-1"}
CACHE = ROOT / ".cache"
MIGRATE = """
import { createClient } from '@libsql/client';
import { drizzle } from 'drizzle-orm/libsql';
import { migrate } from 'drizzle-orm/libsql/migrator';
const client = createClient({ url: 'file:' + process.argv[2] });
await migrate(drizzle({ client }), { migrationsFolder: process.argv[3] });
"""
HEAD = "import { sqliteTable, text, integer, uniqueIndex } from 'drizzle-orm/sqlite-core';\n"
BUSINESSES = """export const businesses = sqliteTable('businesses', {
  id: text('id').primaryKey(), name: text('name').notNull(),
});
"""
PRODUCTS = """export const products = sqliteTable('products', {
  id: text('id').primaryKey(), name: text('name').notNull(), %s
  businessId: text('businessId').notNull().references(() => businesses.id, { onDelete: 'cascade' }),
}%s);
"""
SALES = """export const sales = sqliteTable('sales', {
  id: integer('id').primaryKey({ autoIncrement: true }),
  productId: text('productId').notNull().references(() => products.id, { onDelete: 'cascade' }),
  cents: integer('cents').notNull(),
});
"""
PRICE = "price: integer('price').notNull(),"
STEPS = {
    "init": BUSINESSES + PRODUCTS % (PRICE, "") + SALES,
    "barcode": BUSINESSES + PRODUCTS % (PRICE + "barcode: text('barcode'),", "") + SALES,
    # A default that comes later is a rebuild to drizzle-kit, with PRAGMA foreign_keys=OFF in the middle of the file.
    "price_default": BUSINESSES
    + PRODUCTS % ("price: integer('price').notNull().default(0), barcode: text('barcode'),", "")
    + SALES,
    "unique_barcode": BUSINESSES
    + PRODUCTS
    % (
        "price: integer('price').notNull().default(0), barcode: text('barcode'),",
        ", (t) => [uniqueIndex('products_barcode').on(t.barcode)]",
    )
    + SALES,
}


def tools(release: str = OLD) -> Path:
    """The folder in which the real tools are installed; without npm or a registry the test is skipped."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm")
    place = CACHE / PLACES[release]
    place.mkdir(parents=True, exist_ok=True)
    lock = Lock(place.with_suffix(".lock"))
    assert lock.take(timeout_seconds=240)
    with lock:
        wanted = json.dumps({"private": True, "type": "module", "dependencies": VERSIONS[release]})
        package = place / "package.json"
        if not package.exists() or package.read_text() != wanted:
            package.write_text(wanted)
            done = subprocess.run(
                ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"],
                cwd=place, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode != 0:
                package.unlink()
                pytest.skip(f"the tools could not be installed: {done.stderr[-300:]}")
        script = place / "migrate.mjs"
        if not script.exists() or script.read_text() != MIGRATE:
            script.write_text(MIGRATE)
    return place


class Project:
    """A schema and a folder of migrations in the tools' own place, as drizzle-kit wants them."""

    def __init__(self, name: str, release: str = OLD) -> None:
        self._kit = tools(release) / "node_modules/.bin/drizzle-kit"
        works = tools(release) / "work"
        works.mkdir(exist_ok=True)
        # A name of its own for each process: tests of one module run in several at once.
        self.work = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=works))
        self.out = self.work / "out"
        self._count = 0
        (self.work / "drizzle.config.ts").write_text(
            "import { defineConfig } from 'drizzle-kit';\n"
            "export default defineConfig({ dialect: 'sqlite', schema: './schema.ts', out: './out' });\n"
        )

    def generate(self, name: str, schema: str) -> None:
        """A migration from the schema as it now is."""
        (self.work / "schema.ts").write_text(HEAD + schema)
        self._run("generate", "--name", name)
        self._at_a_second_of_its_own(name)

    def custom(self, name: str) -> None:
        """One that is to be written by hand."""
        self._run("generate", "--custom", "--name", name)
        self._at_a_second_of_its_own(name)

    def up(self) -> None:
        """The folder in the newer layout."""
        self._run("up")

    def moved_to(self, folder: Path) -> Path:
        """The folder of migrations in a place of its own; nothing is left of the rest."""
        shutil.copytree(self.out, folder)
        shutil.rmtree(self.work)
        return folder

    def _at_a_second_of_its_own(self, name: str) -> None:
        """Drizzle 1.0 sorts what it made in one second by name, and would run it so."""
        self._count += 1
        for folder in self.out.glob(f"*_{name}"):
            folder.rename(folder.with_name(f"202601311200{self._count:02d}_{name}"))

    def _run(self, *words: str) -> None:
        done = subprocess.run([self._kit, *words], cwd=self.work, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def history(folder: Path, release: str = OLD) -> Path:
    """A folder of migrations, each step generated by drizzle-kit from the schema as it then was.

    It is generated once for all tests, and kept beside the tools.
    """
    place = tools(release)
    wanted = hashlib.sha256(json.dumps([HEAD, STEPS, VERSIONS[release]]).encode()).hexdigest()[:12]
    made = place / f"history-{wanted}"
    lock = Lock(place / "history.lock")
    assert lock.take(timeout_seconds=240)
    with lock:
        if not made.exists():
            project = Project("history", release)
            for name, schema in STEPS.items():
                project.generate(name, schema)
            project.moved_to(place / "new-history").rename(made)
    shutil.copytree(made, folder)
    return folder


def first_folders(folder: Path, count: int) -> Path:
    """The same, of the newer layout."""
    earlier = folder.with_name(f"{folder.name}-{count}")
    shutil.copytree(folder, earlier)
    for one in sorted(one for one in earlier.iterdir() if one.is_dir())[count:]:
        shutil.rmtree(one)
    (earlier / "engine.toml").unlink(missing_ok=True)
    return earlier


def first(folder: Path, count: int) -> Path:
    """The same folder as an earlier release had it."""
    earlier = folder.with_name(f"{folder.name}-{count}")
    if earlier.exists():
        return earlier
    shutil.copytree(folder, earlier)
    journal = json.loads((earlier / "meta/_journal.json").read_text())
    for entry in journal["entries"][count:]:
        (earlier / f"{entry['tag']}.sql").unlink()
    if count < 3:
        (earlier / "engine.toml").unlink(missing_ok=True)
    journal["entries"] = journal["entries"][:count]
    (earlier / "meta/_journal.json").write_text(json.dumps(journal))
    return earlier


def migrate(database: Path, folder: Path, release: str = OLD) -> None:
    """What the app's own start does: drizzle-orm's migrator."""
    words: list[str | Path] = ["node", tools(release) / "migrate.mjs", database, folder]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
