"""The checks of a folder of migrations in CI: against earlier releases, from every schema, twice, and for risks."""

from __future__ import annotations

from contextlib import closing, nullcontext
from pathlib import Path
from typing import Final, NamedTuple, assert_never

from dbsync.backups import snapshot
from dbsync.database.recognition import adopt_copy, decided_on_copy
from dbsync.errors import TillkeeperError
from dbsync.lint.environment import another_day
from dbsync.lint.risks import SAME_TWICE, risks
from dbsync.migrations import runner
from dbsync.migrations.folder import NONE, NONE_HINT, load, passed_over
from dbsync.model import Migration, MigrationKind, SchemaNumber
from dbsync.progress import nobody
from dbsync.schema import declarations, fingerprint
from dbsync.storage.connections import (
    attach_copy,
    open_copy,
    open_reading,
    open_scratch,
    open_undisturbed,
    tolerate,
    translated,
)
from dbsync.storage.introspection import needs_of, version_of
from dbsync.upgrade import decisions
from dbsync.upgrade.released_history import Kind, departures
from dbsync.verification import checks, conservation, declaration_checks, table_diff

NOT_READ: Final = "looks like a migration but has an unsupported extension"
NOT_READ_SAFE: Final = "Name it .sql or .py, or take it out of the folder."


class Problem(NamedTuple):
    """One thing that should not be released."""

    where: str
    what: str
    safe: str = ""
    """The safe way."""


def check(
    *, folder: Path, released: tuple[Path, ...] = (), database: Path | None = None, scratch: Path
) -> list[Problem]:
    """Return all problems that can be found before a release.

    Args:
        folder: the migrations to check.
        released: folders of earlier releases.
        database: a database like those in the field, of an older schema; it is copied, never changed.
        scratch: an existing folder for copies, which are removed.
    """
    try:
        found = load(folder)
    except TillkeeperError as error:
        return [Problem(str(error.path or folder), error.cause)]
    if not found:
        # The wrong folder must not pass in CI.
        return [Problem(str(folder), NONE, NONE_HINT)]
    problems = [Problem(str(path), NOT_READ, NOT_READ_SAFE) for path in passed_over(folder)]
    problems += [Problem(_name(migration), risk.what, risk.safe) for migration in found for risk in risks(migration)]
    problems += _declarations(found)
    for place in released:
        problems += _against(found, place)
    if not problems and not any(migration.kind is MigrationKind.COMMAND for migration in found):
        problems += _from_every_schema(found, released)
        problems += _meant(found, scratch)
    if not problems:
        problems += _twice(found, None, scratch)
    if not problems and database is not None:
        problems += _on_a_copy(found, database, scratch)
    return problems


def _name(migration: Migration) -> str:
    return f"{migration.number:04d}_{migration.name}"


def _declarations(found: tuple[Migration, ...]) -> list[Problem]:
    try:
        declarations.declared(found)
    except TillkeeperError as error:
        return [Problem(str(error.path), error.cause, error.hint)]
    return []


def _meant(found: tuple[Migration, ...], scratch: Path) -> list[Problem]:
    """Return the declarations of each migration that do not fit the structure before and after it."""
    before, after = scratch / "check-step-before.db", scratch / "check-step-after.db"
    problems = []
    try:
        for migration in found:
            snapshot.scratch_copy(source=after, target=before, told=nobody) if after.exists() else _make(before, ())
            with closing(open_scratch(after)) as connection:
                runner.run_all(connection, (migration,))
                attach_copy(connection, before, conservation.OLD)
                allowed = declarations.declared((migration,))
                _, wrong = declaration_checks.usable(connection, allowed, conservation.OLD)
                problems += [Problem(_name(migration), mistake.what) for mistake in wrong]
                for what, near in declaration_checks.unknown(connection, allowed, conservation.OLD):
                    problems.append(Problem(_name(migration), what, f"Is {near} meant?" if near else ""))
    except TillkeeperError as error:
        return [Problem("declarations", error.cause)]
    finally:
        for path in (before, after):
            snapshot.drop_part(path)
    return problems


def _against(found: tuple[Migration, ...], place: Path) -> list[Problem]:
    """Return a problem for each released migration that changed, except a fixed one that names what it replaces.

    Number, name and text must stay as they were. A fixed migration must end in the same structure.
    """
    try:
        earlier = load(place)
    except TillkeeperError as error:
        return [Problem(str(place), error.cause)]
    if not earlier:
        return [Problem(str(place), NONE, NONE_HINT)]
    problems = []
    for departure in departures(earlier=earlier, now=found):
        match departure.kind:
            case Kind.MENDED:
                problems += _same_end(found, earlier, departure.number)
            case Kind.MISSING | Kind.RENAMED | Kind.RENUMBERED | Kind.EDITED:
                problems.append(
                    Problem(
                        f"{departure.number:04d}_{departure.name}",
                        f"released in {place}, {departure.what}",
                        departure.safe,
                    )
                )
            case _:
                assert_never(departure.kind)
    return problems


def _same_end(found: tuple[Migration, ...], earlier: tuple[Migration, ...], number: SchemaNumber) -> list[Problem]:
    """Return a problem if a fixed migration ends in another structure: databases that have the old one keep that."""
    try:
        fixed, broken = (
            runner.fresh_structure(tuple(migration for migration in all_ if migration.number <= number))
            for all_ in (found, earlier)
        )
    except TillkeeperError as error:
        return [Problem(_name(found[number - 1]), f"a fresh database cannot be made: {error.cause}")]
    if fixed == broken:
        return []
    differing = ", ".join(sorted(fixed ^ broken)[:3])
    return [Problem(_name(found[number - 1]), f"it ends in another structure than what it replaces: {differing}")]


