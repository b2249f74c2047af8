"""Schema histories of public apps: which files of their repositories make the older schema, and which lead on from it.

Their text is read from clones that the drill is given, and is in no file of ours.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from tests.drills.real_sources import NotThere

_PRAGMA: Final = re.compile(r"^\s*PRAGMA\s+foreign_keys\s*=\s*\w+\s*;\s*$", re.IGNORECASE | re.MULTILINE)


class Relied(NamedTuple):
    """A value that an app's migrations rely on, and no constraint demands: made-up trade knows constraints only."""

    table: str
    column: str
    wrong: str
    """The condition, in SQL, of a row that is not as the app writes it."""
    value: str
    """The expression that takes its place."""


def only_json(table: str, column: str, value: str) -> Relied:
    """A column that holds JSON alone."""
    return Relied(table, column, f"typeof({column}) <> 'text' OR NOT json_valid({column})", value)


class Lineage(NamedTuple):
    """One app's history."""

    repository: str
    """Owner and name on GitHub."""
    under: str
    """The folder of its migrations."""
    member: str
    """A pattern for the paths of the files in it that are run, in the order of `order`."""
    released: str
    """The older release, in words."""
    last_of_base: str
    """The last file of the older schema; the files after it are the migrations."""
    schema: str = ""
    """A file with the whole older schema, as `tag:path`; else the files up to `last_of_base` make it."""
    relied: tuple[Relied, ...] = ()


LINEAGES: Final = {
    "event-pos-desktop": Lineage(
        repository="BigAl42/event-pos-desktop",
        under="src-tauri/migrations",
        member=r"/\d+_\w+\.sql$",
        released="001 (the first)",
        last_of_base="001_initial.sql",
    ),
    "vaultwarden": Lineage(
        repository="dani-garcia/vaultwarden",
        under="migrations/sqlite",
        member=r"/up\.sql$",
        released="1.0.0",
        last_of_base="2018-07-11-181453_create_u2f_twofactor/up.sql",
    ),
    "memos": Lineage(
        repository="usememos/memos",
        under="store/migration/sqlite",
        member=r"/\d+\.\d+/\d+__\w+\.sql$",
        released="0.19.0",
        last_of_base="0.19/00__add_resource_name.sql",
        schema="v0.19.0:store/db/sqlite/migration/prod/LATEST__SCHEMA.sql",
        relied=(
            only_json("inbox", "message", "json_object('type', 'MEMO_COMMENT', 'activityId', id)"),
            only_json(
                "activity", "payload", "json_object('memoComment', json_object('memoId', id, 'relatedMemoId', 1))"
            ),
        ),
    ),
    "shiori": Lineage(
        repository="go-shiori/shiori",
        under="internal/database/migrations/sqlite",
        member=r"/\d{4}_\w+\.up\.sql$",
        released="0001 (the first)",
        last_of_base="0001_initial.up.sql",
        relied=(Relied("bookmark_content", "content", "content IS NULL", "''"),),
    ),
    "grocy": Lineage(
        repository="grocy/grocy",
        under="migrations",
        member=r"/\d{4}\.sql$",
        released="4.0.0",
        last_of_base="0220.sql",
    ),
}


class Histories(NamedTuple):
    """The texts of one lineage."""

    base: tuple[str, ...]
    """The statements that make the older schema."""
    steps: tuple[tuple[str, str], ...]
    """Name and text of each migration after it."""
    newest: str
    """The newest file's name, and the commit it was read at."""
    relied: tuple[Relied, ...] = ()


def read(lineage: Lineage, sources: Path) -> Histories:
    """Read a lineage from a clone below `sources` that has the repository's name.

    Raises:
        NotThere: there is no such clone.
    """
    clone = sources / lineage.repository.partition("/")[2]
    if not clone.exists():
        raise NotThere(f"no clone {clone}: git clone the repository {lineage.repository} of GitHub there")
    listed = _git(clone, "ls-tree", "-r", "--name-only", "HEAD", lineage.under).splitlines()
    names = sorted((path for path in listed if re.search(lineage.member, path)), key=_numbers)
    at = names.index(f"{lineage.under}/{lineage.last_of_base}") + 1
    made_by = [lineage.schema] if lineage.schema else [f"HEAD:{name}" for name in names[:at]]
    steps = tuple((name.removeprefix(f"{lineage.under}/"), _git(clone, "show", f"HEAD:{name}")) for name in names[at:])
    commit = _git(clone, "rev-parse", "--short", "HEAD").strip()
    base = tuple(_git(clone, "show", one) for one in made_by)
    return Histories(base, steps, f"{steps[-1][0]} at {commit}", lineage.relied)


def make_base(histories: Histories, database: Path) -> None:
    """Make the older schema as the app did: its own texts, in SQLite."""
    with closing(sqlite3.connect(database)) as connection:
        for text in histories.base:
            connection.executescript(text)


def as_migration(name: str, text: str) -> tuple[str, str]:
    """Return a step as name and text of a migration file, without the pragma that dbsync sets itself."""
    plain = "step_" + re.sub(r"\W+", "_", name.removesuffix(".sql").removesuffix("/up")).strip("_").lower()
    return plain, _PRAGMA.sub("", text)


def _numbers(path: str) -> list[int | str]:
    """A key that puts 0.9 before 0.10, and dates in their order."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]


def _git(clone: Path, *words: str) -> str:
    ran = subprocess.run(["git", "-C", str(clone), *words], capture_output=True, check=True)
    return ran.stdout.decode("utf-8")
