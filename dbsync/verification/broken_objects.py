"""Tables and views that worked before a migration and fail after it, and needs of the app that nothing declares.

Pure functions of the surveys before and after, and of what the migrations declare. What failed before may fail after; a
new table or view must work. The first schema of all, a fresh database, has no before: there only failures count that do
not depend on whether the app enables foreign keys, and strings in double quotes are accepted as SQLite does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dbsync.model import Need
from dbsync.schema.declarations import Declared
from dbsync.verification.compiling import Action, Compiled, Survey
from dbsync.verification.schema_copy import Entry

_NOTHING = Compiled()


class Broken(NamedTuple):
    """Statements on one table or view that fail for one cause."""

    name: str
    """Of the table or view, as written after the migration."""
    cause: str
    """SQLite's message."""
    actions: tuple[Action, ...]
    is_of_quotes: bool = False
    """Whether SQLite would run them, and take the name of a column that is gone for a string."""


def broken(before: Survey | None, after: Survey, allowed: Declared) -> list[Broken]:
    """Return what must work after the migration and does not, by table or view and cause.

    Args:
        before: the schema before the migration; None: there was none.
        after: the schema as it would be committed.
        allowed: what the migrations declare. Renames are followed; what is dropped is not missed.
    """
    found = dict[tuple[str, str, bool], list[Action]]()
    names = after.names
    for (name, action), result in after.results.items():
        was = _before(before, name, action, allowed)
        for cause, is_of_quotes in _new_causes(before, name, was, result, allowed):
            found.setdefault((names[name], cause, is_of_quotes), []).append(action)
    return [
        Broken(name, cause, tuple(_shortened(actions)), is_of_quotes)
        for (name, cause, is_of_quotes), actions in found.items()
    ]


def _before(before: Survey | None, name: str, action: Action, allowed: Declared) -> Compiled | None:
    """Return the result of the same statement before the migration; None if there was none."""
    if before is None:
        return None
    old = name_before(name, allowed)
    if allowed.gone_in_between("table", old):
        return None
    column = next(
        (key[1] for key, new in allowed.columns.items() if key[0] == old and new.lower() == action.column),
        action.column,
    )
    exact = before.results.get((old, action._replace(column=column)))
    if exact is not None or not action.column:
        return exact
    # A new column: the table's other columns tell whether an UPDATE failed before.
    same_verb = [result for (each, each_action), result in before.results.items()
                 if each == old and each_action.verb is action.verb]  # fmt: skip
    return next((result for result in same_verb if result.cause or result.keys_cause), None) or next(
        iter(same_verb), None
    )


def name_before(name: str, allowed: Declared) -> str:
    """Return the name in lower case that a table had before the run."""
    return next((old for old, new in allowed.tables.items() if new.lower() == name.lower()), name.lower())


def _new_causes(
    before: Survey | None, name: str, was: Compiled | None, result: Compiled, allowed: Declared
) -> Iterator[tuple[str, bool]]:
    """Yield the causes for which a statement fails now and did not fail before."""
    if not result.possible:
        if (
            before is not None
            and was is not None
            and was.possible
            and not (was.cause or _gave_up(before, name, allowed))
        ):
            yield f"cannot modify {name} because it is a view", False
    elif was is None:
        if result.cause:
            yield result.cause, False
        elif result.keys_cause and before is not None:
            yield result.keys_cause, False
    elif was.possible and not was.cause:
        if result.cause:
            yield result.cause, False
        elif result.keys_cause and not was.keys_cause:
            yield result.keys_cause, False
        elif result.quoted_cause and not was.quoted_cause:
            yield result.quoted_cause, True


def _gave_up(before: Survey, name: str, allowed: Declared) -> bool:
    """Return whether the drop of a trigger of this view is declared: the app no longer writes to it."""
    old = name_before(name, allowed)
    own = {entry.name.lower() for entry in before.schema if entry.type == "trigger" and entry.table.lower() == old}
    return any(("trigger", trigger) in allowed.drops for trigger in own)


def _shortened(actions: list[Action]) -> Iterator[Action]:
    """Yield the statements without the variants of one that fails as well."""
    verbs = {action.verb for action in actions}
    for action in actions:
        if not (action.verb.startswith("INSERT ") and "INSERT" in verbs):
            yield action


# ------------------------------------------------------------------------------------------------------------- needs


class Undeclared(NamedTuple):
    """A need of one table or view that no migration declares."""

    kind: str
    """table or view."""
    name: str
    need: Need


def undeclared(
    before: Survey | None, after: Survey, allowed: Declared, declared_needs: Iterable[Need]
) -> list[Undeclared]:
    """Return the needs that the migration introduces and that are not declared, one finding for each need.

    What an untouched table, view, trigger or index needed before need not be declared.
    """
    known = tuple(declared_needs)
    found = dict[str, Undeclared]()
    needed_before = _needed(before) if before is not None else {}
    kinds = {entry.name.lower(): entry.type for entry in after.schema if entry.type in ("table", "view")}
    for name, needs in _needed(after).items():
        for need in sorted(needs):
            if need.is_in(known) or str(need).lower() in found:
                continue
            had = need.is_in(needed_before.get(name_before(name, allowed), ()))
            if before is None or not had or _is_touched(before, after, name, need, allowed):
                found[str(need).lower()] = Undeclared(kinds[name], after.names[name], need)
    return list(found.values())


def _needed(survey: Survey) -> dict[str, set[Need]]:
    found = dict[str, set[Need]]()
    for (name, _), result in survey.results.items():
        if result.needs:
            found.setdefault(name, set()).update(result.needs)
    return found


def _is_touched(before: Survey, after: Survey, name: str, need: Need, allowed: Declared) -> bool:
    """Return whether a definition that belongs to a table or view and names the need is new or changed."""
    word = need.name.lower()
    known = [entry.words for entry in before.schema]
    own = [entry for entry in after.schema if entry.table.lower() == name and word in entry.words]
    return any(not any(_is_renamed(was, entry.words, allowed) for was in known) for entry in own)


def _is_renamed(was: tuple[str, ...], has: tuple[str, ...], allowed: Declared) -> bool:
    """Return whether two definitions are equal but for declared new names."""
    names = {(old, new.lower()) for old, new in allowed.tables.items()}
    names |= {(key[1], new.lower()) for key, new in allowed.columns.items()}
    return len(was) == len(has) and all(old == new or (old, new) in names for old, new in zip(was, has, strict=True))


def entry_of(survey: Survey | None, type_: str, name: str) -> Entry | None:
    """Return a row of a schema's catalogue by its type and name; None if there is none."""
    entries = survey.schema if survey is not None else ()
    return next((entry for entry in entries if entry.type == type_ and entry.name.lower() == name.lower()), None)