def _from_every_schema(found: tuple[Migration, ...], released: tuple[Path, ...]) -> list[Problem]:
    """Return a problem for each old schema whose upgrade fails or does not end in the newest structure.

    The old schemas are made by these texts, and by those of each release.
    """
    try:
        newest = runner.fresh_structure(found)
    except TillkeeperError as error:
        return [Problem("a fresh database", error.cause)]
    starts = [(f"from schema {count}", found[:count]) for count in range(1, len(found))]
    starts += [(f"from what was released in {place}", load(place)) for place in released]
    problems = []
    for where, begun in starts:
        with closing(open_scratch()) as connection:
            try:
                runner.run_all(connection, begun)
                runner.run_all(connection, found[len(begun) :])
                if fingerprint.fingerprint(connection) != newest:
                    problems.append(Problem(where, "it does not end in the structure of a fresh database"))
            except TillkeeperError as error:
                problems.append(Problem(where, error.cause))
    return problems


def _on_a_copy(found: tuple[Migration, ...], database: Path, scratch: Path) -> list[Problem]:
    """Return the problems on real rows: two runs with different results, and changes without a declaration."""
    before = scratch / "check-before.db"
    try:
        snapshot.copy_database(source=database, target=before, told=nobody, opened=open_undisturbed)
        cause = _not_tried(before, found)
        if cause:
            return [Problem(str(database), f"{cause}: nothing could be tried on it")]
        return [*_twice(found, before, scratch), *_undeclared(found, before, scratch)]
    except TillkeeperError as error:
        return [Problem(str(database), error.cause)]
    finally:
        snapshot.drop_part(before)


def not_evaluated(*, database: Path, scratch: Path) -> tuple[str, ...]:
    """Return what the tables of a database need and this machine lacks, a sentence each; it is copied, never changed.

    Raises:
        TillkeeperError: the database cannot be read.
    """
    copied = scratch / "check-needs.db"
    try:
        snapshot.copy_database(source=database, target=copied, told=nobody, opened=open_undisturbed)
        # SQLite does not load the CHECK constraints of a database that it may only read.
        with translated("look at", database), closing(open_reading(copied)) as connection:
            unparsed = tolerate(connection)
            return (*filter(None, [unparsed]), *needs_of(connection))
    finally:
        snapshot.drop_part(copied)


def _not_tried(before: Path, found: tuple[Migration, ...]) -> str:
    """Return why the migrations cannot run on a database, empty if they can; one without history is adopted first."""
    adopt_copy(before, found)
    step = decided_on_copy(before, found)
    match step:
        case decisions.Refuse():
            return step.cause
        case decisions.Nothing():
            return ""
        case decisions.Migrate():
            return "there is nothing in it" if step.fresh else ""
        case _:
            assert_never(step)


def _twice(found: tuple[Migration, ...], before: Path | None, scratch: Path) -> list[Problem]:
    """Run the pending migrations on two copies, the second on another day; return a problem per differing table.

    Without a database, the runs start from the result of the first migration, which is never run again.
    """
    once, twice, made = (scratch / f"check-{name}.db" for name in ("once", "twice", "made"))
    try:
        if before is None:
            _make(made, found[:1])
        for path in (once, twice):
            snapshot.scratch_copy(source=before or made, target=path, told=nobody)
            with closing(open_scratch(path)) as connection:
                pending = tuple(migration for migration in found if migration.number > version_of(connection))
                with another_day(connection) if path == twice else nullcontext():
                    runner.run_all(connection, pending)
        with closing(open_copy(once)) as connection:
            attach_copy(connection, twice, "twice")
            differing = [difference.table for difference in table_diff.differences(connection, "twice")]
    except TillkeeperError as error:
        return [Problem(str(before or "a fresh database"), error.cause)]
    finally:
        for path in (once, twice, made):
            snapshot.drop_part(path)
    return [Problem(table, "two runs, on two days, come to different rows", SAME_TWICE) for table in differing]


def _make(path: Path, first: tuple[Migration, ...]) -> None:
    with closing(open_scratch(path)) as connection:
        runner.run_all(connection, first)


def _undeclared(found: tuple[Migration, ...], before: Path, scratch: Path) -> list[Problem]:
    """Return a problem for each undeclared change: migration by migration, then all at once.

    A till that skips releases runs them all at once.
    """
    step = scratch / "check-step.db"
    try:
        snapshot.scratch_copy(source=before, target=step, told=nobody)
        with closing(open_copy(step)) as connection:
            pending = tuple(migration for migration in found if migration.number > version_of(connection))
        problems = []
        for migration in pending:
            problems += _different((migration,), step, scratch, goes_on=True)
        if len(pending) > 1 and not problems:
            problems += _different(pending, before, scratch, goes_on=False)
    finally:
        snapshot.drop_part(step)
    return problems


def _different(run: tuple[Migration, ...], base: Path, scratch: Path, *, goes_on: bool) -> list[Problem]:
    after = scratch / "check-after.db"
    try:
        snapshot.scratch_copy(source=base, target=after, told=nobody)
        with closing(open_scratch(after)) as connection:
            written = runner.run_all(connection, run)
            attach_copy(connection, base, conservation.OLD)
            found = conservation.findings(
                connection, declarations.declared(run), written=written, limit_seconds=checks.LIMIT_SECONDS, skip=False
            )
        if goes_on:
            after.replace(base)
    finally:
        snapshot.drop_part(after)
    return [
        Problem(_name(run[-1]), finding.told, f"-- changes: {finding.declare}" if finding.declare else "")
        for finding in found
    ]
