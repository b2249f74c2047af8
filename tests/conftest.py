"""What many tests begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dbsync.migrations import code_process
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor, copy_of, served, serving
from tests.helpers.windows import left_out_of_the_sample, reason_to_skip
from updater.repository import unchanged


@pytest.fixture(scope="session")
def first_release(tmp_path_factory: pytest.TempPathFactory) -> Vendor:
    """A vendor who has published 1.0; for copying only."""
    vendor = Vendor(tmp_path_factory.mktemp("vendor") / "vendor")
    vendor.init()
    vendor.release("1.0")
    return vendor


@pytest.fixture(scope="session", autouse=True)
def process_for_code() -> Iterator[None]:
    """One process for the code of migrations in all tests of a worker: its start takes longer than most of them."""
    with code_process.kept():
        yield


@pytest.fixture(autouse=True)
def _own_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each agent is a process of its own: a cheap look that hangs in one test is none of another test's."""
    monkeypatch.setattr(unchanged, "_ASKED", [])


@pytest.fixture
def vendor(first_release: Vendor, tmp_path: Path) -> Vendor:
    """A vendor of the test's own, who has published 1.0."""
    return copy_of(first_release, tmp_path / "vendor")


@pytest.fixture
def url(vendor: Vendor) -> Iterator[str]:
    """Where the vendor's public folder is served."""
    with served(serving(vendor.public)) as address:
        yield address


@pytest.fixture(scope="session")
def first_till(first_release: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Till:
    """A terminal with 1.0, schema 2, and a shop with a past; for copying only."""
    found = Till(tmp_path_factory.mktemp("terminal") / "till")
    with served(serving(first_release.public)) as address:
        found.install(first_release.root, address)
    found.fill(duplicate_sku=True)
    return found


@pytest.fixture
def till(first_till: Till, vendor: Vendor, url: str, tmp_path: Path) -> Till:
    """A terminal of the test's own, as `first_till` is; it asks the test's own server."""
    return first_till.copy_to(tmp_path / "till", url)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this system does not have, by the lists of `tests/helpers/windows.py`; leave out all but a sample."""
    left_out = left_out_of_the_sample(item.nodeid.replace("\\", "/") for item in items)
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid.replace("\\", "/") in left_out])
        items[:] = [item for item in items if item.nodeid.replace("\\", "/") not in left_out]
    for item in items:
        reason = reason_to_skip(item.nodeid.replace("\\", "/"))
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
