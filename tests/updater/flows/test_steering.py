"""Withdraw, pause, channels and the brake: published for real, served, and followed by a real terminal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from tests.helpers.shop import files
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor, copy_of, password, served
from tests.sample_till.bundles import APP
from tests.updater.publish.test_refusals import publish
from updater.decisions.rollout import BRAKE, SIZE_LIMIT_BYTES, Brake
from updater.host import this_host
from updater.model import ReleaseId
from updater.publish import repository, rollout, steering
from updater.publish.cli.release import command as release_command
from updater.publish.errors import PublishError
from updater.publish.serve import make_server

DOCUMENT = f"{APP}.rollout.json"


def steer(vendor: Vendor, *words: str) -> str:
    """`updater publish …`, which succeeds."""
    done = publish(vendor, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def folders(till: Till) -> list[str]:
    """The versions that are on the disk."""
    return sorted(name.split("-")[0] for name in till.status()["installed"])


def restated(vendor: Vendor, text: bytes | None) -> None:
    """Signs something else as the document, or nothing."""

    def put(workshop: Any, _: Any) -> None:
        path = workshop.targets_dir / DOCUMENT
        workshop.roles.targets.signed.targets.pop(DOCUMENT, None)
        if text is not None:
            path.write_bytes(text)
            workshop.roles.add_or_update_target(local_path=path)

    repository.change(vendor.repository, put, roles=("targets", "snapshot", "timestamp"), passwords=password)


def document(vendor: Vendor) -> dict[str, Any]:
    """The signed document."""
    found: dict[str, Any] = json.loads((vendor.repository / "workshop" / "targets" / DOCUMENT).read_bytes())
    return found


# ------------------------------------------------------------------------------------------------------------- pausing


def test_a_pause_before_the_download_downloads_nothing_and_resuming_takes_it(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    assert "PAUSED     Black Friday" in steer(vendor, "pause", "--reason", "Black Friday")
    sent: list[str] = []
    with served(make_server(vendor.public, told=sent.append)) as address:
        text = till.settings_path.read_text()
        till.settings_path.write_text(text.replace(till.settings.url, address))
        done = till.run("check")
        assert (done.returncode, done.stdout) == (
            0, "PAUSED_BY_VENDOR: the vendor paused updates: Black Friday\n",
        ), done.stderr  # fmt: skip
        assert not [line for line in sent if ".manifest" in line or ".tar.gz" in line]
        assert "vendor    PAUSED_BY_VENDOR: the vendor paused updates: Black Friday" in till.run("status").stdout
        assert folders(till) == ["1.0"]
        steer(vendor, "resume")
        assert till.check().outcome == "SWAPPED"
    assert till.status()["unusable"] == []
    assert "till 1.1 is open" in till.launch(sell=1).stdout


def test_a_pause_takes_back_a_swap_that_has_not_begun_and_keeps_its_files(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    assert till.check().outcome == "SWAPPED"
    before = folders(till)
    steering.pause(vendor.repository, reason="", passwords=password)
    cycle = till.check()
    assert (cycle.outcome, cycle.done) == ("PAUSED_BY_VENDOR", ("the vendor paused updates",))
    assert (till.status()["phase"], folders(till)) == ("STAGED", before)
    assert "till 1.0 is open" in till.launch(sell=1).stdout
    assert till.check().outcome == "PAUSED_BY_VENDOR"
    steering.resume(vendor.repository, passwords=password)
    sent: list[str] = []
    with served(make_server(vendor.public, told=sent.append)) as address:
        text = till.settings_path.read_text()
        till.settings_path.write_text(text.replace(till.settings.url, address))
        assert till.check().outcome == "SWAPPED"
    assert not [line for line in sent if ".tar.gz" in line], "it was on the disk"
    assert "till 1.1 is open" in till.launch(sell=1).stdout
    assert till.lost_receipts() == []


def test_a_pause_holds_while_the_server_does_not_answer(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    till.check()
    steering.pause(vendor.repository, reason="", passwords=password)
    assert till.check().outcome == "PAUSED_BY_VENDOR"
    text = till.settings_path.read_text()
    till.settings_path.write_text(text.replace(till.settings.url, "http://127.0.0.1:9"))
    cycle = till.check()
    assert cycle.outcome == "OFFLINE"
    assert cycle.reason.endswith("the vendor paused updates")
    assert till.status()["phase"] == "STAGED"


def test_a_pause_leaves_a_trial_that_has_begun(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4, behaviour="exit0")
    till.check()
    till.launch(sell=1)
    steering.pause(vendor.repository, reason="", passwords=password)
    assert till.check().outcome == "ON_TRIAL"
    assert till.status()["phase"] == "SWAPPED"


def test_a_terminal_is_not_installed_during_a_pause(vendor: Vendor, till: Till) -> None:
    steering.pause(vendor.repository, reason="", passwords=password)
    with pytest.raises(Exception, match="the vendor paused updates"):
        Till(till.folder.parent / "new").install(vendor.root, till.settings.url)


# --------------------------------------------------------------------------------------------------------- withdrawing


def test_a_withdrawn_release_is_never_installed_and_the_one_below_it_is(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    vendor.release("1.2", schema=4)
    text = steer(vendor, "withdraw", "1.2", "--reason", "prints twice")
    for line in ("withdrawn  1.2: prints twice", "stable     1.1", "signed     1.0, 1.1"):
        assert line in text.splitlines()
    assert till.check().outcome == "SWAPPED"
    assert "till 1.1 is open" in till.launch(sell=1).stdout
    assert folders(till) == ["1.0", "1.1"]


@pytest.mark.parametrize("by", ["document", "brake"])
def test_what_is_swapped_and_unbegun_is_taken_back(vendor: Vendor, till: Till, by: str) -> None:
    vendor.release("1.1", schema=4)
    assert till.check().outcome == "SWAPPED"
    if by == "document":
        steering.withdraw(vendor.repository, "1.1", reason="prints twice", passwords=password)
    else:
        steering.brake(vendor.repository, on=True, recalled=("1.1",), passwords=password)
    cycle = till.check()
    reason = "the vendor withdrew 1.1" + (": prints twice" if by == "document" else "")
    assert (cycle.outcome, cycle.done) == ("NOTHING_NEW", (reason,))
    assert till.report("UNSTAGED")["cause"] == reason
    assert (till.status()["phase"], folders(till)) == ("IDLE", ["1.0"])
    assert "till 1.0 is open" in till.launch(sell=1).stdout


@pytest.mark.parametrize("by", ["document", pytest.param("brake", marks=pytest.mark.long)])
def test_a_recall_ends_a_trial_that_is_not_confirmed(vendor: Vendor, till: Till, by: str) -> None:
    vendor.release("1.1", schema=4, behaviour="exit0")
    till.check()
    till.launch(sell=1)
    assert till.status()["database"]["schema"] == 4
    if by == "document":
        steering.withdraw(vendor.repository, "1.1", reason="", passwords=password)
    else:
        steering.brake(vendor.repository, on=True, recalled=("1.1",), passwords=password)
    assert till.check().outcome == "ON_TRIAL"
    assert "till 1.0 is open" in till.launch(sell=1).stdout
    assert till.status()["database"]["schema"] == 2
    assert till.check().outcome == "NOTHING_NEW"
    assert (till.status()["phase"], till.status()["rejected"], till.lost_receipts()) == ("IDLE", [], [])


def confirmed(vendor: Vendor, till: Till) -> None:
    """1.1 runs and is confirmed."""
    vendor.release("1.1", schema=4)
    till.check()
    till.launch(sell=1)
    till.check()
    assert till.status()["good"]["version"] == "1.1"


@pytest.mark.parametrize("by", ["brake", pytest.param("document", marks=pytest.mark.long)])
def test_a_withdrawn_release_that_runs_here_is_an_alarm_and_a_higher_one_is_taken(
    vendor: Vendor, till: Till, by: str
) -> None:
    confirmed(vendor, till)
    if by == "document":
        steering.withdraw(vendor.repository, "1.1", reason="prints twice", passwords=password)
    else:
        steering.brake(vendor.repository, on=True, recalled=("1.1",), passwords=password)
    done = till.run("check")
    words = "1.1, which runs here, was withdrawn by the vendor" + (": prints twice" if by == "document" else "")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (5, f"WITHDRAWN: {words}")
    till.check()
    told = [line for line in till.outcomes() if line == "WITHDRAWN"]
    assert (told, till.report("WITHDRAWN")["cause"]) == (["WITHDRAWN"], words)
    assert f"vendor    WITHDRAWN: {words}" in till.run("status").stdout
    assert "withdrew" in till.status()["next"]
    assert "till 1.1 is open" in till.launch(sell=1).stdout, "a recall forces nothing: a person decides"
    vendor.release("1.2", schema=4)
    assert till.check().outcome == "SWAPPED"
    assert "till 1.2 is open" in till.launch(sell=1).stdout
    till.check()
    found = till.status()
    assert (found["unusable"], found["last_alarm"]["outcome"]) == ([], "WITHDRAWN")
    assert "withdrew" not in found["next"], "it was left"


def test_nobody_goes_back_to_a_withdrawn_release(vendor: Vendor, till: Till) -> None:
    confirmed(vendor, till)
    vendor.release("1.2", schema=4)
    till.check()
    till.launch(sell=1)
    till.check()
    assert till.status()["can_go_back_to"] == ["1.1"]
    steering.brake(vendor.repository, on=True, recalled=("1.1",), passwords=password)
    till.check()
    assert till.status()["can_go_back_to"] == []


def test_a_withdrawn_number_is_used_up_and_its_migrations_stay_released(vendor: Vendor) -> None:
    vendor.release("1.1", schema=4)
    steering.withdraw(vendor.repository, "1.1", reason="", passwords=password)
    with pytest.raises(PublishError, match=r"1.1 is not newer than 1.1, which is withdrawn, and may run on terminals"):
        vendor.publish(vendor.bundle("1.1-again", schema=4), "1.1")
    bundle = vendor.bundle("1.2", schema=4)
    with (bundle / "migrations" / "0004_add_categories_unique_constraint.py").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(PublishError, match=r"0004_add_categories_unique_constraint, released with 1.1, was changed"):
        vendor.publish(bundle, "1.2")
    with pytest.raises(PublishError, match=r"1.1 is withdrawn already"):
        steering.withdraw(vendor.repository, "1.1", reason="", passwords=password)


# ------------------------------------------------------------------------------------------------------------ channels


def ask_for(till: Till, channel: str) -> None:
    """Puts a channel into the settings."""
    text = till.settings_path.read_text()
    till.settings_path.write_text(f'channel = "{channel}"\n{text}')


def test_a_beta_goes_to_those_who_ask_and_to_all_when_it_is_promoted(vendor: Vendor, till: Till) -> None:
    bundle = vendor.bundle("1.1", schema=4)
    steer(vendor, "release", str(bundle), "--version", "1.1", "--channel", "beta")
    assert till.check().outcome == "NOTHING_NEW"
    early = till.copy_to(till.folder.parent / "early", till.settings.url)
    ask_for(early, "beta")
    assert early.check().outcome == "SWAPPED"
    assert "stable     1.1" in steer(vendor, "promote", "1.1")
    assert till.check().outcome == "SWAPPED"
    assert list(document(vendor)["channels"]) == ["stable"], "beta follows stable again"


def test_a_pre_release_never_goes_to_stable(vendor: Vendor, till: Till) -> None:
    bundle = vendor.bundle("1.1rc1", schema=4)
    for words in (("release", str(bundle), "--version", "1.1rc1"), ("promote", "1.1rc1")):
        done = publish(vendor, *words)
        assert (done.returncode, "is a pre-release, which the channel stable never gets" in done.stderr) == (4, True)
        if words[0] == "release":
            steer(vendor, *words, "--channel", "beta")
    assert till.check().outcome == "NOTHING_NEW"
    data = document(vendor)
    data["channels"]["stable"] = data["channels"]["beta"]
    restated(vendor, json.dumps({**data, "sequence": 99}).encode())
    assert till.check().outcome == "NOTHING_NEW", "whoever signs that it should"
    restated(vendor, None)
    (till.settings.trust / "seen.json").write_text(
        json.dumps({**json.loads((till.settings.trust / "seen.json").read_text()), "sequences": {}})
    )
    assert till.check().outcome == "NOTHING_NEW", "nor where nobody says anything"
    ask_for(till, "beta")
    assert till.check().outcome == "SWAPPED"
    assert "till 1.1rc1 is open" in till.launch(sell=1).stdout


def test_what_is_staged_and_no_more_of_this_channel_is_dropped(vendor: Vendor, till: Till) -> None:
    vendor.publish(vendor.bundle("1.1rc1", schema=4), "1.1rc1", channel="beta")
    text = till.settings_path.read_text()
    ask_for(till, "beta")
    assert till.check().outcome == "SWAPPED"
    till.settings_path.write_text(text)
    cycle = till.check()
    assert (cycle.outcome, cycle.done) == ("NOTHING_NEW", ("1.1rc1 is not what the vendor means for this terminal",))
    assert "till 1.0 is open" in till.launch(sell=1).stdout


def test_a_version_far_from_the_last_one_asks(vendor: Vendor) -> None:
    before = files(vendor.public)
    for version in ("20.0", "1.20", "3.0"):
        done = publish(vendor, "release", str(vendor.bundle(version)), "--version", version)
        assert (done.returncode, f"{version} is far from 1.0, the last one" in done.stderr) == (4, True)
    assert files(vendor.public) == before
    steer(vendor, "release", str(vendor.bundles / "20.0"), "--version", "20.0", "--version-jump")
    assert document(vendor)["sequence"] == 2


def test_a_person_at_a_console_is_asked_about_it(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(this_host()), "can_ask", lambda _: True)
    monkeypatch.setenv("TILLKEEPER_KEY_PASSWORD", password("any") or "")
    before = files(vendor.public)
    words = ["--repository", str(vendor.repository), str(vendor.bundle("20.0")), "--version", "20.0"]
    for answer, published in (("n\n", False), ("\n", False), ("y\n", True)):
        done = CliRunner().invoke(release_command, [*words, "--unverified", "--no-pack"], input=answer)
        assert (done.exit_code, "20.0 is far from 1.0, the last one. Is it meant so?" in done.output) == (
            0 if published else 4,
            True,
        ), done.output
        assert (files(vendor.public) != before) is published


def test_a_channel_goes_up_only(vendor: Vendor) -> None:
    vendor.release("1.1", schema=4)
    with pytest.raises(PublishError, match=r"stable leads to 1.1 already, and goes up only"):
        steering.promote(vendor.repository, "1.0", channel="stable", passwords=password)
    with pytest.raises(PublishError, match=r"7.0 is not among the signed releases"):
        steering.promote(vendor.repository, "7.0", channel="beta", passwords=password)


# ------------------------------------------------------------------------------------------------------------ the brake


def test_the_brake_needs_the_timestamp_key_alone_and_lasts_until_it_is_lifted(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    elsewhere = copy_of(vendor, vendor.folder.parent / "elsewhere")
    config = elsewhere.repository / "publish.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "public": str(vendor.public)}))
    for role in ("root", "targets", "snapshot"):
        (elsewhere.repository / "keys" / role).unlink()
    assert "BRAKE      paused: sample-till" in steer(elsewhere, "brake", "on")
    assert till.check().outcome == "PAUSED_BY_VENDOR"
    vendor.refresh()
    assert till.check().outcome == "PAUSED_BY_VENDOR", "a refresh on the vendor's own machine keeps it"
    vendor.release("1.2", schema=4)
    assert till.check().outcome == "PAUSED_BY_VENDOR", "and so does a release"
    assert "BRAKE      paused: sample-till" in steer(vendor, "status")
    steer(vendor, "resume")
    assert till.check().outcome == "PAUSED_BY_VENDOR", "resuming is not lifting"
    steer(vendor, "brake", "off")
    assert till.check().outcome == "SWAPPED"
    assert "BRAKE" not in steer(vendor, "status")
    assert json.loads(steer(vendor, "status", "--json"))["brake"] == {"paused": [], "recalled": []}


def test_the_cheap_look_keeps_a_pause_and_notices_its_end(vendor: Vendor, till: Till) -> None:
    from tests.updater.repository.test_unchanged import request
    from updater.repository import unchanged

    vendor.release("1.1", schema=4)
    steering.brake(vendor.repository, on=True, recalled=(), passwords=password)
    assert till.check().outcome == "PAUSED_BY_VENDOR"
    answer = unchanged.answer(request(till))
    assert answer is not None
    assert answer["steering"]["brake"] == {"paused": [APP], "recalled": []}
    assert till.check().outcome == "PAUSED_BY_VENDOR", "by that answer"
    steering.brake(vendor.repository, on=False, recalled=(), passwords=password)
    assert unchanged.answer(request(till)) is None
    path = till.settings.trust / "listing.json"
    path.write_text(
        json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != "steering"})
    )
    assert till.check().outcome == "SWAPPED", "a listing of an earlier agent stands for nothing"


def test_a_brake_that_is_forged_without_the_key_is_refused(vendor: Vendor, till: Till) -> None:
    path = vendor.public / "metadata" / "timestamp.json"
    forged = json.loads(path.read_text())
    forged["signed"][BRAKE] = {"paused": [APP], "recalled": []}
    path.write_text(json.dumps(forged))
    assert till.check().outcome == "REFUSED"
    assert (till.status()["phase"], till.status()["unusable"]) == ("IDLE", [])
    # The vendor's next signature takes its place: what the key has not signed counts for nothing there either.
    vendor.refresh()
    assert till.check().outcome != "REFUSED"
    assert BRAKE not in json.loads(path.read_text())["signed"]


def test_the_brake_is_pulled_from_an_old_copy_of_the_workshop_and_a_publish_carries_it_over(
    vendor: Vendor, till: Till
) -> None:
    elsewhere = copy_of(vendor, vendor.folder.parent / "elsewhere")
    config = elsewhere.repository / "publish.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "public": str(vendor.public)}))
    vendor.release("1.1", schema=4)
    with pytest.raises(PublishError, match="the workshop is older than"):
        steering.pause(elsewhere.repository, reason="", passwords=password)
    steering.brake(elsewhere.repository, on=True, recalled=("1.1",), passwords=password)
    assert till.check().outcome == "NOTHING_NEW"
    done = repository.release(
        folder=vendor.repository, bundle=vendor.bundle("1.2", schema=4), version="1.2", config_file=None,
        passwords=password, verify=lambda copy, version: None,
    )  # fmt: skip
    assert done.version == "1.2"
    assert len(steering.status(vendor.repository).brake.recalled) == 1, (
        "signed in a copy, and carried over all the same"
    )
    assert till.check().outcome == "SWAPPED"
    assert till.status()["candidate"]["version"] == "1.2"


@pytest.mark.parametrize("recalled", [("1.1",), ()])
def test_a_brake_recalls_as_many_as_a_timestamp_holds(vendor: Vendor, recalled: tuple[str, ...]) -> None:
    vendor.release("1.1", schema=4)
    full = Brake((), tuple(ReleaseId(f"{number:064x}") for number in range(64)))

    def put(workshop: Any, _: Any) -> None:
        rollout.put_brake(workshop, full)

    repository.change(vendor.repository, put, roles=("timestamp",), passwords=password)
    assert (vendor.public / "metadata" / "timestamp.json").stat().st_size < 16_384
    if recalled:
        with pytest.raises(PublishError, match="it would recall 65 releases, at most 64"):
            steering.brake(vendor.repository, on=True, recalled=recalled, passwords=password)
    else:
        assert steering.brake(vendor.repository, on=True, recalled=(), passwords=password).paused == (APP,)


# ----------------------------------------------------------------------------------------- documents that are not right


def test_a_document_that_cannot_be_followed_leaves_the_terminal_as_it_is(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    right = (vendor.repository / "workshop" / "targets" / DOCUMENT).read_bytes()
    wrong = {
        "no JSON": b"<html>",
        "not signed": right.replace(document(vendor)["channels"]["stable"]["release"].encode(), b"e" * 64),
        "huge": right + b" " * SIZE_LIMIT_BYTES,
        "to be understood": right.replace(b'"paused"', b'"needs":["x"],"paused"'),
    }  # fmt: skip
    for kind, data in wrong.items():
        restated(vendor, data)
        cycle = till.check()
        assert (cycle.outcome, cycle.done) == ("STEERING_REFUSED", ()), kind
        assert folders(till) == ["1.0"], kind
    done = till.run("check")
    assert (done.returncode, done.stdout) == (
        4, "STEERING_REFUSED: the vendor's steering needs a newer Tillkeeper: x\n",
    )  # fmt: skip
    assert "vendor    STEERING_REFUSED: the vendor's steering needs" in till.run("status").stdout
    restated(vendor, None)
    assert till.check().outcome == "STEERING_REFUSED", "it had one once"
    assert "is missing" in till.report("STEERING_REFUSED")["cause"]
    restated(vendor, right)
    assert till.check().outcome == "SWAPPED"


def test_a_sequence_never_goes_back_and_replaced_keys_begin_it_anew(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    early = (vendor.repository / "workshop" / "targets" / DOCUMENT).read_bytes()
    steering.pause(vendor.repository, reason="", passwords=password)
    assert till.check().outcome == "PAUSED_BY_VENDOR"
    assert json.loads((till.settings.trust / "seen.json").read_text())["sequences"] == {APP: 3}
    restated(vendor, early)
    cycle = till.check()
    assert cycle.outcome == "STEERING_REFUSED"
    assert "its sequence is 2, and this terminal has seen 3" in cycle.reason
    assert json.loads((till.settings.trust / "seen.json").read_text())["sequences"] == {APP: 3}


def test_a_stolen_key_that_signed_the_highest_sequence_is_forgotten_with_it() -> None:
    from updater.repository import trust

    seen = trust.Seen({"targets": 9, "snapshot": 9}, {}, "", {APP: 2**53 - 1})
    assert trust.forgotten(seen, frozenset({"targets"})).sequences == {APP: 0}, "that there was one is remembered"
    assert trust.forgotten(seen, frozenset({"timestamp"})).sequences == {APP: 2**53 - 1}


def test_a_repository_without_a_document_has_the_newest_for_all(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    restated(vendor, None)
    new = Till(till.folder.parent / "new")
    new.install(vendor.root, till.settings.url)
    assert new.status()["good"]["version"] == "1.1"
    assert "document none yet" in steer(vendor, "status")
    steering.pause(vendor.repository, reason="", passwords=password)
    assert (new.check().outcome, document(vendor)["sequence"]) == ("PAUSED_BY_VENDOR", 1)


@pytest.mark.parametrize("damage", ["gone", "other bytes"])
def test_a_document_that_does_not_come_through_fails_the_look(vendor: Vendor, till: Till, damage: str) -> None:
    vendor.release("1.1", schema=4)
    for path in vendor.public.glob(f"targets/*{DOCUMENT}"):
        data = path.read_bytes()
        path.unlink()
        if damage == "other bytes":
            path.write_bytes(data[::-1])
    cycle = till.check()
    assert cycle.outcome == ("SERVER_WRONG" if damage == "gone" else "REFUSED")
    assert folders(till) == ["1.0"]


def test_a_command_that_was_cut_before_it_signed_is_not_believed(vendor: Vendor) -> None:
    vendor.release("1.1", schema=4)
    path = vendor.repository / "workshop" / "targets" / DOCUMENT
    path.write_bytes(path.read_bytes().replace(b'"paused": false', b'"paused": true'))
    assert "PAUSED" not in steer(vendor, "status")
    steering.promote(vendor.repository, "1.1", channel="beta", passwords=password)
    assert (document(vendor)["sequence"], document(vendor)["paused"]) == (3, False)


def test_a_manifest_needs_no_newer_agent_than_what_it_uses(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("updater.__version__", "9.9")
    vendor.release("1.1", schema=4)
    assert json.loads(vendor.manifest("1.1"))["least_agent"] == "0.1.0"
