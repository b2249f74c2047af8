"""Sentences about tables and views that a migration breaks: which trigger, view or reference fails, and why."""

from __future__ import annotations

from difflib import get_close_matches
from itertools import pairwise
from typing import Final, NamedTuple, assert_never

from dbsync.schema.declarations import Declared
from dbsync.storage.connections import LIBRARY_VERSION
from dbsync.storage.introspection import TableKind
from dbsync.storage.sqlite_messages import About, message_of
from dbsync.verification.broken_objects import Broken, Undeclared, entry_of
from dbsync.verification.compiling import Survey, Verb, result_of
from dbsync.verification.schema_copy import Entry

EXAMINED_COUNT: Final = 8
"""After so many failures, a culprit is searched for new causes only: each search compiles one table several times."""
TRIED_COUNT: Final = 10
"""Triggers that are tried one by one for one failure."""
SHOWN_COUNT: Final = 3
REBUILD: Final = (
    "Make the new table under another name, copy, drop the old one and rename the new one, or use `db.rebuild_table`"
)


def sentences(found: list[Broken], before: Survey | None, after: Survey, allowed: Declared) -> list[str]:
    """Return one sentence for each cause: the object that fails, why, and the statements that it makes fail."""
    told = dict[tuple[_Reason, str], _Told]()
    for index, each in enumerate(found):
        why = _Why(each, before, after, allowed)
        known = [same for (_, cause), same in told.items() if cause == each.cause]
        if index >= EXAMINED_COUNT and known:
            known[0].statements[_statements(each)] = None
            continue
        guilty = _culprits(each, after)
        reasons = [(why.of(entry), _named(entry)) for entry in guilty] or [(why.without_culprit(), "")]
        for reason, culprit in reasons:
            told.setdefault((reason, each.cause), _Told({}, {})).add(culprit, _statements(each))
    return [same.sentence(reason, cause) for (reason, cause), same in told.items()]


class _Reason(NamedTuple):
    """Why something fails."""

    text: str
    """It begins with a verb in the plural if a trigger, view or table is the culprit; else it is complete."""
    advice: str = ""
    """The way out, if it does not follow from the text."""


class _Told(NamedTuple):
    """Objects that fail for one reason; the keys of a dict are a set in order."""

    culprits: dict[str, None]
    statements: dict[str, None]

    def add(self, culprit: str, statements: str) -> None:
        """Add an object whose text fails, and statements that it makes fail."""
        self.culprits[culprit] = None
        self.statements[statements] = None

    def sentence(self, reason: _Reason, cause: str) -> str:
        """Return it in words."""
        verb, _, rest = reason.text.partition(" ")
        one = len(self.culprits) == 1
        subject = f"{_joined(self.culprits)} {verb}{'s' if one else ''} {rest}".rstrip()
        subject = reason.text if "" in self.culprits else subject
        several = len(self.statements) > 1 or "," in next(iter(self.statements))
        what = f"{subject}: {_joined(self.statements)} {'fail' if several else 'fails'} ({cause})"
        return f"{what}. {reason.advice}" if reason.advice else what


def _joined(names: dict[str, None]) -> str:
    shown = list(names)[:SHOWN_COUNT]
    more = len(names) - len(shown)
    return (
        ", ".join(shown) + f" and {more} more"
        if more
        else " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
    )


def needs_sentence(each: Undeclared) -> str:
    """Return the sentence about a need that is not declared, with the line that declares it."""
    what = f"{each.kind} {each.name} needs {each.need}, which is not available here (SQLite {LIBRARY_VERSION})"
    return f"{what} and not declared (if the app has it, declare it with `needs: {each.need}`)"


def _statements(each: Broken) -> str:
    verbs = list(dict.fromkeys(action.verb for action in each.actions if action.verb is not Verb.UPDATE))
    columns = [action.column for action in each.actions if action.verb is Verb.UPDATE]
    updates = [f"UPDATE of {', '.join(columns[:SHOWN_COUNT])}"] if 0 < len(columns) <= SHOWN_COUNT else []
    updates = ["UPDATE"] if len(columns) > SHOWN_COUNT else updates
    return f"{', '.join([*verbs, *updates])} on {each.name}"


def _named(entry: Entry) -> str:
    return f"{entry.type} {entry.name} on {entry.table}" if entry.type == "trigger" else f"{entry.type} {entry.name}"


# ---------------------------------------------------------------------------------------------------------- culprits


def _culprits(each: Broken, after: Survey) -> list[Entry]:
    """Return the triggers, or the view or table, whose own text fails."""
    message = message_of(each.cause)
    if message.about is About.VIEW:
        return []
    if message.about is About.MISMATCH:
        return [entry for entry in after.schema if entry.type == "table" and entry.name == message.of]
    word = message.name.lower()
    naming = [entry for entry in after.schema if word and word in entry.words]
    lower = each.name.lower()
    guilty = _guilty_triggers(each, after, naming)
    if guilty:
        return guilty
    itself = [entry for entry in after.schema if entry.type in ("table", "view") and entry.name.lower() == lower]
    # A search index names the table of its content in a string.
    own = [entry for entry in itself if entry in naming or entry.kind is TableKind.VIRTUAL]
    referring = [entry for entry in naming if ("references", word) in pairwise(entry.words)]
    views = [entry for entry in naming if entry.type == "view"]
    return (own or (views if each.actions[0].verb is Verb.SELECT else referring) or views)[:SHOWN_COUNT]


