"""Decisions on a database: pure functions of values."""

from __future__ import annotations

from typing import Final, NamedTuple, assert_never

from dbsync.model import (
    NO_SCHEMA,
    Applied,
    Carried,
    Change,
    Facts,
    Intent,
    Loss,
    Migration,
    SchemaNumber,
    State,
    TrialId,
    Tried,
)
from dbsync.outcomes import OutcomeName
from dbsync.upgrade.released_history import same_name


class Nothing(NamedTuple):
    """The decision to do nothing: the database is where it should be."""


class Migrate(NamedTuple):
    """The decision to run the pending migrations in one transaction, together with the trial's row."""

    pending: tuple[Migration, ...]
    adopted: tuple[Migration, ...]
    """Migrations that a readable history names and ours does not: their rows are written."""
    blessed: tuple[Migration, ...]
    """Fixed migrations whose older text the database has: recorded, not run."""
    backs_up: bool
    fresh: bool


class Refuse(NamedTuple):
    """The decision to leave everything as it is."""

    name: OutcomeName
    cause: str
    hint: str = ""


UpgradeStep = Nothing | Migrate | Refuse

_UPDATE = (
    "Install the newer release (on a terminal: `updater check`). `dbsync downgrade` goes back to an older schema with"
    " what was recorded since."
)
_LOOK = (
    "Nothing was created. Look for the database where it was before. `dbsync backups` lists the backups;"
    " `dbsync restore BACKUP` restores one, with --accept-loss if a later copy is kept."
)
_RESTORE = (
    "Nothing was changed. `dbsync backups` lists the backups; `dbsync restore BACKUP --accept-loss` restores one and"
    " keeps the damaged file."
)


def decide_upgrade(
    facts: Facts, history: tuple[Applied, ...], migrations: tuple[Migration, ...], trial_id: TrialId | None
) -> UpgradeStep:
    """Return the step that brings a database to the newest of `migrations`.

    Args:
        facts: one look at the database.
        history: the migrations that it records as applied, by number.
        migrations: all migrations of the release, by number, without gaps.
        trial_id: the trial in which this happens; its row is written even when no schema changes.
    """
    match facts.state:
        case State.LOCKED:
            return Refuse(OutcomeName.LOCKED, facts.detail, "Close what has the database open, then try again.")
        case State.UNAVAILABLE:
            return Refuse(OutcomeName.CANNOT_READ, facts.detail, "Nothing was changed. Check the disk and the rights.")
        case State.UNREADABLE:
            return Refuse(OutcomeName.DAMAGED, facts.detail, _RESTORE)
        case State.UNTRACKED:
            hint = "Nothing was changed: which version this is, is not guessed."
            return Refuse(OutcomeName.UNTRACKED, facts.detail, hint)
        case State.MISSING | State.EMPTY:
            return _decide_without(facts, migrations)
        case State.OK:
            return _decide_tracked(facts, history, migrations, trial_id)
        case _:
            assert_never(facts.state)


def _decide_without(facts: Facts, migrations: tuple[Migration, ...]) -> UpgradeStep:
    """Return the step for a missing or empty database: a new one is made only if there never was one with data."""
    if facts.had_data:
        what = "there is no database" if facts.state is State.MISSING else "the database is empty"
        return Refuse(OutcomeName.MISSING, f"{what}, and there was one with data before: {facts.detail}", _LOOK)
    return Migrate(migrations, (), (), backs_up=False, fresh=True) if migrations else Nothing()


