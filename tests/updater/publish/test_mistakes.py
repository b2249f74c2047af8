"""Mistakes of a vendor, each refused before anything is public: the public folder stays as it is, byte for byte."""

from __future__ import annotations

import json
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.places import link
from tests.helpers.terminal import Till
from tests.helpers.vendor import ELSEWHERE, Vendor, copy_of, password
from tests.sample_till.bundles import APP, replace_by_mended
from tests.updater.publish.test_refusals import needs_posix
from tests.updater.publish.test_refusals import publish as by_command
from updater.publish import forms, repository, steering, trial_run, verify
from updater.publish.errors import AwaitsSignatures, PublishError
from updater.publish.signing import Workshop

ROLES = ("targets", "snapshot", "timestamp")
NO_WISH = verify.Wish()
NEW_ONES = ("a new terminal: takes it", "a new terminal, by the archive: takes it")
"""The lines about new terminals."""


def contents(folder: Path) -> dict[str, bytes]:
    """The files in a folder and below, but for locks."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def publish(
    vendor: Vendor, bundle: Path, version: str, *, wish: verify.Wish = NO_WISH, **values: Any
) -> repository.Published:
    """As `updater publish release` does it."""
    given: dict[str, Any] = {"passwords": password, **values}
    return repository.release(
        folder=vendor.repository, bundle=bundle, version=version, config_file=None,
        verify=partial(verify.verify, passwords=password, wish=wish), **given,
    )  # fmt: skip


def said(bundle: Path, line: str) -> None:
    """One more line of the description; it takes the place of an earlier one."""
    path = bundle / "tillkeeper.toml"
    key = line.partition(" =")[0]
    kept = [known for known in path.read_text().splitlines() if not known.startswith(f"{key} =")]
    path.write_text("\n".join([*kept, line]) + "\n")


def describes(line: str) -> Callable[[Vendor, Path], None]:
    return lambda _, bundle: said(bundle, line)


def migration_gone(_: Vendor, bundle: Path) -> None:
    (bundle / "migrations" / "0002_add_business_contact_fields.py").unlink()


def migration_edited(_: Vendor, bundle: Path) -> None:
    with (bundle / "migrations" / "0002_add_business_contact_fields.py").open("a") as file:
        file.write("# one more line\n")


def migration_renamed(_: Vendor, bundle: Path) -> None:
    path = bundle / "migrations" / "0002_add_business_contact_fields.py"
    path.rename(path.with_name("0002_other.py"))


def migration_skipped(_: Vendor, bundle: Path) -> None:
    (bundle / "migrations" / "0004_late.sql").write_text("SELECT 1;")


def twins(_: Vendor, bundle: Path) -> None:
    needs_posix()
    for name in ("README.txt", "ReadMe.txt"):
        (bundle / name).write_text("")


def link_out(_: Vendor, bundle: Path) -> None:
    link(bundle / "library", to="../../library")


def no_entry(_: Vendor, bundle: Path) -> None:
    (bundle / "till.py").unlink()


def self_test_fails(_: Vendor, bundle: Path) -> None:
    (bundle / "till.py").write_text("import a_module_that_nobody_has\n")


def migration_fails_in_a_shop(_: Vendor, bundle: Path) -> None:
    text = "CREATE UNIQUE INDEX one_name ON categories(businessId);"
    (bundle / "migrations" / "0003_one_category.sql").write_text(text)


def withdrawn_number(vendor: Vendor, bundle: Path) -> None:
    vendor.publish(bundle, "1.1")
    steering.withdraw(vendor.repository, "1.1", reason="", passwords=password)


def other_repository(vendor: Vendor, _: Path) -> None:
    """Its public folder is that of another vendor."""
    other = Vendor(vendor.folder / "other")
    other.init()
    path = vendor.repository / "publish.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "public": str(other.public)}))


def old_workshop(vendor: Vendor, bundle: Path) -> None:
    """It was restored from a backup of before the last release."""
    old = copy_of(vendor, vendor.folder / "old")
    vendor.publish(bundle, "1.1")
    path = old.repository / "publish.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "public": str(vendor.public)}))
    vendor.repository = old.repository


def archive_not_signed(vendor: Vendor, _: Path) -> None:
    """Somebody took it out of the metadata with another tool, and left the manifest."""
    path = vendor.repository / "workshop" / "metadata" / "targets.json"
    metadata = json.loads(path.read_text())
    del metadata["signed"]["targets"][f"{APP}-1.0.tar.gz"]
    path.write_text(json.dumps(metadata))


def other_archive(vendor: Vendor, bundle: Path) -> None:
    """The workshop's archive of the last release is another one: a delta would lead from files that no terminal has."""
    path = vendor.repository / "workshop" / "targets" / f"{APP}-1.0.tar.gz"
    path.unlink()
    with tarfile.open(path, "w:gz") as tar:
        tar.add(bundle, arcname=".")


