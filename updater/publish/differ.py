"""The children that make patches: HDiffPatch takes one core and about ten times a file's size while it works.

One child per core takes one pair of files after another; a file that it cannot compare travels whole.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.storage import children, files
from dbsync.storage.platform import this_platform
from updater.bundles.packs import Stream
from updater.bundles.patches import Cover, covers
from updater.errors import PackUnusable
from updater.publish.covers import composed
from updater.publish.errors import PublishError
from updater.publish.patches import Patch, make

OWN_LIMIT_BYTES: Final = 2_000_000
"""Smaller pairs are compared in this process: starting a child takes longer."""
FILE_LIMIT_BYTES: Final = 256_000_000
"""Larger files travel whole: comparing them would take some gigabytes of memory."""
LARGE_BYTES: Final = 24_000_000
_large: Final = threading.Lock()
"""Held while a large pair is compared: one at a time bounds the memory."""


class Made(NamedTuple):
    """A patch in a file: its streams one after the other."""

    path: Path
    sizes: Mapping[Stream, int]

    def read(self) -> dict[Stream, bytes]:
        """Return the bytes for each stream."""
        data, place, found = self.path.read_bytes(), 0, {}
        for stream, size_bytes in self.sizes.items():
            found[stream] = data[place : place + size_bytes]
            place += size_bytes
        return found


class Between(NamedTuple):
    """Files of covers: of a file between an old and a new one by the old one, and of the new one by that file."""

    first: Path
    second: Path

    def words(self) -> tuple[str, str]:
        """Return them for a request."""
        return str(self.first), str(self.second)

    def covers(self) -> list[Cover] | None:
        """Return the covers of the new file by the old one; None if the files are damaged."""
        try:
            return list(composed(covers(self.first.read_bytes()), covers(self.second.read_bytes())))
        except PackUnusable:
            return None


class Differ:
    """One child, started when it is first needed; used by one thread."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def make(self, *, old: Path, new: Path, target: Path, between: Between | None = None) -> Made | None:
        """Make the patch from one file to another; None if the new file travels better whole.

        Args:
            old: the old file.
            new: the new one.
            target: the file to write.
            between: how a file between them is made of the old one, and the new one of it. Then they are not compared.

        Raises:
            PublishError: the child ended without an answer.
        """
        sizes_bytes = old.stat().st_size, new.stat().st_size
        if max(sizes_bytes) > FILE_LIMIT_BYTES or min(sizes_bytes) == 0:
            return None
        if sum(sizes_bytes) <= OWN_LIMIT_BYTES:
            sizes = _make(old=old, new=new, target=target)
        elif max(sizes_bytes) > LARGE_BYTES:
            with _large:
                sizes = self._ask(old=old, new=new, target=target, between=between)
        else:
            sizes = self._ask(old=old, new=new, target=target, between=between)
        return None if sizes is None else Made(target, {stream: sizes[stream] for stream in Stream})

    def _ask(self, *, old: Path, new: Path, target: Path, between: Between | None) -> dict[str, int] | None:
        asked = [str(old), str(new), str(target), *(() if between is None else between.words())]
        child = self._child or self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps(asked).encode() + b"\n")
            child.stdin.flush()
            line = child.stdout.readline()
        except OSError:
            line = b""
        if not line:
            self.close()
            cause = f"the comparison of {old.stat().st_size} with {new.stat().st_size} bytes was ended"
            raise PublishError(operation="make a delta", path=new, cause=cause, hint="Pass --deltas 0, or add memory.")
        found: dict[str, int] | None = json.loads(line)
        return found

    def _start(self) -> subprocess.Popen[bytes]:
        self._child = this_platform().start_tree(
            children.command("updater.publish.differ"),
            cwd=children.FOLDER,
            env=children.isolated(),
            source=subprocess.PIPE,
            output=subprocess.PIPE,
        )
        return self._child

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None:
            this_platform().end_tree(child)
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()


def _make(*, old: Path, new: Path, target: Path, between: Between | None = None) -> dict[str, int] | None:
    known = None if between is None else between.covers()
    patch: Patch | None = make(old=old.read_bytes(), new=new.read_bytes(), known=known)
    if patch is None:
        return None
    with files.disk_errors("write", target):
        target.write_bytes(b"".join(patch.parts[stream] for stream in Stream))
    return {stream: len(patch.parts[stream]) for stream in Stream}


def main() -> None:
    """Answer requests, one a line, until the other side closes."""
    for line in sys.stdin:
        old, new, target, *rest = json.loads(line)
        between = Between(Path(rest[0]), Path(rest[1])) if rest else None
        sizes = _make(old=Path(old), new=Path(new), target=Path(target), between=between)
        sys.stdout.write(json.dumps(sizes) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
