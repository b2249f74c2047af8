"""Keys of the roles: several of them, thresholds, rotation, and signatures that come from other machines."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib import rsa_keys
from tuf.api.metadata import Metadata, Root

from dbsync.errors import DiskProblem
from tests.helpers import forks
from tests.helpers.keys import HIGHEST, sign_timestamp, stolen
from tests.helpers.shop import contents
from tests.helpers.vendor import ITERATIONS_COUNT, PASSWORD, Vendor, copy_of, password
from tests.updater.publish.test_deploy import PlugPulled, cut_at, source
from tests.updater.publish.test_refusals import publish
from updater.answers import Answer
from updater.publish import ceremony, clock, deploy, expiry, keys, repository, signing, signing_requests
from updater.publish.errors import AwaitsSignatures, BadPassword, BadRequest, PublishError
from updater.publish.keys import KeyFile
from updater.repository import client as repository_client

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rsa_keys, "_PBKDF2_ITERATIONS", ITERATIONS_COUNT)


def elsewhere(folder: Path, *names: str) -> list[Path]:
    """Keys of other machines."""
    for name in names:
        keys.make(folder / name, password)
    return [folder / name for name in names]


def change(vendor: Vendor, what: ceremony.Change, new_key: str = "") -> int:
    return ceremony.change_keys(vendor.repository, what, passwords=password, new_key=new_key)


def sign_with(file: Path, key: Path) -> list[str]:
    """As `updater publish sign add` on the machine of the key."""
    app, requests = signing_requests.read(file)
    signed, titles = signing_requests.signed_with(requests, keys.read_public(key), password)
    signing_requests.write(file, app, signed)
    return titles


def collect(vendor: Vendor, file: Path, *owners: Path) -> int:
    """Export, signatures of these keys, import."""
    ceremony.export(folder=vendor.repository, target=file)
    for key in owners:
        sign_with(file, key)
    return ceremony.import_signatures(folder=vendor.repository, path=file, passwords=password)


def timestamp(vendor: Vendor) -> Metadata:
    return Metadata.from_file(str(vendor.public / "metadata" / "timestamp.json"))


def check(vendor: Vendor) -> None:
    deploy.check_with_a_fresh_client(vendor.public, (vendor.public / "metadata" / "timestamp.json").read_bytes())


def names(vendor: Vendor, role: str) -> list[str]:
    (line,) = [line for line in ceremony.listed(vendor.repository) if line.role == role]
    return sorted(key.name for key in line.keys)


def test_keys_are_added_removed_and_rotated_and_terminals_follow(vendor: Vendor, url: str, tmp_path: Path) -> None:
    asked = source(url, tmp_path / "trust", vendor.root)
    assert repository_client.look(asked, now=datetime.now(UTC)).answer is Answer.OK
    for step in (
        (ceremony.adding("targets", "targets-b"), "targets-b"),
        (ceremony.with_threshold("targets", 2), ""),
        (ceremony.rotating("targets", "targets", "targets-c"), "targets-c"),
        (ceremony.rotating("root", "root", "root-b"), "root-b"),
        (ceremony.adding("root", "root-c"), "root-c"),
        (ceremony.removing("root", "root-b"), ""),
        (ceremony.rotating("snapshot", "snapshot", "snapshot-b"), "snapshot-b"),
    ):
        assert change(vendor, *step) > 0
        check(vendor)
    assert names(vendor, "targets") == ["targets-b", "targets-c"]
    assert names(vendor, "root") == ["root-c"]
    assert max(path.name for path in (vendor.public / "metadata").glob("*.root.json")) == "8.root.json"
    vendor.release("1.1")
    looked = repository_client.look(asked, now=datetime.now(UTC))
    assert looked.answer is Answer.OK
    assert {release.version for release in looked.releases} == {"1.0", "1.1"}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (ceremony.removing("root", "root"), "root would need 1 signatures and have 0 keys"),
        (ceremony.with_threshold("targets", 2), "targets would need 2 signatures and have 1 keys"),
        (ceremony.removing("targets", "nobody"), "targets has no key nobody"),
        (ceremony.adding("targets", "nobody"), "the folder of keys has no nobody.pub"),
        (ceremony.rotating("timestamp", "nobody", "root"), "timestamp has no key nobody"),
    ],
)
def test_a_change_that_nobody_could_sign_changes_nothing(vendor: Vendor, what: ceremony.Change, words: str) -> None:
    before = (contents(vendor.public), contents(vendor.repository))
    with pytest.raises(PublishError, match=words):
        change(vendor, what)
    assert (contents(vendor.public), contents(vendor.repository)) == before


def test_a_role_with_keys_on_two_machines_is_public_with_both_signatures_only(vendor: Vendor, tmp_path: Path) -> None:
    key_a, key_b = elsewhere(tmp_path / "machines", "targets-a", "targets-b")
    for key in (key_a, key_b):
        ceremony.adopt(folder=vendor.repository, public=key)
    with pytest.raises(AwaitsSignatures, match="targets 3 has 0 of 2 signatures"):
        change(vendor, on_two_machines)
    before = contents(vendor.public)
    file = tmp_path / "ask.json"
    with pytest.raises(AwaitsSignatures, match="targets 3 has 1 of 2 signatures"):
        collect(vendor, file, key_a)
    assert contents(vendor.public) == before
    assert vendor.refresh() == 1, "the daily job goes on beside it"
    assert sign_with(file, key_a) == []
    sign_with(file, key_b)
    assert ceremony.import_signatures(folder=vendor.repository, path=file, passwords=password) > 0
    check(vendor)
    with pytest.raises(AwaitsSignatures, match="targets 4 has 0 of 2 signatures"):
        vendor.release("1.1", schema=4)
    before = contents(vendor.public)
    (request,) = ceremony.export(folder=vendor.repository, target=file)
    assert any("sample-till-1.1.tar.gz is added" in word for word in request.words())
    assert vendor.refresh() == 1
    sign_with(file, key_b)
    sign_with(file, key_a)
    ceremony.import_signatures(folder=vendor.repository, path=file, passwords=password)
    check(vendor)
    assert len(contents(vendor.public)) > len(before)
    assert ceremony.import_signatures(folder=vendor.repository, path=file, passwords=password) == 0, "repeated"
    with pytest.raises(PublishError, match="nothing waits for signatures"):
        ceremony.export(folder=vendor.repository, target=file)


def test_a_release_that_waited_for_signatures_is_tried_before_it_is_public(vendor: Vendor, tmp_path: Path) -> None:
    key_a, key_b = elsewhere(tmp_path / "machines", "targets-a", "targets-b")
    for key in (key_a, key_b):
        ceremony.adopt(folder=vendor.repository, public=key)
    file, tried = tmp_path / "ask.json", []
    with pytest.raises(AwaitsSignatures):
        change(vendor, on_two_machines)
    collect(vendor, file, key_a, key_b)

    def refuses(copy: Path, version: str) -> None:
        tried.append((version, (copy / "public" / "metadata" / "timestamp.json").exists()))
        raise PublishError(operation="verify", cause="a till cannot take it")

    with pytest.raises(AwaitsSignatures, match="targets 4 has 0 of 2 signatures"):
        repository.release(
            folder=vendor.repository, bundle=vendor.bundle("1.1"), version="1.1", config_file=None, passwords=password,
            verify=refuses,
        )  # fmt: skip
    assert tried == [], "nobody can try what is not signed"
    ceremony.export(folder=vendor.repository, target=file)
    sign_with(file, key_a)
    sign_with(file, key_b)
    before, workshop = contents(vendor.public), contents(vendor.repository)
    with pytest.raises(PublishError, match="a till cannot take it"):
        ceremony.import_signatures(folder=vendor.repository, path=file, passwords=password, verify=refuses)
    assert (tried, contents(vendor.public), contents(vendor.repository)) == ([("1.1", True)], before, workshop)
    tried.clear()
    placed = ceremony.import_signatures(
        folder=vendor.repository, path=file, passwords=password, verify=lambda _, version: tried.append((version, True))
    )
    assert (placed > 0, tried) == (True, [("1.1", True)])
    check(vendor)


def on_two_machines(root: Root, known: Mapping[str, KeyFile]) -> None:
    """Two keys of other machines in place of the one here, in one root."""
    ceremony.adding("targets", "targets-a")(root, known)
    ceremony.rotating("targets", "targets", "targets-b")(root, known)
    ceremony.with_threshold("targets", 2)(root, known)


def test_a_root_that_ends_is_signed_anew_with_offline_keys(
    vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("root", "root.pub"):
        shutil.copy(vendor.repository / "keys" / name, tmp_path / name)
    (vendor.repository / "keys" / "root").unlink()
    later = datetime.now(UTC).replace(microsecond=0) + 720 * DAY
    monkeypatch.setattr(clock, "now", lambda: later)
    vendor.refresh()
    (late,) = expiry.soon(expiry.public_ends(vendor.repository), within_days=21, roles=expiry.WARNED)
    assert (late.role, late.version) == ("root", 1)
    with pytest.raises(AwaitsSignatures, match="root 2 has 0 of 1 signatures"):
        ceremony.renew(vendor.repository, "root", passwords=password)
    collect(vendor, tmp_path / "ask.json", tmp_path / "root")
    assert expiry.soon(expiry.public_ends(vendor.repository), within_days=13) == []
    check(vendor)


def test_a_file_that_was_changed_on_the_way_is_refused_and_changes_nothing(vendor: Vendor, tmp_path: Path) -> None:
    (key,) = elsewhere(tmp_path, "root-b")
    ceremony.adopt(folder=vendor.repository, public=key)
    shutil.move(vendor.repository / "keys" / "root", tmp_path / "root")
    shutil.copy(vendor.repository / "keys" / "root.pub", tmp_path / "root.pub")
    with pytest.raises(AwaitsSignatures):
        change(vendor, ceremony.adding("root", "root-b"))
    file = tmp_path / "ask.json"
    ceremony.export(folder=vendor.repository, target=file)
    sign_with(file, tmp_path / "root")
    before = (contents(vendor.public), contents(vendor.repository))
    right = json.loads(file.read_text())
    (keyid,) = right["requests"][0]["signatures"]

    def spoilt(**values: object) -> dict[str, object]:
        return {**right, "requests": [{**right["requests"][0], **values}]}

    for value, words in (
        ({**right, "app": "other"}, "it is for 'other'"),
        ({**right, "format": 2}, "its format is 2"),
        ([], "it is no file of"),
        (spoilt(signed="e30="), "it is no file of"),
        (spoilt(role="targets"), "is not the role of the bytes"),
        (spoilt(signatures={keyid: "00" * 64}), "the signature of"),
    ):
        file.write_text(json.dumps(value))
        with pytest.raises(BadRequest, match=words):
            ceremony.import_signatures(folder=vendor.repository, path=file, passwords=password)
        assert (contents(vendor.public), contents(vendor.repository)) == before
    with pytest.raises(AwaitsSignatures):
        # Another change under the same version: the signature of the first is void.
        change(vendor, ceremony.removing("root", "root"))
    file.write_text(json.dumps(right))
    with pytest.raises(BadRequest, match="is not what waits here"):
        ceremony.import_signatures(folder=vendor.repository, path=file, passwords=password)
    assert contents(vendor.public) == before[0]
    assert ceremony.discard(vendor.repository) > 0
    assert vendor.refresh() == 1


def test_a_machine_that_signs_needs_no_workshop_and_asks(vendor: Vendor, tmp_path: Path) -> None:
    import os
    import subprocess

    from tests.helpers.places import ROOT

    for name in ("root", "root.pub"):
        shutil.copy(vendor.repository / "keys" / name, tmp_path / name)
    (vendor.repository / "keys" / "root").unlink()
    with pytest.raises(AwaitsSignatures):
        change(vendor, ceremony.rotating("timestamp", "timestamp", "timestamp-b"), "timestamp-b")
    file = tmp_path / "ask.json"
    ceremony.export(folder=vendor.repository, target=file)

    def add(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
        command = ["-m", "updater", "publish", "sign", "add", file.name, "--key", "root", *words]
        return forks.run(command, env=environment, cwd=tmp_path)

    values = json.loads(file.read_text())
    values["requests"][0]["changes"] = ["nothing of importance"]
    file.write_text(json.dumps(values))
    # The words are made of the bytes that are signed.
    right = {"TILLKEEPER_KEY_PASSWORD_ROOT": PASSWORD, "TILLKEEPER_KEY_PASSWORD": "of the others"}
    told = add(**right)
    assert (told.returncode, "timestamp: key" in told.stdout, "Pass --yes" in told.stderr) == (4, True, True)
    assert add("--yes", TILLKEEPER_KEY_PASSWORD="wrong").returncode == 4
    folder = tmp_path / "passwords"
    folder.mkdir()
    (folder / "root").write_text(f"{PASSWORD}\n")
    told = add("--yes", "--password-file", str(folder))
    assert (told.returncode, told.stdout.splitlines()[-1]) == (0, "signed: root 2"), told.stderr
    assert PASSWORD not in told.stdout + file.read_text()
    assert ceremony.import_signatures(folder=vendor.repository, path=file, passwords=password) > 0
    check(vendor)


def test_the_daily_job_needs_the_timestamp_key_alone_and_keeps_fields_of_others(
    vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = copy_of(vendor, tmp_path / "job")
    shutil.rmtree(job.public)
    config = repository.load(job.repository)
    repository.save(job.repository, config._replace(public=vendor.public))
    for role in ("root", "targets", "snapshot"):
        (job.repository / "keys" / role).unlink()
    metadata = vendor.public / "metadata" / "timestamp.json"
    changed = Metadata.from_file(str(metadata))
    changed.signed.version += 1
    changed.signed.unrecognized_fields["x-tillkeeper-brake"] = {"since": "2026-11-30T00:00:00Z"}
    changed.sign(stolen(vendor, "timestamp"))
    metadata.write_bytes(changed.to_bytes())
    before = changed.signed.version
    unchanged = {name for name in contents(vendor.public) if not name.endswith("timestamp.json")}
    assert job.refresh() == 1
    assert timestamp(vendor).signed.version == before + 1
    assert timestamp(vendor).signed.unrecognized_fields["x-tillkeeper-brake"] == {"since": "2026-11-30T00:00:00Z"}
    assert {name for name in contents(vendor.public) if not name.endswith("timestamp.json")} == unchanged
    # The workshop that did not refresh is no old one: its state is the public one but for the timestamp.
    vendor.release("1.1")
    assert timestamp(vendor).signed.version == before + 2
    assert "x-tillkeeper-brake" in timestamp(vendor).signed.unrecognized_fields
    check(vendor)
    # Half of the lifetime is over: without their keys, targets and snapshot stay as they are, and it is said so.
    later = datetime.now(UTC).replace(microsecond=0) + 80 * DAY
    monkeypatch.setattr(clock, "now", lambda: later)
    shutil.rmtree(job.repository / "workshop")
    shutil.copytree(vendor.repository / "workshop", job.repository / "workshop")
    assert job.refresh() == 1
    told = publish(job, "expiry", "--within", "100")
    assert (told.returncode, "targets ends on" in told.stderr) == (5, True), told.stderr
    told = publish(job, "refresh", "--within", "100")
    assert (told.returncode, "snapshot ends on" in told.stderr) == (5, True), told.stderr
    assert vendor.refresh() > 2
    assert publish(vendor, "expiry", "--json").returncode == 0
    assert publish(vendor, "expiry", "--within", "60").returncode == 0


def test_a_field_of_the_timestamp_is_changed_where_its_command_runs_and_kept_everywhere_else() -> None:
    known = {"signed-at": "1", "brake": "on"}
    theirs = {"signed-at": "2", "brake": "on", "other": "x"}
    assert signing.merged(known=known, ours=known, theirs=theirs) == theirs
    assert signing.merged(known=known, ours={"signed-at": "1"}, theirs=theirs) == {"signed-at": "2", "other": "x"}
    assert signing.merged(known={}, ours={"brake": "new"}, theirs=theirs) == {**theirs, "brake": "new"}
    assert signing.merged(known=theirs, ours=theirs, theirs={}) == {}


def test_a_stolen_timestamp_key_is_replaced_though_the_thief_signed_the_highest_version(
    vendor: Vendor, url: str, tmp_path: Path
) -> None:
    asked = source(url, tmp_path / "trust", vendor.root)
    thief = stolen(vendor, "timestamp")
    now = datetime.now(UTC)
    sign_timestamp(vendor, thief, version=HIGHEST, signed_at=now, expires=now + 10 * DAY)
    assert repository_client.look(asked, now=now).answer is Answer.OK
    with pytest.raises(PublishError, match="the workshop is older than"):
        deploy.deploy(work=vendor.repository / "workshop", public=vendor.public)
    change(vendor, ceremony.rotating("timestamp", "timestamp", "timestamp-b"), "timestamp-b")
    assert timestamp(vendor).signed.version < HIGHEST
    check(vendor)
    looked = repository_client.look(asked, now=datetime.now(UTC))
    assert looked.answer is Answer.OK, looked.detail
    sign_timestamp(vendor, thief, version=HIGHEST, signed_at=now, expires=now + 10 * DAY)
    assert repository_client.look(asked, now=datetime.now(UTC)).answer is Answer.REFUSED


def test_a_rotation_that_is_cut_anywhere_is_finished_by_repeating_it(
    first_release: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, ended = 0, False
    while not ended:
        number += 1
        vendor = copy_of(first_release, tmp_path / f"vendor{number}")
        what = ceremony.rotating("targets", "targets", "targets-b")
        with monkeypatch.context() as patch:
            counted = cut_at(number, patch)
            with contextlib.suppress(PlugPulled):
                change(vendor, what, "targets-b")
        ended = counted() < number
        check(vendor)
        if number % 2:
            vendor.refresh()
            check(vendor)
        change(vendor, what, "targets-b")
        check(vendor)
        assert names(vendor, "targets") == ["targets-b"]
        assert sorted(path.name for path in (vendor.public / "metadata").glob("*.root.json")) == [
            "1.root.json",
            "2.root.json",
        ]
        assert not list((vendor.repository / "workshop" / "pending").iterdir())
        assert not [name for name in contents(vendor.public) if ".part-" in name or ".new-" in name]
    assert number > 12
    print(f"cut at {number - 1} places")


def test_a_key_is_made_whole_or_again_and_never_over_that_of_another_machine(tmp_path: Path) -> None:
    keys.make(tmp_path / "one", password)
    private = (tmp_path / "one").read_bytes()
    public = (tmp_path / "one.pub").read_text()
    (tmp_path / "one.pub").unlink()
    with pytest.raises(BadPassword):
        keys.make(tmp_path / "one", lambda _: "wrong")
    keys.make(tmp_path / "one", password)
    assert (tmp_path / "one").read_bytes() == private
    assert json.loads((tmp_path / "one.pub").read_text()) == json.loads(public)
    (tmp_path / "one").unlink()
    with pytest.raises(PublishError, match="is on another machine"):
        keys.make(tmp_path / "one", password)
    for name in ("a/b", "..", "", "a b", "x.pub"):
        with pytest.raises(PublishError, match="is no name"):
            keys.check_name(name)


def test_init_without_the_roots_key_makes_nothing_public_until_it_has_signed(tmp_path: Path) -> None:
    vendor = Vendor(tmp_path / "vendor")
    key_a, key_b = elsewhere(tmp_path / "offline", "root-a", "root-b")

    def init() -> None:
        repository.init(
            folder=vendor.repository, app="sample-till", public=vendor.public, keys=None, passwords=password,
            expiration_days={}, role_public={"root": [key_a, key_b]}, thresholds={"root": 2},
        )  # fmt: skip

    for _ in range(2):
        with pytest.raises(AwaitsSignatures, match="root 1 has 0 of 2 signatures"):
            init()
    assert not vendor.public.exists()
    collect(vendor, tmp_path / "ask.json", key_b, key_a)
    check(vendor)
    init()
    assert names(vendor, "root") == ["root-a", "root-b"]
    assert not (vendor.repository / "keys" / "root").exists()
    vendor.release("1.0")
    check(vendor)


def test_an_import_that_is_cut_anywhere_is_finished_by_repeating_it(
    first_release: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = copy_of(first_release, tmp_path / "asking")
    for name in ("root", "root.pub"):
        shutil.copy(asking.repository / "keys" / name, tmp_path / name)
    (asking.repository / "keys" / "root").unlink()
    with pytest.raises(AwaitsSignatures):
        change(asking, ceremony.rotating("snapshot", "snapshot", "snapshot-b"), "snapshot-b")
    file = tmp_path / "ask.json"
    ceremony.export(folder=asking.repository, target=file)
    sign_with(file, tmp_path / "root")
    number, ended = 0, False
    while not ended:
        number += 1
        vendor = copy_of(asking, tmp_path / f"vendor{number}")
        with monkeypatch.context() as patch:
            counted = cut_at(number, patch)
            with contextlib.suppress(PlugPulled):
                ceremony.import_signatures(folder=vendor.repository, path=file, passwords=password)
        ended = counted() < number
        check(vendor)
        if number % 2:
            vendor.refresh()
            check(vendor)
        ceremony.import_signatures(folder=vendor.repository, path=file, passwords=password)
        check(vendor)
        assert names(vendor, "snapshot") == ["snapshot-b"]
        assert (vendor.public / "metadata" / "2.root.json").exists()
    assert number > 8


def test_a_repeated_init_changes_no_key_and_says_so(tmp_path: Path) -> None:
    one, two = elsewhere(tmp_path, "root-a", "root-b")
    vendor = Vendor(tmp_path / "vendor")
    words = ["init", "--app", "sample-till", "--public", str(vendor.public)]
    keys_of = [["--key", f"root={key}.pub"] for key in (one, two)]
    assert publish(vendor, *words, *keys_of[0]).returncode == 75
    for more in ([*keys_of[0], *keys_of[1]], [*keys_of[0], "--threshold", "root=2"]):
        done = publish(vendor, *words, *more)
        assert (done.returncode, "the root is made already: root" in done.stderr) == (4, True), done.stderr
        assert "sign discard" in done.stderr
    assert publish(vendor, *words, *keys_of[0]).returncode == 75, "a repeat of the same goes on"
    assert publish(vendor, "sign", "discard").returncode == 0
    for command in (["keys", "list"], ["refresh"], ["pause"], ["status"], ["keys", "threshold", "root", "1"]):
        done = publish(vendor, *command)
        assert (done.returncode, "it has no root yet" in done.stderr) == (4, True), (command, done.stderr)
    done = publish(vendor, *words, *keys_of[0], *keys_of[1], "--threshold", "root=2")
    assert (done.returncode, "root 1 has 0 of 2 signatures" in done.stderr) == (75, True), done.stderr


def test_a_root_that_lacks_signatures_of_the_one_before_says_of_which(vendor: Vendor, tmp_path: Path) -> None:
    change(vendor, ceremony.adding("root", "root-b"), "root-b")
    change(vendor, ceremony.with_threshold("root", 2))
    own = vendor.repository / "keys"
    shutil.move(own / "root-b", tmp_path / "root-b")
    with pytest.raises(AwaitsSignatures, match="root 4 has 1 of 2 root 3's signatures; the change waits"):
        change(vendor, ceremony.rotating("root", "root-b", "root-c"), "root-c")


def test_a_rotation_to_a_key_that_the_role_has_is_refused(vendor: Vendor) -> None:
    change(vendor, ceremony.adding("root", "root-b"), "root-b")
    before = contents(vendor.public)
    with pytest.raises(PublishError, match="root would have one key fewer"):
        change(vendor, ceremony.rotating("root", "root", "root-b"))
    assert contents(vendor.public) == before
    assert names(vendor, "root") == ["root", "root-b"]


def test_the_variable_of_a_password_is_the_keys_own(vendor: Vendor, tmp_path: Path) -> None:
    change(vendor, ceremony.rotating("targets", "targets", "targets-2"), "targets-2")

    def wrong(name: str) -> str:
        return "no" if "2" in name else PASSWORD

    with pytest.raises(BadPassword) as caught:
        repository.change(vendor.repository, lambda *_: None, roles=("targets",), passwords=wrong)
    assert "TILLKEEPER_KEY_PASSWORD_TARGETS_2 or" in caught.value.in_words
    with pytest.raises(BadPassword) as caught:
        keys.make(tmp_path / "root-e", lambda _: None)
    assert "TILLKEEPER_KEY_PASSWORD_ROOT_E or" in caught.value.in_words


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads and writes everything")
def test_a_key_that_cannot_be_read_or_made_has_no_wrong_password(tmp_path: Path) -> None:
    keys.make(tmp_path / "a", password)
    (tmp_path / "a").chmod(0)
    with pytest.raises(DiskProblem, match="Permission denied"):
        keys.opened(keys.read_public(tmp_path / "a"), password, keyid="x")
    tmp_path.chmod(0o500)
    with pytest.raises(DiskProblem, match="Permission denied"):
        keys.make(tmp_path / "b", password)


def test_a_role_that_ends_soon_is_signed_by_whoever_has_its_key_and_others_are_named(
    vendor: Vendor, tmp_path: Path
) -> None:
    config = repository.load(vendor.repository)
    repository.save(vendor.repository, config._replace(expiration_days={**config.expiration_days, "targets": 5}))
    repository.change(
        vendor.repository, lambda workshop, _: workshop.renew("targets"), roles=("targets",), passwords=password
    )
    assert publish(vendor, "refresh").returncode == 0, "its key is here: no person is needed"
    assert publish(vendor, "expiry").returncode == 5
    shutil.move(vendor.repository / "keys" / "targets", tmp_path / "targets")
    done = publish(vendor, "refresh")
    assert (done.returncode, "targets ends on" in done.stderr) == (5, True), done.stderr
    done = publish(vendor, "refresh", "--within", "729")
    assert "root ends on" not in done.stderr, "signed for 730 days, so it was signed now"


def test_status_tells_what_waits_and_what_is_not_public(vendor: Vendor, tmp_path: Path) -> None:
    change(vendor, ceremony.adding("targets", "targets-b"), "targets-b")
    change(vendor, ceremony.with_threshold("targets", 2))
    shutil.move(vendor.repository / "keys" / "targets-b", tmp_path / "targets-b")
    assert publish(vendor, "pause", "--reason", "night").returncode == 75
    said = publish(vendor, "status").stdout
    assert "PAUSED" not in said
    assert "WAITS      for signatures: targets" in said
    repository_public = vendor.public.rename(tmp_path / "gone")
    vendor.public.write_text("no folder")
    assert publish(vendor, "brake", "on").returncode != 0
    vendor.public.unlink()
    repository_public.rename(vendor.public)
    said = publish(vendor, "status").stdout
    assert ("NOT PUBLIC" in said) is ("BRAKE" in said), said
    assert publish(vendor, "refresh").returncode == 0
    assert "NOT PUBLIC" not in publish(vendor, "status").stdout


def test_a_key_that_is_made_again_must_be_opened_by_the_password(tmp_path: Path) -> None:
    keys.make(tmp_path / "a", password)
    before = contents(tmp_path)
    keys.make(tmp_path / "a", password)
    keys.make(tmp_path / "a", lambda _: None)
    with pytest.raises(BadPassword, match="its password is wrong"):
        keys.make(tmp_path / "a", lambda _: "another")
    assert contents(tmp_path) == before
