"""One return to the older schema on copies, after made-up trade: whether a release can be undone, and what it costs."""

from __future__ import annotations

import time
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, assert_never

from dbsync import losses
from dbsync.backups import snapshot
from dbsync.database import preflight
from dbsync.downgrade import carry_back
from dbsync.errors import RehearsalSkipped, TillkeeperError, TryLater, wrapped
from dbsync.migrations import runner
from dbsync.model import Loss, Migration
from dbsync.outcomes import OutcomeName
from dbsync.progress import Told, Unit
from dbsync.rehearsal import down_rows, made_up_trade, returned_rows
from dbsync.rehearsal.made_up_trade import TableTrade
from dbsync.rehearsal.older_schema import OlderSchema
from dbsync.rehearsal.returned_rows import Altered, Compared, NotHeld
from dbsync.storage import files
from dbsync.storage.connections import attach_copy, open_copy, open_scratch, translated
from dbsync.storage.introspection import KEPT_CELLS, KEPT_ROWS, quoted, tables, version_of

LIMIT_SECONDS: Final = 900.0
"""Time limit for a return that is only tried."""
COPIES_COUNT: Final = 3
"""Copies that the try makes at once, beside the backup and the migrated copy: the traded one, the returned one, and one
that `carry_back` works on or the returned one migrated again."""
_STEPS_OF_SQLITE: Final = 100_000
"""Instructions of SQLite's virtual machine between two looks at the clock."""

_TOTALS: Final = (
    "inserted", "updated", "deleted", "children", "swapped_keys", "swapped_values", "newer_only", "refused"
)  # fmt: skip

DECLARE: Final = "Add `down_row(table, row)` to the migration, which returns the row as it was: docs/migrations.md."
NO_PLACE: Final = (
    "Nothing, if that is meant: it is kept, and put back with the newer schema. Where these values were in older"
    " columns, `down_row(table, row)` can return them: docs/migrations.md."
)
ALLOW: Final = (
    "`down_row(table, row)` in the migration can fill in what the older schema asks for, or return None for a row that"
    " has no place there: docs/migrations.md."
)
NUMBERS: Final = "Keep the primary keys of existing rows, or return the old key in `down_row(table, row)`."
_BY_KEY: Final = (returned_rows.OTHER_KEY, returned_rows.OTHER_REMOVED, returned_rows.UNTOUCHED)


class WayBackResult(StrEnum):
    """How going back on copies ended."""

    LOSSLESS = "lossless"
    """The older database held all of the made-up trade."""
    LOSES = "loses"
    """It held all but what the older schema has no place for, or refuses."""
    WRONG = "wrong"
    """It had wrong rows."""
    IMPOSSIBLE = "impossible"
    """It could not be made."""
    SKIPPED = OutcomeName.REHEARSAL_SKIPPED.value
    """It was not tried: too little space, or the time was up."""


class WayBack(NamedTuple):
    """The result of going back on copies."""

    result: WayBackResult
    cause: str = ""
    """Why it is impossible or was skipped; else empty."""
    trade: tuple[TableTrade, ...] = ()
    not_held: tuple[NotHeld, ...] = ()
    altered: tuple[Altered, ...] = ()
    unfilled: tuple[str, ...] = ()
    """Columns of the older schema, as `table.column`, that rows added since have no value for."""
    counted: tuple[Loss, ...] = ()
    """The losses that going back itself counts, in tables that are in neither of these."""
    not_again: str = ""
    """Why the returned database could not be migrated forward again; empty if it could."""
    unproven: str = ""
    """Why going back itself could not determine whether it held everything; empty if it could."""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it for a record, with the sentence `summary`."""
        parts = {name: [part._asdict() for part in getattr(self, name)] for name in ("trade", "not_held", "altered")}
        return {**self._asdict(), **parts, "counted": losses.as_json(self.counted), "summary": summary(self)}

    def as_record(self) -> dict[str, Any]:
        """Return it for the flight record, which has a limit: of the trade only the totals."""
        totals = {name: sum(getattr(made, name) for made in self.trade) for name in _TOTALS}
        return {**self.as_json(), "trade": {"tables": len(self.trade), **totals}}


class Finding(NamedTuple):
    """One sentence on the way back."""

    where: str
    what: str
    safe: str
    wrong: bool
    """Whether it should not be released so; False: it is to be known."""


class _Deadline:
    """Ends a try that takes too long."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit_seconds: Final = limit_seconds
        self._ends: Final = time.monotonic() + limit_seconds

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self._ends

    def __call__(self) -> None:
        """Raise if the time is up."""
        if self.is_over:
            cause = f"going back was not finished after {self._limit_seconds:.0f} seconds"
            raise RehearsalSkipped(operation="try the way back", cause=cause)


