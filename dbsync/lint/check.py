"""The checks of a folder of migrations in CI: against earlier releases, from every schema, twice, and for risks."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple, assert_never

from dbsync.backups import snapshot
from dbsync.database import preflight
from dbsync.database.recognition import adopt_copy, decided_on_copy
from dbsync.errors import TillkeeperError
from dbsync.lint import counters, declaration_lines, second_run
from dbsync.lint.declaration_lines import is_one_by_one
from dbsync.lint.risks import risks
from dbsync.migrations import code_process, runner
from dbsync.migrations.folder import NONE, NONE_HINT, load, passed_over
from dbsync.migrations.migration_file import text_of
from dbsync.model import Migration, MigrationKind, SchemaNumber
from dbsync.outcomes import Group
from dbsync.progress import nobody
from dbsync.rehearsal import way_back
from dbsync.rehearsal.way_back import WayBack
from dbsync.schema import declarations
from dbsync.schema.fingerprint import structure_of
from dbsync.storage import file_calls
from dbsync.storage.children import NoPython
from dbsync.storage.connections import (
    attach_copy,
    open_copy,
    open_reading,
    open_scratch,
    open_undisturbed,
    tolerate,
    translated,
)
from dbsync.storage.introspection import has_table, needs_of, version_of
from dbsync.upgrade import decisions
from dbsync.upgrade.released_history import Kind, departures
from dbsync.verification import checks, conservation, declaration_checks
from dbsync.verification.broken_causes import needs_sentence
from dbsync.verification.broken_objects import Undeclared
from dbsync.verification.finding import Finding
from dbsync.verification.schema_copy import Schema, schema_of
from dbsync.verification.working import judge

NOT_READ: Final = "looks like a migration but has an unsupported extension"
NOT_READ_SAFE: Final = "Name it .sql or .py, or take it out of the folder."


class Problem(NamedTuple):
    """One thing that should not be released."""

    where: str
    what: str
    safe: str = ""
    """The safe way."""


class Checked(NamedTuple):
    """The result of a check."""

    problems: list[Problem]
    way_back: WayBack | None = None
    """How going back went after made-up trade; None: there is no database, or there were other problems before."""


def check(
    *, folder: Path, released: tuple[Path, ...] = (), database: Path | None = None, scratch: Path
) -> list[Problem]:
    """Return all problems that can be found before a release; see `examine`."""
    return examine(folder=folder, released=released, database=database, scratch=scratch).problems


@code_process.kept()
def examine(
    *,
    folder: Path,
    released: tuple[Path, ...] = (),
    database: Path | None = None,
    scratch: Path,
    least_free_bytes: int = preflight.LEAST_FREE_BYTES,
) -> Checked:
    """Return all problems that can be found before a release, and what going back would lose.

    Args:
        folder: the migrations to check.
        released: folders of earlier releases.
        database: a database like those in the field, of an older schema; it is copied, never changed.
        scratch: an existing folder for copies, which are removed.
        least_free_bytes: free space that the copies for going back leave to others.
    """
    try:
        found = load(folder)
    except TillkeeperError as error:
        return Checked([Problem(str(error.path or folder), error.cause)])
    if not found:
        # The wrong folder must not pass in CI.
        return Checked([Problem(str(folder), NONE, NONE_HINT)])
    problems = [Problem(str(path), NOT_READ, NOT_READ_SAFE) for path in passed_over(folder)]
    broken = _broken(found)
    for migration in found:
        # What would only allow a migration that breaks the app is not offered.
        breaks = any(problem.where == _name(migration) for problem in broken)
        problems += [
            Problem(_name(migration), risk.what, "" if breaks and risk.is_allowed_by_a_line else risk.safe)
            for risk in risks(migration)
        ]
    problems += broken
    problems += _declarations(found)
    for place in released:
        problems += _against(found, place)
    problems += [Problem(where, what) for where, what in counters.problems(folder, found)]
    if not problems and not any(migration.kind is MigrationKind.COMMAND for migration in found):
        problems += _from_every_schema(found, released)
        problems += _meant(found, scratch)
    if not problems:
        try:
            problems += _unlike_twice(found, before=None, scratch=scratch)
        except TillkeeperError as error:
            problems.append(_failing(error, "a fresh database"))
    if problems or database is None:
        # A migration that fails does so from several schemas, with one cause.
        return Checked(list(dict.fromkeys(problems)))
    return _on_a_copy(found, database, scratch, least_free_bytes)


def in_release(error: TillkeeperError) -> str:
    """Return the cause of a failed run; raise the error again if it lies in this machine and not in the release."""
    if error.group is Group.LATER or isinstance(error, NoPython):
        raise error
    return error.cause


def _failing(error: TillkeeperError, where: str) -> Problem:
    """Return the problem of a failed run: its migration, or where it ran if the migration is not known."""
    return Problem(error.migration or where, in_release(error))


def _name(migration: Migration) -> str:
    return f"{migration.number:04d}_{migration.name}"


def _broken(found: tuple[Migration, ...]) -> list[Problem]:
    """Return what does not work at the end, under the migration that breaks it, and the needs that none declares.

    A migration may break what a later one makes work again: a terminal is judged after all that it runs.
    """
    if any(migration.kind is MigrationKind.COMMAND for migration in found):
        return []
    try:
        steps = [declarations.declared((migration,)) for migration in found]
        said, schemas = declarations.declared(found), _schemas(found)
    except TillkeeperError as error:
        # Wrong declarations, and migrations that fail, are problems of their own.
        in_release(error)
        return []
    needs = [need for migration in found for need in migration.needs]
    fresh, later = (judge(before, schemas[-1], said, needs) for before in (None, schemas[0]))
    problems = [_needed(found, need) for need in fresh.undeclared]
    names = {each.name for each in (*fresh.broken, *later.broken)}
    if names:
        before: Schema | None = None
        for migration, after, allowed in zip(found, schemas, steps, strict=True):
            judgement = judge(before, after, allowed, needs, only=names)
            problems += [Problem(_name(migration), sentence) for sentence in judgement.failing]
            before = after
    return problems


def _schemas(found: tuple[Migration, ...]) -> list[Schema]:
    """Return the schema of a fresh database after each migration."""
    schemas = []
    with closing(open_scratch()) as connection:
        for migration in found:
            runner.run_all(connection, (migration,))
            schemas.append(schema_of(connection))
    return schemas


def _needed(found: tuple[Migration, ...], each: Undeclared) -> Problem:
    """Return the problem of a need that none declares, under the last migration that names it."""
    texts = [(migration, text_of(migration.path)) for migration in found]
    naming = [migration for migration, text in texts if each.need.name.lower() in text.lower()] or list(found)
    last = naming[-1]
    return Problem(_name(last), needs_sentence(each), declaration_lines.lines(last, "needs", [str(each.need)]))


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
        return [_failing(error, "declarations")]
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
        return [Problem(_name(found[number - 1]), f"a fresh database cannot be made: {in_release(error)}")]
    if fixed == broken:
        return []
    differing = ", ".join(sorted(fixed.sentences ^ broken.sentences)[:3])
    return [Problem(_name(found[number - 1]), f"it ends in another structure than what it replaces: {differing}")]


def _from_every_schema(found: tuple[Migration, ...], released: tuple[Path, ...]) -> list[Problem]:
    """Return a problem for each old schema whose upgrade fails or does not end in the newest structure.

    The old schemas are made by these texts, and by those of each release.
    """
    try:
        newest = runner.fresh_structure(found)
    except TillkeeperError as error:
        return [_failing(error, "a fresh database")]
    starts = [(f"from schema {count}", found[:count]) for count in range(1, len(found))]
    starts += [(f"from what was released in {place}", load(place)) for place in released]
    problems = []
    for where, begun in starts:
        with closing(open_scratch()) as connection:
            try:
                runner.run_all(connection, begun)
                runner.run_all(connection, found[len(begun) :])
                if structure_of(connection) != newest:
                    problems.append(Problem(where, "it does not end in the structure of a fresh database"))
            except TillkeeperError as error:
                problems.append(Problem(where, f"{error.migration}: {in_release(error)}".removeprefix(": ")))
    return problems


def _on_a_copy(found: tuple[Migration, ...], database: Path, scratch: Path, least_free_bytes: int) -> Checked:
    """Return the problems on real rows.

    Two runs with different results, changes without a declaration, and wrong rows on the way back.
    """
    before = scratch / "check-before.db"
    try:
        snapshot.copy_database(source=database, target=before, told=nobody, opened=open_undisturbed)
        cause = _not_tried(before, found)
        if cause:
            return Checked([Problem(str(database), f"{cause}: nothing could be tried on it")])
        _raise_marks(before)
        problems = [*_unlike_twice(found, before=before, scratch=scratch), *_undeclared(found, before, scratch)]
        if problems:
            return Checked(problems)
        back = _back(found, before, scratch, least_free_bytes)
    except TillkeeperError as error:
        cause = f"on {database}: {in_release(error)}" if error.migration else in_release(error)
        return Checked([Problem(error.migration or str(database), cause, error.hint if error.migration else "")])
    finally:
        snapshot.drop_part(before)
    if back is None:
        return Checked([])
    wrong = [Problem(finding.where, finding.what, finding.safe) for finding in way_back.findings(back) if finding.wrong]
    return Checked(wrong, back)


def _raise_marks(copied: Path) -> None:
    """Raise every AUTOINCREMENT mark of a copy above its rows, as it is in a shop that removed its newest row.

    A rebuild that takes the mark from the rows passes without this, and is refused in such a shop.
    """
    with closing(open_scratch(copied)) as connection:
        if has_table(connection, "sqlite_sequence"):
            connection.execute("UPDATE sqlite_sequence SET seq = seq + 1 WHERE seq < 9223372036854775807")


def _back(found: tuple[Migration, ...], before: Path, scratch: Path, least_free_bytes: int) -> WayBack | None:
    """Go back once after made-up trade; None if no migration is pending."""
    after = scratch / "check-after.db"
    try:
        snapshot.scratch_copy(source=before, target=after, told=nobody)
        if not runner.migrate_up(after, found):
            return None
        return way_back.try_back(
            found, backup=before, migrated=after, folder=scratch, told=nobody, least_free_bytes=least_free_bytes
        )
    finally:
        snapshot.drop_part(after)


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


def _unlike_twice(found: tuple[Migration, ...], *, before: Path | None, scratch: Path) -> list[Problem]:
    return [
        Problem(table, what, safe) for table, what, safe in second_run.problems(found, before=before, scratch=scratch)
    ]


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
        different = []
        for migration in pending:
            different += _different((migration,), found, step, scratch, goes_on=True)
        if len(pending) > 1 and not different:
            different += _different(pending, found, before, scratch, goes_on=False)
        broken = _broken_on(before, step, found, pending)
    finally:
        snapshot.drop_part(step)
    if broken:
        # With these lines alone the migration would pass, and what it breaks would stay broken.
        different = [(migration, finding.without_structural_advice) for migration, finding in different]
    return [*_proposed(different), *broken]


def _proposed(different: list[tuple[Migration, Finding]]) -> list[Problem]:
    """Return a problem for each finding; where a declaration is one list, the last one of a migration has it whole."""
    problems = []
    waiting: dict[SchemaNumber, list[str]] = {}
    for migration, finding in different:
        wanted = waiting.setdefault(migration.number, [])
        if finding.declare and finding.declare not in wanted:
            wanted.append(finding.declare)
    for index, (migration, finding) in enumerate(different):
        later = {other.number for other, _ in different[index + 1 :]}
        if is_one_by_one(migration):
            shown = [finding.declare] if finding.declare else []
        else:
            shown = waiting[migration.number] if migration.number not in later else []
        safe = declaration_lines.lines(migration, "changes", shown) if shown else ""
        problems.append(Problem(_name(migration), finding.told, safe))
    return problems


def _broken_on(
    before: Path, after: Path, found: tuple[Migration, ...], pending: tuple[Migration, ...]
) -> list[Problem]:
    """Return what worked in a database and does not work after the pending migrations, local objects included."""
    if not pending:
        return []
    with closing(open_copy(before)) as old, closing(open_copy(after)) as new:
        needs = [need for migration in found for need in migration.needs]
        judgement = judge(schema_of(old), schema_of(new), declarations.declared(pending), needs)
    where = _name(pending[0]) if len(pending) == 1 else f"{_name(pending[0])} to {_name(pending[-1])}"
    return [
        *(Problem(where, sentence) for sentence in judgement.failing),
        *(_needed(pending, need) for need in judgement.undeclared),
    ]


def _different(
    run: tuple[Migration, ...], found: tuple[Migration, ...], base: Path, scratch: Path, *, goes_on: bool
) -> list[tuple[Migration, Finding]]:
    """Run migrations on a copy and return the undeclared differences, each with the last migration of the run."""
    after = scratch / "check-after.db"
    try:
        snapshot.scratch_copy(source=base, target=after, told=nobody)
        with closing(open_scratch(after)) as connection:
            written = runner.run_all(connection, run, among=found)
            attach_copy(connection, base, conservation.OLD)
            differing = conservation.findings(
                connection, declarations.declared(run), written=written, limit_seconds=checks.LIMIT_SECONDS, skip=False
            )
        if goes_on:
            file_calls.rename(source=after, target=base)
    finally:
        snapshot.drop_part(after)
    return [(run[-1], finding) for finding in differing]
