"""A public folder that clients look at while it is published to: never a failed look, wherever a publish is cut."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dbsync.storage import files as disk_files
from dbsync.storage.locks import Lock
from tests.helpers.shop import files
from tests.helpers.vendor import Vendor, copy_of, password, served, serving
from updater.answers import Answer
from updater.network.manner import Manner
from updater.publish import deploy, repository
from updater.publish.errors import Occupied, PublishError
from updater.publish.forms import Forms
from updater.repository import client as repository_client
from updater.repository.trust import begin

PUBLISHES_COUNT = 20


def source(url: str, trust: Path, root: Path) -> repository_client.Source:
    """A terminal's look at a repository."""
    trust.mkdir(parents=True, exist_ok=True)
    if not (trust / "root.json").exists():
        begin(trust, root.read_bytes())
    return repository_client.Source(url, (), trust, "sample-till", 60.0, 60.0, Manner(1))


@pytest.mark.slow
def test_twenty_publishes_and_two_clients_in_tight_loops_no_failed_look(
    vendor: Vendor, url: str, tmp_path: Path
) -> None:
    """One client keeps its metadata, the other begins anew each time; each look fetches the newest archive too."""
    context = multiprocessing.get_context("spawn")
    ended: Any = context.Event()
    queue: Any = context.Queue()
    clients = [
        context.Process(
            target=_look_on, args=(url, str(tmp_path / name), str(vendor.root), name == "kept", ended, queue)
        )
        for name in ("kept", "new")
    ]
    for one in clients:
        one.start()
    assert {queue.get(timeout=60), queue.get(timeout=60)} == {"ready"}
    for number in range(1, PUBLISHES_COUNT + 1):
        vendor.release(f"1.{number}", schema=2)
        vendor.refresh()
    ended.set()
    found = [queue.get(timeout=60) for _ in clients]
    for one in clients:
        one.join()
    assert [failures for _, failures in found] == [[], []]
    assert sum(count for count, _ in found) > PUBLISHES_COUNT
    print(f"{[count for count, _ in found]} looks with downloads during {PUBLISHES_COUNT} publishes, none failed")


def _look_on(url: str, folder: str, root: str, keeps: bool, ended: Any, queue: Any) -> None:
    """A client that looks and downloads without a pause, in this process, as the agent's child does."""
    from updater.network.http import Trouble
    from updater.repository import child

    count, failures = 0, []
    queue.put("ready")
    while not ended.is_set():
        count += 1
        trust = Path(folder) / ("trust" if keeps else f"trust{count}")
        asked = {
            **source(url, trust, Path(root)).asked("look", 60.0), "app": "sample-till", "trust_folder": str(trust),
            "now": datetime.now(UTC).isoformat(),
        }  # fmt: skip
        try:
            newest = child.look(asked)["offers"][-1]
            wanted = {
                "path": newest["archive_path"], "target": f"{folder}/archive{count}",
                "size_bytes": newest["archive_size_bytes"], "sha256": newest["archive_sha256"],
            }  # fmt: skip
            with contextlib.redirect_stdout(None):
                child._tell = lambda value: None
                fetched = child.fetch({**asked, **wanted})
            if fetched["answer"] != Answer.OK:
                failures.append(str(fetched))
        except Trouble as trouble:
            failures.append(f"{trouble.answer}: {trouble.detail}")
    queue.put((count, failures))


def test_tufups_own_client_reads_the_repository(vendor: Vendor, url: str, tmp_path: Path) -> None:
    vendor.publish(vendor.bundle("1.1", schema=4), "1.1", forms=Forms())
    # In a process of its own: tufup's client keeps state, and warns about its pins.
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    child = context.Process(target=_vanilla_client, args=(str(vendor.root), url, str(tmp_path), queue))
    child.start()
    found = queue.get(timeout=120)
    child.join()
    assert found == ("1.1", ["migrations", "release.json", "till.py", "tillkeeper.toml"])


def _vanilla_client(root: str, url: str, folder: str, queue: Any) -> None:
    import shutil

    from tufup.client import Client

    base = Path(folder)
    for name in ("metadata", "targets", "installed", "extracted"):
        (base / name).mkdir()
    shutil.copy(root, base / "metadata" / "root.json")
    client = Client(
        app_name="sample-till",
        app_install_dir=base / "installed",
        current_version="1.0",
        metadata_dir=base / "metadata",
        metadata_base_url=f"{url}/metadata/",
        target_dir=base / "targets",
        target_base_url=f"{url}/targets/",
        extract_dir=base / "extracted",
    )
    newest = client.check_for_updates()
    client.download_and_apply_update(skip_confirmation=True, install=lambda **_: None)
    names = sorted(one.name for one in (base / "extracted").iterdir())
    queue.put((str(newest.version) if newest else "", names))


class PlugPulled(BaseException):
    """The publisher is gone."""