def try_back(
    migrations: tuple[Migration, ...],
    *,
    backup: Path,
    migrated: Path,
    folder: Path,
    told: Told,
    least_free_bytes: int,
    limit_seconds: float = LIMIT_SECONDS,
) -> WayBack:
    """Make up trade on a copy of a migrated database, carry it back to the older schema, and compare.

    Args:
        migrations: all migrations of the release.
        backup: a finished copy of the database before the migration.
        migrated: the same after the migration. Neither is written.
        folder: an existing folder for copies; what is made there is removed.
        told: receives the names of the steps.
        least_free_bytes: free space that is left to others.
        limit_seconds: after this time it is given up as skipped.
    """
    began = time.monotonic()
    deadline = _Deadline(limit_seconds)

    def timed(done: int, total: int, text: str = "", unit: Unit = Unit.NONE) -> None:
        deadline()
        told(done, total, text, unit)

    work = folder / "way-back"
    try:
        files.make_folder(work, like=backup)
        preflight.check_way_back_space(
            sizes_bytes=(files.size_of(backup), files.size_of(migrated)),
            copies_count=COPIES_COUNT,
            folder=work,
            least_free_bytes=least_free_bytes,
        )
        found = _tried(migrations, backup=backup, migrated=migrated, work=work, told=timed, deadline=deadline)
    except TryLater as error:
        found = WayBack(WayBackResult.SKIPPED, error.cause)
    finally:
        snapshot.drop_folder(work)
    return found._replace(seconds=round(time.monotonic() - began, 3))


def _tried(
    migrations: tuple[Migration, ...],
    *,
    backup: Path,
    migrated: Path,
    work: Path,
    told: Told,
    deadline: _Deadline,
) -> WayBack:
    with translated("look at", backup), closing(open_copy(backup)) as connection:
        version = version_of(connection)
    newer = tuple(migration for migration in migrations if migration.number > version)
    now, returned, again = work / "traded.db", work / "returned.db", work / "again.db"
    snapshot.scratch_copy(source=migrated, target=now, told=told)
    with OlderSchema(backup, newer) as older:
        failing = tuple(down_rows.failing(newer[-1], migrated)) if newer else ()
        trade = _traded(now, older, told=told, deadline=deadline)
        try:
            carried = carry_back.carry_back(
                migrations, now=now, backup=backup, into=returned, reports=work / "reports", told=told
            )
        except TryLater:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of going back is what is looked for
            return WayBack(WayBackResult.IMPOSSIBLE, wrapped(error).cause, trade, altered=failing)
        not_again = _again(migrations, returned=returned, again=again, told=told)
        names = {"base": migrated, "backup": backup, "returned": returned}
        if not not_again:
            names["again"] = again
        told(0, 0, "comparing")
        found = _compared(now, names, older, deadline)
        found = found._replace(altered=(*failing, *found.altered))
    known = {held.table.lower() for held in found.not_held} | {altered.table.lower() for altered in found.altered}
    return WayBack(
        _result(found, carried.losses),
        "",
        trade,
        *found,
        counted=tuple(loss for loss in carried.losses if loss.table.lower() not in known),
        not_again=not_again,
        unproven=carried.unproven,
    )


def _result(found: Compared, counted: tuple[Loss, ...]) -> WayBackResult:
    if found.altered:
        return WayBackResult.WRONG
    return WayBackResult.LOSES if found.not_held or counted else WayBackResult.LOSSLESS


def _traded(now: Path, older: OlderSchema, *, told: Told, deadline: _Deadline) -> tuple[TableTrade, ...]:
    with translated("make up trade in", now), closing(open_scratch(now)) as connection:
        # Out of WAL, and then with a journal: a step that is refused is rolled back.
        for mode in ("DELETE", "MEMORY"):
            connection.execute(f"PRAGMA journal_mode={mode}").fetchall()
        connection.set_progress_handler(lambda: deadline.is_over, _STEPS_OF_SQLITE)
        return made_up_trade.trade(
            connection, older=older, still_time=deadline, told=lambda table: told(0, 0, f"making up trade in {table}")
        )


def _again(migrations: tuple[Migration, ...], *, returned: Path, again: Path, told: Told) -> str:
    """Migrate a copy of the returned database forward, and return why that failed; an empty string if it did not.

    The copy has to show what the older tables hold: what is kept beside them for the way up is removed first.
    """
    snapshot.scratch_copy(source=returned, target=again, told=told)
    try:
        with translated("open", again), closing(open_scratch(again)) as connection:
            for name in {KEPT_ROWS, KEPT_CELLS} & tables(connection).keys():
                connection.execute(f"DROP TABLE {quoted(name)}")
        told(0, 0, "migrating the returned database again")
        runner.migrate_up(again, migrations)
    except TryLater:
        raise
    except TillkeeperError as error:
        return error.cause
    return ""


def _compared(now: Path, names: dict[str, Path], older: OlderSchema, deadline: _Deadline) -> Compared:
    with translated("compare", now), closing(open_copy(now)) as connection:
        for name, path in names.items():
            attach_copy(connection, path, name)
        connection.set_progress_handler(lambda: deadline.is_over, _STEPS_OF_SQLITE)
        return returned_rows.compared(connection, older, has_again="again" in names)


