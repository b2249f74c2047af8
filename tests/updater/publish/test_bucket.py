"""Publishing to a bucket of a real S3 server on loopback: order, headers, cuts, and what is not sent again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.bucket import NAME, SECRET, client, credentials, objects, publish_to, s3_server
from tests.helpers.places import ROOT
from tests.helpers.vendor import PASSWORD, Vendor, copy_of
from tests.updater.publish.test_deploy import PlugPulled
from tests.updater.publish.test_refusals import publish
from updater.publish import deploy, repository, storage
from updater.publish.errors import OldWorkshop, PublishError, StorageProblem
from updater.publish.storage import Bucket, BucketStorage


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(autouse=True)
def _publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials(monkeypatch)


def puts(patch: pytest.MonkeyPatch, *, cut_at: int = 0) -> list[str]:
    """Names that are sent, in their order; the publisher is gone before the n-th."""
    names: list[str] = []
    right = BucketStorage._put

    def noted(self: BucketStorage, name: str, *values: Any, **digests: Any) -> None:
        if len(names) + 1 == cut_at:
            raise PlugPulled
        names.append(name)
        right(self, name, *values, **digests)

    patch.setattr(BucketStorage, "_put", noted)
    return names


def check(bucket: Bucket) -> None:
    """A new terminal would take what is there."""
    timestamp = storage.storage_of(bucket).read(storage.TIMESTAMP)
    assert timestamp is not None
    deploy.check_with_a_fresh_client(bucket, timestamp)


def test_files_arrive_in_the_safe_order_with_headers_for_caches(
    vendor: Vendor, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = publish_to(vendor, server, "order")
    names = puts(monkeypatch)
    vendor.refresh()
    kinds = [name.split(".")[-2] if "metadata" in name else "target" for name in names]
    assert kinds == ["target", "target", "target", "targets", "snapshot", "root", "metadata/timestamp"]
    for name in names:
        head = client(server).head_object(Bucket=NAME, Key=f"order/{name}")
        replaced = name == "metadata/timestamp.json"
        assert head["CacheControl"] == ("no-cache" if replaced else "public, max-age=31536000, immutable")
        assert head["ContentType"].startswith("application/")
        assert "ContentEncoding" not in head
    check(bucket)
    names.clear()
    vendor.refresh()
    assert names == ["metadata/timestamp.json"]


@pytest.mark.long  # a publish to a folder is cut at every call in the quick tests
def test_a_deploy_that_is_cut_before_any_object_is_finished_by_repeating_it(
    vendor: Vendor, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, ended = 0, False
    while not ended:
        number += 1
        own = copy_of(vendor, tmp_path / f"vendor{number}")
        bucket = publish_to(own, server, f"cut{number}")
        with monkeypatch.context() as patch:
            before = puts(patch, cut_at=number)
            with contextlib.suppress(PlugPulled):
                own.refresh()
            ended = len(before) < number - 1
        with monkeypatch.context() as patch:
            after = puts(patch)
            own.refresh()
        assert set(before) & set(after) <= {"metadata/timestamp.json"}, "what is there is not sent again"
        check(bucket)
    assert number == 9
    bucket = publish_to(vendor, server, "cut")
    vendor.refresh()
    bundle = vendor.bundle("1.1", schema=4)
    for number in (1, 2, 2, 2, 2):
        with monkeypatch.context() as patch:
            puts(patch, cut_at=number)
            with pytest.raises(PlugPulled):
                vendor.publish(bundle, "1.1")
        check(bucket)
    assert vendor.publish(bundle, "1.1").version == "1.1"
    check(bucket)
    assert sum("1.1.manifest" in name for name in objects(server, "cut")) == 1


def test_an_object_of_the_right_size_with_other_bytes_is_refused(vendor: Vendor, server: str) -> None:
    bucket = publish_to(vendor, server, "other")
    (path,) = (vendor.public / "targets").glob("*.manifest")
    client(server).put_object(Bucket=NAME, Key=f"other/targets/{path.name}", Body=b"x" * path.stat().st_size)
    before = objects(server, "other")
    with pytest.raises(PublishError, match="it is public already with other bytes"):
        vendor.refresh()
    assert storage.TIMESTAMP not in objects(server, bucket.prefix.strip("/"))
    assert before.items() <= objects(server, "other").items()


def test_an_old_workshop_changes_nothing_in_the_bucket(vendor: Vendor, server: str, tmp_path: Path) -> None:
    publish_to(vendor, server, "old")
    vendor.refresh()
    old = copy_of(vendor, tmp_path / "old")
    vendor.release("1.1")
    before = objects(server, "old")
    for attempt in (old.refresh, lambda: old.release("1.2")):
        with pytest.raises(OldWorkshop, match="the workshop is older than s3://releases/old: targets is 2 here and 3"):
            attempt()
    assert objects(server, "old") == before


def test_credentials_are_in_no_file_and_in_no_message(
    vendor: Vendor, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_to(vendor, server, "secret")
    told = publish(vendor, "refresh")
    assert told.returncode == 0, told.stderr
    config = repository.load(vendor.repository)
    repository.save(vendor.repository, config._replace(public=Bucket("s3://nothing-here/x", server)))
    with pytest.raises(PublishError, match="NoSuchBucket") as raised:
        vendor.refresh()
    assert SECRET not in raised.value.in_words + told.stdout + told.stderr
    for path in vendor.folder.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(vendor.folder / "none"))
    with pytest.raises(PublishError, match="there are no credentials"):
        vendor.refresh()


def test_a_server_that_is_away_is_said_so_and_nothing_is_lost(vendor: Vendor) -> None:
    repository.save(
        vendor.repository,
        repository.load(vendor.repository)._replace(public=Bucket("s3://releases/x", "http://127.0.0.1:9")),
    )
    with pytest.raises(StorageProblem, match="list metadata in s3://releases/x"):
        vendor.refresh()


@pytest.mark.parametrize("place", ["s3://", "s3://user:word@bucket/x", "https://bucket/x", "ftp://x"])
def test_an_address_that_is_none_or_has_a_password_is_refused(place: str) -> None:
    with pytest.raises(PublishError) as raised:
        storage.public_of(place)
    assert "word" not in raised.value.in_words
    with pytest.raises(PublishError):
        storage.public_of("/srv/updates", "http://127.0.0.1")
    with pytest.raises(PublishError):
        storage.public_of("s3://bucket/x", "http://user:word@127.0.0.1")


def test_init_remembers_bucket_and_server_and_terminals_read_it(vendor: Vendor, server: str) -> None:
    publish_to(vendor, server, "kept")
    values = json.loads((vendor.repository / "publish.json").read_text())
    assert (values["public"], values["endpoint"]) == ("s3://releases/kept", server)
    assert repository.load(vendor.repository).public == Bucket("s3://releases/kept", server)


@pytest.mark.long
@pytest.mark.skipif(shutil.which("sh") is None, reason="the scripts are for a POSIX shell")
def test_the_scripts_for_ci_release_and_refresh_and_say_what_is_left_to_people(
    vendor: Vendor, server: str, tmp_path: Path
) -> None:
    bucket = publish_to(vendor, server, "ci")
    vendor.refresh()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "updater").write_text(f'#!/bin/sh\nexec {sys.executable} -m updater "$@"\n')
    (tmp_path / "bin" / "updater").chmod(0o755)
    for name, roles in (("release", ("targets", "snapshot", "timestamp")), ("refresh", ("timestamp",))):
        (tmp_path / name / "keys").mkdir(parents=True)
        (tmp_path / name / "passwords").mkdir()
        for role in roles:
            (tmp_path / name / "passwords" / role).write_text(PASSWORD)
            for key in (role, f"{role}.pub"):
                shutil.copy(vendor.repository / "keys" / key, tmp_path / name / "keys")

    def script(name: str, *words: str) -> subprocess.CompletedProcess[str]:
        folder = tmp_path / name
        environment = {
            **os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
            "TILLKEEPER_REPOSITORY": str(folder / "work"), "APP": "sample-till", "PUBLIC": bucket.url,
            "ENDPOINT": server, "KEYS": str(folder / "keys"), "PASSWORDS": str(folder / "passwords"),
            "ROOT": str(vendor.root),
        }  # fmt: skip
        return subprocess.run(
            ["sh", str(ROOT / "docs" / "ci" / f"{name}.sh"), *words],
            env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    done = script("release", str(vendor.bundle("1.1")), "1.1")
    assert (done.returncode, "1.1 is public" in done.stdout) == (0, True), done.stderr
    done = script("release", str(vendor.bundles / "1.0"), "0.9")
    assert (done.returncode, "0.9 was refused" in done.stdout) == (4, True), done.stderr
    for _ in range(2):
        before = objects(server, "ci")
        done = script("refresh")
        assert done.returncode == 0, done.stderr
        assert {name for name, found in objects(server, "ci").items() if before[name] != found} == {storage.TIMESTAMP}
    assert not (tmp_path / "refresh" / "work" / "workshop" / "targets" / "sample-till-1.1.tar.gz").exists()
    check(bucket)
