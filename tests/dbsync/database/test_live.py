"""The composition of the live effects: each effect of the protocol is in one part, and only there."""

from __future__ import annotations

import pytest

from dbsync.database.live import LiveEffects
from dbsync.upgrade.effects import Effects

EFFECTS = sorted(name for name, value in vars(Effects).items() if callable(value) and not name.startswith("_"))


@pytest.mark.parametrize("name", EFFECTS)
def test_each_effect_is_implemented_by_one_part(name: str) -> None:
    # A method that no part has would be the protocol's own, which does nothing.
    assert len([part for part in LiveEffects.__bases__ if name in vars(part)]) == 1
