"""One child for a look and the downloads after it: it ends with the conversation, by its deadline, and by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dbsync.storage.platform import this_platform
from tests.helpers.places import ROOT
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from tests.helpers.wires import Request, wired
from updater.answers import Answer
from updater.model import Sha256
from updater.network.manner import Manner
from updater.repository import client
from updater.repository.conversation import Conversation

MODULES = """
import json, sys
sys.path.insert(0, sys.argv[1])
from updater.repository import child
child._look_class()
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def source(till: Till, url: str = "") -> client.Source:
    settings = till.settings
    return client.Source(url or settings.url, (), settings.trust, settings.app, 30.0, 30.0, Manner(1))


def full_look(till: Till, through: Conversation) -> Answer:
    """A look without what the last one has kept, if it has."""
    (till.settings.trust / "listing.json").unlink(missing_ok=True)
    return client.look(source(till), now=datetime.now(UTC), through=through).answer


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The children that this process starts."""
    found: list[subprocess.Popen[bytes]] = []
    start = this_platform().start_tree

    def noted(*words: Any, **values: Any) -> subprocess.Popen[bytes]:
        found.append(start(*words, **values))
        return found[-1]

    monkeypatch.setattr(this_platform(), "start_tree", noted)
    return found


def test_one_child_answers_a_look_and_the_downloads_after_it(
    vendor: Vendor, till: Till, started: list[subprocess.Popen[bytes]]
) -> None:
    vendor.release("1.1", schema=4)
    assert till.check().outcome == "SWAPPED"
    asking = [child for child in started if "updater.repository.child" in " ".join(map(str, child.args))]  # type: ignore[arg-type]
    assert len(asking) == 1
    assert asking[0].returncode is not None, "nothing is left running"


def test_what_is_needed_next_is_loaded_while_the_child_is_at_work(till: Till) -> None:
    seen: list[str] = []
    with Conversation() as through:
        request = source(till).asked("nothing", 30.0)
        answer = through.ask(
            request, limit_seconds=30.0, progress=lambda _: None, meanwhile=lambda: seen.append("meanwhile")
        )
        seen.append(answer["answer"])
        assert seen == ["meanwhile", Answer.TROUBLE], "no such question: an answer all the same, and after that call"
        assert full_look(till, through) is Answer.OK, "the same child is asked again"


def test_a_child_that_was_ended_by_its_deadline_is_followed_by_another(
    till: Till, tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    wanted = client.Pack("targets/x", 5, Sha256("0" * 64), None)
    with Conversation() as through, wired(tmp_path, Request.wait) as silent:
        assert full_look(till, through) is Answer.OK
        late = source(till, silent.url)._replace(fetch_seconds=0.5)
        found = client.fetch_pack(late, wanted, to=tmp_path / "x", progress=lambda *_: None, through=through)
        assert found.answer is Answer.TIMED_OUT
        assert full_look(till, through) is Answer.OK
    assert all(child.returncode is not None for child in started)


def test_a_child_that_ended_by_itself_is_an_answer_and_is_followed_by_another(
    till: Till, started: list[subprocess.Popen[bytes]]
) -> None:
    with Conversation() as through:
        assert full_look(till, through) is Answer.OK
        started[0].kill()
        assert full_look(till, through) is Answer.TROUBLE
        assert full_look(till, through) is Answer.OK
    assert [child.returncode is not None for child in started] == [True, True]


def test_a_look_loads_no_library_of_a_key_service() -> None:
    command = [sys.executable, "-I", "-c", MODULES, str(ROOT)]
    modules = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert "tuf" in modules
    assert not {"boto3", "botocore", "azure", "google"} & set(modules)