QUICK: dict[str, tuple[Callable[[Vendor, Path], None], str, str]] = {
    "wrong platform": (describes(f'platform = "{ELSEWHERE}"'), "1.1", f"1.1 is for {ELSEWHERE}, and this machine is"),
    "missing migration": (migration_gone, "1.1", "0002_add_business_contact_fields, released with 1.0, is missing"),
    "edited migration": (migration_edited, "1.1", "0002_add_business_contact_fields, released with 1.0, was changed"),
    "renamed migration": (migration_renamed, "1.1", "released with 1.0, is now called other"),
    "skipped number": (migration_skipped, "1.1", "the number 0003 is missing"),
    "case twins": (twins, "1.1", "'README.txt' and 'ReadMe.txt' are one name on macOS"),
    "link out of the bundle": (link_out, "1.1", "the link library -> ../../library leaves the bundle"),
    "no entry": (no_entry, "1.1", "the entry is not in the bundle"),
    "another app": (describes('app = "other-till"'), "1.1", "it is of the app 'other-till'"),
    "a misspelt word": (describes("entri = 1"), "1.1", "entri: not known"),
    "a typing error in the version": (describes("urgent = true"), "20.0", "20.0 is far from 1.0, the last one"),
    "a lower version": (describes("urgent = true"), "0.9", "0.9 is not newer than 1.0"),
    "a pre-release for all": (describes("urgent = true"), "1.1rc1", "1.1rc1 is a pre-release"),
    "a number that was withdrawn": (withdrawn_number, "1.1", "1.1 is not newer than 1.1, which is withdrawn"),
    "an old workshop": (old_workshop, "1.1", "the workshop is older than"),
    "another public folder": (other_repository, "1.1", "Is this the place of another repository?"),
    "a delta against the wrong file": (
        other_archive,
        "1.1",
        "sample-till-1.0.tar.gz: it is public already with other bytes",
    ),
    "a manifest without its archive": (archive_not_signed, "1.1", "would be signed without its archive"),
}
TRIED: dict[str, tuple[Callable[[Vendor, Path], None], str, str]] = {
    "wrong least agent": (
        describes('least_agent = "99.0"'), "1.1",
        "from 1.0: its terminals may have Tillkeeper 0.1.0, the release needs 99.0",
    ),
    "a SQLite that is nowhere": (describes('least_sqlite = "99.0"'), "1.1", "from 1.0: NEEDS_NEWER_SQLITE: 1.1 needs"),
    "a role that no terminal has": (describes('interpreter = "nobody"'), "1.1", "from 1.0: INTERPRETER_UNKNOWN"),
    "a self-test that fails": (self_test_fails, "1.1", "No module named 'a_module_that_nobody_has'"),
    "a migration that fails in a shop": (migration_fails_in_a_shop, "1.1", "from 1.0: its migrations fail: UNIQUE"),
}  # fmt: skip


def refused(vendor: Vendor, spoil: Callable[[Vendor, Path], None], version: str, words: str) -> Path:
    """Publishes with a mistake; the bundle."""
    bundle = vendor.bundle(version)
    spoil(vendor, bundle)
    before, workshop = contents(vendor.public), contents(vendor.repository)
    with pytest.raises(PublishError) as raised:
        publish(vendor, bundle, version)
    assert words in raised.value.in_words + str(raised.value)
    assert contents(vendor.public) == before
    changed = {path for path, data in contents(vendor.repository).items() if workshop.get(path) != data}
    assert not changed, "the workshop is as it was, too"
    return bundle


@pytest.mark.parametrize("mistake", QUICK)
def test_a_mistake_is_refused_and_nothing_is_public(vendor: Vendor, mistake: str) -> None:
    refused(vendor, *QUICK[mistake])


