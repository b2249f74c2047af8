"""The real Django in an environment of its own, and a small project of a shop's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dbsync.storage.locks import Lock
from tests.helpers.places import ROOT

VERSION = "5.2.8"
PLACE = ROOT / ".cache" / "django"
SETTINGS = """
from pathlib import Path
import os
SECRET_KEY = "of a test"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["SHOP_DATABASE"]}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
MANAGE = """
import os, sys
from django.core.management import execute_from_command_line
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
execute_from_command_line(sys.argv)
"""
MIGRATE_COPY = """
import os, runpy, sys
copy, *target = sys.argv[1:]
os.environ["SHOP_DATABASE"] = copy
os.chdir(os.path.dirname(os.path.abspath(__file__)))
sys.argv = ["manage.py", "migrate", "--no-input", *target]
runpy.run_path("manage.py", run_name="__main__")
"""
MODELS = """
from django.db import models
class Product(models.Model):
    name = models.CharField(max_length=50)
    price = models.DecimalField(max_digits=8, decimal_places=2)%s
class Sale(models.Model):
    product = models.ForeignKey(Product, on_delete=models.CASCADE)
    cents = models.IntegerField()
"""
BARCODE = "\n    barcode = models.CharField(max_length=20, default='', db_index=True)"


def python() -> Path:
    """A Python that has Django; without a registry the test is skipped."""
    found = PLACE / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(PLACE.with_suffix(".lock"))
    assert lock.take(timeout_seconds=240)
    with lock:
        mark = PLACE / f"has-{VERSION}"
        if not mark.exists():
            subprocess.run([sys.executable, "-m", "venv", PLACE], check=True, capture_output=True)
            words = [str(found), "-m", "pip", "install", "--quiet", f"django=={VERSION}"]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"Django could not be installed: {done.stderr[-300:]}")
            mark.touch()
    return found


class Project:
    """A project in a folder, and the database that it works with."""

    def __init__(self, folder: Path) -> None:
        self.python = python()
        self.folder = folder
        self.database = folder / "data" / "shop.db"
        self.database.parent.mkdir(parents=True)
        (folder / "shop").mkdir()
        for name, text in {
            "settings.py": SETTINGS, "manage.py": MANAGE, "migrate_copy.py": MIGRATE_COPY,
            "shop/__init__.py": "", "shop/models.py": MODELS % "",
        }.items():  # fmt: skip
            (folder / name).write_text(text)
        self.manage("makemigrations", "shop", "-n", "init")
        self.manage("migrate", "-v0")

    def manage(self, *words: str) -> str:
        """What the project's own `manage.py` says."""
        return self._run("manage.py", *words)

    def do(self, code: str) -> str:
        """Code of the app's, with its models."""
        return self._run("-c", f"import django; django.setup()\nfrom shop.models import *\n{code}")

    def grow(self) -> None:
        """The next release's models, and the migration that Django makes of them."""
        (self.folder / "shop/models.py").write_text(MODELS % BARCODE)
        self.manage("makemigrations", "shop", "-n", "barcode")

    def _run(self, *words: str) -> str:
        env = {**os.environ, "SHOP_DATABASE": str(self.database), "DJANGO_SETTINGS_MODULE": "settings"}
        done = subprocess.run(
            [self.python, *words], cwd=self.folder, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