def _decide_tracked(
    facts: Facts, history: tuple[Applied, ...], migrations: tuple[Migration, ...], trial_id: TrialId | None
) -> UpgradeStep:
    latest = migrations[-1].number if migrations else NO_SCHEMA
    if facts.version > latest:
        return Refuse(
            OutcomeName.TOO_NEW, f"the database has schema {facts.version}, this release knows {latest}", _UPDATE
        )
    other = differing(facts.version, history, migrations)
    if other is not None:
        return Refuse(
            OutcomeName.HISTORY_DIFFERS,
            other,
            "Nothing was changed. Ask the vendor for a release that fits. The vendor's way: `dbsync check --migrations"
            " FOLDER --released OLDER-FOLDER` names what was changed, and the line that allows a fix.",
        )
    pending = tuple(migration for migration in migrations if migration.number > facts.version)
    adopted = tuple(
        migration
        for migration, applied in zip(migrations, history, strict=False)
        if not applied.sha256 and migration.number <= facts.version
    )
    blessed = tuple(
        migration for migration, applied in zip(migrations, history, strict=False)
        if applied.sha256 and applied.sha256 != migration.sha256
    )  # fmt: skip
    unmarked = trial_id is not None and facts.trial_id != trial_id
    if not (pending or unmarked or blessed):
        return Nothing()
    if facts.unparsed and pending:
        name = OutcomeName.SCHEMA_NOT_PARSED
        return Refuse(name, facts.unparsed, name.hint)
    if facts.unparsed and not unmarked:
        # A blessing alone is recorded another time.
        return Nothing()
    return Migrate(pending, adopted, blessed, backs_up=bool(pending), fresh=False)


def differing(version: SchemaNumber, history: tuple[Applied, ...], migrations: tuple[Migration, ...]) -> str | None:
    """Return why the database's history does not match the migrations of a release; None if it does."""
    if len(history) != version:
        return f"the database says it has schema {version} and its history names {len(history)} migrations"
    for applied, migration in zip(history, migrations, strict=False):
        same_text = applied.sha256 == migration.sha256
        if applied.number != migration.number or not same_name(applied.name, migration.name, same_text=same_text):
            theirs = f"{migration.number:04d}_{migration.name}"
            return f"the database has {applied.number:04d}_{applied.name}, this release {theirs}"
        if applied.sha256 not in ("", migration.sha256, *migration.replaces):
            return f"{migration.number:04d}_{migration.name} was changed after the database had taken it"
    return None


FAILED_LIMIT: Final = 2
"""Failures with the same error after which a run is not retried."""
CUT_LIMIT: Final = 10
"""Runs cut by a power failure or a crash of the process after which this counts as a failure."""


def name_of_run(version: SchemaNumber, pending: tuple[Migration, ...], trial_id: TrialId | None) -> str:
    """Return the name that runs from the same schema, with the same texts, in the same trial have in common."""
    texts = "-".join(migration.sha256[:12] for migration in pending)
    return f"v{version}-{texts}-{trial_id or 'no-trial'}"


def decide_again(tried: Tried) -> Refuse | None:
    """Return why the same migrations may not be retried on the same schema; None if they may."""
    if tried.failed_count >= FAILED_LIMIT:
        cause = f"it failed {tried.failed_count} times in the same way: {tried.cause}"
    elif tried.cut_count >= CUT_LIMIT:
        cause = f"{tried.cut_count} runs of it were cut before they ended"
    else:
        return None
    hint = "It is tried again with a release that changes the migrations, or by `dbsync upgrade --again`."
    return Refuse(OutcomeName.FAILED_BEFORE, cause, hint)


# ------------------------------------------------------------------------------------------------------- going back


class Keep(NamedTuple):
    """The decision to leave the database as it is: the older release works on it."""


class Stay(NamedTuple):
    """The decision to leave the database and the newer release as they are: a person must decide."""


class Restore(NamedTuple):
    """The decision to restore the backup over the database."""

    aside: bool
    """Whether the database is set aside first and the loss exported."""


class CarryBack(NamedTuple):
    """The decision to set the database aside, and to try to carry people's changes back to the older schema."""


ReturnStep = Keep | Stay | Restore | CarryBack | Refuse


