"""The evidence for how far a database without our history has come: its structure, and another tool's own table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, assert_never

from dbsync.errors import MigrationFailed, TillkeeperError
from dbsync.migrations import history, runner
from dbsync.migrations.engines import registry
from dbsync.model import Applied, EngineName, Facts, Migration, MigrationKind, Recognised, SchemaNumber, State
from dbsync.schema.fingerprint import Structure, differences, structure_of
from dbsync.storage.connections import Connection, look, open_copy, open_scratch, open_writing, translated
from dbsync.storage.introspection import version_of
from dbsync.upgrade import adoption_decision, decisions

SHOWN_COUNT: Final = 5


def recognise(connection: Connection, found: tuple[Migration, ...]) -> Recognised:
    """Return the evidence for how far a database has come; reads only."""
    is_like = structure_of(connection)
    fits: list[SchemaNumber] = []
    nearest = (len(is_like.parts) + 1, "")
    stopped: list[str] = []
    for number, fresh in enumerate(_each_fresh(found, stopped)):
        # A column that was added at the end of a table is the one that stands in the middle of a schema file.
        differing = sorted(differences(is_like._replace(orders={}), fresh))
        if not differing:
            fits.append(SchemaNumber(number))
        elif len(differing) <= nearest[0]:
            more = f" and {len(differing) - SHOWN_COUNT} more" if len(differing) > SHOWN_COUNT else ""
            nearest = (len(differing), f"nearest is schema {number}, {', '.join(differing[:SHOWN_COUNT])}{more}")
    said = registry.named(found[0].engine if found else EngineName.OWN).recorded(connection, found)
    return Recognised(
        user_version=version_of(connection),
        recorded=said.names if said else None,
        unknown=said.unknown if said else (),
        problem=said.problem if said else "",
        fits=tuple(fits),
        # Next to a schema that could not be made, the nearest of the others says nothing.
        nearest="" if fits else "; ".join(stopped) or nearest[1],
    )


def decided_adoption(connection: Connection, found: tuple[Migration, ...]) -> adoption_decision.AdoptionStep:
    """Return whether an upgrade would adopt an untracked database, and as which schema."""
    return adoption_decision.decide_adoption(recognise(connection, found), found)


def as_adopted(
    facts: Facts, step: adoption_decision.Adopt, found: tuple[Migration, ...]
) -> tuple[Facts, tuple[Applied, ...]]:
    """Return the facts and the history that an untracked database has once it is adopted."""
    applied = tuple(Applied(migration.number, migration.name, migration.sha256) for migration in found[: step.version])
    return facts._replace(state=State.OK, version=step.version), applied


def adopt_copy(path: Path, found: tuple[Migration, ...]) -> None:
    """Adopt an untracked database in a scratch copy of it; do nothing if it cannot be adopted."""
    facts = look(path, opened=open_copy)
    if facts.state is not State.UNTRACKED:
        return
    with translated("adopt a copy", path), closing(open_writing(path)) as connection:
        step = decided_adoption(connection, found)
        match step:
            case decisions.Refuse():
                return
            case adoption_decision.Adopt():
                _write_adoption(connection, found[: step.version])
            case _:
                assert_never(step)


def _write_adoption(connection: Connection, had: tuple[Migration, ...]) -> None:
    connection.execute("BEGIN")
    history.make_tables(connection)
    for migration in had:
        history.add_migration(
            connection,
            migration,
            kind=history.HistoryKind.ADOPTED,
            trial_id=None,
            release=(None, None),
            at="",
            duration_ms=0,
        )
    connection.execute(f"PRAGMA user_version={len(had)}")
    connection.execute("COMMIT")


def decided_on_copy(path: Path, found: tuple[Migration, ...]) -> decisions.UpgradeStep:
    """Return the decision of an upgrade for a copy that is not written."""
    facts = look(path, opened=open_copy)
    with translated("read the history", path), closing(open_copy(path)) as connection:
        return decisions.decide_upgrade(facts, history.applied(connection), found, None)


def _each_fresh(found: tuple[Migration, ...], stopped: list[str]) -> Iterator[Structure]:
    """Yield the structures of all schemas of a release, from empty to newest; `stopped` gets why some are missing."""
    with closing(open_scratch()) as connection:
        yield structure_of(connection)
        for migration in found:
            if migration.kind is MigrationKind.COMMAND:
                stopped.append(f"schema {migration.number} is a program's, and not known without running it")
                return
            try:
                with translated("make a fresh database", migration.path, otherwise=MigrationFailed):
                    runner.run_for_structure(connection, (migration,))
            except TillkeeperError as error:
                # The schemas before it are known, and one of them may fit.
                stopped.append(f"schema {migration.number} cannot be made: {error.cause}")
                return
            yield structure_of(connection)