# ----------------------------------------------------------------------------------------------------------- in words


def findings(found: WayBack) -> list[Finding]:
    """Return everything that is to be said of a try, what should not be released first."""
    where = "the way back"
    if found.result is WayBackResult.SKIPPED:
        return [Finding(where, f"{found.result}: it was not tried: {found.cause}", "", wrong=False)]
    told = []
    if found.result is WayBackResult.IMPOSSIBLE:
        told = [Finding(where, f"what is recorded since cannot be carried back: {found.cause}", ALLOW, wrong=True)]
    told += [
        Finding(
            altered.table,
            f"going back: {_counted(altered.rows)} {altered.what}{_in(altered.columns)}{_for_example(altered.example)}",
            NUMBERS if altered.what in _BY_KEY else DECLARE,
            wrong=True,
        )
        for altered in found.altered
    ]
    told += [_not_held(held) for held in found.not_held]
    told += [
        Finding(column, "going back: rows added since have only its default in it", "", wrong=False)
        for column in found.unfilled
    ]
    told += [Finding(loss.table, f"going back: lost: {losses.counted(loss)}", "", wrong=False)
             for loss in found.counted]  # fmt: skip
    if found.unproven:
        what = f"going back could not determine whether it held everything: {found.unproven}"
        told.append(Finding(where, what, "", wrong=False))
    if found.not_again:
        what = f"the returned database could not be migrated forward again: {found.not_again}"
        told.append(Finding(where, what, "", wrong=False))
    return told


def _not_held(held: NotHeld) -> Finding:
    counts = losses.counted(Loss("", held.added, held.changed, held.removed), unit="rows").removeprefix(": ")
    why, safe = "the older schema refuses it", DECLARE if held.filled else ""
    if held.unreadable:
        why = "the entries of a search index without content cannot be read"
    elif held.new:
        why, safe = "the older schema has no place for it", NO_PLACE if held.filled else ""
    elif held.inexact_count:
        why, safe = f"{_counted(held.inexact_count)} come back with another value", DECLARE
    elif held.unmatched_count:
        why, safe = f"{_counted(held.unmatched_count)} have a key that no older row has", NUMBERS
    elif held.added:
        safe = ALLOW
    return Finding(
        held.table,
        f"going back would lose: {counts}{_in(held.columns)}: {why}{_for_example(held.example)}",
        safe,
        wrong=False,
    )


def _counted(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows} rows"


def _in(columns: tuple[str, ...]) -> str:
    return f" (in {', '.join(columns)})" if columns else ""


def _for_example(key: str) -> str:
    return f", for example {key}" if key else ""


def summary(found: WayBack) -> str:
    """Return the result in one sentence."""
    match found.result:
        case WayBackResult.SKIPPED:
            return f"going back was not tried ({found.result}): {found.cause}"
        case WayBackResult.IMPOSSIBLE:
            return f"going back is impossible: {found.cause}"
        case WayBackResult.WRONG:
            wrong = ", ".join(sorted({altered.table for altered in found.altered}))
            return f"going back would make wrong rows in {wrong}"
        case WayBackResult.LOSES:
            named = [*(held.table for held in found.not_held), *(loss.table for loss in found.counted)]
            return f"going back would lose values of made-up trade in {', '.join(named)}"
        case WayBackResult.LOSSLESS:
            return "going back would lose nothing of made-up trade"
        case _:
            assert_never(found.result)


def in_words(found: WayBack, *, notices_only: bool = False) -> list[str]:
    """Return the findings, each with its way out, and what the trade was, as lines for people."""
    lines = []
    for finding in findings(found):
        if finding.wrong and notices_only:
            continue
        lines += [f"{finding.where}: {finding.what}", *([f"    {finding.safe}"] if finding.safe else [])]
    return [*lines, *(f"made-up trade in {trade_in_words(made)}" for made in found.trade)]


def trade_in_words(made: TableTrade) -> str:
    """Return what was done in one table, on one line."""
    if made.cause:
        return f"{made.table}: nothing could be made up: {made.cause}"
    parts = [
        f"{made.inserted} rows added",
        f"{made.updated} cells changed in {made.updated_columns} of {made.columns} columns",
        f"{made.deleted} rows removed" + (f" with {made.children} children" if made.children else ""),
    ]
    swaps = [(made.swapped_keys, "keys"), (made.swapped_values, "UNIQUE values")]
    swapped = " and ".join(f"{count} {what}" for count, what in swaps if count)
    parts += [f"{swapped} swapped"] if swapped else []
    parts += [f"{made.newer_only} values new in this schema"] if made.newer_only else []
    refused = f"; {made.refused} steps refused" if made.refused else ""
    return f"{made.table}: {', '.join(parts)}{refused}"
