"""Questions to a child with a hard deadline each: the parent stays small, and its kill bounds everything.

The child is started with the first question and answers further ones, so that a look and the downloads after it load
their libraries once. It is ended between two of them, or by its deadline; the next question starts another one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

from dbsync.errors import shown
from dbsync.storage import children
from dbsync.storage.platform import this_platform
from dbsync.storage.raw_text import lines_of
from updater.addresses import scrubbed
from updater.answers import Answer

if TYPE_CHECKING:
    import subprocess

Progress = Callable[[dict[str, Any]], None]


class Conversation:
    """One child, for one thread, until `close`."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._errors: Final[list[bytes]] = []
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """End the child, if there is one: after an answer nothing is left to be done in it."""
        child, reader = self._child, self._reader
        self._child = self._reader = None
        if child is not None:
            assert child.stdin is not None
            # One that has ended cannot take what was meant for it.
            with suppress(OSError):
                child.stdin.close()
            with child:
                if child.returncode is None:
                    # Else its deadline has ended it, and its number may be another process's by now.
                    this_platform().end_tree(child)
                if reader is not None:
                    reader.join()

    def ask(
        self, request: dict[str, Any], *, limit_seconds: float, progress: Progress,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:  # fmt: skip
        """Return the answer to a request; whatever happens to the child is an answer too.

        Args:
            request: for the child.
            limit_seconds: after which the child is killed.
            progress: receives its lines about what it has done.
            meanwhile: is called while the child is at work; its own deadline does not wait for that.
        """
        try:
            child = self._child or self._start()
        except (OSError, children.NoPython) as cause:
            return {"answer": Answer.TROUBLE, "detail": f"the child could not start: {shown(cause)}"}
        late = threading.Event()
        # SIGKILL, not SIGTERM: a child that waits for a silent name server would not react.
        timer = threading.Timer(limit_seconds, _kill, (child, late))
        timer.start()
        try:
            answer = _answer(child, request, progress, meanwhile)
        except BaseException:
            # Ctrl-C: a child that is in the middle of an answer cannot be asked for another one.
            self.close()
            raise
        finally:
            timer.cancel()
            timer.join()
        if late.is_set():
            # Perhaps with its answer: it is dead all the same.
            self.close()
        if answer is not None:
            return answer
        if late.is_set():
            return {"answer": Answer.TIMED_OUT, "detail": f"nothing came of it within {limit_seconds:.0f} seconds"}
        return self._ended(child)

    def _start(self) -> subprocess.Popen[bytes]:
        import subprocess

        child = this_platform().start_tree(
            children.command("updater.repository.child"),
            cwd=children.FOLDER,
            env=children.isolated(),
            source=subprocess.PIPE,
            output=subprocess.PIPE,
            errors=subprocess.PIPE,
        )
        self._errors.clear()
        self._reader = threading.Thread(target=_read, args=(child, self._errors), daemon=True)
        self._reader.start()
        self._child = child
        return child

    def _ended(self, child: subprocess.Popen[bytes]) -> dict[str, Any]:
        """Return the answer for a child that ended by itself without one."""
        self.close()
        words = lines_of(b"".join(self._errors).decode(errors="replace").strip())
        return {
            "answer": Answer.TROUBLE,
            "detail": scrubbed(f"the child ended with {child.returncode}: {words[-1] if words else ''}"),
        }


def _answer(
    child: subprocess.Popen[bytes], request: dict[str, Any], progress: Progress, meanwhile: Callable[[], None]
) -> dict[str, Any] | None:
    """Ask, and return the answer; None if the child ended without one."""
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        # Left open: when this process dies in any way, its end of the pipe closes and the child ends too.
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()
    except OSError:
        # The child died before it read the request; its error output says why.
        return None
    meanwhile()
    for line in child.stdout:
        found = _parsed(line)
        if "answer" in found:
            return found
        if "done" in found:
            progress(found)
    return None


def _read(child: subprocess.Popen[bytes], errors: list[bytes]) -> None:
    assert child.stderr is not None
    errors.append(child.stderr.read())


def _kill(child: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    this_platform().end_tree(child)


def _parsed(line: bytes) -> dict[str, Any]:
    """Return a line of the child's; an empty value for one that it did not mean as an answer."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
