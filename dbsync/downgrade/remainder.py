"""The remainder: everything in the newer database that going up from the older one does not make again.

It is the loss that is shown, and the complement that the older database keeps: both come from one comparison.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

from dbsync.complement import kept
from dbsync.complement.exact_values import same
from dbsync.complement.kept import KeptCell, KeptKind, KeptRow, KeptState
from dbsync.downgrade import local_objects
from dbsync.downgrade.changed_rows import Collected, Sides, collect, collect_one_sided
from dbsync.model import Loss, SchemaNumber
from dbsync.storage import files
from dbsync.storage.connections import Connection, attempted
from dbsync.storage.introspection import KEPT_CELLS, KEPT_ROWS, app_tables, quoted, sql_of
from dbsync.storage.raw_text import every_text
from dbsync.verification import exports

_STAGE: Final = "work.remainder"


def keep(connection: Connection, *, now: str, predicted: str, number: SchemaNumber) -> int:
    """Write into `main` what `now` has and `predicted` lacks, or has otherwise, and return how many rows that is.

    Args:
        connection: the older database, with a database `work` for rows on their way.
        now: the name under which the newer database is attached.
        predicted: that of the older database after the migrations.
        number: the schema of both.
    """
    kept.make_tables(connection)
    generation = kept.next_generation(connection)
    count = _keep_earlier(connection, now, predicted)
    count += _keep_objects(connection, now, predicted, number, generation)
    before = {name.lower(): facts for name, facts in app_tables(connection, predicted).items()}
    here = app_tables(connection, now)
    for table, facts in sorted(here.items()):
        if not facts.has_own_rows:
            continue
        if table.lower() not in before:
            if not facts.is_virtual:
                count += _keep_rows(
                    connection, table, Sides(now, predicted, _STAGE), number, generation, one_sided=True
                )
            continue
        count += _keep_rows(connection, table, Sides(now, predicted, _STAGE), number, generation)
    kept.drop_if_empty(connection)
    return count


def _keep_rows(
    connection: Connection, table: str, sides: Sides, number: SchemaNumber, generation: int, *, one_sided: bool = False
) -> int:
    count = 0

    def copy() -> None:
        nonlocal count
        if one_sided:
            found = collect_one_sided(connection, table, sides)
        else:
            found = collect(connection, table, sides, by_content=True)
        if found.rows_count:
            _copy_rows(connection, found, number, generation)
        connection.execute(f"DROP TABLE {_STAGE}")
        count = found.rows_count

    # Of a table that SQLite cannot evaluate, the export and the set-aside copy have the rows.
    attempted(connection, copy)
    return count


def _copy_rows(connection: Connection, found: Collected, number: SchemaNumber, generation: int) -> None:
    """Copy the rows from the stage, one cell a line; SQLite copies them, so they stay exact."""
    (first,) = connection.execute(f"SELECT coalesce(max(id), 0) FROM main.{KEPT_ROWS}").fetchone()
    connection.execute(
        f"INSERT INTO main.{KEPT_ROWS} (id, schema, generation, kind, table_name, place, state)"
        f" SELECT {first} + seq, ?, ?, kind, ?, CASE kind WHEN '{KeptKind.ADDED}' THEN n_place ELSE b_place END, ?"
        f" FROM {_STAGE} ORDER BY seq",
        (number, generation, found.table, KeptState.WAITING),
    )
    keys = {name.lower() for name in found.key}
    for position, column in enumerate(found.columns):
        if column in found.only_now:
            sides = f"'{kept.Sides.VALUE}'"
        elif column in found.only_base:
            sides = f"'{kept.Sides.PREDICTED}'"
        else:
            sides = (
                f"CASE kind WHEN '{KeptKind.ADDED}' THEN '{kept.Sides.VALUE}'"
                f" WHEN '{KeptKind.REMOVED}' THEN '{kept.Sides.PREDICTED}' ELSE '{kept.Sides.BOTH}' END"
            )
        connection.execute(
            f"INSERT INTO main.{KEPT_CELLS} (row_id, position, column_name, is_key, sides, predicted, value)"
            f" SELECT {first} + seq, {position}, ?, {int(column.lower() in keys)}, {sides}, b{position}, n{position}"
            f" FROM {_STAGE} ORDER BY seq",
            (column,),
        )


def _keep_objects(connection: Connection, now: str, predicted: str, number: SchemaNumber, generation: int) -> int:
    found = [
        ("table", table, table, sql_of(connection, "table", table, now))
        for table in local_objects.tables_only_in(connection, now, predicted)
    ]
    found += [
        ("column", column.name, column.table, f"ALTER TABLE {quoted(column.table)} ADD COLUMN {column.definition}")
        for column in local_objects.columns_only_in(connection, now, predicted)
    ]
    # It cannot be made here: it waits until the app makes it.
    unusable = local_objects.unusable_only_in(connection, now, predicted)
    found += [("table", table, table, sql) for table, sql in unusable.items()]
    objects = local_objects.objects_only_in(connection, now, predicted)
    found += [(made.kind, made.name, made.table, made.sql) for made in objects]
    for kind, name, table, sql in found:
        values = (("type", kind), ("name", name), ("table", table), ("sql", sql))
        cells = tuple(KeptCell(column, False, kept.Sides.VALUE, None, value) for column, value in values)
        row = KeptRow(0, number, generation, KeptKind.OBJECT, f"{kind} {name}", None, KeptState.WAITING, None, cells)
        kept.add(connection, row)
    return len(found)


def not_kept_before(
    connection: Connection, losses: tuple[Loss, ...], *, earlier: str, now: str, number: SchemaNumber
) -> tuple[Loss, ...]:
    """Return the losses without what `earlier`, the backup, kept for that schema already: nothing of it is lost since.

    It was put back, nobody changed it, and `main` keeps the same again. A search index over another table of `now`
    shows the rows of that: where nothing of them is lost since, nothing of the index is.
    """
    with every_text(connection):
        before = Counter(_part(row) for row in kept.all_rows(connection, earlier))
        if not before:
            return losses
        known: Counter[tuple[str, KeptKind]] = Counter()
        for row in kept.all_rows(connection):
            if row.schema == number and row.state is KeptState.WAITING and before[_part(row)]:
                before[_part(row)] -= 1
                known.update((_loss_name(row), kind) for kind in _counted_as(row))
    left = [loss for loss in (_less(loss, known) for loss in losses) if loss.added or loss.changed or loss.removed]
    gone = {loss.table.lower() for loss in losses} - {loss.table.lower() for loss in left}
    facts = app_tables(connection, now)
    followers = {name for name, table in facts.items() if table.content_table.lower() in gone}
    return tuple(loss for loss in left if loss.table not in followers)


def _less(loss: Loss, known: Counter[tuple[str, KeptKind]]) -> Loss:
    name = loss.table.lower()
    return Loss(
        loss.table,
        max(0, loss.added - known[name, KeptKind.ADDED]),
        max(0, loss.changed - known[name, KeptKind.CHANGED]),
        max(0, loss.removed - known[name, KeptKind.REMOVED]),
    )


def _counted_as(row: KeptRow) -> list[KeptKind]:
    """Return how a loss counts what is kept: a changed row without a key is one more and one less."""
    if row.kind is KeptKind.OBJECT:
        return [KeptKind.ADDED]
    if row.kind is not KeptKind.CHANGED or any(cell.is_key for cell in row.cells):
        return [row.kind]
    differs = any(cell.sides is kept.Sides.BOTH and not same(cell.predicted, cell.value) for cell in row.cells)
    is_more = any(cell.sides is kept.Sides.VALUE for cell in row.cells)
    return [*((KeptKind.ADDED, KeptKind.REMOVED) if differs else ()), *((KeptKind.CHANGED,) if is_more else ())]


def _loss_name(row: KeptRow) -> str:
    """Return the name that a loss has for what is kept, in lower case: its table, or `column t.c` of an object."""
    if row.kind is KeptKind.OBJECT:
        values = {cell.column: str(cell.value) for cell in row.cells}
        if values["type"] == "column":
            return f"column {values['table']}.{values['name']}".lower()
    return row.table.lower()


def _part(row: KeptRow) -> tuple[object, ...]:
    """Return what is kept, without when it was kept and why it is still, and in which order the table has its columns.

    1 and 1.0 are not the same value, nor are a string and a blob of the same bytes.
    """
    cells = (
        (cell.column, cell.is_key, cell.sides, *((type(value), repr(value)) for value in (cell.predicted, cell.value)))
        for cell in row.cells
    )
    return (row.schema, row.kind, row.table, frozenset(cells))


def _keep_earlier(connection: Connection, now: str, predicted: str) -> int:
    """Keep what the newer database itself has kept, of still newer schemas or of conflicts, and would lose."""
    with every_text(connection):
        made = Counter(_part(row) for row in kept.all_rows(connection, predicted))
        count = 0
        for row in kept.all_rows(connection, now):
            if made[_part(row)]:
                made[_part(row)] -= 1
                continue
            kept.add(connection, row)
            count += 1
    return count


def park(connection: Connection, number: SchemaNumber, path: Path) -> int:
    """Write the values that are kept for a schema into a file beside the database and return how many lines it has.

    One JSON object a line, with `table` and `row`: the key, and the cells that the older database does not have.
    """
    if not kept.exists(connection):
        return 0
    count, like = 0, Path(str(connection.execute("PRAGMA database_list").fetchone()[2]) or path.parent)
    with every_text(connection):
        for row in kept.all_rows(connection):
            if row.schema != number or row.state is not KeptState.WAITING or row.kind not in _PARKED:
                continue
            cells = {
                cell.column: cell.value
                for cell in row.cells
                if cell.sides is not kept.Sides.PREDICTED and (cell.is_key or _differs(cell))
            }
            if not any(_differs(cell) for cell in row.cells):
                continue
            files.make_folder(path.parent, like=like)
            exports.append(path, {"table": row.table, "row": exports.as_json(cells)}, like=like)
            count += 1
    return count


_PARKED: Final = (KeptKind.ADDED, KeptKind.CHANGED)


def _differs(cell: KeptCell) -> bool:
    if cell.sides is kept.Sides.PREDICTED:
        return False
    return cell.value is not None if cell.sides is kept.Sides.VALUE else not same(cell.predicted, cell.value)
