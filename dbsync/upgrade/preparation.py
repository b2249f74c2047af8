"""The means of a restore, complete and durable on disk before anything is decided; and the restore with them.

A restore needs locks, a readable source, the modules of the migrations, a copy of the current database, perhaps the
older database with the changes since and its proof, and space for SQLite's journal. `prepare` makes all of that, or
leaves nothing and says why. The caller then decides (a rollback's rejection, a person's agreement), and `complete`
cannot fail for want of means. A crash in between leaves copies and an intent, with which the next run continues.

The caller holds the database lock. Nothing here touches a file or SQLite: every effect is a method of `Effects`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple, assert_never

from dbsync.errors import (
    BackupUnusable,
    BadMigrations,
    Damaged,
    DiskProblem,
    Locked,
    MigrationFailed,
    MissingTool,
    Refused,
    TillkeeperError,
    VerificationFailed,
)
from dbsync.model import Backup, BackupKind, Carried, Change, Facts, Intent, Migration, State
from dbsync.upgrade.effects import Effects

RESTORE: Final = "restore of a backup as it is"
CARRY_BACK: Final = "return to the older schema, with what was recorded since"
_IMPOSSIBLE = (MigrationFailed, VerificationFailed, BadMigrations, Damaged)
"""The errors that say that data and migrations do not allow a return, wherever it is tried."""


class Wish(NamedTuple):
    """A return to an older database that a person or the launcher requests."""

    intent_id: str
    base: Backup
    carries: bool
    """Whether the changes since the backup are carried back; otherwise the backup is restored as it is."""
    migrations: tuple[Migration, ...] = ()
    """Of the newer release; empty: those that are kept beside the backup."""

    @property
    def operation(self) -> str:
        """The return in words, for the explanation of skipped numbers."""
        return CARRY_BACK if self.carries else RESTORE


class Prepared(NamedTuple):
    """Everything that a restore needs, on disk. Nothing is decided yet: `abandon` removes it."""

    intent: Intent
    aside: Backup | None
    """The durable copy of the current database; None if there is none, or it is ruined and will be moved."""
    carried: Carried | None

    @property
    def change(self) -> Change:
        """The changes that the restored database would not hold."""
        return Change(not self.intent.not_known, self.intent.losses, self.intent.not_known)


class CannotCarry(MigrationFailed):
    """Data and migrations that do not allow carrying the changes back: going back would lose them."""

    hint_by_default = (
        "Nothing was changed. `updater rollback --dry-run` shows what restoring the backup as it is would lose."
    )


class NeedsTool(Refused):
    """A return that needs a module or program that is not here. That is not a loss: another Python may have it."""

    hint_by_default = (
        "Nothing was changed. Run the command with a Python that has this module, or install what is missing."
    )


class Ruined(CannotCarry):
    """A database that SQLite cannot read: nothing can be carried back from it, and no app can work on it."""


def seen(effects: Effects) -> Facts:
    """Return the facts of the database.

    Raises:
        TryLater: it cannot be read now.
    """
    facts = effects.look()
    match facts.state:
        case State.LOCKED:
            raise Locked(operation="go back", cause=facts.detail)
        case State.UNAVAILABLE:
            raise DiskProblem(operation="read the database", cause=facts.detail)
        case State.OK | State.UNTRACKED | State.UNREADABLE | State.MISSING | State.EMPTY:
            return facts
        case _:
            assert_never(facts.state)


def prepare(effects: Effects, wish: Wish) -> Prepared:
    """Make everything that a restore needs. The result names the losses; the caller decides.

    Raises:
        TryLater: a lock, the disk, or a file that cannot be read now is in the way.
        NeedsTool: a migration needs a module or program that is not here.
        CannotCarry: the changes cannot be carried back at all.
        BackupUnusable: the backup does not match its facts.
    """
    made: list[Path] = []
    before = effects.read_intent(wish.intent_id)
    try:
        return _prepared(effects, wish, before, made)
    except BaseException:
        remove(effects, made)
        if before is None:
            effects.remove_intent(wish.intent_id)
        raise


def _prepared(effects: Effects, wish: Wish, before: Intent | None, made: list[Path]) -> Prepared:
    effects.check_usable(wish.base.path)
    facts = seen(effects)
    intent = Intent(wish.intent_id, str(wish.base.path))
    ruined, aside, carried = facts.detail if facts.state is State.UNREADABLE else "", None, None
    change = effects.changed_since(wish.base.path) if facts.state is not State.OK else Change(known=True)
    try:
        effects.check_replaceable(wish.base.path, carries=wish.carries)
        if facts.state not in (State.MISSING, State.EMPTY):
            aside, ruined = effects.copy_aside(BackupKind.BEFORE_RESTORE), ""
    except Damaged as error:
        ruined, change = error.cause, Change(known=False, cause=error.cause)
    if wish.carries and aside is None:
        kind = Ruined if ruined else CannotCarry
        raise kind(operation="carry back", cause=ruined or facts.gone)
    if ruined:
        # Moved only after the decision; until then it stays where it is.
        place = effects.name_aside(BackupKind.BEFORE_RESTORE)
        intent = intent._replace(set_aside=str(place), moves=True)
    if aside is not None:
        made.append(aside.path)
        if wish.carries:
            carried = carry(effects, wish, aside)
            made.append(carried.path)
        else:
            change = effects.changed_since(wish.base.path)
        # It was synced and checked meanwhile. Nothing that is decided, or has a name, comes before it.
        aside = effects.keep_aside(aside)
        made[0], intent = aside.path, intent._replace(set_aside=str(aside.path))
        if carried is not None:
            kept = effects.keep_carried(carried, wish.base)
            made[-1] = kept.path
            intent, change = intent._replace(backup=str(kept.path), base=str(wish.base.path)), _lacking(carried)
    unraised = intent.made
    intent = with_raised_counters(effects, intent, wish.base.path, migrations=wish.migrations, operation=wish.operation)
    made += [path for path in made_for(intent) if path not in made]
    effects.reserve(Path(intent.backup))
    not_known = "" if change.known else change.cause or "the database cannot be compared with the backup"
    intent = intent._replace(losses=change.losses, not_known=not_known)
    effects.write_intent(intent)
    forget(effects, before, intent)
    drop_unraised(effects, unraised, intent)
    return Prepared(intent, aside, carried)


def with_raised_counters(
    effects: Effects, intent: Intent, base: Path, *, migrations: tuple[Migration, ...], operation: str
) -> Intent:
    """Return the intent of a restore that leaves no counter lower than it was ever seen: of a copy, if one is lower.

    The copy and the explanation of the skipped numbers are durable. Nothing is made if no counter is lower.

    Raises:
        TillkeeperError: it cannot be made; nothing is left of it.
    """
    kept = Path(intent.set_aside) if intent.set_aside is not None else None
    raised = effects.raise_counters(
        source=Path(intent.backup), backup=base, kept=kept, migrations=migrations, operation=operation
    )
    if raised is None:
        return intent
    gaps = str(raised.report) if raised.report is not None else None
    return intent._replace(backup=str(raised.path), raised_from=str(base), gaps=gaps)


def drop_unraised(effects: Effects, unraised: Path | None, intent: Intent) -> None:
    """Remove the copy that was made for a restore before its counters were raised, once the intent names the other."""
    if unraised is not None and unraised != intent.made:
        effects.discard(unraised)


def forget(effects: Effects, before: Intent | None, intent: Intent) -> None:
    """Remove the copies of an earlier attempt: the database was not replaced, so the new copies have all of it."""
    if before is None or before.done:
        return
    if before.set_aside is not None and not before.moves and intent.set_aside not in (None, before.set_aside):
        effects.discard(Path(before.set_aside))
    if before.made is not None and before.made != intent.made:
        effects.discard(before.made)
    if before.gaps is not None and before.gaps != intent.gaps:
        effects.discard(Path(before.gaps))


def _lacking(carried: Carried) -> Change:
    return Change(not carried.unproven, carried.losses, carried.unproven)


def carry(effects: Effects, wish: Wish, aside: Backup) -> Carried:
    """Make the older database with the changes since, and tell "cannot be made now" from "cannot be made".

    Raises:
        CannotCarry: no machine could make it.
        TillkeeperError: it cannot be made now, or not with this Python.
    """
    try:
        return effects.carry_back(wish.migrations, base=wish.base, aside=aside)
    except TillkeeperError as error:
        raise classified(error) from error


def classified(error: TillkeeperError) -> TillkeeperError:
    """Return the error of an attempt to carry back, by what the caller should do about it.

    Damage is that of the database itself: an effect raises that of a scratch file as a problem of the disk.
    """
    if isinstance(error, MissingTool):
        return NeedsTool(operation="carry back", path=error.path, cause=error.cause)
    if not isinstance(error, _IMPOSSIBLE):
        return error
    return CannotCarry(operation="carry back", path=error.path, cause=error.cause)


def accepted(effects: Effects, prepared: Prepared) -> Prepared:
    """Record that a person has agreed to the loss, if there is one; if that cannot be written, nothing is left.

    Raises:
        TryLater: it cannot be written now.
    """
    if prepared.change.unchanged:
        return prepared
    intent = prepared.intent._replace(accepts_loss=True)
    try:
        effects.write_intent(intent)
    except BaseException:
        abandon(effects, prepared)
        raise
    return prepared._replace(intent=intent)


def abandon(effects: Effects, prepared: Prepared) -> None:
    """Remove everything that was prepared; the database is as it was. Never raises."""
    intent = prepared.intent
    remove(effects, [*([prepared.aside.path] if prepared.aside is not None else []), *made_for(intent)])
    effects.remove_intent(intent.intent_id)


def made_for(intent: Intent) -> list[Path]:
    """Return the copy and the explanation that were made for a restore, and for nothing else."""
    return [Path(path) for path in (intent.made, intent.gaps) if path is not None]


def remove(effects: Effects, made: list[Path]) -> None:
    """Remove what was prepared, the newest first, and give back the space that is held. Never raises."""
    effects.release_reserve()
    for path in reversed(made):
        effects.discard(path)


def complete(effects: Effects, intent: Intent) -> Backup | None:
    """Restore what an intent names, and return what is kept of the replaced database.

    Repeatable: one transaction on the live file replaces it; a ruined one was moved before, to the path that the
    intent names, so that a repeat which finds no database knows why.

    Raises:
        TillkeeperError: the restore is owed still; what the intent names is on disk.
    """
    path = Path(intent.set_aside) if intent.set_aside is not None else None
    aside = effects.kept_at(path) if path is not None else None
    if path is not None and aside is None:
        if not intent.moves:
            raise DiskProblem(operation="restore", path=path, cause="the copy of the current database is gone")
        aside = effects.move_aside(path, BackupKind.BEFORE_RESTORE)
    effects.restore(Path(intent.backup))
    end(effects, intent)
    return aside


def end(effects: Effects, intent: Intent) -> None:
    """Record that a restore is done, and remove the copy that was made for it: the live database is the same now."""
    if intent.raised_from is not None:
        effects.counters_raised(intent)
    effects.write_intent(intent._replace(done=True))
    if intent.made is not None:
        # A crash before this leaves a backup too many.
        effects.discard(intent.made)


def put_aside(effects: Effects, kind: BackupKind) -> Backup | None:
    """Copy the live database to a pinned, synced file beside it; None if there is none.

    Raises:
        Damaged: SQLite cannot read the live database; it can only be moved.
        TryLater: the copy cannot be made now; nothing is left of it.
    """
    part = effects.copy_aside(kind)
    return effects.keep_aside(part) if part is not None else None


class Replaced(NamedTuple):
    """The result of `replace`."""

    kept: Backup | None
    """The database that was replaced."""
    gaps: Path | None
    """The folder that explains the numbers which are skipped."""


def replace(
    effects: Effects, kind: BackupKind, *, source: Path, origin: Path, migrations: tuple[Migration, ...]
) -> Replaced:
    """Put a finished scratch file in the database's place for a person, after setting the database aside.

    Its counters are raised before that. `origin` names, for the explanation, the file that it was made of.

    Raises:
        TillkeeperError: by meaning; the database is as it was, or it was ruined and is kept under its new name.
    """
    ruined: Path | None = None
    try:
        aside = put_aside(effects, kind)
    except Damaged:
        aside, ruined = None, effects.name_aside(kind)
    made = [aside.path] if aside is not None else []
    kept = aside.path if aside is not None else ruined
    try:
        intent = Intent(str(kind), str(source), set_aside=str(kept) if kept is not None else None)
        operation = str(kind).removeprefix("before-")
        intent = with_raised_counters(effects, intent, origin, migrations=migrations, operation=operation)
        made += [Path(intent.gaps)] if intent.gaps is not None else []
        effects.reserve(source)
    except BaseException:
        for path in made:
            effects.discard(path)
        raise
    if ruined is not None:
        aside = effects.move_aside(ruined, kind)
    effects.restore(source)
    if intent.raised_from is not None:
        effects.counters_raised(intent)
    return Replaced(aside, Path(intent.gaps) if intent.gaps is not None else None)


def base_and_way(effects: Effects, backup: Path, intent: Intent | None) -> tuple[Backup, bool]:
    """Return the backup from which an unfinished return starts anew, and whether changes are carried back from it.

    Raises:
        BackupUnusable: it is not there.
    """
    base = effects.kept_at(Path(intent.base)) if intent is not None and intent.base is not None else None
    if base is not None:
        return base, True
    # The decision may name a copy with raised counters, which is made anew.
    origin = (intent.raised_from or intent.backup) if intent is not None else None
    named = effects.kept_at(Path(origin)) if origin is not None else None
    named = named or effects.kept_at(backup)
    if named is None or named.kind in (BackupKind.MIGRATION, BackupKind.CARRIED):
        # An earlier version wrote neither the base nor, before the restore began, an intent.
        migration = effects.base_of(backup)
        if migration is not None:
            return migration, True
    if named is None:
        raise BackupUnusable(operation="finish going back", path=backup, cause="there is no such file")
    return named, False
