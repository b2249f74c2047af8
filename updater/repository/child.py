"""The child that asks the repository: JSON requests on stdin, a line each; JSON lines as answers on stdout.

Libraries are loaded when they are needed: an unchanged repository takes none of them.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from dbsync.errors import wrapped
from dbsync.outcomes import OutcomeName
from updater.addresses import secrets_of
from updater.answers import Answer
from updater.network.manner import Manner
from updater.repository import key_services

if TYPE_CHECKING:
    from updater.network.addresses import Addresses
    from updater.network.http import Trouble
    from updater.repository.look import Look

OWN_SHARE: Final = 0.9
"""Part of the deadline that this child uses up by itself: then its answer names the address, and the cause."""
DETAIL_LIMIT: Final = 2000
"""Characters of a cause that nobody has named."""
LOADING_OBJECTS_COUNT: Final = 50_000
"""New objects after which Python looks for garbage."""


def look(request: dict[str, Any]) -> dict[str, Any]:
    """Ask one address after the other until one answers; each has its share of the time."""
    from updater.network.http import Trouble

    manner, addresses = _asked(request)
    troubles: list[tuple[str, Trouble]] = []
    ends = time.monotonic() + _own_seconds(request)
    try:
        order = addresses.in_order(folders_first=False)
        for count, address in enumerate(order):
            share_seconds = (ends - time.monotonic()) / (len(order) - count)
            try:
                found = _look_class()(request, address, manner, until=time.monotonic() + share_seconds).run()
            except Trouble as trouble:
                troubles.append((address, trouble.without(secrets_of(address))))
                addresses.failed(address, trouble)
            else:
                addresses.worked(address)
                return found
        raise addresses.given_up(troubles)
    finally:
        addresses.save()


def fetch(request: dict[str, Any]) -> dict[str, Any]:
    """Download a file; the next address resumes what the previous one left unfinished."""
    from dbsync.storage import files
    from updater.network.download import Download, Wanted
    from updater.network.http import Trouble

    manner, addresses = _asked(request)
    size_bytes = int(request["size_bytes"])
    wanted = Wanted(request["path"], Path(request["target"]), size_bytes, request["sha256"])
    files.make_folder(wanted.target.parent)
    download = Download(
        wanted, addresses, manner,
        seconds=_own_seconds(request),
        progress=lambda done: _tell({"done": done, "total": size_bytes}),
    )  # fmt: skip
    try:
        return {"answer": Answer.OK, "detail": "", "fetched_bytes": download.run()}
    except Trouble as trouble:
        return {"answer": trouble.answer, "detail": trouble.detail, "fetched_bytes": download.fetched_bytes}
    finally:
        addresses.save()


def _look_class() -> type[Look]:
    """Import TUF, without the libraries of key services that may be installed beside it: here nothing is signed.

    securesystemslib loads each of them that is there. They are most of the time of a look, and code that this process,
    which may be root's, does not need.
    """
    with key_services.hidden():
        from updater.repository.look import Look
    return Look


def _own_seconds(request: dict[str, Any]) -> float:
    """Return the time that is this child's own, without what its start took on a busy machine."""
    seconds = float(request["seconds"])
    # By the clock of the day, which both processes share: one that was set meanwhile counts for nothing.
    start_seconds = time.time() - float(request["asked_at"])
    return seconds * OWN_SHARE - (start_seconds if 0 < start_seconds < seconds / 2 else 0.0)


def _asked(request: dict[str, Any]) -> tuple[Manner, Addresses]:
    from updater.network.addresses import Addresses

    manner = Manner(**{**request["manner"], "no_proxy": tuple(request["manner"]["no_proxy"])})
    return manner, Addresses(request["bases"], Path(request["record"]), manner)


def main() -> None:
    """Answer one request after the other; whatever is raised is an answer too."""
    # Loading makes no garbage that is worth a search every 700 objects: a twentieth of a look.
    gc.set_threshold(LOADING_OBJECTS_COUNT)
    requests: SimpleQueue[str | None] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    while (line := requests.get()) is not None:
        try:
            answer = answer_to(json.loads(line))
        except BaseException as raised:  # noqa: BLE001 - of any type: the parent tells a failure from a deadline by it
            error = wrapped(raised)
            full = error.outcome == OutcomeName.NO_SPACE
            answer = {"answer": Answer.NO_SPACE if full else Answer.TROUBLE, "detail": str(error)[:DETAIL_LIMIT]}
        _tell(answer)


def answer_to(request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to one request; a Trouble is one too."""
    from updater.network.http import Trouble

    try:
        return {"look": look, "fetch": fetch}[request["do"]](request)
    except Trouble as trouble:
        return {"answer": trouble.answer, "detail": trouble.detail}


def _listen(requests: SimpleQueue[str | None]) -> None:
    for line in sys.stdin:
        requests.put(line)
    requests.put(None)
    # In the middle of an answer too: nobody waits for it any more.
    _end_with_parent()


def _end_with_parent() -> None:
    os._exit(1)


def _tell(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