def decide_return(
    facts: Facts,
    change: Change,
    *,
    migrated: bool,
    created: bool,
    has_backup: bool,
    older_schema: SchemaNumber,
    ever_confirmed: bool,
) -> ReturnStep:
    """Return the step for a database whose trial was given up.

    Args:
        facts: one look; its newest trial row is the trial's, or it cannot be read.
        change: the changes that people made since COMMIT.
        migrated: whether the trial changed the schema at all.
        created: whether the trial made the database: there is nothing to go back to.
        has_backup: whether the trial's backup exists.
        older_schema: the schema number of the older release.
        ever_confirmed: whether the candidate ever worked here.
    """
    if not migrated:
        return Keep()
    if change.unchanged and has_backup:
        return Restore(aside=False)
    if facts.readable_from is not None and facts.readable_from <= older_schema:
        return Keep()
    if has_backup and facts.state is State.OK:
        return CarryBack()
    if ever_confirmed or (created and not has_backup):
        return Stay()
    if not has_backup:
        return Refuse(
            OutcomeName.BACKUP_UNUSABLE,
            "the backup of this trial is not there",
            "`updater rollback --list` lists the backups; `updater rollback --backup BACKUP` restores one as it is.",
        )
    return Restore(aside=True)


class RestoreCarried(NamedTuple):
    """The decision to restore the carried-back database; changes that it lacks are exported and reported."""


CarriedStep = RestoreCarried | Stay | Restore


def decide_carried(carried: Carried | None, *, ever_confirmed: bool) -> CarriedStep:
    """Return the step for a database that people wrote into, after the attempt to carry their changes back.

    A result that is proven lossless is restored, also without a person. Otherwise a candidate that was ever confirmed
    stays until a person decides. If it never was, the till must start: the best database available is restored, with
    the loss reported and exported.
    """
    if carried is not None and carried.lossless:
        return RestoreCarried()
    if ever_confirmed:
        return Stay()
    return RestoreCarried() if carried is not None else Restore(aside=True)


class Anew(NamedTuple):
    """The decision to prepare everything anew: what was prepared does not fit the database any more."""


class Overwrite(NamedTuple):
    """The decision to restore at once: the live database is already set aside, or is not there."""


class MoveAside(NamedTuple):
    """The decision to move the database, which is ruined, to the path in the intent, and to restore."""


class Finished(NamedTuple):
    """The decision to do nothing more: the restore was done."""


RestoreStep = Anew | Overwrite | MoveAside | Finished


def decide_restore(
    facts: Facts, intent: Intent | None, *, went_back: bool, equals_backup: bool, equals_aside: bool, has_aside: bool
) -> RestoreStep:
    """Return the step of a restore that was decided and perhaps begun.

    It continues only while the live content equals the set-aside copy: what was recorded since must not be lost.

    Args:
        facts: one look at the database.
        intent: the record of the restore; None if there is none that can be read.
        went_back: whether the live database has the older schema to which changes were carried back: it was restored,
            and used since.
        equals_backup: whether the live content equals the database that is to be restored.
        equals_aside: whether it equals the set-aside copy.
        has_aside: whether the set-aside copy is there.
    """
    if intent is None:
        return Anew()
    if intent.done or went_back or equals_backup:
        return Finished()
    match facts.state:
        case State.MISSING | State.EMPTY:
            # A ruined database was moved aside, and the restore was cut. Or there was none from the beginning.
            return Overwrite() if has_aside or intent.set_aside is None else Anew()
        case State.UNREADABLE:
            return MoveAside()
        case State.OK | State.UNTRACKED | State.LOCKED | State.UNAVAILABLE:
            return Overwrite() if equals_aside else Anew()
        case _:
            assert_never(facts.state)


def within(losses: tuple[Loss, ...], before: tuple[Loss, ...]) -> bool:
    """Return whether losses are no more, in any table, than those that a person has seen before."""
    seen = {loss.table: loss for loss in before}
    return all(
        loss.table in seen
        and loss.added <= seen[loss.table].added
        and loss.changed <= seen[loss.table].changed
        and loss.removed <= seen[loss.table].removed
        for loss in losses
    )
