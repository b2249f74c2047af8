"""Names and links of a bundle: what no system takes, and what one of them cannot hold."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from tests.helpers.places import link
from updater.bundle_names import ManifestError, check_fits, check_link, check_path, check_tree, is_app, is_version
from updater.host import this_host

WINDOWS, MACOS, LINUX, ANY = "win32-amd64", "darwin-arm64", "linux-x86_64", "any"
NFC, NFD = (unicodedata.normalize(form, "Gerät.txt") for form in ("NFC", "NFD"))


LONG = "a/" * 400 + "b"


@pytest.mark.parametrize(
    "path",
    ["", "/a", "a/", "a//b", "./a", "a/../b", "..", "a\\b", "a\0b", "\udcfc.txt", "x" * 256, "ä" * 128, LONG],
)
def test_a_path_that_no_system_takes_is_refused(path: str) -> None:
    with pytest.raises(ManifestError):
        check_path(path)


@pytest.mark.parametrize(
    ("names", "refused_for"),
    [
        (["CON.txt"], {WINDOWS, ANY}), (["a/aux"], {WINDOWS, ANY}), (["nul .x/a"], {WINDOWS, ANY}),
        (["COM1"], {WINDOWS, ANY}), (["lpt¹.log"], {WINDOWS, ANY}), (["CONSOLE.txt"], set()), (["com0"], set()),
        (["a<b"], {WINDOWS, ANY}), (["a|b/c"], {WINDOWS, ANY}), (["what?"], {WINDOWS, ANY}), (["*"], {WINDOWS, ANY}),
        (["a:b"], {WINDOWS, ANY}), (['"a"'], {WINDOWS, ANY}), (["a\nb"], {WINDOWS, ANY}), (["name."], {WINDOWS, ANY}),
        (["name "], {WINDOWS, ANY}), (["a./b"], {WINDOWS, ANY}), (["x/" * 80 + "y"], {WINDOWS, ANY}),
        (["README.txt", "ReadMe.txt"], {WINDOWS, MACOS, ANY}), (["a/x", "A/y"], {WINDOWS, MACOS, ANY}),
        (["Straße", "STRASSE"], {WINDOWS, MACOS, ANY}), ([NFC, NFD], {MACOS, ANY}),
        (["Tillkeeper-Manifest.json"], {WINDOWS, MACOS, ANY}), (["TILLKEEPER-START.JSON/x"], {WINDOWS, MACOS, ANY}),
        (["a/Tillkeeper-Manifest.json", "Gerät €.txt", "💶.txt", "with space & 'quote' #1 100%.txt"], set()),
    ],
)  # fmt: skip
def test_a_name_is_refused_for_the_systems_that_cannot_hold_it(names: list[str], refused_for: set[str]) -> None:
    refused = {}
    for platform in (WINDOWS, MACOS, LINUX, ANY):
        try:
            check_fits(dict.fromkeys(names), (), platform=platform)
        except ManifestError as error:
            refused[platform] = error.cause
    assert refused.keys() == refused_for
    assert all(any(repr(name.split("/")[0])[1:-1] in cause for name in names) for cause in refused.values())
    for name in names:
        check_path(name)


def test_empty_folders_are_names_too() -> None:
    with pytest.raises(ManifestError, match="one name"):
        check_fits({"a/x": None}, ("A",), platform=ANY)
    with pytest.raises(ManifestError, match="device"):
        check_fits({"a/x": None}, ("con",), platform=WINDOWS)


LINKS: list[tuple[dict[str, str | None], str]] = [
    ({"lib": "lib-1", "lib-1/a": None}, ""),
    ({"Current": "A", "K": "Current/K", "A/K": None}, ""),
    ({"dangling": "not-there"}, ""),
    ({"up": "a/../a", "a/x": None}, ""),
    ({"a/root": "..", "b": "a/root/c"}, ""),
    ({"here": "."}, ""),
    ({"out": ".."}, "leaves the bundle"),
    ({"out": "/etc"}, "leaves the bundle"),
    ({"a/out": "../.."}, "leaves the bundle"),
    # Each looks as if it stayed inside; together they lead out.
    ({"a/b/c/deep": None, "short": "a/..", "out": "short/../x"}, "leaves the bundle"),
    ({"top": ".", "out": "top/../x"}, "leaves the bundle"),
    ({"l": "a/b", "a/b": "../..", "x": "l/y"}, "leaves the bundle"),
    ({"d/l": "..", "out": "d/l/../x"}, "leaves the bundle"),
    ({"lib": "elsewhere", "lib/passwd": None}, "passes through 'lib', which is a link"),
    ({"lib": None, "lib/a": None}, "passes through 'lib', which is a file"),
    ({"a": "b", "b": "a"}, "in a circle"),
    ({"a": "a/a"}, "in a circle"),
]


@pytest.mark.parametrize(("entries", "words"), LINKS)
def test_links_are_followed_as_the_system_follows_them(entries: dict[str, str | None], words: str) -> None:
    try:
        for path, target in entries.items():
            if target is not None:
                check_link(path=path, target=target)
        check_tree(entries, ())
        found = ""
    except ManifestError as error:
        found = error.cause
    assert words in found
    assert bool(words) is bool(found), found


@pytest.mark.parametrize(("entries", "words"), [(entries, words) for entries, words in LINKS if "passes" not in words])
def test_the_system_agrees(entries: dict[str, str | None], words: str, tmp_path: Path) -> None:
    root = tmp_path / "bundle"
    root.mkdir()
    for path, target in entries.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if target is not None:
            link(root / path, to=target)
    outside = []
    for path, target in entries.items():
        if target is not None:
            try:
                real = Path(os.path.realpath(root / path, strict=True))
            except OSError:
                continue
            outside += [] if real.is_relative_to(os.path.realpath(root)) else [path]
    if outside:
        assert "leaves" in words


def test_a_link_that_leads_out_in_other_letters_is_refused_where_they_count_for_nothing() -> None:
    entries = {"top": ".", "out": "TOP/../x"}
    check_tree(entries, ())
    check_fits(entries, (), platform=LINUX)
    for platform in (WINDOWS, MACOS, ANY):
        with pytest.raises(ManifestError, match="leaves the bundle"):
            check_fits(entries, (), platform=platform)


def test_versions_and_apps_are_safe_parts_of_paths() -> None:
    good = ("1.0", "1.4.0", "2.0rc1", "1.0.post1", "1.0.dev3", "1.0+local.1", "20.0")
    bad = ("", "../../x", "1.0/2", "1.0-beta", "01.0", "1.0.x", "1!2.0", "1." * 40 + "0", "1.0 ", "1.0\n", "١.٠")
    assert [version for version in good if not is_version(version)] == []
    assert [version for version in bad if is_version(version)] == []
    assert is_app("sample-till_2")
    assert not any(map(is_app, ("", "a/b", "..", "a b", "a" * 101)))


def test_the_tag_of_this_system_is_one_of_those_that_the_rules_know() -> None:
    assert this_host().platform_tag().split("-")[0] in ("linux", "win32", "darwin")
