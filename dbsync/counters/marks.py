"""The marks: how high each counter of a database has ever been seen, in a file outside the database (format 1).

A restore rewinds the database and never this file. It also keeps the declarations, in the names of every schema: a
command that restores a backup may have no folder of migrations. A number in it is never lowered, but by a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from dbsync.counters import declaration
from dbsync.counters.decisions import NUMBER_LIMIT
from dbsync.counters.declaration import MARK, Counter, Rename
from dbsync.errors import TillkeeperError, UnreadableFile
from dbsync.facts import SchemaNumber
from dbsync.model import Migration
from dbsync.storage import file_calls, files, temporary_files

FORMAT: Final = 1
ENDING: Final = ".counters.json"


class Mark(NamedTuple):
    """The highest number of a counter that was ever seen."""

    number: int
    at: str
    """When it was seen first, UTC."""


class Marks(NamedTuple):
    """The content of the file."""

    marks: Mapping[str, Mark] = {}
    """By the counter's name in lower case."""
    declared: Mapping[int, tuple[Counter, ...]] = {}
    """The declared counters in the names of each schema."""
    renames: tuple[Rename, ...] = ()
    """The tables that were renamed on the way to the newest schema."""

    def at(self, version: int) -> tuple[Counter, ...]:
        """Return the declared counters in the names of a schema; of a newer one than is known, the newest."""
        known = [number for number in self.declared if number <= version]
        return self.declared[max(known)] if known else ()

    def names_of(self, counter: Counter, version: int) -> tuple[str, ...]:
        """Return the names, in lower case, under which a counter of a database with that schema may be known.

        The counter of AUTOINCREMENT is also known by its table, and by the names that the table had before and later.
        """
        names = [counter.name.lower()]
        if counter.is_mark:
            names.append(f"{MARK}{counter.table.lower()}")
            names += [f"{MARK}{table}" for table in self._other_names(counter.table.lower(), version)]
        return tuple(names)

    def _other_names(self, table: str, version: int) -> list[str]:
        later, earlier, found = table, table, list[str]()
        for rename in self.renames:
            if rename.number > version and rename.before.lower() == later:
                later = rename.after.lower()
                found.append(later)
        for rename in reversed(self.renames):
            if rename.number <= version and rename.after.lower() == earlier:
                earlier = rename.before.lower()
                found.append(earlier)
        return found

    def of(self, counter: Counter, version: int) -> Mark | None:
        """Return the mark of a counter of a database with that schema."""
        found = [self.marks[name] for name in self.names_of(counter, version) if name in self.marks]
        return max(found, key=lambda mark: mark.number) if found else None

    def with_release(self, migrations: tuple[Migration, ...]) -> Marks:
        """Return the marks with what a release declares. One that is older than the newest known adds only what is new.

        Raises:
            BadMigrations: its declaration cannot be read.
        """
        if not migrations:
            return self
        counters, latest = declaration.of_release(migrations), migrations[-1].number
        newest = max(self.declared, default=0)
        found = dict(self.declared)
        if not counters and latest < newest:
            return self
        for version in range(latest + 1):
            now = declaration.at_schema(counters, migrations, version)
            if latest < newest:
                now = (*now, *_others(self.at(version), now))
            if now or version in found:
                found[version] = now
        renames = declaration.renames_of(migrations)
        return self._replace(declared=found, renames=renames if latest >= newest else self.renames or renames)

    def with_numbers(self, numbers: Mapping[str, int | None], at: str) -> Marks:
        """Return the marks, each at least as high as a number that was seen now."""
        found = dict(self.marks)
        for name, number in numbers.items():
            known = found.get(name.lower())
            if number is not None and (known is None or known.number < number):
                found[name.lower()] = Mark(number, at)
        return self._replace(marks=found)

    def without(self, name: str) -> Marks:
        """Return the marks without that of one counter."""
        return self._replace(marks={known: mark for known, mark in self.marks.items() if known != name.lower()})


def _others(known: Iterable[Counter], counters: Iterable[Counter]) -> list[Counter]:
    names = {counter.name.lower() for counter in counters}
    return [counter for counter in known if counter.name.lower() not in names]


def path_of(*, backups: Path, database: Path) -> Path:
    """Return the path of the file: beside the backups, where the record of the runs is, named after its database."""
    return backups / f"{temporary_files.owner_of(database)}{ENDING}"


def read(path: Path) -> Marks | None:
    """Return the marks; None if there is no such file.

    Raises:
        UnreadableFile: its content is damaged, or of a later version of this program. That is not "no marks".
        DiskProblem: it cannot be read now.
    """
    try:
        found = files.read_json(path)
    except FileNotFoundError:
        return None
    try:
        return _marks(found)
    except (AttributeError, KeyError, TypeError, ValueError) as cause:
        raise UnreadableFile(operation="read the marks of the counters", path=path, cause=str(cause)) from cause


def write(marks: Marks, *, path: Path, database: Path) -> None:
    """Write the marks durably, with the owner and the rights of the database.

    Until they are, the name has the database's, whose next run removes what is left.

    Raises:
        DiskProblem: they cannot be written; the old ones are unchanged.
    """
    files.make_folder(path.parent, like=database)
    owner = temporary_files.owner_of(database)
    part = temporary_files.part_of(path, owner)
    told = {
        "format": FORMAT,
        "database": owner,
        "marks": {name: mark._asdict() for name, mark in marks.marks.items()},
        "declared": {
            str(version): [declaration.as_json(counter) for counter in counters]
            for version, counters in marks.declared.items()
        },
        "renames": [list(rename) for rename in marks.renames],
    }
    try:
        files.write_json(part, told, like=database)
        files.rename_durably(source=part, target=path)
    except TillkeeperError:
        with suppress(OSError):
            file_calls.remove(part)
        raise


def set_aside(path: Path, stamp: str) -> Path:
    """Move a file that cannot be read to a name of its own, durably, and return that."""
    kept = path.with_name(f"{path.name}.damaged-{stamp}")
    files.rename_durably(source=path, target=kept)
    return kept


def _marks(found: dict[str, Any]) -> Marks:
    if found["format"] != FORMAT:
        raise ValueError(f"format {found['format']} is not known")
    declared = {}
    for version, rows in found["declared"].items():
        for row in rows:
            problem = declaration.problem_of(row)
            if problem:
                raise ValueError(problem)
        declared[int(version)] = tuple(declaration.from_json(row) for row in rows)
    renames = tuple(
        Rename(SchemaNumber(int(number)), str(before), str(after)) for number, before, after in found["renames"]
    )
    return Marks({str(name): _mark(row) for name, row in found["marks"].items()}, declared, renames)


def _mark(row: Mapping[str, Any]) -> Mark:
    number = row["number"]
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= NUMBER_LIMIT:
        raise ValueError(f"{number!r} is not the number of a counter")
    return Mark(number, str(row["at"]))
