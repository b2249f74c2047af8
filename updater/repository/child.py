"""The child that asks the repository: a JSON request on stdin, JSON lines as answers on stdout.

Libraries are loaded when they are needed: an unchanged repository takes none of them.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from dbsync.errors import wrapped
from dbsync.outcomes import OutcomeName
from updater.answers import Answer
from updater.repository import unchanged


def look(request: dict[str, Any]) -> dict[str, Any]:
    """Ask one address after the other until one answers."""
    from updater.network.http import Trouble
    from updater.repository.look import Look

    first: Trouble | None = None
    for base in request["bases"]:
        try:
            return Look(request, base).run()
        except Trouble as trouble:
            first = first or trouble
    assert first is not None
    raise first


def fetch(request: dict[str, Any]) -> dict[str, Any]:
    """Download a file; the next address resumes what the previous one left unfinished."""
    from updater.network.http import Http, Trouble, fetch_file

    first: Trouble | None = None
    target = Path(request["target"])
    target.parent.mkdir(parents=True, exist_ok=True)
    size_bytes = int(request["size_bytes"])
    for base in request["bases"]:
        try:
            fetched_bytes = fetch_file(
                Http(least_rate=int(request["minimum_bytes_per_second"])),
                f"{base.rstrip('/')}/{request['path']}",
                target,
                size_bytes=size_bytes,
                sha256=request["sha256"],
                progress=lambda done: _tell({"done": done, "total": size_bytes}),
            )
            return {"answer": Answer.OK, "detail": "", "fetched_bytes": fetched_bytes}
        except Trouble as trouble:
            first = first or trouble
    assert first is not None
    raise first


def main() -> None:
    """Answer one request; whatever is raised is an answer too."""
    try:
        request = json.loads(sys.stdin.readline())
        threading.Thread(target=_end_with_parent, daemon=True).start()
        answer = answer_to(request)
    except BaseException as raised:  # noqa: BLE001 - of any type: the parent tells a failure from a deadline by it
        error = wrapped(raised)
        full = error.outcome == OutcomeName.NO_SPACE
        answer = {"answer": Answer.NO_SPACE if full else Answer.TROUBLE, "detail": str(error)}
    _tell(answer)


def answer_to(request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to one request; a Trouble is one too."""
    known = unchanged.answer(request) if request["do"] == "look" else None
    if known is not None:
        return known
    # Here, because an answer that is known needs no library.
    from updater.network.http import Trouble

    try:
        return {"look": look, "fetch": fetch}[request["do"]](request)
    except Trouble as trouble:
        return {"answer": trouble.answer, "detail": trouble.detail}


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def _tell(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
