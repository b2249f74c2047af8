"""Every relative link and anchor in a page resolves, and every file that a page names is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.helpers.places import ROOT


def is_ours(page: Path) -> bool:
    """Return whether a page belongs to the repository, not to an environment or a cache."""
    folders = page.relative_to(ROOT).parts[:-1]
    return not any(name == "mutants" or (name.startswith(".") and name != ".github") for name in folders)


PAGES: Final = sorted(page for page in ROOT.rglob("*.md") if is_ours(page))
_FENCE: Final = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
_REFERENCE: Final = re.compile(r"^\[[^\]]+\]:\s+<?(\S+?)>?\s*$", re.MULTILINE)
_FILE: Final = re.compile(r"(?<![\w./-])(?:dbsync|updater|tests|docs|scripts)/[\w./-]*\w\.(?:py|md|toml)\b")


def prose(page: Path) -> str:
    """Return a page's text without fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$", prose(page), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number, name = 0, slug
        while name in found:
            number += 1
            name = f"{slug}-{number}"
        found.add(name)
    return found


def links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links that stay in the repository."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    for target in (*_LINK.findall(text), *_REFERENCE.findall(text)):
        if not re.match(r"[a-z][a-z0-9+.-]*:", target):
            yield target


def broken(page: Path) -> list[str]:
    """Return what is wrong with a page's links, in words."""
    found = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.is_relative_to(ROOT):
            found.append(f"{target}: leaves the repository")
        elif not place.exists():
            found.append(f"{target}: there is no such file")
        elif anchor and (place.suffix != ".md" or anchor not in anchors(place)):
            found.append(f"{target}: there is no such heading")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_and_anchor_resolves(page: Path) -> None:
    assert broken(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_of_the_repository_that_a_page_names_is_there(page: Path) -> None:
    # A walk makes files of its own: tests/test_walks.py follows it.
    made = set(re.findall(r"^New file `([^`]+)`", prose(page), re.MULTILINE))
    assert [path for path in _FILE.findall(prose(page)) if path not in made and not (ROOT / path).exists()] == []


OUTSIDE: Final = re.compile(
    r"\b[Ss]pec (?:[A-Z]\d|part \d)|\b[Tt]he specification\b|/wor[k]/|\bshared/\w+\.md|\bissue \d"
)
"""Words that send a reader to a text that is not in the repository."""
NUMBERED: Final = re.compile(r"\b[Rr]equirements? (S\d+)(?:(?:,| to| and) (S\d+))*")


def test_no_text_sends_a_reader_out_of_the_repository() -> None:
    requirements = (ROOT / "docs" / "requirements.md").read_text(encoding="utf-8")
    known = set(re.findall(r"^\| (S\d+) \|", requirements, re.MULTILINE))
    sources = [*ROOT.glob("dbsync/**/*.py"), *ROOT.glob("updater/**/*.py"), *ROOT.glob("tests/**/*.py")]
    for path in [*PAGES, *sources, *ROOT.glob("scripts/**/*.py"), ROOT / "pyproject.toml"]:
        if path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8")
        assert [found.group() for found in OUTSIDE.finditer(text)] == [], path
        named = {number for found in NUMBERED.finditer(text) for number in re.findall(r"S\d+", found.group())}
        assert named <= known, path


def test_what_is_wrong_with_a_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_docs_links.ROOT", tmp_path)
    (tmp_path / "other.md").write_text("# One `code` & two\n## Same\n## Same\n```\n# not a heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](other.md) [b](other.md#one-code--two) [c](other.md#same-1) [d](#here) [e](https://example.com/x#y)\n"
        "`[not](a-link.md)`\n[gone](gone.md) [wrong](other.md#not-a-heading) [out](../out.md)\n\n[ref]: missing.md\n"
    )
    assert broken(page) == [
        "gone.md: there is no such file",
        "other.md#not-a-heading: there is no such heading",
        "../out.md: leaves the repository",
        "missing.md: there is no such file",
    ]
