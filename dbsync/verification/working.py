"""Judgement of a schema as a whole: does what worked before still work, and is every need of the app declared."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import NamedTuple

from dbsync.model import Need
from dbsync.schema.declarations import Declared
from dbsync.storage.introspection import OUR_TABLES
from dbsync.verification.broken_causes import sentences
from dbsync.verification.broken_objects import Broken, Undeclared, broken, undeclared
from dbsync.verification.compiling import survey
from dbsync.verification.schema_copy import Entry, Schema


class Judgement(NamedTuple):
    """The objects that a migration breaks, and the needs of the app that no migration declares."""

    broken: list[Broken]
    failing: list[str]
    """One sentence for each cause."""
    undeclared: list[Undeclared]


def judge(
    before: Schema | None,
    after: Schema,
    allowed: Declared,
    needs: Iterable[Need],
    *,
    only: Container[str] | None = None,
) -> Judgement:
    """Compile every table and view before and after, and compare.

    Args:
        before: the schema before the migration; None: there was none, and everything is new.
        after: the schema as it would be committed.
        allowed: what the migrations declare.
        needs: the functions, collations, modules and tokenizers of the app that any migration declares.
        only: the tables and views to judge; None: all.
    """
    if before is not None and _compared(before) == _compared(after):
        return Judgement([], [], [])
    was, now = survey(before) if before is not None else None, survey(after)
    found = [each for each in broken(was, now, allowed) if only is None or each.name in only]
    return Judgement(found, sentences(found, was, now, allowed), undeclared(was, now, allowed, needs))


def _compared(schema: Schema) -> frozenset[Entry]:
    return frozenset(entry for entry in schema if entry.table not in OUR_TABLES)