def test_what_a_terminal_could_not_take_is_refused_by_its_version_and_a_mended_bundle_of_the_number_is_published(
    vendor: Vendor, till: Till
) -> None:
    spoil, version, words = TRIED["wrong least agent"]
    bundle = vendor.bundle(version)
    spoil(vendor, bundle)
    before = (contents(vendor.public), contents(vendor.repository))
    command = ("release", str(bundle), "--version", version)
    ended = by_command(vendor, *command, verified=True)
    assert ended.returncode == 4, ended.stderr
    assert (words in ended.stderr, "--strands VERSION" in ended.stderr) == (True, True), ended.stderr
    assert (contents(vendor.public), contents(vendor.repository)) == before
    said(bundle, 'least_agent = "0.1.0"')
    lines: list[str] = []
    done = publish(vendor, bundle, "1.1", wish=verify.Wish(told=lines.append))
    assert (done.version, done.already, done.files_placed > 0) == ("1.1", False, True)
    taken = ["1.0: takes it", *NEW_ONES]
    assert [line.partition(" (")[0] for line in lines] == taken
    assert till.check().outcome == "SWAPPED"
    assert not (vendor.repository / ".copy").exists()


@pytest.mark.long
@pytest.mark.parametrize("mistake", [name for name in TRIED if name != "wrong least agent"])
def test_what_a_terminal_could_not_take_is_refused_by_name(vendor: Vendor, mistake: str) -> None:
    refused(vendor, *TRIED[mistake])


@pytest.mark.long
def test_what_is_left_behind_can_be_accepted_by_name_and_a_sample_takes_the_place_of_what_is_made_up(
    vendor: Vendor, till: Till
) -> None:
    bundle = vendor.bundle("1.1")
    migration_fails_in_a_shop(vendor, bundle)
    with pytest.raises(PublishError, match="a --sample-database of a shop takes its place"):
        publish(vendor, bundle, "1.1", wish=verify.Wish(accepted=frozenset({"0.9"})))
    text = "CREATE INDEX name_of_category ON categories(name);"
    (bundle / "migrations" / "0003_one_category.sql").write_text(text)
    before = contents(till.settings.data)
    wish = verify.Wish(living=("1.0",), sample_databases=(till.database,))
    assert publish(vendor, bundle, "1.1", wish=wish).version == "1.1"
    assert contents(till.settings.data) == before, "the sample is only read"
    later = vendor.bundle("1.2")
    (later / "migrations" / "0003_one_category.sql").write_text(text)
    said(later, 'least_agent = "99.0"')
    wish = verify.Wish(accepted=frozenset({"1.0", "1.1", verify.NEW}))
    assert publish(vendor, later, "1.2", wish=wish).version == "1.2"


@pytest.mark.long
def test_five_living_versions_take_a_release_whose_migrations_settle_what_shops_may_have(vendor: Vendor) -> None:
    for place, schema in enumerate((3, 4, 5, 5)):
        vendor.release(f"1.{place + 1}", schema=schema)
    bundle = vendor.bundle("1.5", schema=6)
    with pytest.raises(PublishError) as raised:
        publish(vendor, bundle, "1.5", wish=verify.Wish())
    twice = "its migrations fail: UNIQUE constraint failed"
    assert [f"from 1.{place}: {twice}" in raised.value.cause for place in range(5)] == [True] * 5, raised.value.cause
    # Two categories, and two products, of one name are allowed by the schemas before 4 and 6.
    replace_by_mended(bundle / "migrations", 4)
    replace_by_mended(bundle / "migrations", 6)
    lines: list[str] = []
    assert publish(vendor, bundle, "1.5", wish=verify.Wish(told=lines.append)).version == "1.5"
    taken = [*(f"1.{place}: takes it" for place in range(5)), *NEW_ONES]
    assert [line.partition(" (")[0] for line in lines] == taken


@pytest.mark.long
def test_a_release_that_is_published_during_a_pause_is_tried_all_the_same(vendor: Vendor, till: Till) -> None:
    steering.pause(vendor.repository, reason="", passwords=password)
    steering.brake(vendor.repository, on=True, recalled=(), passwords=password)
    assert publish(vendor, vendor.bundle("1.1"), "1.1").version == "1.1"
    public = steering.status(vendor.repository)
    assert (public.document.paused, public.brake.paused) == (True, (APP,)), "and the pause stays"
    assert till.check().outcome == "PAUSED_BY_VENDOR"


