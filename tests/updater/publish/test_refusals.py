"""What the publisher refuses, in words, by the command that people run; and that nothing became public."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import forks
from tests.helpers.places import ROOT, link
from tests.helpers.shop import files
from tests.helpers.vendor import PASSWORD, Vendor


def publish(
    vendor: Vendor, *words: str, password: str = PASSWORD, verified: bool = False
) -> subprocess.CompletedProcess[str]:
    """`updater publish …`, with nobody at the console; scratch terminals try a release if a test is about that."""
    if words[0] == "release" and not verified:
        words = (*words, "--unverified")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TILLKEEPER_KEY_PASSWORD": password}
    return forks.run(["-m", "updater", "publish", *words, "--repository", vendor.repository], env=environment)


def needs_posix() -> None:
    """Skip the test where no bundle can have such a name or mode."""
    if sys.platform == "win32":
        pytest.skip("Windows has no files with such names or modes")


def no_version(vendor: Vendor, bundle: Path) -> list[str]:
    return ["--version", "nightly"]


def not_normal(vendor: Vendor, bundle: Path) -> list[str]:
    return ["--version", "1.1.0-beta"]


def lower(vendor: Vendor, bundle: Path) -> list[str]:
    return ["--version", "0.9"]


def same_number_other_bytes(vendor: Vendor, bundle: Path) -> list[str]:
    return ["--version", "1.0"]


def empty(vendor: Vendor, bundle: Path) -> list[str]:
    import shutil

    shutil.rmtree(bundle)
    bundle.mkdir()
    (bundle / "tillkeeper.toml").write_text('entry = "till.py"\n')
    return []


def undescribed(vendor: Vendor, bundle: Path) -> list[str]:
    (bundle / "tillkeeper.toml").unlink()
    return []


def misdescribed(vendor: Vendor, bundle: Path) -> list[str]:
    with (bundle / "tillkeeper.toml").open("a") as file:
        file.write("entri = 1\n")
    return []


def absolute_link(vendor: Vendor, bundle: Path) -> list[str]:
    link(bundle / "passwords", to="/etc/passwd")
    return []


def leaving_link(vendor: Vendor, bundle: Path) -> list[str]:
    link(bundle / "library", to="../../library")
    return []


def migrations_skip(vendor: Vendor, bundle: Path) -> list[str]:
    (bundle / "migrations" / "0004_late.sql").write_text("SELECT 1;")
    return []


def migrations_repeat(vendor: Vendor, bundle: Path) -> list[str]:
    (bundle / "migrations" / "0002_again.sql").write_text("SELECT 1;")
    return []


def migration_gone(vendor: Vendor, bundle: Path) -> list[str]:
    (bundle / "migrations" / "0002_add_business_contact_fields.py").unlink()
    return []


def migration_changed(vendor: Vendor, bundle: Path) -> list[str]:
    with (bundle / "migrations" / "0002_add_business_contact_fields.py").open("a") as file:
        file.write("# one more line\n")
    return []


def migration_renamed(vendor: Vendor, bundle: Path) -> list[str]:
    path = bundle / "migrations" / "0002_add_business_contact_fields.py"
    path.rename(path.with_name("0002_other.py"))
    return []


def not_executable(vendor: Vendor, bundle: Path) -> list[str]:
    needs_posix()
    (bundle / "tillkeeper.toml").write_text('entry = "till.py"\n')
    return []


def own_name(vendor: Vendor, bundle: Path) -> list[str]:
    (bundle / "tillkeeper-manifest.json").write_text("{}")
    return []


def twins(vendor: Vendor, bundle: Path) -> list[str]:
    needs_posix()
    for name in ("README.txt", "ReadMe.txt"):
        (bundle / name).write_text("")
    return []


def normalised_twins(vendor: Vendor, bundle: Path) -> list[str]:
    for name in ("Ger\u00e4t", "Gera\u0308t"):
        (bundle / name).write_text("")
    return []


def device(vendor: Vendor, bundle: Path) -> list[str]:
    needs_posix()
    (bundle / "aux.txt").write_text("")
    return []


def not_unicode(vendor: Vendor, bundle: Path) -> list[str]:
    needs_posix()
    (Path(os.fsdecode(os.fsencode(bundle) + b"/latin1-\xfc.txt"))).write_text("")
    return []


def chain_of_links(vendor: Vendor, bundle: Path) -> list[str]:
    link(bundle / "here", to=".")
    link(bundle / "out", to="here/../library")
    return []


def number_for_a_platform(vendor: Vendor, bundle: Path) -> list[str]:
    with (bundle / "tillkeeper.toml").open("a") as file:
        file.write("platform = 5\n")
    return []


def wrong_agent(vendor: Vendor, bundle: Path) -> list[str]:
    with (bundle / "tillkeeper.toml").open("a") as file:
        file.write('least_agent = "0.1.x"\n')
    return []


def start_name(vendor: Vendor, bundle: Path) -> list[str]:
    (bundle / "tillkeeper-start.json").write_text("{}")
    return []


REFUSED = [
    (no_version, "'nightly' is not a version (PEP 440)"),
    (not_normal, "is not in its normal form. Write 1.1.0b0."),
    (lower, "0.9 is not newer than 1.0, which is published"),
    (same_number_other_bytes, "1.0 is not newer than 1.0, which is published"),
    (empty, "it is empty"),
    (undescribed, "there is no description of the bundle"),
    (misdescribed, "entri: not known"),
    (absolute_link, "the link passwords -> /etc/passwd leaves the bundle"),
    (leaving_link, "the link library -> ../../library leaves the bundle"),
    (migrations_skip, "the number 0003 is missing"),
    (migrations_repeat, "the number 0002 is there more than once"),
    (migration_gone, "0002_add_business_contact_fields, released with 1.0, is missing"),
    (migration_changed, "0002_add_business_contact_fields, released with 1.0, was changed"),
    (migration_renamed, "0002_add_business_contact_fields, released with 1.0, is now called other"),
    (own_name, "this name is Tillkeeper's own"),
    (twins, "'README.txt' and 'ReadMe.txt' are one name on macOS"),
    (normalised_twins, "are one name on macOS"),
    (device, "the name 'aux.txt' in 'aux.txt' is a device on Windows"),
    (not_unicode, "is not Unicode: rename the file"),
    (chain_of_links, "the link out -> here/../library leaves the bundle"),
    (number_for_a_platform, "platform is not a string"),
    (wrong_agent, "least_agent '0.1.x' is not a version in its normal form"),
    (start_name, "this name is Tillkeeper's own"),
    (not_executable, "the entry is not executable. chmod +x it"),
]


@pytest.mark.parametrize(("spoil", "words"), REFUSED, ids=lambda one: one if isinstance(one, str) else one.__name__)
def test_a_bundle_that_cannot_be_a_release_is_refused(vendor: Vendor, spoil, words: str) -> None:  # type: ignore[no-untyped-def]
    bundle = vendor.bundle("1.1")
    before = files(vendor.public)
    options = spoil(vendor, bundle) or ["--version", "1.1"]
    done = publish(vendor, "release", str(bundle), *options)
    assert (done.returncode, done.stdout) == (4, "")
    assert words in done.stderr
    assert files(vendor.public) == before


def test_names_that_only_windows_refuses_are_published_for_linux(vendor: Vendor) -> None:
    needs_posix()
    bundle = vendor.bundle("1.1")
    for name in ("README.txt", "ReadMe.txt", "aux.txt", "name.", "a:b", "what?"):
        (bundle / name).write_text("")
    with (bundle / "tillkeeper.toml").open("a") as file:
        file.write('platform = "linux-x86_64"\n')
    done = publish(vendor, "release", str(bundle), "--version", "1.1")
    assert done.returncode == 0, done.stderr


def test_a_mended_migration_is_accepted_when_it_names_what_it_replaces(vendor: Vendor) -> None:
    vendor.release("1.1", schema=6)
    vendor.release("1.2", schema=6, mended=True)
    assert len(list((vendor.public / "targets").glob("*1.2.manifest"))) == 1


@pytest.mark.parametrize(("password", "words"), [("wrong", "its password is wrong"), ("", "none was given")])
def test_a_key_that_does_not_open_signs_nothing(vendor: Vendor, password: str, words: str) -> None:
    before = (files(vendor.public), files(vendor.repository))
    done = publish(vendor, "release", str(vendor.bundle("1.1")), "--version", "1.1", password=password)
    assert (done.returncode, words in done.stderr) == (4, True), done.stderr
    assert (files(vendor.public), files(vendor.repository)) == before


def test_no_repository_is_said_so_and_init_may_be_repeated(vendor: Vendor, tmp_path: Path) -> None:
    done = publish(Vendor(tmp_path / "nowhere"), "release", str(vendor.bundle("1.1")))
    assert (done.returncode, "it is not one. Is --repository right" in done.stderr) == (4, True)
    before = files(vendor.public)
    done = publish(vendor, "init", "--app", "sample-till", "--public", str(vendor.public))
    assert done.returncode == 0, done.stderr
    assert files(vendor.public) == before
    done = publish(vendor, "init", "--app", "other", "--public", str(vendor.public))
    assert "it is the repository of 'sample-till'" in done.stderr


def test_keys_are_encrypted_and_the_roots_is_not_needed_for_a_release(vendor: Vendor) -> None:
    for role in ("root", "targets", "snapshot", "timestamp"):
        assert (
            "ENCRYPTED" in (vendor.repository / "keys" / role).read_text().upper()
            or "@@@@" in (vendor.repository / "keys" / role).read_text()
        )
    (vendor.repository / "keys" / "root").unlink()
    assert vendor.release("1.1").files_placed > 0
    assert vendor.refresh() == 1


def test_a_command_loads_no_library_of_a_key_service_or_a_bucket() -> None:
    code = (
        "import sys, click; from updater.publish.cli.main import command;"
        "command.get_command(click.Context(command), 'release');"
        "print('securesystemslib' in sys.modules, {'boto3', 'botocore', 'azure', 'google'} & set(sys.modules));"
        "import boto3"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True set()\n", "")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("serve", "nosuch"), 2, "does not exist"),
        (("serve", "--port", "99999", "."), 2, "99999 is not in the range"),
        (("rebuild", "--app", "x", "--public", "s3:/bucket/x"), 4, "is no place for public files"),
    ],
)  # fmt: skip
def test_a_slip_of_the_hand_has_a_plain_answer(tmp_path: Path, words: tuple[str, ...], status: int, said: str) -> None:
    vendor = Vendor(tmp_path / "none")
    found = [*words, *([] if words[0] == "serve" else ["--repository", str(vendor.repository)])]
    done = forks.run(["-m", "updater", "publish", *found], env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr


@pytest.mark.parametrize("platform", ["windows", "linux-x86-64", "windows-x86_64"])
def test_a_platform_that_no_terminal_has_is_refused_with_the_ones_that_they_have(vendor: Vendor, platform: str) -> None:
    bundle = vendor.bundle("1.1")
    text = (bundle / "tillkeeper.toml").read_text()
    (bundle / "tillkeeper.toml").write_text(f'platform = "{platform}"\n' + text)
    done = publish(vendor, "release", str(bundle), "--version", "1.1", "--unverified")
    assert (done.returncode, "win32-amd64" in done.stderr) == (4, True), done.stderr