def _guilty_triggers(each: Broken, after: Survey, naming: list[Entry]) -> list[Entry]:
    """Return the triggers with which a statement fails and without which it does not; most likely ones are tried first.

    Args:
        each: the failure.
        after: the schema in which it fails.
        naming: the objects whose SQL contains the name that SQLite does not find.
    """
    action = next((action for action in each.actions if action.verb is not Verb.SELECT), None)
    if action is None:
        return []
    triggers = [entry for entry in after.schema if entry.type == "trigger"]
    own = [entry for entry in triggers if entry.table.lower() == each.name.lower()]

    def fails_without(some: list[Entry]) -> bool:
        result = result_of(tuple(entry for entry in after.schema if entry not in some), each.name, action)
        return each.cause in (result.cause, result.keys_cause)

    for group in ([entry for entry in own if entry in naming], [entry for entry in triggers if entry in naming], own):
        if group and not fails_without(group):
            tried = group[:TRIED_COUNT] if len(group) > 1 else []
            return [entry for entry in tried if fails_without([other for other in group if other != entry])] or group
    return []


# ------------------------------------------------------------------------------------------------------------ reasons


class _Why(NamedTuple):
    """One failure, and what the migration did."""

    each: Broken
    before: Survey | None
    after: Survey
    allowed: Declared

    def of(self, culprit: Entry) -> _Reason:
        """Return what is wrong with a trigger, view or table."""
        about, name, of = message_of(self.each.cause)
        match about:
            case About.TABLE:
                return self._no_table(culprit, name)
            case About.COLUMN_OF_TABLE:
                return _Reason(f"use column {name} of {of}, {self._column([of.lower()], name)}")
            case About.COLUMN:
                return _Reason(self._no_column(culprit, of, name))
            case About.COLUMN_COUNT:
                return _Reason("insert without naming the columns, and their number changed")
            case About.MISMATCH:
                return _Reason(f"refer to columns of {name} that are no key of it")
            case (
                About.FUNCTION
                | About.COLLATION
                | About.MODULE
                | About.TOKENIZER
                | About.CONSTRUCTOR
                | About.VIEW
                | About.READ_ONLY
                | About.OTHER
            ):
                return _Reason("fail")
            case _:
                assert_never(about)

    def without_culprit(self) -> _Reason:
        """Return what is wrong where no trigger, view or reference is known to be the cause."""
        if message_of(self.each.cause).about is About.VIEW:
            lost = f"view {self.each.name} has lost its INSTEAD OF trigger"
            return _Reason(lost, "DROP VIEW drops it as well: create it again")
        return _Reason(f"{self.each.name} does not work")

    def _no_table(self, culprit: Entry, name: str) -> _Reason:
        lower = name.lower()
        what = f"{'refer to' if culprit.type == 'table' else 'use'} table {name}"
        if lower in self.allowed.tables:
            return _Reason(f"{what}, which the migration renames to {self.allowed.tables[lower]}")
        if self.before is not None and lower in self.before.names:
            return _Reason(f"{what}, which the migration drops")
        was = entry_of(self.before, culprit.type, culprit.name)
        pairs = zip(was.words, culprit.words, strict=False) if was is not None else ()
        aside = next((old for old, new in pairs if new == lower != old), "")
        if aside in self.after.names:
            return _Reason(f"{what}, which ALTER TABLE … RENAME put in the place of {aside}", REBUILD)
        return _Reason(f"{what}, {self._unknown(name, list(self.after.names))}")

    def _no_column(self, culprit: Entry, qualifier: str, name: str) -> str:
        words = set(culprit.words)
        tables = [table for table in self.after.columns if table in words]
        if qualifier.lower() in ("new", "old"):
            tables = [culprit.table.lower()]
        elif qualifier.lower() in self.after.columns:
            tables = [qualifier.lower()]
        if self.each.is_of_quotes:
            return f'name "{name}", {self._column(tables, name)}: SQLite would take it for a string'
        return f"use column {name}, {self._column(tables, name)}"

    def _column(self, tables: list[str], name: str) -> str:
        lower = name.lower()
        for table in tables:
            old = next((old for old, new in self.allowed.tables.items() if new.lower() == table), table)
            if (old, lower) in self.allowed.columns:
                return f"which the migration renames to {self.allowed.columns[old, lower]}"
            if self.before is not None and lower in self.before.columns.get(old, ()):
                return "which the migration drops"
        return self._unknown(name, [column for table in tables for column in self.after.columns.get(table, ())])

    @staticmethod
    def _unknown(name: str, known: list[str]) -> str:
        near = get_close_matches(name.lower(), known, 1)
        return "which does not exist" + (f" (is {near[0]} meant?)" if near else "")