@pytest.mark.long
def test_a_beta_is_tried_by_terminals_that_ask_for_it(vendor: Vendor) -> None:
    lines: list[str] = []
    wish = verify.Wish(told=lines.append)
    publish(vendor, vendor.bundle("1.1rc1"), "1.1rc1", wish=wish, channel="beta")
    publish(vendor, vendor.bundle("1.1"), "1.1", wish=wish)
    assert [line.partition(" (")[0] for line in lines] == [
        "1.0: takes it", *NEW_ONES,
        "1.0: takes it", "1.1rc1: takes it", *NEW_ONES,
    ]  # fmt: skip


def test_a_release_whose_key_is_not_there_waits_and_nothing_is_public(vendor: Vendor) -> None:
    (vendor.repository / "keys" / "snapshot").unlink()
    before = contents(vendor.public)
    with pytest.raises(AwaitsSignatures, match="snapshot 3 has 0 of 1 signatures"):
        publish(vendor, vendor.bundle("1.1"), "1.1")
    assert contents(vendor.public) == before
    assert sorted(path.name for path in (vendor.repository / "workshop" / "pending").iterdir()) == [
        "snapshot.json", "targets.json",
    ]  # fmt: skip


def test_a_snapshot_that_has_expired_is_not_made_public(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    # A publisher that signs with a wrong date; this one gives each signature its time.
    monkeypatch.setattr(Workshop, "refresh_expiration_date", lambda *_: None)
    before = contents(vendor.public)

    def expire(workshop: Any, _: Any) -> None:
        workshop.roles.snapshot.signed.expires = datetime.now(UTC).replace(tzinfo=None, microsecond=0) - timedelta(
            days=1
        )

    with pytest.raises(PublishError, match="expired"):
        repository.change(vendor.repository, expire, roles=ROLES, passwords=password)
    changed = {path for path, data in contents(vendor.public).items() if before.get(path) != data}
    assert changed <= {"metadata/3.snapshot.json"}, "a name that nothing points to"


def test_a_cut_while_scratch_terminals_try_it_leaves_the_workshop_as_it_was(vendor: Vendor) -> None:
    bundle = vendor.bundle("1.1")
    before = (contents(vendor.public), contents(vendor.repository))

    class Cut(BaseException):
        pass

    def cut(copy: Path, version: str) -> None:
        assert (copy / "public" / "metadata" / "timestamp.json").exists()
        raise Cut

    with pytest.raises(Cut):
        repository.release(
            folder=vendor.repository, bundle=bundle, version="1.1", config_file=None, passwords=password, verify=cut
        )
    assert (contents(vendor.public), contents(vendor.repository)) == before
    (vendor.repository / ".copy" / "workshop").mkdir(parents=True)
    done = repository.release(
        folder=vendor.repository, bundle=bundle, version="1.1", config_file=None, passwords=password,
        verify=lambda copy, version: None,
    )  # fmt: skip
    assert (done.version, (vendor.repository / ".copy").exists()) == ("1.1", False)


def test_a_bundle_is_tried_without_a_publish(vendor: Vendor) -> None:
    bundle = vendor.bundle("1.1")
    said(bundle, f'platform = "{ELSEWHERE}"')
    before = (contents(vendor.public), contents(vendor.repository))
    done = by_command(vendor, "verify", str(bundle), "--version", "1.1")
    assert (done.returncode, f"1.1 is for {ELSEWHERE}" in done.stderr) == (4, True), done.stderr
    assert (contents(vendor.public), contents(vendor.repository)) == before


def test_nothing_is_tried_while_somebody_else_publishes(vendor: Vendor) -> None:
    vendor.bundle("1.1")
    with repository.locked(vendor.repository):
        done = by_command(vendor, "verify", str(vendor.bundles / "1.1"), "--version", "1.1")
    assert (done.returncode, "another publish is under way" in done.stderr) == (75, True), done.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("maker", "start", "words"),
    [("make_pack", "a new terminal", "the pack: "), ("make_deltas", "1.0", "the delta")],
)
def test_a_form_that_no_terminal_can_use_is_refused_though_there_are_others(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch, maker: str, start: str, words: str
) -> None:
    made = getattr(forms, maker)

    def spoilt(*given: Any, **named: Any) -> Any:
        result = made(*given, **named)
        end = {"make_pack": "*.pack", "make_deltas": "*.delta"}[maker]
        for path in (vendor.repository / "workshop" / "targets").rglob(end):
            path.write_bytes(path.read_bytes()[:-40] + bytes(40))
        for path in (vendor.repository / ".copy").rglob(end):
            path.write_bytes(path.read_bytes()[:-40] + bytes(40))
        return result

    monkeypatch.setattr(forms, maker, spoilt)
    before = contents(vendor.public)
    with pytest.raises(PublishError) as raised:
        publish(vendor, vendor.bundle("1.1"), "1.1")
    assert (f"from {start}: " in raised.value.cause, words in raised.value.cause) == (True, True), raised.value.cause
    assert contents(vendor.public) == before


