"""Decides which schema a database without our history has, from the evidence found. Nothing is guessed.

Two sources can show it: the table in which another tool recorded its migrations, and the structure itself, compared
with that of each schema of this release when it is made fresh. If they disagree, nothing is done.
"""

from __future__ import annotations

from typing import NamedTuple

from dbsync.model import Migration, Recognised, SchemaNumber
from dbsync.outcomes import OutcomeName
from dbsync.upgrade.decisions import Refuse

_ASK = "Nothing was changed. `dbsync baseline --dry-run` shows what was found; `dbsync stamp` takes a person's word."
_NONE_FITS = (
    "Nothing was changed. The first migration must make the whole schema: `dbsync write-schema"
    " FOLDER/0001_initial_schema.sql --database FILE` writes it. `dbsync stamp` takes a person's word for a schema."
)


class Adopt(NamedTuple):
    """The decision to record that the database has had the first `version` migrations."""

    version: SchemaNumber


AdoptionStep = Adopt | Refuse


def decide_adoption(
    found: Recognised, migrations: tuple[Migration, ...], at: SchemaNumber | None = None
) -> AdoptionStep:
    """Return which schema a database without our history has.

    Args:
        found: the evidence.
        migrations: all migrations of the release, by number.
        at: the schema that a person names; it must fit all the same.
    """
    count = _recorded(found, migrations)
    if isinstance(count, Refuse):
        return count
    if not found.fits:
        cause = f"its structure is none of this release's: {found.nearest}"
        return Refuse(OutcomeName.UNTRACKED, cause, _NONE_FITS)
    if count is not None and count not in found.fits:
        others = " or ".join(str(schema) for schema in found.fits)
        return _refuse(f"its own table says that it had {count} migrations, and its structure is that of {others}")
    if at is not None and (at not in found.fits or count not in (None, at)):
        return _refuse(f"it is not at {at}: what shows it says {_said(found, count)}")
    chosen = at if at is not None else count
    if chosen is None and len(found.fits) > 1:
        between = " and ".join(str(schema) for schema in found.fits)
        return _refuse(f"its structure is that of {between}, which differ in content only: pass one with --at")
    version = chosen if chosen is not None else found.fits[0]
    if found.user_version not in (0, version):
        return _refuse(f"the app keeps {found.user_version} in user_version, where dbsync would keep {version}")
    return Adopt(version)


def _recorded(found: Recognised, migrations: tuple[Migration, ...]) -> SchemaNumber | Refuse | None:
    """Return how many migrations the database's own table names, if they are the first ones without a gap."""
    if found.problem:
        return Refuse(OutcomeName.HISTORY_DIFFERS, found.problem, _ASK)
    if found.recorded is None:
        return None
    count = 0
    while count < len(migrations) and migrations[count].name in found.recorded:
        count += 1
    if len(found.recorded) > count:
        skipped = migrations[count].name
        later = next(migration.name for migration in migrations[count:] if migration.name in found.recorded)
        return _refuse(f"it had {later} and never {skipped}, which comes before it")
    if found.unknown:
        if count == len(migrations):
            cause = f"the database has {found.unknown[0]}, which this release does not know"
            return Refuse(OutcomeName.TOO_NEW, cause, "Install the newer release; nothing was changed.")
        return Refuse(OutcomeName.HISTORY_DIFFERS, f"its own table names {found.unknown[0]}, which is not here", _ASK)
    return SchemaNumber(count)


def _said(found: Recognised, count: SchemaNumber | None) -> str:
    return str(count) if count is not None else " or ".join(str(schema) for schema in found.fits)


def _refuse(cause: str) -> Refuse:
    return Refuse(OutcomeName.UNTRACKED, cause, _ASK)
