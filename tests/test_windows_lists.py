"""The lists of tests that Windows does not run: each line has a reason and names a test; so does the gate's share."""

from __future__ import annotations

import ast
import runpy
import sys
from typing import Final

import pytest

from tests.helpers import windows
from tests.helpers.places import ROOT

LISTS: Final = {**windows.NOT_ON_WINDOWS, **windows.NOT_UNDER_WINE, **windows.NOT_YET}


@pytest.mark.parametrize("line", LISTS)
def test_each_line_names_tests_and_says_why(line: str) -> None:
    name, _, test = line.partition("::")
    path = ROOT / name
    assert path.exists(), f"{name} is not there"
    assert LISTS[line].strip(), "a reason"
    if test:
        functions = [
            node.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef)
        ]
        assert test in functions


def test_no_line_stands_in_two_lists() -> None:
    lines = [*windows.NOT_ON_WINDOWS, *windows.NOT_UNDER_WINE, *windows.NOT_YET]
    assert sorted(lines) == sorted(set(lines))


def test_a_line_covers_its_file_its_folder_or_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(windows, "under_wine", lambda: False)
    monkeypatch.setattr(
        windows, "NOT_ON_WINDOWS", {"tests/a": "x", "tests/b/test_c.py": "y", "tests/b/test_d.py::test_e": "z"}
    )
    monkeypatch.setattr(windows, "NOT_UNDER_WINE", {"tests/w": "wine"})
    asked = {
        "tests/a/b/test_c.py::test_d": "x",
        "tests/b/test_c.py::test_q[1]": "y",
        "tests/b/test_d.py::test_e[a::b]": "z",
        "tests/b/test_d.py::test_f": None,
        "tests/w/test_w.py::test_w": None,
    }
    assert {node: windows.reason_to_skip(node) for node in asked} == asked


def test_a_sample_is_the_same_each_time_and_all_without_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [f"tests/test_a.py::test_b[{number}]" for number in range(1000)]
    monkeypatch.delenv(windows.EVERY, raising=False)
    assert windows.left_out_of_the_sample(nodes) == set()
    monkeypatch.setenv(windows.EVERY, "10")
    left_out = windows.left_out_of_the_sample(nodes)
    assert 850 < len(left_out) < 950
    assert windows.left_out_of_the_sample(reversed(nodes)) == left_out


def test_the_gates_share_is_there() -> None:
    found = runpy.run_path(str(ROOT / "scripts" / "winbench"), run_name="winbench")
    assert found["EVERY"] == windows.EVERY
    for name in (*found["GATE"], *found["SHARE"]):
        assert (ROOT / name.partition("::")[0]).exists(), name
    for name in found["GATE_WITHOUT"]:
        path, _, test = name.partition("::")
        function, _, case = test.removesuffix("]").partition("[")
        text = (ROOT / path).read_text(encoding="utf-8")
        assert f"\ndef {function}(" in text, name
        assert case in text, name
        assert path.startswith(found["GATE"]), "it would run otherwise"
