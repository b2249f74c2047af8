"""The last boundary of a run: whatever is raised inside, of any type and text, becomes a named outcome.

The transaction is gone, the database is as it was and free, and the record has the cause.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from dbsync.database.flight_recorder import FlightRecorder
from dbsync.database.live import LiveEffects
from dbsync.errors import Locked, TillkeeperError, described, interrupts, wrapped
from dbsync.upgrade import coordinator, restore_decision
from tests.helpers.raised import HARD, INTERRUPTIONS
from tests.helpers.shop import dump, dump_but_marks, effects, make_shop, released, sell, upgrade, written
from tests.helpers.turns import in_turns

PLACES: Final = {
    "preflight": "READ_ONLY",
    "copy_backup": "CANNOT_BACK_UP",
    "check_backup": "CANNOT_BACK_UP",
    "keep_backup": "CANNOT_BACK_UP",
    "apply": "MIGRATION_FAILED",
    "verify": "VERIFICATION_FAILED",
    "commit": "COMMIT_FAILED",
}
"""Effects, and the outcome of an exception in each that has none of its own."""


def raising(database: Path, place: str, error: BaseException) -> LiveEffects:
    """Return the real effects, one of which raises."""
    found = effects(database)

    def fail(*_: Any, **__: Any) -> None:
        raise error

    setattr(found, place, fail)
    return found


def is_free(database: Path) -> bool:
    """Return whether somebody else can write at once."""
    with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    return True


@pytest.mark.parametrize(("place", "kind"), in_turns(PLACES, HARD))
def test_whatever_an_effect_raises_the_run_ends_with_a_name_and_the_database_as_it_was(
    tmp_path: Path, place: str, kind: str
) -> None:
    database = make_shop(tmp_path, schema=2)
    before, error = dump(database), HARD[kind]()
    outcome = coordinator.upgrade(raising(database, place, error), migrations=released(tmp_path, 4))
    of_the_machine = isinstance(error, OSError | MemoryError) and place != "preflight"
    expected = "MACHINE_PROBLEM" if of_the_machine else PLACES[place]
    assert outcome.name == ("LOCKED" if isinstance(error, Locked) else expected)
    assert outcome.cause.encode()
    assert outcome.hint
    assert is_free(database), "while the exception lives"
    assert (dump(database), error.__traceback__ is not None) == (before, True)
    ended = FlightRecorder(database.parent / "backups", database).lines()[-1]
    assert (ended["event"], ended["outcome"], ended["cause"]) == ("ended", outcome.name, outcome.cause)
    assert upgrade(database, released(tmp_path, 4), again=True).name == "MIGRATED"


@pytest.mark.parametrize("kind", HARD)
def test_whatever_is_raised_while_going_back_what_is_owed_is_told_and_done_the_next_time(
    tmp_path: Path, kind: str
) -> None:
    database = make_shop(tmp_path, schema=2)
    kept = effects(database).make_backup()
    sell(database)
    before = dump(database)
    broken = raising(database, "restore", HARD[kind]())
    returned = restore_decision.restore(broken, backup=kept.path, intent_id="i1", accept_loss=True)
    assert (returned.back, returned.outcome.name) == (None, "RESTORE_PENDING")
    assert returned.outcome.cause.encode()
    assert is_free(database)
    assert dump(database) == before
    again = restore_decision.restore(effects(database), backup=kept.path, intent_id="i1", accept_loss=True)
    assert again.outcome.name == "RESTORED_WITH_LOSS"
    assert dump_but_marks(database) == dump_but_marks(kept.path)


@pytest.mark.parametrize(
    "body",
    [
        "class Mute(Exception):\n        def __str__(self): raise ValueError\n    raise Mute",
        "raise RuntimeError('caf\\udce9')",
        "raise RecursionError",
        "raise SystemExit(3)",
        "raise GeneratorExit",
        "class Own(BaseException): pass\n    raise Own",
        "raise BaseExceptionGroup('two', [SystemExit(1), ValueError('caf\\udce9')])",
        "raise KeyboardInterrupt",
    ],
)
def test_a_migration_that_raises_what_is_hard_to_print_has_failed_like_any_other(tmp_path: Path, body: str) -> None:
    database = make_shop(tmp_path, schema=2)
    before = dump(database)
    text = f'"""Fails."""\n\ndef up(db):\n    db.execute("CREATE TABLE gone (x)")\n    {body}\n'
    found = written(tmp_path / "m", text, after=2)
    if "KeyboardInterrupt" in body:
        # A person's Ctrl-C is no failure of the release: it goes up, and nothing is left behind.
        with pytest.raises(KeyboardInterrupt):
            upgrade(database, found)
    else:
        outcome = upgrade(database, found)
        assert outcome.name == "MIGRATION_FAILED"
        assert outcome.cause.encode()
    assert is_free(database)
    assert dump(database) == before


def test_a_nul_in_an_sql_file_is_a_failed_migration(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    before = dump(database)
    outcome = upgrade(database, written(tmp_path / "m", "CREATE TABLE a (x);\0\n", after=2))
    assert outcome.name in ("MIGRATION_FAILED", "BAD_MIGRATIONS")
    assert (dump(database), is_free(database)) == (before, True)


@pytest.mark.parametrize("kind", HARD)
def test_every_exception_has_words_that_can_be_written(kind: str) -> None:
    error = HARD[kind]()
    assert described(error).encode()
    ours = wrapped(error)
    assert isinstance(ours, TillkeeperError)
    assert str(ours).encode()
    assert ours.in_words.encode()
    assert not interrupts(error)
    assert len(str(ours)) < 4000


@pytest.mark.parametrize("kind", INTERRUPTIONS)
def test_a_persons_ctrl_c_goes_up_with_the_transaction_gone(tmp_path: Path, kind: str) -> None:
    database = make_shop(tmp_path, schema=2)
    before, error = dump(database), INTERRUPTIONS[kind]()
    with pytest.raises(type(error)):
        coordinator.upgrade(raising(database, "verify", error), migrations=released(tmp_path, 4))
    assert (dump(database), is_free(database)) == (before, True)


def test_what_nothing_expected_says_where_it_arose() -> None:
    def deep() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError) as caught:
        deep()
    assert "upgrade/test_boundary.py:" in str(wrapped(caught.value))