def cut_at(number: int, patch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Ends the publisher before its n-th durable rename; returns how many there were."""
    count = [0]
    right = disk_files.replace

    def counted(*, source: Path, target: Path) -> None:
        count[0] += 1
        if count[0] == number:
            raise PlugPulled
        right(source=source, target=target)

    patch.setattr(disk_files, "replace", counted)
    return lambda: count[0]


def test_a_publish_that_is_cut_anywhere_is_finished_by_repeating_it(
    first_release: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, cuts = 0, 0
    while True:
        number += 1
        vendor = copy_of(first_release, tmp_path / f"vendor{number}")
        bundle = vendor.bundle("1.1", schema=4)
        with monkeypatch.context() as patch:
            counted = cut_at(number, patch)
            with contextlib.suppress(PlugPulled):
                vendor.publish(bundle, "1.1")
        ended = counted() < number
        # A client that looks now, after the cut, is served: the old state or the new one.
        deploy.check_with_a_fresh_client(vendor.public, (vendor.public / "metadata" / "timestamp.json").read_bytes())
        done = vendor.publish(bundle, "1.1")
        assert done.version == "1.1"
        deploy.check_with_a_fresh_client(vendor.public, (vendor.public / "metadata" / "timestamp.json").read_bytes())
        assert any(one.endswith("1.1.manifest") for one in files(vendor.public))
        assert not [one for one in files(vendor.public) if ".part-" in one or ".new-" in one]
        cuts += 1
        if ended:
            break
    assert cuts >= 12
    print(f"cut at {cuts - 1} places")


def test_a_public_file_is_never_replaced(vendor: Vendor) -> None:
    metadata = vendor.public / "metadata"
    newest = max(int(one.name.split(".")[0]) for one in metadata.glob("*.targets.json"))
    before = (metadata / "timestamp.json").read_bytes()
    (metadata / f"{newest + 1}.targets.json").write_bytes(b"{}")
    with pytest.raises(PublishError, match="it is public already with other bytes"):
        vendor.release("1.1")
    assert (metadata / "timestamp.json").read_bytes() == before


def test_what_is_staged_and_was_changed_after_signing_does_not_become_public(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(vendor.public)
    right = deploy.deploy

    def tampering(*, work: Path, public: Path) -> int:
        path = next((work / "targets").glob("*1.1.tar.gz"))
        path.write_bytes(path.read_bytes() + b"x")
        return right(work=work, public=public)

    monkeypatch.setattr(repository, "deploy", tampering)
    with pytest.raises(PublishError, match="it is not what was signed"):
        vendor.release("1.1")
    assert {one for one in files(vendor.public) if one.startswith("metadata")} == {
        one for one in before if one.startswith("metadata")
    }


def test_refresh_signs_anew_and_terminals_follow(vendor: Vendor, url: str, tmp_path: Path) -> None:
    asked = source(url, tmp_path / "trust", vendor.root)
    assert repository_client.look(asked, now=datetime.now(UTC)).answer is Answer.OK
    before = (vendor.public / "metadata" / "timestamp.json").read_bytes()
    assert vendor.refresh() == 1
    assert (vendor.public / "metadata" / "timestamp.json").read_bytes() != before
    assert repository_client.look(asked, now=datetime.now(UTC)).answer is Answer.OK


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be replaced there: the publisher waits for its reader")
def test_a_timestamp_that_is_replaced_while_it_is_served_arrives_whole(
    vendor: Vendor, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The length of the newer one with the bytes of the older one would leave a client waiting for the rest."""
    import urllib3

    path = vendor.public / "metadata" / "timestamp.json"
    before = path.read_bytes()
    right = Path.open

    def opened(one: Path, *arguments: Any, **options: Any) -> Any:
        file = right(one, *arguments, **options)
        if one == path and path.stat().st_size == len(before):
            disk_files.write_durably(path, before + b" ")
        return file

    monkeypatch.setattr(Path, "open", opened)
    pool = urllib3.PoolManager(retries=False, timeout=5)
    assert pool.request("GET", f"{url}/metadata/timestamp.json").data == before
    assert pool.request("GET", f"{url}/metadata/timestamp.json").data == before + b" "
    pool.clear()
    assert path.read_bytes() == before + b" "


def test_two_publishers_at_once_one_is_told(vendor: Vendor) -> None:
    lock = Lock(vendor.repository / "publish.lock")
    assert lock.try_take()
    with pytest.raises(Occupied, match="another publish is under way"):
        repository.refresh(vendor.repository, passwords=password)
    lock.release()
    assert vendor.root.exists()


def test_the_development_server_serves_ranges_and_only_the_two_folders(vendor: Vendor) -> None:
    import urllib3

    with served(serving(vendor.public)) as address:
        pool = urllib3.PoolManager()
        whole = pool.request("GET", f"{address}/metadata/1.root.json")
        rest = pool.request("GET", f"{address}/metadata/1.root.json", headers={"Range": "bytes=100-"})
        assert (rest.status, rest.data) == (206, whole.data[100:])
        assert whole.headers["Cache-Control"].endswith("immutable")
        assert pool.request("GET", f"{address}/metadata/timestamp.json").headers["Cache-Control"] == "no-cache"
        for path in ("/", "/metadata/", "/metadata/../../repository/publish.json", "/metadata/%2e%2e/x", "/other/x"):
            missing = pool.request("GET", address + path)
            assert (missing.status, missing.headers["Cache-Control"]) == (404, "no-store")
        pool.clear()
