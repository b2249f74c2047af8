"""One bad release stops nothing: each kind is dropped with its own outcome, and the rest goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.places import quoted
from tests.helpers.shop import files
from tests.helpers.terminal import Till
from tests.helpers.vendor import ELSEWHERE, Vendor, served
from updater import summary
from updater.manifest import FileEntry, Manifest, parse, to_bytes
from updater.publish.serve import make_server


def changed(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A manifest with something else in its JSON."""
    document = json.loads(data)
    change(document)
    return json.dumps(document).encode()


def deep(document: dict[str, Any]) -> None:
    document["files"] = {}
    document["entry"] = {"path": ".."}


MALFORMED: dict[str, Callable[[bytes], bytes]] = {
    "no JSON": lambda data: b"<html>",
    "nested too deep": lambda data: b"[" * 200_000,
    "a list": lambda data: b"[]",
    "no fields": lambda data: b'{"format": 1}',
    "an agent that is no version": lambda data: changed(data, lambda it: it.update(least_agent="0.1.x")),
    "a version that is a path": lambda data: changed(data, lambda it: it.update(version="../../x")),
    "a path that leaves": lambda data: changed(data, deep),
    "half a character": lambda data: changed(data, lambda it: it["entry"].update(arguments=["\ud800"])),
    "a time that is none": lambda data: changed(data, lambda it: it["self_test"].update(timeout_seconds="NaN")),
    "another version": lambda data: changed(data, lambda it: it.update(version="7.0")),
    "another app": lambda data: changed(data, lambda it: it.update(app="other")),
    "a link out": lambda data: changed(data, lambda it: it["files"].update(a={"link": "."}, b={"link": "a/../x"})),
    "a path through a link": lambda data: changed(
        data, lambda it: it["files"].update({"lib": {"link": "migrations"}, "lib/x": it["files"]["till.py"]})
    ),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_signed_release_is_dropped_and_the_one_below_it_is_taken(
    vendor: Vendor, till: Till, kind: str
) -> None:
    vendor.release("1.1", schema=4)
    vendor.sign("1.2", MALFORMED[kind](vendor.manifest("1.1")), archive=vendor.archive("1.1"))
    before = files(till.folder.parent)
    cycle = till.check()
    assert (cycle.outcome, [line for line in cycle.done if line.startswith("1.1")] != []) == ("SWAPPED", True)
    assert till.report("RELEASE_MALFORMED")["cause"].startswith("1.2: ")
    made = {path for path in files(till.folder.parent) if path not in before}
    assert not [path for path in made if not path.startswith(till.folder.name)], "nothing was written elsewhere"


def test_a_malformed_release_is_named_until_a_newer_one_works(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    malformed = MALFORMED["an agent that is no version"](vendor.manifest("1.1"))
    vendor.sign("1.2", malformed, archive=vendor.archive("1.1"))
    till.check()
    assert "till 1.1 is open" in till.launch(sell=1).stdout
    assert till.check().outcome == "RELEASE_MALFORMED", "a newer one could not be used: never the newest release"
    done = till.run("check")
    assert (done.returncode, done.stdout.startswith("RELEASE_MALFORMED: 1.2: ")) == (4, True), done.stdout
    told = [event for event in map(json.loads, lines(till)) if event["outcome"] == "RELEASE_MALFORMED"]
    assert [event["code"] for event in told] == ["U-1034"], "told once, not at every look"
    assert "unusable  RELEASE_MALFORMED: 1.2: " in till.run("status").stdout
    vendor.release("1.3", schema=4)
    assert till.check().outcome == "SWAPPED"
    assert till.status()["unusable"] == [], "a newer release that works makes it history"


def lines(till: Till) -> list[str]:
    """The agent's events."""
    return (till.settings.private / "events-agent.jsonl").read_text().splitlines()


def older_agent(vendor: Vendor) -> None:
    with (vendor.bundle("1.2", schema=4) / "tillkeeper.toml").open("a") as file:
        file.write('least_agent = "99.0"\n')
    vendor.publish(vendor.bundles / "1.2", "1.2")


def newer_format(vendor: Vendor) -> None:
    data = changed(vendor.manifest("1.1"), lambda it: it.update(format=2, version="1.2"))
    vendor.sign("1.2", data, archive=vendor.archive("1.1"))


def newer_summary(vendor: Vendor) -> None:
    custom = {summary.KEY: {"format": 2}}
    vendor.sign(
        "1.2",
        to_bytes(parse(vendor.manifest("1.1"))._replace(version="1.2")),
        archive=vendor.archive("1.1"),
        custom=custom,
    )


def another_role(vendor: Vendor) -> None:
    path = vendor.bundle("1.2", schema=4) / "tillkeeper.toml"
    path.write_text(path.read_text().replace('"python"', '"node"'))
    vendor.publish(vendor.bundles / "1.2", "1.2")


@pytest.mark.parametrize(
    ("publish", "outcome", "words"),
    [
        (older_agent, "NEEDS_NEWER_AGENT", "1.2 needs Tillkeeper 99.0, this terminal has "),
        (newer_format, "NEEDS_NEWER_AGENT", "1.2: format 2 is not known to this agent"),
        (newer_summary, "NEEDS_NEWER_AGENT", "1.2: format 2 is not known to this agent"),
        (another_role, "INTERPRETER_UNKNOWN", "1.2 needs a program for the role 'node'"),
    ],
)
def test_a_release_that_this_terminal_cannot_use_has_its_own_outcome(
    vendor: Vendor, till: Till, publish: Callable[[Vendor], None], outcome: str, words: str
) -> None:
    vendor.release("1.1", schema=4)
    publish(vendor)
    assert till.check().outcome == "SWAPPED"
    assert till.report(outcome)["cause"].startswith(words)
    assert "till 1.1 is open" in till.launch(sell=1).stdout
    done = till.run("check")
    assert (done.returncode, done.stdout.splitlines()[-1].startswith(f"{outcome}: {words}")) == (4, True), done.stdout
    assert f"unusable  {outcome}: {words}" in till.run("status").stdout
    assert not list(till.settings.downloads.glob("*1.2*"))
    assert not [name for name in till.status()["installed"] if name.startswith("1.2")]


def test_a_role_that_is_added_takes_the_release(vendor: Vendor, till: Till) -> None:
    import sys

    another_role_first = vendor.bundle("1.2", schema=4) / "tillkeeper.toml"
    another_role_first.write_text(another_role_first.read_text().replace('"python"', '"node"'))
    vendor.publish(vendor.bundles / "1.2", "1.2")
    assert till.check().outcome == "INTERPRETER_UNKNOWN"
    text = till.settings_path.read_text()
    node = f'[interpreters]\n"node" = "{quoted(sys.executable)}"'
    till.settings_path.write_text(text.replace("[interpreters]", node))
    assert till.check().outcome == "SWAPPED"


def test_a_release_for_another_platform_is_no_news(vendor: Vendor, till: Till) -> None:
    with (vendor.bundle("1.2", schema=4) / "tillkeeper.toml").open("a") as file:
        file.write(f'platform = "{ELSEWHERE}"\n')
    vendor.publish(vendor.bundles / "1.2", "1.2")
    assert till.check().outcome == "NOTHING_NEW"
    assert till.status()["unusable"] == []
    done = vendor.publish
    bundle = vendor.bundle("1.2-again", schema=4)
    with pytest.raises(Exception, match=rf"1\.2 is published for {ELSEWHERE}; this bundle is for any"):
        done(bundle, "1.2")


@pytest.mark.parametrize("with_summaries", [True, False])
def test_manifests_of_older_releases_are_neither_fetched_nor_missed(
    vendor: Vendor, till: Till, with_summaries: bool
) -> None:
    for version in ("1.1", "1.2", "1.3"):
        vendor.release(version, schema=4)
    if not with_summaries:
        vendor.without_summaries()
    for path in [*vendor.public.glob("targets/*1.1.*"), *vendor.public.glob("targets/*1.2.*")]:
        path.unlink()
    sent: list[str] = []
    with served(make_server(vendor.public, told=sent.append)) as address:
        text = till.settings_path.read_text()
        till.settings_path.write_text(text.replace(till.settings.url, address))
        assert till.check().outcome == "SWAPPED"
        new = Till(till.folder.parent / "new")
        new.install(vendor.root, address)
    fetched = sorted({line.split()[0].rsplit("-", 1)[-1] for line in sent if "/targets/" in line})
    assert fetched == ["1.3.manifest", "1.3.tar.gz", "till.rollout.json"]
    assert "till 1.3 is open" in till.launch(sell=1).stdout


def test_the_newest_manifest_that_is_missing_is_named_and_the_release_below_it_is_taken(
    vendor: Vendor, till: Till
) -> None:
    vendor.release("1.1", schema=4)
    vendor.release("1.2", schema=4)
    (path,) = vendor.public.glob("targets/*1.2.manifest")
    aside = path.rename(path.with_name("aside"))
    assert till.check().outcome == "SWAPPED"
    assert "status 404" in till.report("SERVER_WRONG")["cause"]
    assert "till 1.1 is open" in till.launch(sell=1).stdout
    assert till.check().outcome == "SERVER_WRONG"
    aside.rename(path)
    assert till.check().outcome == "SWAPPED"


def test_a_staged_release_stays_when_its_manifest_is_missing_on_the_server(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    vendor.release("1.2", schema=4)
    assert till.check().outcome == "SWAPPED"
    for path in vendor.public.glob("targets/*1.2.*"):
        path.unlink()
    for path in till.settings.manifests.iterdir():
        path.unlink()
    assert till.check().outcome == "SWAPPED"
    assert till.status()["candidate"]["version"] == "1.2"


def test_empty_folders_arrive(vendor: Vendor, till: Till) -> None:
    bundle = vendor.bundle("1.1", schema=4)
    for name in ("plugins", "templates/receipts"):
        (bundle / name).mkdir(parents=True)
    vendor.publish(bundle, "1.1")
    assert parse(vendor.manifest("1.1")).folders == ("plugins", "templates/receipts")
    assert till.check().outcome == "SWAPPED"
    (folder,) = (till.settings.program / "versions").glob("1.1-*")
    assert [(folder / name).is_dir() for name in ("plugins", "templates/receipts")] == [True, True]
    assert sys.platform == "win32" or (folder / "plugins").stat().st_mode & 0o777 == 0o755
    given = Till(till.folder.parent / "given")
    given.install(vendor.root, till.settings.url, bundle=bundle)
    assert (next((given.settings.program / "versions").glob("1.1-*")) / "plugins").is_dir()


def test_a_manifest_that_a_terminal_would_not_read_is_not_published(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(vendor.public)
    monkeypatch.setattr("updater.manifest.SIZE_LIMIT_BYTES", 500)
    with pytest.raises(Exception, match=r"it has \d+ bytes, at most 500 are read"):
        vendor.release("1.1", schema=4)
    assert files(vendor.public) == before


def test_a_release_that_was_installed_under_earlier_rules_still_starts(till: Till) -> None:
    """The rules for names are for what is to come: they shut no till that works."""
    (folder,) = (till.settings.program / "versions").iterdir()
    path = folder / "tillkeeper-manifest.json"
    manifest: Manifest = parse(path.read_bytes())
    twins = {"CON.txt": FileEntry(0, manifest.files["till.py"].sha256, 0o644)}
    path.write_bytes(
        to_bytes(manifest._replace(files={**manifest.files, **twins}, platform="any", least_agent="0.1.x"))
    )
    (folder / "tillkeeper-start.json").unlink()
    assert "till 1.0 is open" in till.launch(sell=1).stdout


@pytest.mark.parametrize("spoil", ["role", "entry", "manifest", "folder"])
def test_a_candidate_that_cannot_be_started_leads_to_the_old_app_in_the_same_command(
    vendor: Vendor, till: Till, spoil: str
) -> None:
    import shutil

    vendor.release("1.1", schema=4)
    assert till.check().outcome == "SWAPPED"
    (folder,) = (till.settings.program / "versions").glob("1.1-*")
    if spoil == "role":
        path = folder / "tillkeeper-start.json"
        path.write_text(path.read_text().replace('"python"', '"node"'))
    elif spoil == "entry":
        (folder / "till.py").unlink()
    elif spoil == "manifest":
        (folder / "tillkeeper-start.json").unlink()
        (folder / "tillkeeper-manifest.json").write_text("{")
    else:
        shutil.rmtree(folder)
    done = till.launch(sell=2)
    assert "till 1.0 is open" in done.stdout, done.stdout + done.stderr
    assert (done.returncode, till.lost_receipts()) == (0, [])


def test_a_candidate_whose_folder_goes_in_the_middle_of_its_trial_gives_way(vendor: Vendor, till: Till) -> None:
    import shutil

    vendor.release("1.1", schema=4, behaviour="exit0")
    till.check()
    till.launch(sell=1)
    assert till.status()["database"]["schema"] == 4
    shutil.rmtree(next((Path(till.settings.program) / "versions").glob("1.1-*")))
    done = till.launch(sell=1)
    assert "till 1.0 is open" in done.stdout, done.stdout + done.stderr
    assert till.report("TRIAL_LOST")["cause"].startswith("the version folder 1.1-")