@pytest.mark.long
def test_a_bundle_that_every_terminal_takes_can_be_published(vendor: Vendor) -> None:
    bundle = vendor.bundle("1.1")
    before = (contents(vendor.public), contents(vendor.repository))
    done = by_command(vendor, "verify", str(bundle), "--version", "1.1", "--living", "1.0")
    assert (done.returncode, done.stdout) == (0, "1.1 can be published: every terminal that was tried takes it\n")
    assert "1.0: takes it" in done.stderr
    assert (contents(vendor.public), contents(vendor.repository)) == before


def test_a_sample_that_would_not_be_tried_is_refused(vendor: Vendor, till: Till) -> None:
    bundle = vendor.bundle("1.1", schema=4)
    vendor.publish(bundle, "1.1")
    wish = verify.Wish(living=("1.1",), sample_databases=(till.database,))
    with pytest.raises(PublishError, match="it has schema 2, and the living versions have 4"):
        publish(vendor, vendor.bundle("1.2", schema=4), "1.2", wish=wish)
    with pytest.raises(PublishError, match=r"0\.9: not signed, or not below 1\.2"):
        publish(vendor, vendor.bundles / "1.2", "1.2", wish=verify.Wish(living=("0.9",)))


def test_a_fix_of_a_migration_that_leaves_two_kinds_of_shops_is_seen(tmp_path: Path) -> None:
    """The database that ran the migration before counts as one that ran the fixed one, and no terminal can tell."""
    for name, added in (("before", "note TEXT"), ("after", "note TEXT DEFAULT ''"), ("same", "note  text")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0001_sales.sql").write_text("CREATE TABLE sale (id INTEGER PRIMARY KEY, cents INTEGER);\n")
        (tmp_path / name / "0002_note.sql").write_text(f"ALTER TABLE sale ADD COLUMN {added};\n")
    database = tmp_path / "shop.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE sale (id INTEGER PRIMARY KEY, cents INTEGER)")
        connection.execute("CREATE INDEX own ON sale (cents)")
        connection.execute("ALTER TABLE sale ADD COLUMN note TEXT")
    before = trial_run._odd(tmp_path / "before", database=database)
    found = trial_run._odd(tmp_path / "after", database=database) - before
    assert found
    assert all("note" in difference for difference in found)
    assert trial_run._odd(tmp_path / "same", database=database) - before == set()


@pytest.mark.long
def test_a_fix_of_a_migration_that_leaves_two_kinds_of_shops_is_refused(vendor: Vendor) -> None:
    vendor.release("1.1", schema=6)
    bundle = vendor.bundle("1.2", schema=6, mended=True)
    (path,) = (bundle / "migrations").glob("0006_*.py")
    more = '    db.execute("CREATE TABLE only_in_new_shops (id INTEGER PRIMARY KEY)")'
    path.write_text(f"{path.read_text()}{more}\n")
    done = by_command(vendor, "verify", str(bundle), "--version", "1.2")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "differs from a new one" in done.stderr, done.stderr
    assert "only_in_new_shops" in done.stderr


@pytest.mark.slow
def test_terminals_of_another_platform_are_not_concerned(vendor: Vendor) -> None:
    other = vendor.bundle("1.1")
    said(other, f'platform = "{ELSEWHERE}"')
    vendor.publish(other, "1.1")
    done = by_command(vendor, "verify", str(vendor.bundle("1.2")), "--version", "1.2")
    assert done.returncode == 0, done.stderr
    assert f"1.1: not tried, it is for {ELSEWHERE}" in done.stderr
    assert "1.0: takes it" in done.stderr
    named = by_command(vendor, "verify", str(vendor.bundles / "1.2"), "--version", "1.2", "--living", "1.x")
    assert (named.returncode, "1.x: not signed" in named.stderr) == (4, True), named.stderr
