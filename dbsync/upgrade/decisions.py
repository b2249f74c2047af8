"""What is to be done with a database: decisions over values, nothing else."""

from __future__ import annotations

from typing import Final, NamedTuple, assert_never

from dbsync.model import (
    NO_SCHEMA,
    Applied,
    Carried,
    Change,
    Facts,
    Intent,
    Migration,
    SchemaNumber,
    State,
    TrialId,
    Tried,
)
from dbsync.outcomes import OutcomeName
from dbsync.upgrade.released_history import same_name


class Nothing(NamedTuple):
    """The database is where it should be."""


class Migrate(NamedTuple):
    """Run these, in one transaction; the trial's row goes with them."""

    pending: tuple[Migration, ...]
    adopted: tuple[Migration, ...]
    """Migrations that a readable history names and ours does not: their rows are written."""
    blessed: tuple[Migration, ...]
    """Mended migrations whose older text the database has: recorded, not run."""
    backs_up: bool
    fresh: bool


class Refuse(NamedTuple):
    """Leave everything as it is."""

    name: OutcomeName
    cause: str
    hint: str = ""


UpgradeStep = Nothing | Migrate | Refuse

_UPDATE = (
    "Install the newer release, or restore a backup that this one knows (`dbsync restore`; on a terminal `updater"
    " rollback`)."
)
_LOOK = (
    "Look for the database where it was before, or restore a backup (`dbsync restore`; on a terminal `updater"
    " rollback`). Nothing was created."
)


def decide_upgrade(
    facts: Facts, history: tuple[Applied, ...], migrations: tuple[Migration, ...], trial_id: TrialId | None
) -> UpgradeStep:
    """Return what an upgrade to the newest of `migrations` takes.

    Args:
        facts: one look at the database.
        history: what it says has been applied, by number.
        migrations: all that the release has, by number, without gaps.
        trial_id: the trial in which this happens; its row is written even when no schema changes.
    """
    match facts.state:
        case State.LOCKED:
            return Refuse(OutcomeName.LOCKED, facts.detail, "Close what has the database open, then try again.")
        case State.UNREADABLE:
            hint = "Nothing was changed. `dbsync backups` lists what can be restored."
            return Refuse(OutcomeName.DAMAGED, facts.detail, hint)
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
    """Return the step where there is no database: a new one is made only where there never was one with data."""
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
            OutcomeName.HISTORY_DIFFERS, other, "Nothing was changed. Ask the vendor for a release that fits."
        )
    pending = tuple(one for one in migrations if one.number > facts.version)
    adopted = tuple(
        one
        for one, applied in zip(migrations, history, strict=False)
        if not applied.sha256 and one.number <= facts.version
    )
    blessed = tuple(
        one for one, applied in zip(migrations, history, strict=False)
        if applied.sha256 and applied.sha256 != one.sha256
    )  # fmt: skip
    unmarked = trial_id is not None and facts.trial_id != trial_id
    if not (pending or unmarked or blessed):
        return Nothing()
    return Migrate(pending, adopted, blessed, backs_up=bool(pending), fresh=False)


def differing(version: SchemaNumber, history: tuple[Applied, ...], migrations: tuple[Migration, ...]) -> str | None:
    """Return why the database's history is not that of these migrations, a release's; None if it is."""
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
"""What failed so often in the same way is not tried once more."""
CUT_LIMIT: Final = 10
"""Runs that were cut, by the power or by a crash of the whole process, before it is taken for a failure."""


def name_of_run(version: SchemaNumber, pending: tuple[Migration, ...], trial_id: TrialId | None) -> str:
    """The same for every run that would do the same: from the same schema, with the same texts, in the same trial."""
    texts = "-".join(one.sha256[:12] for one in pending)
    return f"v{version}-{texts}-{trial_id or 'no-trial'}"


def decide_again(tried: Tried) -> Refuse | None:
    """Return whether the same migrations may be tried on the same schema once more; None: yes."""
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
    """The database stays as it is and the older release works on it."""


class Stay(NamedTuple):
    """The database stays as it is and the newer release goes on: a person must decide."""


class Restore(NamedTuple):
    """The backup goes over the database."""

    aside: bool
    """Whether the database is put aside first and the loss exported."""


class CarryBack(NamedTuple):
    """Put the database aside, and try to carry what people did back to the older schema."""


ReturnStep = Keep | Stay | Restore | CarryBack | Refuse


def decide_return(
    facts: Facts, change: Change, *, migrated: bool, has_backup: bool, older_schema: SchemaNumber, ever_confirmed: bool
) -> ReturnStep:
    """Return what becomes of a database whose trial was given up.

    Args:
        facts: one look; its newest trial row is the trial's, or it cannot be read.
        change: what people did since COMMIT.
        migrated: whether the trial changed the schema at all.
        has_backup: whether the trial's backup is there.
        older_schema: the schema number of the release that is gone back to.
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
    if ever_confirmed:
        return Stay()
    if not has_backup:
        return Refuse(
            OutcomeName.BACKUP_UNUSABLE,
            "the backup of this trial is not there",
            "Choose one: `updater rollback --list`, `dbsync backups`.",
        )
    return Restore(aside=True)


class RestoreCarried(NamedTuple):
    """What was carried back goes over the database; where it lacks something, that is exported and told."""


CarriedStep = RestoreCarried | Stay | Restore


def decide_carried(carried: Carried | None, *, ever_confirmed: bool) -> CarriedStep:
    """Return what becomes of a database that people wrote into, once it was tried to carry that back.

    Proven lossless is done, also by itself. Otherwise a candidate that was ever confirmed stays until a person decides;
    and where it never was, a till must start: the best there is, with the loss told and exported.
    """
    if carried is not None and not carried.losses:
        return RestoreCarried()
    if ever_confirmed:
        return Stay()
    return RestoreCarried() if carried is not None else Restore(aside=True)


class PutAside(NamedTuple):
    """Keep the live database first, then restore."""


class Overwrite(NamedTuple):
    """The live database is the one that is kept already: restore."""


class Finished(NamedTuple):
    """The restore was done."""


RestoreStep = PutAside | Overwrite | Finished


def decide_restore(intent: Intent | None, *, equals_backup: bool, equals_aside: bool) -> RestoreStep:
    """Return where a person's restore stands: it goes on only while the live content is what was put aside."""
    if intent is not None and (intent.done or equals_backup):
        return Finished()
    if intent is not None and intent.set_aside is not None and equals_aside:
        return Overwrite()
    return PutAside()
