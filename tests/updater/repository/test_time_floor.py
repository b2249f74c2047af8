"""The time floor: what raises it, what bounds it, and what lowers it again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.helpers.keys import at
from updater.repository import trust

NOW = datetime.now(UTC)


def test_an_older_signature_never_lowers_the_floor() -> None:
    expires = NOW + timedelta(days=14)
    floor = at(NOW)
    for signed_at in ("", "damage", at(NOW - timedelta(days=60))):
        text, _ = trust.floor_after(floor, signed_at, is_newer=False, now=NOW, date=None, expires=expires)
        assert text == floor


@pytest.mark.parametrize(
    ("clock", "date", "said", "floor"),
    [
        (0, 0, 0, 0), (0, 0, 60, 1), (0, None, 60, 14), (60, 0, 60, 14), (-9000, 0, 0, 0), (0, -9000, 0, 0),
        (-9000, -9000, 0, -8999), (-9000, None, 0, 0),
    ],
)  # fmt: skip
def test_the_floor_is_bounded_by_both_clocks_and_the_end_of_the_signature(
    clock: int, date: int | None, said: int, floor: int
) -> None:
    def after(days: int) -> datetime:
        return NOW + timedelta(days=days)

    text, found = trust.floor_after(
        "", at(after(said)), is_newer=True, now=after(clock), date=None if date is None else after(date),
        expires=after(14),
    )  # fmt: skip
    assert text == at(after(floor))
    assert found is not None


def test_a_newer_statement_lowers_it_to_what_it_says_and_not_below() -> None:
    text, _ = trust.floor_after(
        at(NOW + timedelta(days=60)), at(NOW), is_newer=True, now=NOW - timedelta(days=9000),
        date=NOW - timedelta(days=9000), expires=NOW + timedelta(days=14),
    )  # fmt: skip
    assert text == at(NOW), "a clock and a server that are both behind do not lower it"


def test_replaced_keys_forget_the_versions_that_they_signed_and_no_others() -> None:
    versions = dict.fromkeys(trust.ROLES, 9)
    keys = {role: role for role in trust.ROLES}
    seen = trust.Seen(versions, keys, "")
    for role, forgotten, gone in (
        ("root", set(), set()),
        ("timestamp", {"timestamp", "snapshot"}, {"timestamp.json", "snapshot.json"}),
        ("snapshot", {"timestamp", "snapshot", "targets"}, {"timestamp.json", "snapshot.json"}),
        ("targets", {"targets"}, {"targets.json", "snapshot.json"}),
    ):
        changed = trust.changed_roles(seen, {**keys, role: "new"})
        assert set(versions) - set(trust.forgotten(seen, changed).versions) == forgotten, role
        assert set(trust.files_of(changed)) == gone, role
    assert trust.changed_roles(seen._replace(keys={}), keys) == frozenset(), "a terminal of before knows no keys yet"
