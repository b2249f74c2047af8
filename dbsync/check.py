"""Checks a folder of migrations as CI should: against what was released, from every schema, twice, for risks."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from dbsync import changes, compare, conservation, copies, schema, verify
from dbsync.definitions import tokens
from dbsync.errors import DbsyncError
from dbsync.migrations import load, text_of
from dbsync.model import Migration
from dbsync.progress import nobody
from dbsync.sandbox import split
from dbsync.sqlite import attach_copy, open_copy, open_scratch


class Problem(NamedTuple):
    """One thing that should not be released."""

    where: str
    what: str
    safe: str = ""
    """The safe way."""


def check(
    folder: Path, *, released: tuple[Path, ...] = (), database: Path | None = None, scratch: Path
) -> list[Problem]:
    """Everything that can be found out before a release.

    Args:
        folder: the migrations to check.
        released: folders of earlier releases.
        database: a database like those in the field, of an older schema: it is copied, never changed.
        scratch: an existing folder for copies, which are removed.
    """
    try:
        found = load(folder)
    except DbsyncError as error:
        return [Problem(str(error.path or folder), error.cause)]
    problems = [problem for one in found for problem in _risky(one)]
    problems += _declarations(found)
    for place in released:
        problems += _against(found, place)
    if not problems:
        problems += _from_every_schema(found)
    if not problems and database is not None:
        problems += _on_a_copy(found, database, scratch)
    return problems


def _name(migration: Migration) -> str:
    return f"{migration.number:04d}_{migration.name}"


def _declarations(found: tuple[Migration, ...]) -> list[Problem]:
    try:
        changes.declared(found)
    except DbsyncError as error:
        return [Problem(str(error.path), error.cause, error.hint)]
    return []


def _against(found: tuple[Migration, ...], place: Path) -> list[Problem]:
    """Released migrations stay as they were: number, name and text; a mended one names what it replaces."""
    try:
        earlier = load(place)
    except DbsyncError as error:
        return [Problem(str(place), error.cause)]
    problems = []
    now = {one.number: one for one in found}
    for before in earlier:
        one = now.get(before.number)
        if one is None:
            problems.append(
                Problem(_name(before), f"released in {place} and missing now", "Released migrations stay for ever.")
            )
        elif one.name != before.name:
            problems.append(
                Problem(_name(before), f"released in {place} and called {one.name} now", "Add a new number instead.")
            )
        elif one.sha256 != before.sha256 and before.sha256 not in one.replaces:
            safe = f"Add a new one; or, if it failed in the field, mend it and say that it replaces {before.sha256}."
            problems.append(Problem(_name(before), f"released in {place} and edited since", safe))
        elif one.sha256 != before.sha256:
            problems += _same_end(found, earlier, before.number)
    return problems


def _same_end(found: tuple[Migration, ...], earlier: tuple[Migration, ...], number: int) -> list[Problem]:
    """A mended migration ends in the structure of the one that it replaces: databases that have the old one keep it."""
    try:
        mended, broken = (verify.fresh(tuple(one for one in all_ if one.number <= number)) for all_ in (found, earlier))
    except DbsyncError as error:
        return [Problem(_name(found[number - 1]), f"a fresh database cannot be made: {error.cause}")]
    if mended == broken:
        return []
    differing = ", ".join(sorted(mended ^ broken)[:3])
    return [Problem(_name(found[number - 1]), f"it ends in another structure than what it replaces: {differing}")]


def _from_every_schema(found: tuple[Migration, ...]) -> list[Problem]:
    """Every schema that was ever released, made fresh and brought to the newest, has the newest's structure."""
    try:
        newest = verify.fresh(found)
    except DbsyncError as error:
        return [Problem("a fresh database", error.cause)]
    problems = []
    for count in range(1, len(found)):
        with closing(open_scratch()) as connection:
            try:
                verify.run_all(connection, found[:count])
                verify.run_all(connection, found[count:])
                if schema.fingerprint(connection) != newest:
                    problems.append(
                        Problem(f"from schema {count}", "it does not end in the structure of a fresh database")
                    )
            except DbsyncError as error:
                problems.append(Problem(f"from schema {count}", error.cause))
    return problems


def _on_a_copy(found: tuple[Migration, ...], database: Path, scratch: Path) -> list[Problem]:
    """On real rows: twice, which has to come to the same; and against how it was, which has to be declared."""
    before, once, twice = (scratch / f"check-{name}.db" for name in ("before", "once", "twice"))
    try:
        copies.snapshot(database, before, told=nobody)
        for path in (once, twice):
            copies.scratch_copy(before, path, told=nobody)
            pending = verify.migrate_up(path, found)
        return [*_twice(once, twice), *_undeclared(once, before, pending)]
    except DbsyncError as error:
        return [Problem(str(database), error.cause)]
    finally:
        for path in (before, once, twice):
            copies.drop_part(path)


def _twice(once: Path, twice: Path) -> list[Problem]:
    with closing(open_copy(once)) as connection:
        attach_copy(connection, twice, "twice")
        differing = [one.table for one in compare.differences(connection, "twice")]
    safe = "A migration must not ask the clock or for random numbers: going back is proven by running it again."
    return [Problem(one, "two runs come to different rows", safe) for one in differing]


def _undeclared(once: Path, before: Path, pending: tuple[Migration, ...]) -> list[Problem]:
    with closing(open_scratch(once)) as connection:
        attach_copy(connection, before, conservation.OLD)
        found = conservation.findings(
            connection, changes.declared(pending), touched=None, limit_seconds=verify.LIMIT_SECONDS
        )
    return [Problem(_name(pending[-1]), one.what, f"-- changes: {one.declare}" if one.declare else "") for one in found]


def _risky(migration: Migration) -> list[Problem]:
    """What is known to go wrong, with the way that does not. Python is looked at as text: it is not run here."""
    text = text_of(migration.path)
    statements = list(split(text)) if migration.kind == "sql" else [text]
    said = " ".join(migration.changes).lower()
    problems = []
    for statement in statements:
        words = " ".join(tokens(statement))
        if " drop column " in f" {words} " and "drop column" not in said:
            safe = "Say it: `changes: drop column T.c`; and release an app before that does not need it any more."
            problems.append(Problem(_name(migration), "it drops a column without a declaration", safe))
        if " add column " in f" {words} " and " not null" in words and " default " not in words:
            safe = "Give it a DEFAULT, or use db.not_null(table, column, fill=...)."
            problems.append(Problem(_name(migration), "it adds a NOT NULL column without a default", safe))
        if "pragma foreign_keys" in words:
            safe = "Foreign keys are off while migrations run; they are checked before COMMIT."
            problems.append(Problem(_name(migration), "PRAGMA foreign_keys does nothing inside a transaction", safe))
        if (
            " drop table " in f" {words} "
            and " rename to " not in f" {' '.join(tokens(text))} "
            and "drop table" not in said
        ):
            safe = "Say it: `changes: drop table T`."
            problems.append(Problem(_name(migration), "it drops a table without a declaration", safe))
        first = words.split(" ", 1)[0]
        if migration.kind == "sql" and first in ("begin", "commit", "rollback", "end", "savepoint", "attach", "vacuum"):
            problems.append(
                Problem(_name(migration), f"{first.upper()} would break the one transaction", "Leave it out.")
            )
    return problems
