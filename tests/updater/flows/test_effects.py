"""The effects of the coordinator and of a terminal: each implementation has them all, with the same parameters."""

from __future__ import annotations

from abc import ABCMeta

import pytest

from dbsync.database.live import LiveEffects
from dbsync.upgrade.effects import Effects, Recorder
from tests.helpers import interfaces
from tests.simulators.database import SimulatedEffects
from tests.simulators.till import SimulatedTill
from updater.flows.effects import Records, Till
from updater.flows.prepare_database import TrialRecorder
from updater.terminal.live import Terminal

IMPLEMENTATIONS: list[tuple[type, type]] = [
    (Effects, LiveEffects),
    (Effects, SimulatedEffects),
    (Recorder, TrialRecorder),
    (Records, Terminal),
    (Records, SimulatedTill),
    (Till, Terminal),
    (Till, SimulatedTill),
]
INTERFACES: list[ABCMeta] = [Effects, Recorder, Records, Till]


@pytest.mark.parametrize(("interface", "implementation"), IMPLEMENTATIONS)
def test_every_effect_is_there_with_the_same_parameters(interface: type, implementation: type) -> None:
    assert issubclass(implementation, interface)
    assert interfaces.differences(interface, implementation) == []


@pytest.mark.parametrize("interface", INTERFACES)
def test_a_class_that_lacks_one_effect_cannot_be_instantiated(interface: ABCMeta) -> None:
    assert interfaces.not_abstract(interface) == []
    for missing in sorted(interface.__abstractmethods__):
        with pytest.raises(TypeError, match=missing):
            interfaces.without(interface, missing)()


def test_an_effect_with_other_parameters_is_seen() -> None:
    class Other(Recorder):
        def backup_made(self, path: object) -> None:
            """Takes it under another name."""

        def content_noted(self, sha256: str, more: str, *, told: bool = False) -> None:  # type: ignore[override]
            """Needs something that no caller has."""

    assert interfaces.differences(Recorder, Other) == [
        "backup_made needs path as well",
        "backup_made takes self, path instead of self, backup",
        "content_noted needs more as well",
    ]
